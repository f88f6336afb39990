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
    /// The recipe is one, but not for this data.
    #[error("recipe: {0}")]
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
    /// A run's data are no longer those that it began with.
    #[error(
        "{name}: these are not the data that the run began with: {difference}. Put those back to \
         go on with it, or start a new run"
    )]
    OtherData {
        /// The source by name.
        name: String,
        /// What was found and what was expected.
        difference: String,
    },
    /// A run that is to be used is not finished.
    #[error(
        "{}: this run is not finished, so it has no model yet. Go on with it by `evenkeel train \
         --resume {}`", folder.display(), folder.display()
    )]
    Unfinished {
        /// The run's folder.
        folder: PathBuf,
    },
    /// The loss, or a value of the model, is no longer a number.
    #[error(
        "step {step} of {steps}: {what}. {} Try a lower optimizer.learning_rate (now \
         {learning_rate}), or train.clip_norm = 1", told(kept.as_deref())
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

fn told(kept: Option<&Path>) -> String {
    match kept {
        Some(path) => format!("The last good checkpoint is kept: {}.", path.display()),
        None => "There is no checkpoint of good weights yet.".into(),
    }
}
