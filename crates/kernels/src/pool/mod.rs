//! Pooling: a channel's positions, all of them or a window at a time, become one value.

mod global_avg;
mod max;

pub use global_avg::{global_avg_pool, global_avg_pool_backward};
pub use max::{MaxPool, Planes, Window, max_pool, max_pool_backward};
pub(crate) use max::{Spread, max_pool_of};
