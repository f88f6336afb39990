//! How good predictions are, and how sure of that one can be.

use evenkeel_statistics::Interval;
use serde::{Deserialize, Serialize};

use crate::number::number;

/// A number and its 95 % interval, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    #[serde(deserialize_with = "number")]
    pub value: f64,
    /// Its interval: none where too little is known.
    pub interval: Option<Interval>,
}

impl Estimate {
    /// An interval that is not finite is none.
    pub fn new(value: f64, interval: Option<Interval>) -> Self {
        let finite = |interval: &Interval| interval.low.is_finite() && interval.high.is_finite();
        Self {
            value,
            interval: interval.filter(finite),
        }
    }
}

/// Probabilities against what was so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// How many examples.
    pub examples: u64,
    /// The share whose most probable class is the right one; Wilson's interval.
    pub accuracy: Estimate,
    /// The mean of −ln p of the right class, the negative log-likelihood, in nats; Student's interval.
    pub loss: Estimate,
    /// The mean of Σ(p − y)² over the classes, from 0 to 2, where y is 1 for the right class and 0 for others;
    /// Student's interval.
    pub brier: Estimate,
    /// The expected calibration error: the mean over the examples of |accuracy − confidence| of their bin;
    /// interval by the bootstrap (BCa).
    pub calibration_error: Estimate,
    /// Examples by the probability of their most probable class: bins of equal width that hold their upper
    /// end; those without examples are there too.
    pub bins: Vec<ReliabilityBin>,
}

/// Examples whose most probable class has about the same probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Where the bin begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// Examples in it.
    pub examples: u64,
    /// The mean of these probabilities; the bin's middle if it is empty.
    #[serde(deserialize_with = "number")]
    pub confidence: f64,
    /// The share that is right; Wilson's interval.
    pub accuracy: Estimate,
}

/// A p-value for people: three decimals, or a power of ten below them.
pub fn p_in_words(p: f64) -> String {
    if p < 1e-3 {
        format!("{p:.0e}")
    } else {
        format!("{p:.3}")
    }
}
