//! A residual addition with the activation that follows it.

mod autodiff;
mod flex;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use evenkeel_kernels::Activation;

use super::composed::activate;
use super::has_kernels;

/// A residual addition fused with an activation.
#[backend_extension(Flex, Autodiff)]
pub trait ResidualOperations: Backend {
    /// activation(x + residual), of two tensors of one shape, in x's type.
    fn add_activated(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// The gradient of `add_activated` by either, given what it returned.
    fn add_activated_backward(
        gradient: FloatTensor<Self>,
        output: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;
}

/// activation(x + residual), of two tensors of one shape.
pub(crate) fn add_activated<const D: usize>(
    x: Tensor<D>,
    residual: Tensor<D>,
    activation: Activation,
) -> Tensor<D> {
    if !has_kernels(x.device()) {
        let dtype = x.dtype();
        return activate(x + residual.cast(dtype), activation);
    }
    Tensor::from_dispatch(<Dispatch as ResidualOperations>::add_activated(
        x.into_dispatch(),
        residual.into_dispatch(),
        activation,
    ))
}
