//! Why a run failed.

use std::path::PathBuf;

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
    /// The loss is no longer a number.
    #[error(
        "step {step} of {steps}: the loss is {loss}. The last good checkpoint is kept. Try a lower \
         optimizer.learning_rate (now {learning_rate}), or train.clip_norm = 1"
    )]
    Diverged {
        /// The step, counted from 1.
        step: u64,
        /// The steps of the whole training.
        steps: u64,
        /// The loss.
        loss: f64,
        /// The learning rate of the step.
        learning_rate: f64,
    },
}
