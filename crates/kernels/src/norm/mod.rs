//! Normalization kernels.

mod batch;
mod channels;
mod columns;
mod moments;
mod rows;
mod slabs;

pub use batch::{
    Affine, Forward, Gradients, batch_norm_apply, batch_norm_apply_backward,
    batch_norm_gradient_of_sums, batch_norm_train, batch_norm_train_backward,
    channel_gradient_sums, channel_moments,
};
pub(crate) use batch::{
    batch_norm_apply_part, batch_norm_train_backward_of, channel_moments_of_part,
};
pub use channels::Channels;
pub use moments::Moments;
pub use rows::{RowForward, RowNorm, RowStatistics, Rows, row_norm, row_norm_backward};
