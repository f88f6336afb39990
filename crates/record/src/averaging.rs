//! `averaging/NAME.json`: what an average over views or over noise did to a run's predictions.

use evenkeel_statistics::Discordant;
use serde::{Deserialize, Serialize};

use crate::number::number;
use crate::{Estimate, Quality};

/// The average over several forwards of each example, against one forward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Averaging {
    /// Such as `flip` or `ten-crop, 20 draws`.
    pub name: String,
    /// What is averaged.
    pub average: AverageOf,
    /// What the views are, in words; empty where there is only one.
    pub views: Vec<String>,
    /// The seed of the noise; none without noise.
    pub seed: Option<u64>,
    /// Forwards of an example: views times draws.
    pub forwards: u64,
    /// One view in test mode.
    pub single: Quality,
    /// The average.
    pub averaged: Quality,
    /// What the average got right and the single view wrong, and the other way.
    pub changes: Discordant,
    /// The accuracy of the average minus that of the single view.
    pub difference: Estimate,
    /// Of McNemar's exact test.
    pub p_value: f64,
    /// Milliseconds an example of the single view, by the clock, making it included.
    #[serde(deserialize_with = "number")]
    pub single_ms: f64,
    /// Of the average.
    #[serde(deserialize_with = "number")]
    pub averaged_ms: f64,
    /// The accuracy of the average of the first forwards, in their order.
    pub curve: Vec<CurvePoint>,
    /// How much the forwards of an example disagree.
    pub disagreement: Option<Disagreement>,
}

/// What is averaged over the forwards of an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AverageOf {
    /// The arithmetic mean of the probabilities.
    #[default]
    Probabilities,
    /// The mean of the logits: the geometric mean of the probabilities, scaled to add up to 1.
    Logits,
}

/// The average of some forwards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// How many.
    pub forwards: u64,
    /// Their average's accuracy.
    #[serde(deserialize_with = "number")]
    pub accuracy: f64,
}

/// H\[mean p\] − mean H\[p\], in nats: the part of the uncertainty that comes from the forwards' disagreement,
/// the mutual information of a prediction and the noise. Useful if it is larger where the net errs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disagreement {
    /// Its mean over the examples that are right on average.
    pub right: Estimate,
    /// Over those that are wrong.
    pub wrong: Estimate,
}

/// What a comparison of two accuracies says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More are fixed than broken, beyond chance.
    Better,
    /// More are broken than fixed, beyond chance.
    Worse,
    /// Chance could have done it.
    NotTold,
}

impl Averaging {
    /// By McNemar's test at 5 %.
    pub fn verdict(&self) -> Verdict {
        match self.p_value < 0.05 {
            true if self.changes.fixed > self.changes.broken => Verdict::Better,
            true => Verdict::Worse,
            false => Verdict::NotTold,
        }
    }

    /// The verdict in a sentence.
    pub fn told(&self) -> String {
        let Estimate { value, interval } = self.difference;
        let range = interval.map_or_else(String::new, |interval| {
            format!(
                " (95 % interval {:+.2} to {:+.2})",
                100.0 * interval.low,
                100.0 * interval.high
            )
        });
        let points = format!("{:.2} points{range}", 100.0 * value.abs());
        match self.verdict() {
            Verdict::Better => format!("The average raises the accuracy by {points}."),
            Verdict::Worse => {
                let why = match self.views.is_empty() {
                    true => "",
                    false => ": the net does not know these views",
                };
                format!("The average lowers the accuracy by {points}, beyond chance{why}.")
            }
            Verdict::NotTold => format!(
                "The accuracy changes by {:+.2} points{range}, which chance could do.",
                100.0 * value
            ),
        }
    }

    /// Its file's name: letters, digits and hyphens, so that it stays in its folder.
    pub fn file_name(&self) -> String {
        let of = match self.average {
            AverageOf::Probabilities => "",
            AverageOf::Logits => " logits",
        };
        let text = format!("{}{of}", self.name);
        let parts = text.split(|c: char| !c.is_ascii_alphanumeric());
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        format!("{}.json", parts.join("-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn averaging(fixed: u64, broken: u64) -> Averaging {
        let estimate = Estimate::new(0.9, None);
        let quality = Quality {
            examples: 100,
            accuracy: estimate,
            loss: estimate,
            brier: estimate,
            calibration_error: estimate,
            bins: Vec::new(),
        };
        let changes = Discordant {
            fixed,
            broken,
            examples: 100,
        };
        Averaging {
            name: "../my views, 20 draws".into(),
            average: AverageOf::Logits,
            views: Vec::new(),
            seed: Some(1),
            forwards: 40,
            single: quality.clone(),
            averaged: quality,
            changes,
            difference: Estimate::new(changes.difference(), Some(changes.interval(0.95))),
            p_value: changes.p_value(),
            single_ms: 1.0,
            averaged_ms: f64::NAN,
            curve: Vec::new(),
            disagreement: None,
        }
    }

    #[test]
    fn verdicts_follow_the_test() {
        for (fixed, broken, verdict, words) in [
            (
                30,
                5,
                Verdict::Better,
                "raises the accuracy by 25.00 points",
            ),
            (5, 30, Verdict::Worse, "lowers the accuracy by 25.00 points"),
            (3, 5, Verdict::NotTold, "changes by -2.00 points"),
            (0, 0, Verdict::NotTold, "changes by +0.00 points"),
        ] {
            let averaging = averaging(fixed, broken);
            assert_eq!(averaging.verdict(), verdict);
            assert!(averaging.told().contains(words), "{}", averaging.told());
        }
    }

    #[test]
    fn names_stay_in_their_folder_and_files_can_be_read_again() {
        let averaging = averaging(1, 2);
        assert_eq!(averaging.file_name(), "my-views-20-draws-logits.json");
        let text = serde_json::to_string(&averaging).unwrap();
        let read: Averaging = serde_json::from_str(&text).unwrap();
        assert!(read.averaged_ms.is_nan() && read.changes == averaging.changes);
    }
}
