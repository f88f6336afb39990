//! Pooling on the CPU.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Shape;
use evenkeel_kernels::{self as kernels, AvgPool, Channels, Planes, Window};

use super::{PoolOperations, planes};
use crate::backend::flex::{cast, channels, slice, tensor, vector, with_slices};

impl PoolOperations for Flex {
    fn global_avg_pool(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output] = with_slices!([x], |F| {
            let output = kernels::global_avg_pool::<F>(slice(&x), channels(&shape));
            [tensor(output, Shape::new([shape[0], shape[1]]))]
        });
        cast(output, dtype)
    }

    fn global_avg_pool_backward(gradient: FloatTensor<Self>, shape: Channels) -> FloatTensor<Self> {
        let dtype = gradient.dtype();
        let [output] = with_slices!([gradient], |F| {
            let output = kernels::global_avg_pool_backward::<F>(slice(&gradient), shape);
            [tensor(output, Shape::new([shape.n, shape.c, shape.s]))]
        });
        cast(output, dtype)
    }

    fn max_pool(x: FloatTensor<Self>, window: Window) -> (FloatTensor<Self>, IntTensor<Self>) {
        let [n, c, ..] = x.shape().dims::<4>();
        let (planes, dtype) = (planes(&x.shape()), x.dtype());
        let winners;
        let [output] = with_slices!([x], |F| {
            let pooled = kernels::max_pool::<F>(slice(&x), planes, window);
            winners = pooled.winners;
            [vector(pooled.output)]
        });
        let Planes { height, width, .. } = window
            .output(planes)
            .expect("the kernel checked that the windows fit");
        let shape = Shape::new([n, c, height, width]);
        (
            cast(output, dtype).reshape(shape.clone()),
            tensor(winners, shape),
        )
    }

    fn max_pool_backward(
        gradient: FloatTensor<Self>,
        winners: IntTensor<Self>,
        planes: Planes,
        window: Window,
    ) -> FloatTensor<Self> {
        let dtype = gradient.dtype();
        let [output] = with_slices!([gradient], |F| {
            let dx =
                kernels::max_pool_backward::<F>(slice(&gradient), slice(&winners), planes, window);
            [tensor(
                dx,
                Shape::new([planes.count, planes.height, planes.width]),
            )]
        });
        cast(output, dtype)
    }

    fn avg_pool(x: FloatTensor<Self>, pool: AvgPool) -> FloatTensor<Self> {
        let [n, c, ..] = x.shape().dims::<4>();
        let (planes, dtype) = (planes(&x.shape()), x.dtype());
        let Planes { height, width, .. } = pool
            .window
            .output(planes)
            .unwrap_or_else(|problem| panic!("evenkeel: {problem}"));
        let [output] = with_slices!([x], |F| {
            let output = kernels::avg_pool::<F>(slice(&x), planes, pool);
            [tensor(output, Shape::new([n, c, height, width]))]
        });
        cast(output, dtype)
    }

    fn avg_pool_backward(
        gradient: FloatTensor<Self>,
        planes: Planes,
        pool: AvgPool,
    ) -> FloatTensor<Self> {
        let dtype = gradient.dtype();
        let [output] = with_slices!([gradient], |F| {
            let dx = kernels::avg_pool_backward::<F>(slice(&gradient), planes, pool);
            let shape = Shape::new([planes.count, planes.height, planes.width]);
            [tensor(dx, shape)]
        });
        cast(output, dtype)
    }
}
