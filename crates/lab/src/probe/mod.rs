//! Instruments: what a trained net, its data and its training are like, each a number with an interval.

pub(crate) mod layers;
pub(crate) mod norm_statistics;
pub(crate) mod score;
pub(crate) mod subject;

pub use subject::Subject;
