//! The average of the noise: by Monte Carlo, and how far a test pass is from it.

mod expectation_gap;
mod moments;
mod monte_carlo;

pub use expectation_gap::{ExpectationGap, expectation_gap};
pub use moments::Moments;
pub use monte_carlo::{Predictive, monte_carlo, monte_carlo_predictive};
