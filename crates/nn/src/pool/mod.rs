//! Pooling layers.

mod global_avg;
mod max;

pub use global_avg::GlobalAvgPool;
pub use max::{MaxPool2d, MaxPool2dConfig};
