//! The operations that the layers are made of, and which implementation runs where.
//!
//! | device | implementation |
//! |---|---|
//! | `Device::flex()` | [`Operations`]: the fused kernels of `evenkeel-kernels` |
//! | any other | [`composed`]: Burn's own tensor operations |
//!
//! Dispatching an extension on a backend that it does not list panics, so the choice is made here,
//! before the dispatch.

mod autodiff;
mod composed;
mod flex;
mod ops;

pub use ops::Operations;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, FloatDType, Shape, Tensor};
use evenkeel_kernels::{Activation, Conv2d, Dropout, Planes, RowNorm, Window};

/// A normalized batch and the statistics it was normalized with.
pub(crate) struct Normalized<const D: usize> {
    pub output: Tensor<D>,
    /// Per channel; not part of the autodiff graph.
    pub mean: Tensor<1>,
    /// Biased, per channel; not part of the autodiff graph.
    pub variance: Tensor<1>,
}

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

fn has_kernels(device: Device) -> bool {
    matches!(
        device.without_autodiff().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

/// Batch norm by the statistics of `x` itself: `[N, C, ...]`.
pub(crate) fn batch_norm_train<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> Normalized<D> {
    if !has_kernels(x.device()) {
        return composed::batch_norm_train(x, scale, shift, epsilon, activation);
    }
    let (output, mean, variance, _) = <Dispatch as Operations>::channel_norm(
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        epsilon,
        activation,
    );
    Normalized {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean).detach(),
        variance: Tensor::from_dispatch(variance).detach(),
    }
}

/// Batch norm by given statistics, which are constants to the gradient.
pub(crate) fn batch_norm_apply<const D: usize>(
    x: Tensor<D>,
    mean: Tensor<1>,
    reciprocal_deviation: Tensor<1>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    activation: Activation,
) -> Tensor<D> {
    if !has_kernels(x.device()) {
        return composed::batch_norm_apply(x, mean, reciprocal_deviation, scale, shift, activation);
    }
    Tensor::from_dispatch(<Dispatch as Operations>::channel_norm_apply(
        x.into_dispatch(),
        mean.into_dispatch(),
        reciprocal_deviation.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        activation,
    ))
}

/// A norm by the rows that `norm` says `x` to consist of.
pub(crate) fn row_norm<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    norm: RowNorm,
) -> Tensor<D> {
    if !has_kernels(x.device()) {
        return composed::row_norm(x, scale, shift, norm);
    }
    let (output, ..) = <Dispatch as Operations>::row_norm(
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        norm,
    );
    Tensor::from_dispatch(output)
}

/// Multiplies by the mask that `dropout` names: elements in the order of the tensor's shape.
pub(crate) fn dropout<const D: usize>(x: Tensor<D>, dropout: Dropout) -> Tensor<D> {
    if !has_kernels(x.device()) {
        return composed::dropout(x, dropout);
    }
    Tensor::from_dispatch(<Dispatch as Operations>::dropout(
        x.into_dispatch(),
        dropout,
    ))
}

/// The mean over all dimensions after the first two.
pub(crate) fn global_avg_pool<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    if !has_kernels(x.device()) {
        return composed::global_avg_pool(x);
    }
    Tensor::from_dispatch(<Dispatch as Operations>::global_avg_pool(x.into_dispatch()))
}

/// Convolution of images `[N, C, height, width]`.
pub(crate) fn convolution(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    conv: Conv2d,
) -> Tensor<4> {
    if let Err(problem) = conv.output() {
        panic!("Conv2d: {problem}");
    }
    if !has_kernels(x.device()) {
        return composed::convolution(x, weight, bias, conv);
    }
    // An extension's operation has no optional tensors.
    let none = || Tensor::zeros([0], (&x.device(), x.dtype()));
    let bias = bias.unwrap_or_else(none);
    Tensor::from_dispatch(<Dispatch as Operations>::convolution(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        conv,
    ))
}

/// The images of a tensor `[N, C, height, width]`.
pub(crate) fn planes(shape: &Shape) -> Planes {
    let [n, c, height, width] = shape.dims();
    Planes {
        count: n * c,
        height,
        width,
    }
}

/// The largest value under each window of `[N, C, height, width]`.
pub(crate) fn max_pool(x: Tensor<4>, window: Window) -> Tensor<4> {
    if !has_kernels(x.device()) {
        return composed::max_pool(x, window);
    }
    let (output, _) = <Dispatch as Operations>::max_pool(x.into_dispatch(), window);
    Tensor::from_dispatch(output)
}
