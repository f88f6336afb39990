//! Norms on the CPU.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use evenkeel_kernels::{self as kernels, Activation, Affine, RowNorm};

use super::{NormOperations, Normalization};
use crate::backend::flex::{cast, channels, slice, tensor, values, vector, with_slices};

impl NormOperations for Flex {
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
    ) {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output, mean, variance, reciprocal_deviation] = with_slices!([x, scale, shift], |F| {
            let affine = Affine::<F> {
                scale: slice(&scale),
                shift: slice(&shift),
            };
            let forward = kernels::batch_norm_train::<F>(
                slice(&x),
                channels(&shape),
                Some(affine),
                epsilon,
                activation,
            );
            [
                tensor(forward.output, shape),
                vector(forward.mean),
                vector(forward.variance),
                vector(forward.reciprocal_deviation),
            ]
        });
        (cast(output, dtype), mean, variance, reciprocal_deviation)
    }

    fn channel_norm_apply(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output] = with_slices!([x, mean, reciprocal_deviation, scale, shift], |F| {
            let affine = Affine::<F> {
                scale: slice(&scale),
                shift: slice(&shift),
            };
            let output = kernels::batch_norm_apply::<F>(
                values(&mut x),
                channels(&shape),
                slice(&mean),
                slice(&reciprocal_deviation),
                Some(affine),
                activation,
            );
            [tensor(output, shape)]
        });
        cast(output, dtype)
    }

    fn row_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: RowNorm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output, mean, reciprocal_deviation] = with_slices!([x, scale, shift], |F| {
            let affine = Affine {
                scale: slice(&scale),
                shift: slice(&shift),
            };
            let forward = kernels::row_norm::<F>(slice(&x), affine, &norm);
            [
                tensor(forward.output, shape),
                vector(forward.mean),
                vector(forward.reciprocal_deviation),
            ]
        });
        (cast(output, dtype), mean, reciprocal_deviation)
    }

    fn norm_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        normalization: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = x.shape();
        let dtypes = [x.dtype(), scale.dtype(), shift.dtype()];
        let gradients = with_slices!(
            [x, gradient, mean, reciprocal_deviation, scale, shift],
            |F| {
                let affine = Affine {
                    scale: slice(&scale),
                    shift: slice(&shift),
                };
                let (x, dy) = (slice::<F>(&x), values(&mut gradient));
                let (mean, r) = (slice(&mean), slice(&reciprocal_deviation));
                let gradients = match normalization {
                    Normalization::ByBatch(activation) => kernels::batch_norm_train_backward(
                        x,
                        dy,
                        channels(&shape),
                        mean,
                        r,
                        Some(affine),
                        activation,
                    ),
                    Normalization::ByConstants(activation) => kernels::batch_norm_apply_backward(
                        x,
                        dy,
                        channels(&shape),
                        mean,
                        r,
                        Some(affine),
                        activation,
                    ),
                    Normalization::ByRows(norm) => {
                        kernels::row_norm_backward(x, dy, mean, r, affine, &norm)
                    }
                };
                [
                    tensor(gradients.input, shape),
                    vector(gradients.scale),
                    vector(gradients.shift),
                ]
            }
        );
        let [input, scale, shift] = gradients;
        (
            cast(input, dtypes[0]),
            cast(scale, dtypes[1]),
            cast(shift, dtypes[2]),
        )
    }
}
