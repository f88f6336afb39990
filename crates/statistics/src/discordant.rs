//! Two classifiers on the same examples: what the one gets right and the other wrong.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

use crate::interval::{Interval, normal_reach};

/// The examples that two classifiers judge differently. Those on which both are right, or both wrong, say
/// nothing about which is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discordant {
    /// Wrong by the first, right by the second.
    pub fixed: u64,
    /// Right by the first, wrong by the second.
    pub broken: u64,
    /// All examples.
    pub examples: u64,
}

impl Discordant {
    /// Of pairs of whether the first and whether the second is right.
    pub fn of(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        pairs
            .into_iter()
            .fold(Self::default(), |counts, (first, second)| Self {
                fixed: counts.fixed + u64::from(!first && second),
                broken: counts.broken + u64::from(first && !second),
                examples: counts.examples + 1,
            })
    }

    /// The accuracy of the second minus that of the first; 0 of no examples.
    pub fn difference(&self) -> f64 {
        let net = self.fixed as f64 - self.broken as f64;
        net / self.examples.max(1) as f64
    }

    /// The interval of the difference: d ± z·√((b + c − (b − c)²/n)/n²), where each of the four counts is
    /// first raised by ½, so that it has a width where nothing changed, and holds in small samples.
    ///
    /// Source: Agresti and Min, "Simple improved confidence intervals for comparing matched proportions"
    /// (2005).
    ///
    /// # Panics
    /// If the confidence is not in 0..1.
    pub fn interval(&self, confidence: f64) -> Interval {
        let (fixed, broken) = (self.fixed as f64 + 0.5, self.broken as f64 + 0.5);
        let n = self.examples as f64 + 2.0;
        let difference = (fixed - broken) / n;
        let variance = (fixed + broken - (fixed - broken).powi(2) / n) / (n * n);
        let Interval { low, high } =
            Interval::around(difference, normal_reach(confidence) * variance.sqrt());
        Interval {
            low: low.max(-1.0),
            high: high.min(1.0),
        }
    }

    /// The probability that so many more are fixed than broken, or the other way, if either were as likely:
    /// McNemar's test, exact (the binomial distribution with ½), two sides.
    ///
    /// Source: McNemar, "Note on the sampling error of the difference between correlated proportions or
    /// percentages" (1947).
    pub fn p_value(&self) -> f64 {
        let changed = self.fixed + self.broken;
        let fewer = self.fixed.min(self.broken);
        let binomial = Binomial::new(0.5, changed).expect("½ is a probability");
        (2.0 * binomial.cdf(fewer)).min(1.0)
    }
}
