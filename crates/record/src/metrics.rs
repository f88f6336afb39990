//! `metrics.jsonl`: a line a step and a line an epoch.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::number::number;
use crate::{Error, read_limited, write_atomic};

/// One line. Numbers that are not finite are written as `null` and read as NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// A training step.
    Step {
        /// The epoch it belongs to, from 1.
        epoch: u64,
        /// Completed steps, this one included.
        step: u64,
        /// The mean cross-entropy of its batch, without label smoothing: comparable with the test
        /// loss. On augmented images, under noise.
        #[serde(deserialize_with = "number")]
        loss: f64,
        /// Its learning rate.
        #[serde(deserialize_with = "number")]
        learning_rate: f64,
        /// The norm of the whole gradient before clipping, where there is clipping.
        gradient_norm: Option<f64>,
    },
    /// A completed epoch, evaluated.
    Epoch {
        /// Completed epochs, this one included.
        epoch: u64,
        /// Completed steps.
        step: u64,
        /// The mean cross-entropy of its steps, without label smoothing: on augmented images, under
        /// noise.
        #[serde(deserialize_with = "number")]
        train_loss: f64,
        /// The accuracy of its steps: on augmented images, under noise.
        #[serde(deserialize_with = "number")]
        train_accuracy: f64,
        /// The loss on the test data, in test mode.
        #[serde(deserialize_with = "number")]
        test_loss: f64,
        /// The accuracy on the test data, in test mode.
        #[serde(deserialize_with = "number")]
        test_accuracy: f64,
        /// The learning rate of its last step.
        #[serde(deserialize_with = "number")]
        learning_rate: f64,
        /// Seconds of its steps, each from the end of the step before: waiting for batches counts,
        /// evaluation and writing checkpoints do not.
        #[serde(deserialize_with = "number")]
        seconds: f64,
        /// Training examples a second of these.
        #[serde(deserialize_with = "number")]
        images_per_s: f64,
    },
}

impl Line {
    /// Completed steps at this line.
    pub fn step(&self) -> u64 {
        match *self {
            Self::Step { step, .. } | Self::Epoch { step, .. } => step,
        }
    }
}

/// Appends lines to a run's metrics.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Goes on after `step` completed steps: what was logged later (before a kill, say) is
    /// dropped, because it will be logged again. A file that is not there is created.
    pub fn resume(path: &Path, step: u64) -> Result<Self, Error> {
        if path.exists() {
            let kept = read_metrics(path)?
                .into_iter()
                .filter(|line| line.step() <= step);
            let text: String = kept.map(|line| to_text(&line)).collect();
            write_atomic(path, text.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| Error::write(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes one line, whole.
    pub fn append(&mut self, line: &Line) -> Result<(), Error> {
        let written = self.file.write_all(to_text(line).as_bytes());
        written.map_err(|error| Error::write(&self.path, &error))
    }
}

fn to_text(line: &Line) -> String {
    let mut text = serde_json::to_string(line).expect("a line has only string keys");
    text.push('\n');
    text
}

/// Reads a run's metrics. A torn last line, as `kill -9` can leave, is passed over; any other bad
/// line is an error.
pub fn read_metrics(path: &Path) -> Result<Vec<Line>, Error> {
    let bytes = read_limited(path)?;
    let whole = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|&byte| byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            serde_json::from_slice(line).map_err(|error| {
                Error::new(
                    path,
                    format!("line {}: expected a metric, {error}", index + 1),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, loss: f64) -> Line {
        Line::Step {
            epoch: 1,
            step,
            loss,
            learning_rate: 0.1,
            gradient_norm: None,
        }
    }

    #[test]
    fn resuming_drops_what_comes_again_and_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::resume(&path, 0).unwrap();
        for i in 1..=5 {
            log.append(&step(i, i as f64)).unwrap();
        }
        log.file.write_all(b"{\"kind\":\"st").unwrap();
        assert_eq!(read_metrics(&path).unwrap().len(), 5);
        let mut log = MetricsLog::resume(&path, 3).unwrap();
        log.append(&step(4, 40.0)).unwrap();
        let lines: Vec<_> = [1.0, 2.0, 3.0]
            .into_iter()
            .zip(1..)
            .map(|(l, i)| step(i, l))
            .collect();
        assert_eq!(
            read_metrics(&path).unwrap(),
            [lines, vec![step(4, 40.0)]].concat()
        );
    }

    #[test]
    fn a_loss_that_is_no_number_stays_none() {
        let text = to_text(&step(1, f64::NAN));
        assert!(text.contains("\"loss\":null"), "{text}");
        let Line::Step { loss, .. } = serde_json::from_str(&text).unwrap() else {
            panic!()
        };
        assert!(loss.is_nan());
    }

    #[test]
    fn a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(
            read_metrics(&path)
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
    }
}
