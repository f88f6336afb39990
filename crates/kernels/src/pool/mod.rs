//! Pooling: a channel's positions, all of them or a window at a time, become one value.

mod avg;
mod global_avg;
mod max;

pub use avg::{AvgPool, avg_pool, avg_pool_backward};
pub use global_avg::{global_avg_pool, global_avg_pool_backward};
pub(crate) use global_avg::{global_avg_pool_of, share, write_means};
pub use max::{MaxPool, Planes, Window, max_pool, max_pool_backward};
pub(crate) use max::{Pooling, Spread, larger_of, max_pool_of};
