//! `run.json`: what was trained, on what, how, and how it came out.

use serde::{Deserialize, Serialize};

use crate::Machine;

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
    pub train_loss: f64,
    /// The accuracy on the training data.
    pub train_accuracy: f64,
    /// The mean cross-entropy on the test data.
    pub test_loss: f64,
    /// The accuracy on the test data.
    pub test_accuracy: f64,
    /// The epoch with the best test accuracy, which chose nothing: the last model is the result.
    pub best_epoch: u64,
    /// Its test accuracy.
    pub best_test_accuracy: f64,
    /// Epochs trained.
    pub epochs: u64,
    /// Steps trained.
    pub steps: u64,
    /// Seconds spent in training steps and evaluations, over all sittings.
    pub seconds: f64,
    /// Training examples a second, in training steps.
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
    fn now_is_rfc_3339() {
        let now = Run::now();
        assert!(
            now.len() == 20 && now.ends_with('Z') && now.as_bytes()[10] == b'T',
            "{now}"
        );
    }
}
