//! The learning rate as a function of the step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A factor on the optimizer's learning rate at step t of T, with p = t/T.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Always 1.
    Constant,
    /// From 1 to `end` along half a cosine: end + (1 − end)·(1 + cos πp)/2.
    Cosine {
        /// The factor at the end.
        #[serde(default)]
        end: f64,
    },
    /// Linear from `start` to 1 over the first `warmup` of the steps, then half a cosine to `end`.
    /// Source: Smith and Topin, "Super-Convergence" (2017), with a cosine instead of a line.
    OneCycle {
        /// The share of the steps spent rising.
        #[serde(default = "default_warmup")]
        warmup: f64,
        /// The factor at the start.
        #[serde(default = "default_start")]
        start: f64,
        /// The factor at the end.
        #[serde(default = "default_end")]
        end: f64,
    },
}

fn default_warmup() -> f64 {
    0.2
}
fn default_start() -> f64 {
    0.04
}
fn default_end() -> f64 {
    0.001
}

impl Schedule {
    /// The factor at `step` of `steps`, counted from 0.
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        let progress = step as f64 / steps.max(1) as f64;
        let cosine =
            |progress: f64, end: f64| end + (1.0 - end) * (1.0 + (PI * progress).cos()) / 2.0;
        match *self {
            Self::Constant => 1.0,
            Self::Cosine { end } => cosine(progress, end),
            Self::OneCycle { warmup, start, .. } if progress < warmup => {
                start + (1.0 - start) * progress / warmup
            }
            Self::OneCycle { warmup, end, .. } => cosine((progress - warmup) / (1.0 - warmup), end),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), String> {
        let (warmup, factors) = match *self {
            Self::Constant => (0.0, vec![]),
            Self::Cosine { end } => (0.0, vec![("end", end)]),
            Self::OneCycle { warmup, start, end } => (warmup, vec![("start", start), ("end", end)]),
        };
        if !(0.0..1.0).contains(&warmup) {
            return Err(format!(
                "warmup: expected a share from 0 to below 1, found {warmup}"
            ));
        }
        match factors
            .into_iter()
            .find(|(_, factor)| !(0.0..=1.0).contains(factor))
        {
            Some((name, factor)) => Err(format!(
                "{name}: expected a factor from 0 to 1, found {factor}"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cycle_rises_and_falls() {
        let schedule = Schedule::OneCycle {
            warmup: 0.25,
            start: 0.1,
            end: 0.01,
        };
        assert_eq!(schedule.factor(0, 100), 0.1);
        assert!((schedule.factor(25, 100) - 1.0).abs() < 1e-12);
        assert!((schedule.factor(100, 100) - 0.01).abs() < 1e-12);
        let factors: Vec<f64> = (0..100).map(|step| schedule.factor(step, 100)).collect();
        assert!(factors[..25].is_sorted() && factors[25..].iter().rev().is_sorted());
    }

    #[test]
    fn cosine_halves_at_half() {
        assert!((Schedule::Cosine { end: 0.0 }.factor(5, 10) - 0.5).abs() < 1e-12);
        assert_eq!(Schedule::Constant.factor(7, 10), 1.0);
    }

    #[test]
    fn ranges_are_checked() {
        assert!(
            Schedule::OneCycle {
                warmup: 1.0,
                start: 0.1,
                end: 0.0
            }
            .validate()
            .is_err()
        );
        assert!(
            Schedule::Cosine { end: 2.0 }
                .validate()
                .unwrap_err()
                .contains("found 2")
        );
        assert!(Schedule::Cosine { end: f64::NAN }.validate().is_err());
    }
}
