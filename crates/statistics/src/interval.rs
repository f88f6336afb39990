//! A range that a value is believed to lie in.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// From `low` to `high`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// `center` ± `reach`.
    pub(crate) fn around(center: f64, reach: f64) -> Self {
        Self {
            low: center - reach,
            high: center + reach,
        }
    }

    /// Whether it holds this value.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// The share of probability beyond each end of a two-sided interval.
pub(crate) fn tail(confidence: f64) -> f64 {
    assert!(
        confidence > 0.0 && confidence < 1.0,
        "expected a confidence above 0 and below 1, such as 0.95, got {confidence}"
    );
    0.5 * (1.0 - confidence)
}

/// How many standard deviations a two-sided interval of a normal variable reaches.
pub(crate) fn normal_reach(confidence: f64) -> f64 {
    Normal::standard().inverse_cdf(1.0 - tail(confidence))
}
