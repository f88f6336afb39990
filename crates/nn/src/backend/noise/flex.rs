//! Noise on the CPU.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Shape;
use evenkeel_kernels::{self as kernels, Branch, DropConnect, Dropout, Factors, Shares};

use super::{NoiseOperations, Shake};
use crate::backend::flex::{cast, slice, tensor, values, with_slices};

impl NoiseOperations for Flex {
    fn multiply(x: FloatTensor<Self>, factors: Factors) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output] = with_slices!([x], |F| [tensor(
            kernels::multiply::<F>(values(&mut x), &factors),
            shape
        )]);
        cast(output, dtype)
    }

    fn dropout_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        dropout: Dropout,
    ) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output] = with_slices!([x, residual], |F| {
            let y = kernels::dropout_add::<F>(values(&mut x), slice(&residual), &dropout);
            [tensor(y, shape)]
        });
        cast(output, dtype)
    }

    fn dropout_around(
        x: FloatTensor<Self>,
        dropout: Dropout,
        centre: f64,
        shift: f64,
    ) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype());
        let [output] = with_slices!([x], |F| {
            let y = kernels::dropout_around::<F>(values(&mut x), &dropout, centre, shift);
            [tensor(y, shape)]
        });
        cast(output, dtype)
    }

    fn mix(first: FloatTensor<Self>, second: FloatTensor<Self>, shake: Shake) -> FloatTensor<Self> {
        let (shape, dtype) = (first.shape(), first.dtype());
        let [output] = with_slices!([first, second], |F| {
            let y = kernels::mix::<F>(values(&mut first), slice(&second), &shake.forward);
            [tensor(y, shape)]
        });
        cast(output, dtype)
    }

    fn share(gradient: FloatTensor<Self>, branch: Branch, shares: Shares) -> FloatTensor<Self> {
        let (shape, dtype) = (gradient.shape(), gradient.dtype());
        let [output] = with_slices!([gradient], |F| [tensor(
            kernels::share::<F>(values(&mut gradient), branch, &shares),
            shape
        )]);
        cast(output, dtype)
    }

    fn drop_connect(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        connect: DropConnect,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let [output] = with_slices!([x, weight], |F| {
            let y = kernels::drop_connect::<F>(slice(&x), slice(&weight), &connect);
            let shape = [connect.examples, connect.positions, connect.outputs];
            [tensor(y, Shape::new(shape))]
        });
        cast(output, dtype)
    }

    fn drop_connect_input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        connect: DropConnect,
    ) -> FloatTensor<Self> {
        let dtype = gradient.dtype();
        let [output] = with_slices!([gradient, weight], |F| {
            let (dy, weight) = (slice(&gradient), slice(&weight));
            let dx = kernels::drop_connect_input_gradient::<F>(dy, weight, &connect);
            let shape = [connect.examples, connect.positions, connect.inputs];
            [tensor(dx, Shape::new(shape))]
        });
        cast(output, dtype)
    }

    fn drop_connect_weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        connect: DropConnect,
    ) -> FloatTensor<Self> {
        let [output] = with_slices!([x, gradient], |F| {
            let (x, dy) = (slice(&x), slice(&gradient));
            let dweight = kernels::drop_connect_weight_gradient::<F>(x, dy, &connect);
            [tensor(
                dweight,
                Shape::new([connect.inputs, connect.outputs]),
            )]
        });
        output
    }
}
