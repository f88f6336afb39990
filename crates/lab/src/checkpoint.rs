//! Everything a training needs to go on to the same bits: written whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use evenkeel_nn::Pass;
use evenkeel_record::{read_limited, write_atomic};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::evaluate::Evaluator;
use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::weight_average::WeightAverage;
use crate::weights;

/// Where a training stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Completed steps.
    pub step: u64,
    /// Sums over the current epoch's steps.
    pub sums: Sums,
    /// The best evaluation so far, and the epoch it came after.
    pub best: Option<(u64, f64)>,
    /// Seconds by the clock up to this state, over all sittings.
    pub seconds: f64,
    /// Seconds of steps, each from the end of the step before, over all sittings.
    #[serde(default)]
    pub step_seconds: f64,
    /// The learning rate of the last step.
    #[serde(default)]
    pub learning_rate: f64,
}

/// Running sums of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub loss: f64,
    pub correct: u64,
    pub examples: u64,
    /// Seconds trained in this epoch.
    pub seconds: f64,
}

/// The state of a training between two steps.
pub(crate) struct Training {
    pub model: Model,
    pub optimizer: Optimizer,
    pub average: Option<WeightAverage>,
    pub progress: Progress,
}

impl Training {
    /// The model that is evaluated and saved: the average of the weights where there is one, with statistics
    /// recomputed over the clean training data; on a plain device.
    pub fn evaluated(&self, train: &Evaluator) -> Result<Model, Error> {
        let Some(average) = &self.average else {
            return Ok(self.model.valid());
        };
        let model = average.model.clone();
        let pass = Pass::recalibrate();
        train.batches(|x| {
            model.forward(x, &pass);
        })?;
        Ok(model)
    }
}

/// A run's `checkpoint/`: a folder for each state, named by its step, complete or absent. The last
/// two are kept: that the weights of the last are good is known only from the loss that they give.
pub(crate) struct Checkpoints {
    folder: PathBuf,
}

const PROGRESS: &str = "progress.json";
const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const AVERAGE: &str = "average.bpk";

impl Checkpoints {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes a state beside the last ones, then removes the older of those: at any moment at least
    /// one complete state is there. Nothing is written, and nothing removed, if a value of the state
    /// is not finite: says which.
    pub fn save(&self, training: &Training) -> Result<Option<String>, Error> {
        let target = self
            .folder
            .join(format!("step-{:012}", training.progress.step));
        if target.exists() {
            return Ok(None);
        }
        let mut files = vec![
            (MODEL, weights::to_record(&training.model)),
            (OPTIMIZER, training.optimizer.to_bytes()),
        ];
        if let Some(average) = &training.average {
            files.push((AVERAGE, weights::to_record(&average.model)));
        }
        for (file, bytes) in &files {
            let ruined = bytes.clone().and_then(|bytes| weights::not_finite(&bytes));
            if let Some(name) = ruined.map_err(|problem| self.failed(file, problem))? {
                return Ok(Some(weights::ruined(&format!("{file}: {name}"))));
            }
        }
        files.push((
            PROGRESS,
            serde_json::to_vec(&training.progress).map_err(|error| error.to_string()),
        ));
        let draft = self.folder.join("draft");
        self.io(
            &draft,
            if draft.exists() {
                fs::remove_dir_all(&draft)
            } else {
                Ok(())
            },
        )?;
        self.io(&draft, fs::create_dir_all(&draft))?;
        for (file, bytes) in files {
            let bytes = bytes.map_err(|problem| self.failed(file, problem))?;
            write_atomic(&draft.join(file), &bytes)?;
        }
        self.io(&target, fs::rename(&draft, &target))?;
        // The rename itself must be on disk before the older states go.
        self.io(
            &self.folder,
            fs::File::open(&self.folder).and_then(|folder| folder.sync_all()),
        )?;
        let mut states = self.complete()?;
        states.sort();
        for (_, path) in states.iter().rev().skip(2) {
            self.io(path, fs::remove_dir_all(path))?;
        }
        Ok(None)
    }

    /// Removes the state after this many steps, if there is one: its weights gave a loss that is no
    /// number.
    pub fn remove(&self, step: u64) -> Result<(), Error> {
        for (found, path) in self.complete()? {
            if found == step {
                self.io(&path, fs::remove_dir_all(&path))?;
            }
        }
        Ok(())
    }

    /// The folder of the latest state.
    pub fn last(&self) -> Option<PathBuf> {
        let states = self.complete().ok()?;
        states.into_iter().max().map(|(_, path)| path)
    }

    fn failed(&self, file: &str, problem: String) -> Error {
        Error::Weights {
            path: self.folder.join(file),
            problem,
        }
    }

    /// The latest state, poured into a training freshly built from the same recipe; the fresh
    /// training itself if there is none yet.
    pub fn load(&self, fresh: Training) -> Result<Training, Error> {
        let Some((_, path)) = self.complete()?.into_iter().max() else {
            return Ok(fresh);
        };
        let read = |name: &str| -> Result<Vec<u8>, Error> { Ok(read_limited(&path.join(name))?) };
        let failed = |name: &str| {
            let path = path.join(name);
            move |problem: String| Error::Weights {
                path,
                problem: format!(
                    "{problem}. The checkpoint does not belong to this run's recipe, or is \
                     damaged; remove the checkpoint folder to start over"
                ),
            }
        };
        let progress = serde_json::from_slice(&read(PROGRESS)?)
            .map_err(|error| failed(PROGRESS)(error.to_string()))?;
        let model = weights::from_record(fresh.model, read(MODEL)?).map_err(failed(MODEL))?;
        let optimizer = fresh
            .optimizer
            .load_bytes(read(OPTIMIZER)?)
            .map_err(failed(OPTIMIZER))?;
        let average = match fresh.average {
            Some(average) => Some(
                average
                    .with_record(read(AVERAGE)?)
                    .map_err(failed(AVERAGE))?,
            ),
            None => None,
        };
        Ok(Training {
            model,
            optimizer,
            average,
            progress,
        })
    }

    /// The steps and folders of complete states.
    fn complete(&self) -> Result<Vec<(u64, PathBuf)>, Error> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let entries = self.io(&self.folder, fs::read_dir(&self.folder))?;
        let steps = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let step = path
                .file_name()?
                .to_str()?
                .strip_prefix("step-")?
                .parse()
                .ok()?;
            Some((step, path))
        });
        Ok(steps.collect())
    }

    fn io<T>(&self, path: &Path, result: std::io::Result<T>) -> Result<T, Error> {
        result.map_err(|error| Error::Weights {
            path: path.to_owned(),
            problem: format!("{error}. Check the permissions and the space of the run's folder"),
        })
    }
}
