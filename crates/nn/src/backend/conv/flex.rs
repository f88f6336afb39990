//! Convolution on the CPU.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use evenkeel_kernels::{self as kernels, Activation, Conv2d, ConvBlock, Planes};

use super::ConvOperations;
use crate::backend::flex::{cast, slice, tensor, vector, with_slices};

impl ConvOperations for Flex {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self> {
        let block = ConvBlock {
            conv,
            epsilon: 0.0,
            activation: Activation::None,
            pool: None,
        };
        Self::folded_block(x, weight, bias, block)
    }

    fn folded_block(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        block: ConvBlock,
    ) -> FloatTensor<Self> {
        let ConvBlock {
            conv,
            activation,
            pool,
            ..
        } = block;
        let Planes { height, width, .. } = block
            .output()
            .unwrap_or_else(|problem| panic!("evenkeel: {problem}"));
        let shape = Shape::new([conv.examples, conv.channels[1], height, width]);
        let dtype = x.dtype();
        let [output] = with_slices!([x, weight, bias], |F| {
            let bias = slice::<F>(&bias);
            let bias = (!bias.is_empty()).then_some(bias);
            let (x, weight) = (slice(&x), slice(&weight));
            let y = kernels::conv2d_activated::<F>(x, weight, bias, &conv, activation, pool);
            [tensor(y, shape)]
        });
        cast(output, dtype)
    }

    fn convolution_input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self> {
        let dtype = gradient.dtype();
        let [output] = with_slices!([gradient, weight], |F| {
            let (dy, weight) = (slice(&gradient), slice(&weight));
            let dx = kernels::conv2d_input_gradient::<F>(dy, weight, &conv);
            let [height, width] = conv.image;
            let shape = Shape::new([conv.examples, conv.channels[0], height, width]);
            [tensor(dx, shape)]
        });
        cast(output, dtype)
    }

    fn convolution_weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self> {
        let [output] = with_slices!([x, gradient], |F| {
            let dweight = kernels::conv2d_weight_gradient::<F>(slice(&x), slice(&gradient), &conv);
            let [height, width] = conv.kernel;
            let [channels_in, channels_out] = conv.channels;
            let shape = Shape::new([channels_out, channels_in / conv.groups, height, width]);
            [tensor(dweight, shape)]
        });
        output
    }

    fn convolution_bias_gradient(gradient: FloatTensor<Self>, conv: Conv2d) -> FloatTensor<Self> {
        let [output] = with_slices!([gradient], |F| {
            let dbias = kernels::conv2d_bias_gradient::<F>(slice(&gradient), &conv);
            [vector(dbias)]
        });
        output
    }
}
