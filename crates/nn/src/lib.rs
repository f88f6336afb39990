//! Normalization and noise layers for [Burn](burn), each with its training noise and its
//! test-time average made explicit.
//!
//! The forward of every layer that differs between training and test takes a [`Pass`], which says what
//! this pass over the network is for: nothing is inferred from a device or a flag that somebody forgot
//! to set. Pooling and convolution, the same in both, take none.
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use evenkeel_nn::{Activation, BatchNormConfig, DropoutConfig, Pass};
//!
//! let device = Device::flex().autodiff();
//! let norm = BatchNormConfig::new(8).with_activation(Activation::Relu).init(&device);
//! let dropout = DropoutConfig::new(0.2).init();
//! let x = Tensor::<4>::random([16, 8, 6, 6], Distribution::Default, &device);
//!
//! let training = Pass::train(42, 0); // seed 42, step 0
//! let y = dropout.forward(norm.forward(x.clone(), &training), &training);
//! let test = dropout.forward(norm.forward(x, &Pass::test()), &Pass::test());
//! assert_eq!(y.dims(), test.dims());
//! ```
//!
//! On the CPU ([`Device::flex`](burn::tensor::Device::flex)) the layers run fused kernels; so do norms
//! and masks on GPUs, with the features `wgpu` and `cuda`. All else is composed of Burn's own
//! operations. A program that trains on the CPU should use a global allocator that keeps what is freed
//! (`evenkeel::allocator`): a third of Burn's time there is page faults of fresh buffers; and make its training thread
//! one of rayon's, `rayon::ThreadPoolBuilder::new().use_current_thread().build_global()`, which saves small operations
//! from putting it to sleep and waking it.
#![forbid(unsafe_code)]

mod average;
mod backend;
mod buffer;
mod conv;
mod conv_block;
pub mod decay;
pub mod fold;
mod host;
mod init;
mod loss;
mod max_norm;
mod module_path;
mod noise;
mod norm;
mod pass;
mod pool;
mod residual;

pub use average::{
    ExpectationGap, Moments, Predictive, expectation_gap, monte_carlo, monte_carlo_predictive,
};
#[cfg(feature = "cube")]
pub use backend::MaskOperations;
pub use backend::{
    ConvBlockOperations, ConvOperations, NoiseOperations, NormOperations, Normalization,
    PartOperations, PoolOperations, ResidualOperations, Shake,
};
pub use buffer::Buffer;
pub use conv::{Conv2d, Conv2dConfig};
pub use conv_block::{ConvBlock, ConvBlockConfig, conv_norm};
pub use decay::{Decay, WeightDecay};
pub use evenkeel_kernels::{Activation, Scaling};
pub use fold::Fold;
pub use init::initialize;
pub use loss::{cross_entropy, soft_cross_entropy};
pub use max_norm::max_norm;
pub use module_path::{Role, is_linear};
pub use noise::{
    AlphaDropout, AlphaDropoutConfig, DropBlock, DropBlockConfig, DropConnectConv2d,
    DropConnectConv2dConfig, DropConnectLinear, DropConnectLinearConfig, DropPath, DropPathConfig,
    Dropout, DropoutConfig, GaussianDropout, GaussianDropoutConfig, PreActivation, ShakeShake,
    ShakeShakeConfig, Sharing, SpatialDropout, SpatialDropoutConfig, linear_schedule,
};
pub use norm::{
    BatchNorm, BatchNormConfig, BatchPart, Dispersion, GroupNorm, GroupNormConfig, InstanceNorm,
    InstanceNormConfig, LayerNorm, LayerNormConfig, Norm, NormKind, Norms, Replica, RmsNorm,
    RmsNormConfig, RunningAverage, in_process, recalibrate_exactly, replace_batch_norms,
};
pub use pass::{Observation, Observer, Pass, StatisticsSource, StatisticsUpdate};
pub use pool::{AvgPool2d, AvgPool2dConfig, GlobalAvgPool, MaxPool2d, MaxPool2dConfig};
pub use residual::add_activated;
