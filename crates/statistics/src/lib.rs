//! How sure a measurement is: intervals, paired comparisons, corrections for many of them.
//!
//! | of what | interval | test |
//! |---|---|---|
//! | a share, such as an accuracy | [`wilson`] | |
//! | the mean of some runs | [`Sample::interval`] | |
//! | two arms over the same seeds | [`Paired::interval`] | [`Paired::p_value`] |
//! | two classifiers on the same examples | [`Discordant::interval`] | [`Discordant::p_value`] |
//! | anything else | [`bootstrap`] | |
//!
//! All tests are two-sided. Of several tests at once, [`holm`] corrects the p-values. Too few values give
//! `None` rather than a number that means nothing.
#![forbid(unsafe_code)]

mod bootstrap;
mod discordant;
mod holm;
mod interval;
mod paired;
mod sample;
mod wilson;

pub use bootstrap::{Bootstrap, bootstrap};
pub use discordant::Discordant;
pub use holm::holm;
pub use interval::Interval;
pub use paired::Paired;
pub use sample::Sample;
pub use wilson::wilson;
