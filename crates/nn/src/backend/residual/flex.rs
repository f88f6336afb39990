//! A residual addition with an activation on the CPU.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use evenkeel_kernels::{self as kernels, Activation};

use super::ResidualOperations;
use crate::backend::flex::{cast, slice, tensor, values, with_slices};

impl ResidualOperations for Flex {
    fn add_activated(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype());
        let output = with_slices!([x, residual], |F| {
            let y = kernels::add_activated::<F>(values(&mut x), slice(&residual), activation);
            tensor(y, shape)
        });
        cast(output, dtype)
    }

    fn add_activated_backward(
        gradient: FloatTensor<Self>,
        output: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (shape, dtype) = (gradient.shape(), gradient.dtype());
        let gradient = with_slices!([gradient, output], |F| {
            let (dy, y) = (values(&mut gradient), slice(&output));
            tensor(
                kernels::add_activated_backward::<F>(dy, y, activation),
                shape,
            )
        });
        cast(gradient, dtype)
    }
}
