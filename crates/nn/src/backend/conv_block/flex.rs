//! The block on the CPU.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Shape;
use evenkeel_kernels::{self as kernels, Affine, ConvBlock, ConvBlockState, Planes};

use super::ConvBlockOperations;
use crate::backend::flex::{cast, slice, tensor, values, vector, with_slices};

/// `[N, C, height, width]`.
fn shape(block: &ConvBlock, planes: Result<Planes, String>) -> Shape {
    let Planes { height, width, .. } =
        planes.unwrap_or_else(|problem| panic!("evenkeel: {problem}"));
    Shape::new([block.conv.examples, block.conv.channels[1], height, width])
}

impl ConvBlockOperations for Flex {
    fn conv_block(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        block: ConvBlock,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        IntTensor<Self>,
    ) {
        let dtype = x.dtype();
        let (pooled, convolved) = (
            shape(&block, block.output()),
            shape(&block, block.convolved()),
        );
        let winners;
        let [output, mean, variance, r, convolved] = with_slices!([x, weight, scale, shift], |F| {
            let affine = Affine::<F> {
                scale: slice(&scale),
                shift: slice(&shift),
            };
            let forward = kernels::conv_block_train(slice(&x), slice(&weight), affine, &block);
            winners = vector(forward.winners);
            [
                tensor(forward.output, pooled),
                vector(forward.mean),
                vector(forward.variance),
                vector(forward.reciprocal_deviation),
                tensor(forward.convolved, convolved),
            ]
        });
        (cast(output, dtype), mean, variance, r, convolved, winners)
    }

    fn conv_block_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        convolved: FloatTensor<Self>,
        winners: IntTensor<Self>,
        block: ConvBlock,
        wanted: [bool; 2],
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let dtypes = [x.dtype(), weight.dtype(), scale.dtype(), shift.dtype()];
        let shapes = [x.shape(), weight.shape()];
        let [input, weight, scale, shift] = with_slices!(
            [
                x,
                gradient,
                weight,
                scale,
                shift,
                mean,
                reciprocal_deviation,
                convolved
            ],
            |F| {
                let affine = Affine::<F> {
                    scale: slice(&scale),
                    shift: slice(&shift),
                };
                let state = ConvBlockState {
                    convolved: values(&mut convolved),
                    mean: slice(&mean),
                    reciprocal_deviation: slice(&reciprocal_deviation),
                    winners: slice(&winners),
                };
                let gradients = kernels::conv_block_backward(
                    slice(&x),
                    values(&mut gradient),
                    slice(&weight),
                    affine,
                    state,
                    &block,
                    wanted,
                );
                let [input, weight] = shapes;
                let tensor_or_none = |values: Option<Vec<F>>, shape| match values {
                    Some(values) => tensor(values, shape),
                    None => vector(Vec::<F>::new()),
                };
                [
                    tensor_or_none(gradients.input, input),
                    tensor_or_none(gradients.weight, weight),
                    vector(gradients.scale),
                    vector(gradients.shift),
                ]
            }
        );
        (
            cast(input, dtypes[0]),
            cast(weight, dtypes[1]),
            cast(scale, dtypes[2]),
            cast(shift, dtypes[3]),
        )
    }
}
