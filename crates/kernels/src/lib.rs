//! Evenkeel's CPU kernels: plain slices in, slices out; no engine, no tensors.
//!
//! Each operation is defined by a naive `f64` [`reference`](mod@reference); the fast paths must
//! match it. They run on the current rayon pool, and their results are the same bits for any
//! number of threads, because work is split by shape alone and parts are merged in order. AVX2 and
//! AVX-512 are reached by run-time detection.
//!
//! What is `impl Into<Cow<[T]>>` is a slice, or a vector that is given away: it becomes the output, of
//! the same bits, and no memory is taken or read for that.
//!
//! Slices of a wrong length are a programming error and panic with the name of the argument.

mod activation;
mod conv;
mod conv_block;
mod float;
mod folds;
mod lanes;
pub mod noise;
pub mod norm;
mod output;
mod parallel;
mod pool;
pub mod reference;
mod residual;
mod simd;
mod streaming;

pub use activation::Activation;
pub use conv::{
    Conv2d, conv2d, conv2d_activated, conv2d_bias_gradient, conv2d_input_gradient,
    conv2d_weight_gradient,
};
pub use conv_block::{
    BlockPool, ConvBlock, ConvBlockForward, ConvBlockGradients, ConvBlockState,
    conv_block_backward, conv_block_train,
};
pub use float::Float;
pub use noise::{
    Branch, DropBlock, DropConnect, Dropout, Factors, GaussianDropout, Scaling, Shares, drop_block,
    drop_connect, drop_connect_input_gradient, drop_connect_weight_gradient, dropout, dropout_add,
    dropout_around, gaussian_dropout, keeps, mix, multiply, normals, share,
};
pub use norm::{
    Affine, Channels, Forward, Gradients, Moments, RowForward, RowNorm, RowStatistics, Rows,
    batch_norm_apply, batch_norm_apply_backward, batch_norm_gradient_of_sums, batch_norm_train,
    batch_norm_train_backward, channel_gradient_sums, channel_moments, row_norm, row_norm_backward,
};
pub use pool::{
    AvgPool, MaxPool, Planes, Window, avg_pool, avg_pool_backward, global_avg_pool,
    global_avg_pool_backward, max_pool, max_pool_backward,
};
pub use residual::{add_activated, add_activated_backward};
