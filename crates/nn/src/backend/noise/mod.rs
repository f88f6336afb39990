//! Noise.

mod autodiff;
mod composed;
mod flex;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use evenkeel_kernels::Dropout;

use super::has_kernels;

/// Fused noise.
#[backend_extension(Flex, Autodiff)]
pub trait NoiseOperations: Backend {
    /// Multiplication by a mask that is computed, never stored. Its own gradient.
    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;
}

/// Multiplies by the mask that `dropout` names: elements in the order of the tensor's shape.
pub(crate) fn dropout<const D: usize>(x: Tensor<D>, dropout: Dropout) -> Tensor<D> {
    if !has_kernels(x.device()) {
        return composed::dropout(x, dropout);
    }
    Tensor::from_dispatch(<Dispatch as NoiseOperations>::dropout(
        x.into_dispatch(),
        dropout,
    ))
}
