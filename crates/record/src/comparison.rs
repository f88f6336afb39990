//! `comparison.json`: arms of an ablation, or runs, beside each other.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::number::number;
use crate::{Error, Estimate, Machine};

/// Some arms against the first of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What is compared.
    pub title: String,
    /// The data by name.
    pub source: String,
    /// Whether accuracies are on data held out of the training data instead of the test data.
    pub held_out: bool,
    /// What the differences are between.
    pub pairs: Pairs,
    /// The machine of the first run, for the times.
    pub machine: Option<Machine>,
    /// The baseline, then the others.
    pub arms: Vec<Arm>,
}

/// What belongs together in a difference of two arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// Runs of one seed: the paired t test. It tells of the recipes.
    Seeds,
    /// Predictions for one example by one run each: McNemar's exact test. It tells of these two models, not
    /// of what other seeds would give.
    Examples,
}

/// One arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// What it changes in the baseline's recipe, as `key=value`.
    pub settings: Vec<String>,
    /// Of the runs that are finished, in order.
    pub seeds: Vec<u64>,
    /// The test accuracy of each.
    pub accuracies: Vec<f64>,
    /// Their mean, with Student's interval.
    pub test_accuracy: Estimate,
    /// The mean accuracy on the training data.
    pub train_accuracy: Estimate,
    /// The mean of training accuracy minus test accuracy.
    pub gap: Estimate,
    /// The mean loss on the test data.
    pub test_loss: Estimate,
    /// The mean seconds of a run, by the clock.
    pub seconds: Estimate,
    /// Against the baseline; none of the baseline itself, and of an arm without pairs.
    pub difference: Option<Difference>,
    /// The mean over the runs at the end of each epoch.
    pub curve: Vec<EpochMean>,
    /// Of the runs that failed: the seed and why.
    pub failures: Vec<String>,
}

/// The test accuracy of an arm minus that of the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The mean over the pairs.
    pub accuracy: Estimate,
    /// How many pairs.
    pub pairs: u64,
    /// Of the test; none where there is too little to test.
    pub p_value: Option<f64>,
    /// Corrected for the number of arms by Holm.
    pub corrected: Option<f64>,
}

/// The mean of some runs at the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMean {
    /// The epoch, from 1.
    pub epoch: u64,
    /// In training, on augmented examples and under noise.
    #[serde(deserialize_with = "number")]
    pub train_accuracy: f64,
    /// In test mode.
    #[serde(deserialize_with = "number")]
    pub test_accuracy: f64,
}

impl Comparison {
    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        crate::folder::write_json(path, self)
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(path: &Path) -> Result<Self, Error> {
        crate::folder::read_json(path)
    }

    /// A line an arm, with a header; accuracies are shares.
    pub fn to_csv(&self) -> String {
        let mut text = String::from(
            "arm,settings,runs,failures,test_accuracy,test_low,test_high,difference,difference_low,\
             difference_high,p_value,corrected_p_value,train_accuracy,gap,test_loss,seconds\n",
        );
        for arm in &self.arms {
            let difference = arm.difference.as_ref();
            let [test_low, test_high] = ends(Some(arm.test_accuracy));
            let [low, high] = ends(difference.map(|difference| difference.accuracy));
            let cells = [
                quoted(&arm.name),
                quoted(&arm.settings.join("; ")),
                arm.seeds.len().to_string(),
                arm.failures.len().to_string(),
                cell(Some(arm.test_accuracy.value)),
                test_low,
                test_high,
                cell(difference.map(|difference| difference.accuracy.value)),
                low,
                high,
                cell(difference.and_then(|difference| difference.p_value)),
                cell(difference.and_then(|difference| difference.corrected)),
                cell(Some(arm.train_accuracy.value)),
                cell(Some(arm.gap.value)),
                cell(Some(arm.test_loss.value)),
                cell(Some(arm.seconds.value)),
            ];
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }
}

fn ends(estimate: Option<Estimate>) -> [String; 2] {
    let interval = estimate.and_then(|estimate| estimate.interval);
    [
        cell(interval.map(|interval| interval.low)),
        cell(interval.map(|interval| interval.high)),
    ]
}

/// A number; nothing where there is none.
fn cell(value: Option<f64>) -> String {
    let finite = value.filter(|value| value.is_finite());
    finite.map_or_else(String::new, |value| value.to_string())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_has_a_line_an_arm_and_nothing_where_nothing_is_known() {
        let none = Estimate::new(f64::NAN, None);
        let arm = Arm {
            name: "a \"b\", c".into(),
            settings: vec!["model.norm=none".into()],
            seeds: Vec::new(),
            accuracies: Vec::new(),
            test_accuracy: none,
            train_accuracy: none,
            gap: none,
            test_loss: Estimate::new(0.25, None),
            seconds: none,
            difference: None,
            curve: Vec::new(),
            failures: vec!["seed 0: diverged".into()],
        };
        let comparison = Comparison {
            title: "t".into(),
            source: "s".into(),
            held_out: false,
            pairs: Pairs::Seeds,
            machine: None,
            arms: vec![arm],
        };
        let csv = comparison.to_csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[1],
            "\"a \"\"b\"\", c\",\"model.norm=none\",0,1,,,,,,,,,,,0.25,"
        );
        assert_eq!(lines[0].split(',').count(), 16);
        // What is no number can be read again.
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("comparison.json");
        comparison.write(&path).unwrap();
        let read = Comparison::read(&path).unwrap();
        assert!(read.arms[0].gap.value.is_nan() && read.arms[0].failures.len() == 1);
    }
}
