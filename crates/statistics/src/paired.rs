//! Two arms over the same seeds: the differences say more than the two means.

use serde::{Deserialize, Serialize};
use statrs::distribution::ContinuousCDF;

use crate::Interval;
use crate::sample::{Sample, student};

/// The differences of pairs, each other − baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Of the differences.
    pub differences: Sample,
}

impl Paired {
    /// Of values that belong together by their place; `None` if there are none, or a difference is not finite.
    ///
    /// # Panics
    /// If there are not as many of one as of the other.
    pub fn of(baseline: &[f64], other: &[f64]) -> Option<Self> {
        assert_eq!(
            baseline.len(),
            other.len(),
            "Paired::of: expected pairs of values"
        );
        let pairs = baseline.iter().zip(other);
        let differences: Vec<f64> = pairs.map(|(before, after)| after - before).collect();
        Some(Self {
            differences: Sample::of(&differences)?,
        })
    }

    /// The mean difference.
    pub fn mean(&self) -> f64 {
        self.differences.mean
    }

    /// The interval of the mean difference by Student's t.
    ///
    /// # Panics
    /// If the confidence is not in 0..1.
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        self.differences.interval(confidence)
    }

    /// The probability of a mean difference at least as far from 0, if there were none (the paired t test, two
    /// sides). None where it cannot be told: of one pair, or where all differences are equal, so that their
    /// spread is unknown.
    pub fn p_value(&self) -> Option<f64> {
        let error = self.differences.standard_error()?;
        // Sums of equal differences leave a spread of rounding.
        if error <= 1e-12 * self.mean().abs() {
            return None;
        }
        let t = self.mean() / error;
        Some(2.0 * student(self.differences.count)?.sf(t.abs()))
    }
}
