//! Pooling.

mod autodiff;
mod composed;
mod flex;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Shape, Tensor};
use evenkeel_kernels::{AvgPool, Channels, Planes, Window};

use super::has_kernels;

/// Fused pooling.
#[backend_extension(Flex, Autodiff)]
pub trait PoolOperations: Backend {
    /// `[N, C, ...]` to its mean `[N, C]`.
    fn global_avg_pool(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient `[N, C]` of a mean, spread over `shape`'s positions.
    fn global_avg_pool_backward(gradient: FloatTensor<Self>, shape: Channels) -> FloatTensor<Self>;

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

    /// The mean under each window of the images `[N, C, height, width]`.
    fn avg_pool(x: FloatTensor<Self>, pool: AvgPool) -> FloatTensor<Self>;

    /// The gradient of `avg_pool` with respect to images of this shape, `[N·C, height, width]`.
    fn avg_pool_backward(
        gradient: FloatTensor<Self>,
        planes: Planes,
        pool: AvgPool,
    ) -> FloatTensor<Self>;
}

/// The mean over all dimensions after the first two.
pub(crate) fn global_avg_pool<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    if !has_kernels(x.device()) {
        return composed::global_avg_pool(x);
    }
    Tensor::from_dispatch(<Dispatch as PoolOperations>::global_avg_pool(
        x.into_dispatch(),
    ))
}

/// The images of a tensor `[N, C, height, width]`.
pub(crate) fn planes(shape: &Shape) -> Planes {
    let [n, c, height, width] = shape.dims();
    Planes {
        count: n * c,
        height,
        width,
    }
}

/// The largest value under each window of `[N, C, height, width]`.
pub(crate) fn max_pool(x: Tensor<4>, window: Window) -> Tensor<4> {
    if !has_kernels(x.device()) {
        return composed::max_pool(x, window);
    }
    let (output, _) = <Dispatch as PoolOperations>::max_pool(x.into_dispatch(), window);
    Tensor::from_dispatch(output)
}

/// The mean under each window of `[N, C, height, width]`.
pub(crate) fn avg_pool(x: Tensor<4>, pool: AvgPool) -> Tensor<4> {
    if !has_kernels(x.device()) {
        return composed::avg_pool(x, pool);
    }
    let output = <Dispatch as PoolOperations>::avg_pool(x.into_dispatch(), pool);
    Tensor::from_dispatch(output)
}
