//! The backend extension: fused forward and backward operations.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};
use evenkeel_kernels::{Activation, Channels, Conv2d, Dropout, Planes, RowNorm, Window};

/// Fused operations, implemented for `Flex` by slices and for `Autodiff` over them.
///
/// Inputs are `[N, C, ...]`, statistics and affine parameters `[C]`. The layers of this crate are
/// the interface; call these only to build another layer.
///
/// Tensors need not be of one type: outputs are of the input's type, gradients of the type of what
/// they are the gradient of, statistics (and the gradients of a convolution's weight and bias, which
/// are not at hand) in what the input is computed in: `f64` for `f64`, otherwise `f32`.
#[backend_extension(Flex, Autodiff)]
pub trait Operations: Backend {
    /// Batch norm by the statistics of `x`: output, mean, biased variance, reciprocal deviation.
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
    );

    /// Gradients of `channel_norm` with respect to `x`, `scale`, `shift`.
    fn channel_norm_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Batch norm by given statistics.
    fn channel_norm_apply(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// Gradients of `channel_norm_apply` with respect to `x`, `scale`, `shift`.
    fn channel_norm_apply_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Norm by rows: output, mean and reciprocal deviation per row.
    fn row_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: RowNorm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of `row_norm` with respect to `x`, `scale`, `shift`.
    fn row_norm_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: RowNorm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Multiplication by a mask that is computed, never stored. Its own gradient.
    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;

    /// `[N, C, ...]` to its mean `[N, C]`.
    fn global_avg_pool(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient `[N, C]` of a mean, spread over `shape`'s positions.
    fn global_avg_pool_backward(gradient: FloatTensor<Self>, shape: Channels) -> FloatTensor<Self>;

    /// Convolution of images `[N, C, height, width]`; an empty bias is none.
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        conv: Conv2d,
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

    /// The largest value under each window of the images `[N, C, height, width]`, and its place in
    /// the window.
    fn max_pool(x: FloatTensor<Self>, window: Window) -> (FloatTensor<Self>, IntTensor<Self>);

    /// The gradient of `max_pool` with respect to images of this shape, `[N·C, height, width]`.
    fn max_pool_backward(
        gradient: FloatTensor<Self>,
        winners: IntTensor<Self>,
        planes: Planes,
        window: Window,
    ) -> FloatTensor<Self>;
}
