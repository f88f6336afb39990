//! Noise on the CPU.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use evenkeel_kernels::{self as kernels, Dropout};

use super::NoiseOperations;
use crate::backend::flex::{cast, slice, tensor, with_slices};

impl NoiseOperations for Flex {
    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output] = with_slices!([x], |F| [tensor(
            kernels::dropout::<F>(slice(&x), &dropout, 0),
            shape
        )]);
        cast(output, dtype)
    }
}
