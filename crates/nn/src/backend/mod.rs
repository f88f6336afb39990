//! The operations that the layers are made of, and which implementation runs where.
//!
//! | device | implementation |
//! |---|---|
//! | `Device::flex()` | `flex`: the fused kernels of `evenkeel-kernels` |
//! | CUDA, Vulkan, Metal, ROCm, WebGPU | `cube`, for norms and masks: CubeCL kernels |
//! | any other | `composed`: Burn's own tensor operations |
//!
//! Each family of operations has a backend extension, a trait of what is dispatched; `autodiff` says
//! what an operation saves for its backward. Dispatching an extension on a backend that it does not
//! list panics, so the choice is made here, before the dispatch.

pub(crate) mod composed;
mod conv;
mod conv_block;
#[cfg(feature = "cube")]
mod cube;
mod flex;
mod noise;
mod norm;
mod pool;
mod residual;

pub use conv::ConvOperations;
pub use conv_block::ConvBlockOperations;
#[cfg(feature = "cube")]
pub use noise::MaskOperations;
pub use noise::{NoiseOperations, Shake};
pub use norm::{NormOperations, Normalization, PartOperations};
pub use pool::PoolOperations;
pub use residual::ResidualOperations;

pub(crate) use conv::{convolution, folded_block};
pub(crate) use conv_block::{ConvBlockOutput, conv_block};
pub(crate) use noise::{drop_connect, dropout, dropout_add, dropout_around, mix, multiply};
pub(crate) use norm::{
    Normalized, batch_norm_apply, batch_norm_by, batch_norm_of_part, batch_norm_train,
    channel_dispersion, channel_moments, row_norm,
};
pub(crate) use pool::{avg_pool, global_avg_pool, max_pool, planes};
pub(crate) use residual::add_activated;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchDevice, TensorMetadata};
use burn::tensor::{DType, Device, FloatDType, Tensor};

/// What tensors of this type are computed in: half precision is for storage. Squares of 300 are more
/// than `f16` holds, and 256 + 1 is 256 in `bf16`; so sums, statistics and reciprocal deviations are
/// kept in the wider type, and only outputs and gradients are rounded, once.
pub(crate) fn computed_in(dtype: DType) -> FloatDType {
    match dtype {
        DType::F64 => FloatDType::F64,
        DType::F32 | DType::Flex32 | DType::F16 | DType::BF16 => FloatDType::F32,
        other => panic!("evenkeel: expected a floating-point tensor, got {other:?}"),
    }
}

/// Whether there are the CPU's kernels.
pub(crate) fn has_kernels(device: Device) -> bool {
    matches!(
        device.without_autodiff().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

/// Whether `x` is on a GPU where kernels for tensors like it run.
#[cfg(feature = "cube")]
fn has_cube_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    match x.device().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(cube) => cube::supports(cube, x.dtype(), x.shape().num_elements()),
        _ => false,
    }
}

/// Whether there are kernels for `x`, on a GPU or on the CPU.
fn has_any_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    #[cfg(feature = "cube")]
    if has_cube_kernels(x) {
        return true;
    }
    has_kernels(x.device())
}

/// The tensor in a type, itself if it has it.
fn cast<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype {
        return tensor;
    }
    B::float_cast(tensor, dtype.into())
}

fn no_second_derivative(operation: &str) -> ! {
    panic!(
        "evenkeel: the backward of {operation} cannot itself be differentiated; Burn's autodiff \
         runs it on the inner backend, so it was called directly on an autodiff tensor"
    )
}
