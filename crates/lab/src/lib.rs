//! Training, evaluation and honest measurement of small nets: what the `evenkeel` command runs.
//!
//! A [`Recipe`] (TOML) says what to train; [`fit()`] trains it into a run's folder, resumable to
//! the same bits; [`evaluate`] measures, with or without averaging over views of each image.
#![forbid(unsafe_code)]

mod checkpoint;
pub mod data;
mod error;
pub mod evaluate;
mod examples;
mod figures;
pub mod fit;
pub mod model;
mod optimizer;
pub mod recipe;
pub mod recipes;
mod schedule;
mod weight_average;
pub mod weights;

pub use error::Error;
pub use evaluate::{Evaluator, Views};
pub use fit::{Event, FitOptions, Outcome, fit, resume};
pub use recipe::{Recipe, RecipeError};
pub use schedule::Schedule;
