//! Normalization layers.

mod batch;

pub use batch::{BatchNorm, BatchNormConfig, RunningAverage};
