//! Noise.

mod autodiff;
mod composed;
#[cfg(feature = "cube")]
mod cube;
mod flex;
#[cfg(feature = "cube")]
mod mask;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use evenkeel_kernels::{Branch, DropConnect, Dropout, Factors, Shares};

use super::has_kernels;

#[cfg(feature = "cube")]
pub use mask::MaskOperations;

/// Shake-shake's shares, which differ between the directions.
#[derive(Clone, Copy, Debug)]
pub struct Shake {
    /// α.
    pub forward: Shares,
    /// β.
    pub backward: Shares,
}

/// Fused noise: its outputs are of the type of the first tensor, its gradients of the type of what
/// they are the gradient of; but that of DropConnect's weight, which is not at hand, in what the input
/// is computed in.
#[backend_extension(Flex, Autodiff)]
pub trait NoiseOperations: Backend {
    /// Multiplication by factors that are computed, never stored. Its own gradient.
    fn multiply(x: FloatTensor<Self>, factors: Factors) -> FloatTensor<Self>;

    /// `residual` + `x` under a mask.
    fn dropout_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        dropout: Dropout,
    ) -> FloatTensor<Self>;

    /// `x` − `centre` under a mask, + `shift`.
    fn dropout_around(
        x: FloatTensor<Self>,
        dropout: Dropout,
        centre: f64,
        shift: f64,
    ) -> FloatTensor<Self>;

    /// Two branches by their shares: α in this direction, β in the other.
    fn mix(first: FloatTensor<Self>, second: FloatTensor<Self>, shake: Shake) -> FloatTensor<Self>;

    /// The part of a gradient that goes to a branch.
    fn share(gradient: FloatTensor<Self>, branch: Branch, shares: Shares) -> FloatTensor<Self>;

    /// `x` times the weights under a mask for each example.
    fn drop_connect(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        connect: DropConnect,
    ) -> FloatTensor<Self>;

    /// The gradient of `drop_connect` with respect to `x`.
    fn drop_connect_input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        connect: DropConnect,
    ) -> FloatTensor<Self>;

    /// The gradient of `drop_connect` with respect to the weight.
    fn drop_connect_weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        connect: DropConnect,
    ) -> FloatTensor<Self>;
}

/// Multiplies by factors, one for each element in the order of the tensor's shape.
pub(crate) fn multiply<const D: usize>(x: Tensor<D>, factors: Factors) -> Tensor<D> {
    if !has_kernels(x.device()) {
        return composed::multiply(x, factors);
    }
    Tensor::from_dispatch(<Dispatch as NoiseOperations>::multiply(
        x.into_dispatch(),
        factors,
    ))
}

/// Multiplies by the mask that `dropout` names.
pub(crate) fn dropout<const D: usize>(x: Tensor<D>, dropout: Dropout) -> Tensor<D> {
    multiply(x, Factors::Dropout(dropout))
}

/// `residual` + `x` times the mask, of one shape.
pub(crate) fn dropout_add<const D: usize>(
    x: Tensor<D>,
    residual: Tensor<D>,
    dropout: Dropout,
) -> Tensor<D> {
    if !has_kernels(x.device()) {
        return composed::dropout_add(x, residual, dropout);
    }
    Tensor::from_dispatch(<Dispatch as NoiseOperations>::dropout_add(
        x.into_dispatch(),
        residual.into_dispatch(),
        dropout,
    ))
}

/// (`x` − `centre`) times the mask, + `shift`.
pub(crate) fn dropout_around<const D: usize>(
    x: Tensor<D>,
    dropout: Dropout,
    centre: f64,
    shift: f64,
) -> Tensor<D> {
    if !has_kernels(x.device()) {
        return composed::dropout_around(x, dropout, centre, shift);
    }
    Tensor::from_dispatch(<Dispatch as NoiseOperations>::dropout_around(
        x.into_dispatch(),
        dropout,
        centre,
        shift,
    ))
}

/// Two branches of one shape by shares.
pub(crate) fn mix<const D: usize>(first: Tensor<D>, second: Tensor<D>, shake: Shake) -> Tensor<D> {
    if !has_kernels(first.device()) {
        return composed::mix(first, second, shake);
    }
    Tensor::from_dispatch(<Dispatch as NoiseOperations>::mix(
        first.into_dispatch(),
        second.into_dispatch(),
        shake,
    ))
}

/// `[examples, positions, inputs]` times weights `[inputs, outputs]` under a mask for each example.
pub(crate) fn drop_connect(x: Tensor<3>, weight: Tensor<2>, connect: DropConnect) -> Tensor<3> {
    if !has_kernels(x.device()) {
        return composed::drop_connect(x, weight, connect);
    }
    Tensor::from_dispatch(<Dispatch as NoiseOperations>::drop_connect(
        x.into_dispatch(),
        weight.into_dispatch(),
        connect,
    ))
}
