//! Convolution.

mod autodiff;
mod composed;
mod flex;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use evenkeel_kernels::{Conv2d, ConvBlock};

use super::has_kernels;

/// Convolution: its output is of the input's type, its gradients of the type of what they are the
/// gradient of; but those of weight and bias, which are not at hand, in what the input is computed in.
#[backend_extension(Flex, Autodiff)]
pub trait ConvOperations: Backend {
    /// Convolution of images `[N, C, height, width]`; an empty bias is none.
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self>;

    /// A block whose norm is folded into its weight and bias: `convolution`, an activation, and perhaps pooling.
    fn folded_block(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        block: ConvBlock,
    ) -> FloatTensor<Self>;

    /// The gradient of `convolution` with respect to `x`.
    fn convolution_input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self>;

    /// The gradient of `convolution` with respect to the weight.
    fn convolution_weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        conv: Conv2d,
    ) -> FloatTensor<Self>;

    /// The gradient of `convolution` with respect to the bias.
    fn convolution_bias_gradient(gradient: FloatTensor<Self>, conv: Conv2d) -> FloatTensor<Self>;
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
    Tensor::from_dispatch(<Dispatch as ConvOperations>::convolution(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        conv,
    ))
}

/// [`convolution`], an activation and perhaps pooling, on a device that has kernels: the block's norm is folded
/// into `weight` and `bias`.
pub(crate) fn folded_block(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    block: ConvBlock,
) -> Tensor<4> {
    if let Err(problem) = block.output() {
        panic!("ConvBlock: {problem}");
    }
    Tensor::from_dispatch(<Dispatch as ConvOperations>::folded_block(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        block,
    ))
}
