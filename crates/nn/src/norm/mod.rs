//! Normalization layers.

mod affine;
mod batch;
mod group;
mod layer;
mod rows;

pub use batch::{BatchNorm, BatchNormConfig, RunningAverage};
pub use group::{GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig};
pub use layer::{LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig};
