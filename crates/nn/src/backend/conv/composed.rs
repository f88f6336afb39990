//! Convolution composed of Burn's operations.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, module};
use evenkeel_kernels::Conv2d;

use crate::backend::composed::widened;

pub(super) fn convolution(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    conv: Conv2d,
) -> Tensor<4> {
    let Conv2d {
        stride,
        padding,
        dilation,
        groups,
        ..
    } = conv;
    let options = ConvOptions::new_with_padding(stride, padding, dilation, groups);
    let dtype = x.dtype();
    let bias = bias.map(|bias| widened(bias, dtype));
    module::conv2d(widened(x, dtype), widened(weight, dtype), bias, options).cast(dtype)
}
