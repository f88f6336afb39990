//! `run.json`: what was trained, on what, how, and how it came out.

use serde::{Deserialize, Serialize};

use crate::Machine;
use crate::number::number;

/// One training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The version of this file's format: 1.
    pub format: u32,
    /// Where the run stands.
    pub status: Status,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// Of the programs that made it.
    pub versions: Versions,
    /// The recipe as resolved, with all defaults, as TOML.
    pub recipe: String,
    /// The data it was trained and evaluated on.
    pub data: DataSummary,
    /// How its examples become the net's numbers: part of the model.
    pub preparation: Preparation,
    /// The machine it was made on.
    pub machine: Machine,
    /// The root of all its randomness.
    pub seed: u64,
    /// When it was started: RFC 3339, UTC.
    pub started: String,
    /// The number of trained values.
    pub parameters: u64,
    /// What is decayed and what is not, line by line.
    pub decay: Vec<String>,
    /// How it came out, once it is finished.
    pub results: Option<Results>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Training, or killed while it was.
    Running,
    /// All steps done.
    Finished,
    /// Stopped by a signal, with a checkpoint.
    Interrupted,
    /// Stopped by an error.
    Failed,
}

/// Versions of the programs that made a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Evenkeel's.
    pub evenkeel: String,
    /// Burn's.
    pub burn: String,
}

/// The data of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSummary {
    /// The source by name.
    pub source: String,
    /// The classes' names.
    pub classes: Vec<String>,
    /// Examples trained on.
    pub train_examples: usize,
    /// Examples evaluated on.
    pub test_examples: usize,
    /// Whether they are held out of the training data instead of being the test data.
    pub held_out: bool,
    /// The shape of an example: channels, height, width; or columns.
    pub shape: Vec<usize>,
    /// The names of a table's columns, in the net's order; none for images.
    pub columns: Vec<String>,
    /// The CRC-32 of the training examples and their labels, in hexadecimal digits; none in runs of
    /// older versions.
    #[serde(default)]
    pub train_checksum: Option<String>,
    /// That of the examples evaluated on.
    #[serde(default)]
    pub test_checksum: Option<String>,
    /// The images that could not be read, why, and what became of each; none in most runs.
    #[serde(default)]
    pub unreadable: Vec<String>,
}

/// y = (x − mean)/deviation: per channel of images (x on the scale 0..1), per column of tables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Preparation {
    /// Of the training data.
    pub mean: Vec<f32>,
    /// Of the training data.
    pub deviation: Vec<f32>,
}

/// How a run came out. Accuracies are shares in 0..=1; all are measured in test mode, on images
/// without augmentation, by the model that was saved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The mean cross-entropy on the training data.
    #[serde(deserialize_with = "number")]
    pub train_loss: f64,
    /// The accuracy on the training data.
    #[serde(deserialize_with = "number")]
    pub train_accuracy: f64,
    /// The mean cross-entropy on the test data.
    #[serde(deserialize_with = "number")]
    pub test_loss: f64,
    /// The accuracy on the test data.
    #[serde(deserialize_with = "number")]
    pub test_accuracy: f64,
    /// The epoch with the best test accuracy, which chose nothing: the last model is the result.
    pub best_epoch: u64,
    /// Its test accuracy.
    #[serde(deserialize_with = "number")]
    pub best_test_accuracy: f64,
    /// Epochs trained.
    pub epochs: u64,
    /// Steps trained.
    pub steps: u64,
    /// Seconds by the clock from the reading of the data to the last measurement, over all sittings:
    /// evaluations and writing checkpoints included. Of a sitting that was killed, the time up to
    /// its last checkpoint.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// Training examples a second of training steps, each from the end of the step before: waiting
    /// for batches counts, evaluations and writing checkpoints do not.
    #[serde(deserialize_with = "number")]
    pub images_per_s: f64,
    /// The most memory the process had resident.
    pub peak_memory_bytes: Option<u64>,
}

impl Run {
    /// The time now as `started` wants it.
    pub fn now() -> String {
        format!("{:.0}", jiff::Timestamp::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_that_are_no_numbers_can_be_read_again() {
        let results = Results {
            train_loss: f64::NAN,
            train_accuracy: f64::NAN,
            test_loss: f64::INFINITY,
            test_accuracy: f64::NAN,
            best_epoch: 1,
            best_test_accuracy: f64::NAN,
            epochs: 1,
            steps: 2,
            seconds: f64::NAN,
            images_per_s: f64::INFINITY,
            peak_memory_bytes: None,
        };
        let text = serde_json::to_string(&results).unwrap();
        let read: Results = serde_json::from_str(&text).unwrap();
        assert!(read.train_loss.is_nan() && read.test_loss.is_nan() && read.images_per_s.is_nan());
        assert!(read.best_test_accuracy.is_nan() && read.seconds.is_nan());
        assert_eq!((read.steps, read.best_epoch), (2, 1));
    }

    #[test]
    fn data_of_older_versions_have_no_checksums() {
        let text = r#"{"source": "here", "classes": ["a"], "train_examples": 2,
            "test_examples": 1, "held_out": false, "shape": [3], "columns": []}"#;
        let data: DataSummary = serde_json::from_str(text).unwrap();
        assert_eq!((data.train_checksum, data.test_checksum), (None, None));
    }

    #[test]
    fn now_is_rfc_3339() {
        let now = Run::now();
        assert!(
            now.len() == 20 && now.ends_with('Z') && now.as_bytes()[10] == b'T',
            "{now}"
        );
    }
}
