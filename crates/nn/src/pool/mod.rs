//! Pooling layers.

mod avg;
mod global_avg;
mod max;

pub use avg::{AvgPool2d, AvgPool2dConfig};
pub use global_avg::GlobalAvgPool;
pub use max::{MaxPool2d, MaxPool2dConfig};
