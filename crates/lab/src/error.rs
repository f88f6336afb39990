//! Why a run failed.

use std::path::{Path, PathBuf};

use crate::{RecipeError, data};

/// What can go wrong between a recipe and a trained model. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe is not one.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// What was asked for is not for this data.
    #[error("{0}")]
    Unfit(String),
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// An example could not be made.
    #[error(transparent)]
    Loader(#[from] evenkeel_augment::Error),
    /// A run's folder cannot be read or written.
    #[error(transparent)]
    Record(#[from] evenkeel_record::Error),
    /// A model or optimizer cannot be read or written.
    #[error("{}: {problem}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Stopped as asked, before its end.
    #[error("stopped as asked")]
    Stopped,
    /// A run's data are no longer those that it began with.
    #[error(
        "{name}: these are not the data that the run began with: {difference}. Put those back, or \
         {instead}"
    )]
    OtherData {
        /// The source by name.
        name: String,
        /// What was found and what was expected.
        difference: String,
        /// What else can be done.
        instead: &'static str,
    },
    /// A run that is to be used has no model.
    #[error("{}: {}", folder.display(), unfinished(folder, failure.as_deref()))]
    Unfinished {
        /// The run's folder.
        folder: PathBuf,
        /// Why it failed, if it did.
        failure: Option<String>,
    },
    /// The loss, or a value of the model, is no longer a number.
    #[error(
        "step {step} of {steps}: {what}. {} Try a lower optimizer.learning_rate (it was \
         {learning_rate:?} at this step), or train.clip_norm = 1", told(kept.as_deref())
    )]
    Diverged {
        /// The step, counted from 1.
        step: u64,
        /// The steps of the whole training.
        steps: u64,
        /// What is not finite.
        what: String,
        /// The learning rate of the step.
        learning_rate: f64,
        /// The last checkpoint: of weights that are finite and that gave a finite loss.
        kept: Option<PathBuf>,
    },
}

fn unfinished(folder: &Path, failure: Option<&str>) -> String {
    match failure {
        Some(failure) => format!("this run failed, so it has no model: {failure}"),
        None => format!(
            "this run is not finished, so it has no model yet. Go on with it by `evenkeel train \
             --resume {}`",
            folder.display()
        ),
    }
}

fn told(kept: Option<&Path>) -> String {
    match kept {
        Some(path) => format!("The last good checkpoint is kept: {}.", path.display()),
        None => "There is no checkpoint of good weights yet.".into(),
    }
}
