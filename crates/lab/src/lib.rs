//! Training, evaluation and honest measurement of small nets: what the `evenkeel` command runs.
//!
//! A [`Recipe`] (TOML) says what to train; [`fit()`] trains it into a run's folder, resumable to
//! the same bits; [`evaluate`] measures, with or without averaging over views of each image.
#![forbid(unsafe_code)]

pub mod ablate;
mod augmented;
pub mod average;
mod checkpoint;
mod compare;
pub mod doctor;
mod error;
pub mod evaluate;
mod examples;
mod figures;
pub mod fit;
pub mod fold;
pub mod model;
mod optimizer;
mod preview;
pub mod probe;
mod provenance;
mod quality;
pub mod recipe;
pub mod recipes;
mod scale_weights;
mod schedule;
pub mod search;
mod session;
mod settings;
mod sitting;
mod step;
mod weight_average;
pub mod weights;

pub use augmented::{AugmentedCopy, Augmenting, MANIFEST, augment, read_manifest};
pub use compare::compare_runs;
pub use error::Error;
pub use evaluate::Evaluator;
pub use evenkeel_augment::{BUILT_IN_PIPELINES, Error as LoaderError};
pub use evenkeel_data as data;
pub use fit::{Event, FitOptions, Outcome, fit, resume};
pub use preview::{PreviewOptions, preview, read_pipeline};
pub use recipe::{Recipe, RecipeError};
pub use schedule::Schedule;
