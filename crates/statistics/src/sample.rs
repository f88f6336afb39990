//! Some values of one quantity, such as the test accuracies of several seeds.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::interval::{Interval, tail};

/// What is known of a quantity from independent values of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// How many values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// The standard deviation of single values, √(Σ(x − mean)²/(n − 1)); none of one value.
    pub deviation: Option<f64>,
}

impl Sample {
    /// Of these values; `None` if there are none, or one of them is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let deviation = (count > 1).then(|| {
            let squares = values.iter().map(|value| (value - mean).powi(2));
            (squares.sum::<f64>() / (count - 1) as f64).sqrt()
        });
        Some(Self {
            count,
            mean,
            deviation,
        })
    }

    /// The standard deviation of the mean, s/√n.
    pub fn standard_error(&self) -> Option<f64> {
        Some(self.deviation? / (self.count as f64).sqrt())
    }

    /// The interval of the mean, x̄ ± t·s/√n with Student's t of n − 1 degrees of freedom; none of one value.
    ///
    /// # Panics
    /// If the confidence is not in 0..1.
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        let quantile = student(self.count)?.inverse_cdf(1.0 - tail(confidence));
        Some(Interval::around(
            self.mean,
            quantile * self.standard_error()?,
        ))
    }
}

/// Of the mean of this many values.
pub(crate) fn student(count: usize) -> Option<StudentsT> {
    StudentsT::new(0.0, 1.0, count.checked_sub(1)? as f64).ok()
}
