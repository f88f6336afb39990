//! Norms.

mod autodiff;
mod composed;
#[cfg(feature = "cube")]
mod cube;
mod flex;
mod part;

pub(crate) use composed::{batch_norm_by, channel_dispersion};
pub use part::PartOperations;

use crate::norm::BatchPart;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use evenkeel_kernels::{Activation, RowNorm};

use super::{has_any_kernels, has_kernels};

/// Fused norms: inputs are `[N, C, ...]`, statistics and affine parameters `[C]`.
///
/// Tensors need not be of one type: outputs are of the input's type, gradients of the type of what
/// they are the gradient of, statistics in what the input is computed in: `f64` for `f64`, otherwise
/// `f32`.
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff)]
pub trait NormOperations: Backend {
    /// Batch norm by the statistics of `x`: output, mean, biased variance, reciprocal deviation.
    fn channel_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );

    /// Batch norm by given statistics.
    fn channel_norm_apply(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// Norm by rows: output, mean and reciprocal deviation per row.
    fn row_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: RowNorm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of any of these with respect to `x`, `scale`, `shift`.
    fn norm_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        normalization: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// What a backward is of: where the statistics came from.
#[derive(Clone, Copy, Debug)]
pub enum Normalization {
    /// `channel_norm`.
    ByBatch(Activation),
    /// `channel_norm_apply`: constants have no gradient of their own.
    ByConstants(Activation),
    /// `row_norm`.
    ByRows(RowNorm),
}

/// A normalized batch and the statistics it was normalized with.
pub(crate) struct Normalized<const D: usize> {
    pub output: Tensor<D>,
    /// Per channel; not part of the autodiff graph.
    pub mean: Tensor<1>,
    /// Biased, per channel; not part of the autodiff graph.
    pub variance: Tensor<1>,
}

/// Batch norm by the statistics of `x` itself: `[N, C, ...]`.
pub(crate) fn batch_norm_train<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> Normalized<D> {
    if !has_any_kernels(&x) {
        return composed::batch_norm_train(x, scale, shift, epsilon, activation);
    }
    let (output, mean, variance, _) = <Dispatch as NormOperations>::channel_norm(
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

/// The mean and the biased variance per channel: constants to the gradient.
pub(crate) fn channel_moments<const D: usize>(x: Tensor<D>) -> (Tensor<1>, Tensor<1>) {
    if !has_kernels(x.device()) {
        let deviation = |centred: Tensor<3>| centred.square().mean_dim(2).mean_dim(0).sqrt();
        return channel_dispersion(x, deviation);
    }
    let (mean, variance) = <Dispatch as PartOperations>::channel_moments(x.into_dispatch());
    let [mean, variance] = [mean, variance].map(|values| Tensor::from_dispatch(values).detach());
    (mean, variance)
}

/// Batch norm of a part of a batch, by the statistics of the whole; the gradient flows through them.
///
/// # Panics
/// If the device has no kernels.
pub(crate) fn batch_norm_of_part<const D: usize>(
    x: Tensor<D>,
    mean: Tensor<1>,
    reciprocal_deviation: Tensor<1>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    part: BatchPart,
) -> Tensor<D> {
    assert!(
        has_kernels(x.device()),
        "BatchNorm: replicas need the kernels of Device::flex(); {:?} has none yet",
        x.device()
    );
    Tensor::from_dispatch(<Dispatch as PartOperations>::channel_norm_of_part(
        x.into_dispatch(),
        mean.into_dispatch(),
        reciprocal_deviation.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        part,
    ))
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
    if !has_any_kernels(&x) {
        return composed::batch_norm_apply(x, mean, reciprocal_deviation, scale, shift, activation);
    }
    Tensor::from_dispatch(<Dispatch as NormOperations>::channel_norm_apply(
        x.into_dispatch(),
        mean.into_dispatch(),
        reciprocal_deviation.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        activation,
    ))
}

/// A norm by the rows that `norm` says `x` to consist of. Also the mean and the reciprocal deviation of
/// each row, constants to the gradient.
pub(crate) fn row_norm<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    norm: RowNorm,
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    if !has_any_kernels(&x) {
        return composed::row_norm(x, scale, shift, norm);
    }
    let (output, mean, r) = <Dispatch as NormOperations>::row_norm(
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        norm,
    );
    let [mean, r] = [mean, r].map(|values| Tensor::from_dispatch(values).detach());
    (Tensor::from_dispatch(output), mean, r)
}
