//! The same operations composed of Burn's own, for backends without a kernel of their own.
//!
//! Slower, and differentiable by Burn's autodiff as they stand; the results agree with the kernels
//! within rounding, and the masks agree bit for bit. As in the kernels, half precision is widened
//! for the computation, and types may differ.

use burn::tensor::activation::relu;
use burn::tensor::module;
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{DType, Tensor, TensorData};
use evenkeel_kernels::{Activation, Conv2d, Dropout, RowNorm, RowStatistics, Window};

use super::{Normalized, computed_in};

/// `[N, C, ...]` as `[N, C, S]`.
fn channels<const D: usize>(x: Tensor<D>) -> Tensor<3> {
    let dims = x.dims();
    x.reshape([dims[0], dims[1], dims[2..].iter().product()])
}

/// A value per channel as `[1, C, 1]`.
fn per_channel(values: Tensor<1>) -> Tensor<3> {
    values.unsqueeze_dim::<2>(0).unsqueeze_dim(2)
}

/// In the type that tensors of `dtype` are computed in.
fn widened<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    tensor.cast(computed_in(dtype))
}

fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::None => x,
        Activation::Relu => relu(x),
    }
}

pub(super) fn batch_norm_train<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> Normalized<D> {
    let (shape, dtype) = (x.shape(), x.dtype());
    let [scale, shift] = [scale, shift].map(|parameter| widened(parameter, dtype));
    let x = channels(widened(x, dtype));
    let mean = x.clone().mean_dim(2).mean_dim(0);
    let centred = x - mean.clone();
    let variance = centred.clone().square().mean_dim(2).mean_dim(0);
    let deviation = variance.clone().add_scalar(epsilon).sqrt();
    let output = centred / deviation * per_channel(scale) + per_channel(shift);
    Normalized {
        output: activate(output.reshape(shape), activation).cast(dtype),
        mean: mean.detach().flatten(0, 2),
        variance: variance.detach().flatten(0, 2),
    }
}

pub(super) fn batch_norm_apply<const D: usize>(
    x: Tensor<D>,
    mean: Tensor<1>,
    reciprocal_deviation: Tensor<1>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    activation: Activation,
) -> Tensor<D> {
    let (shape, dtype) = (x.shape(), x.dtype());
    let [mean, reciprocal_deviation, scale, shift] =
        [mean, reciprocal_deviation, scale, shift].map(|value| widened(value, dtype));
    let output = (channels(widened(x, dtype)) - per_channel(mean))
        * per_channel(scale * reciprocal_deviation)
        + per_channel(shift);
    activate(output.reshape(shape), activation).cast(dtype)
}

pub(super) fn row_norm<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    norm: RowNorm,
) -> Tensor<D> {
    let rows = norm.shape;
    let (shape, dtype) = (x.shape(), x.dtype());
    let [scale, shift] = [scale, shift].map(|parameter| widened(parameter, dtype));
    let x = widened(x, dtype).reshape([rows.examples, rows.groups, rows.row()]);
    let centred = match norm.statistics {
        RowStatistics::Deviation => x.clone() - x.mean_dim(2),
        RowStatistics::RootMeanSquare => x,
    };
    let square = centred.clone().square().mean_dim(2);
    let normalized = centred / square.add_scalar(norm.epsilon).sqrt();
    let channels = [rows.examples, rows.groups, rows.channels, rows.positions];
    let parameters = |values: Tensor<1>| values.reshape([1, rows.groups, rows.channels, 1]);
    let output = normalized.reshape(channels) * parameters(scale) + parameters(shift);
    activate(output.reshape(shape), norm.activation).cast(dtype)
}

/// The mask is computed on the host, so that it is the same bits as the kernels'.
pub(super) fn dropout<const D: usize>(x: Tensor<D>, dropout: Dropout) -> Tensor<D> {
    let shape = x.shape();
    let ones = vec![1.0_f32; shape.num_elements()];
    let mask = evenkeel_kernels::dropout(&ones, &dropout, 0);
    let mask = Tensor::<D>::from_data(TensorData::new(mask, shape), &x.device());
    let dtype = x.dtype();
    (widened(x, dtype) * widened(mask, dtype)).cast(dtype)
}

pub(super) fn global_avg_pool<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    let dtype = x.dtype();
    channels(widened(x, dtype))
        .mean_dim(2)
        .squeeze_dim(2)
        .cast(dtype)
}

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

pub(super) fn max_pool(x: Tensor<4>, window: Window) -> Tensor<4> {
    let options = MaxPoolOptions::new(window.size)
        .with_stride(window.stride)
        .with_padding(window.padding);
    module::max_pool2d(x, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend as kernels;
    use burn::tensor::{Device, FloatDType, Tolerance};
    use evenkeel_kernels::Scaling;
    use evenkeel_random::Key;

    fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
        let mut draws = Key::from_seed(seed).draws();
        let numbers: Vec<f32> = (0..shape.iter().product())
            .map(|_| 2.0 + draws.normal() as f32)
            .collect();
        let device = Device::flex().autodiff();
        Tensor::from_data(TensorData::new(numbers, shape), &device).require_grad()
    }

    /// Runs on the CPU both ways: outputs and gradients of x, scale and shift agree.
    fn assert_agree<const D: usize, const E: usize>(
        shape: [usize; D],
        composed: impl Fn(Tensor<D>, Tensor<1>, Tensor<1>) -> Tensor<E>,
        fused: impl Fn(Tensor<D>, Tensor<1>, Tensor<1>) -> Tensor<E>,
    ) {
        let (x, scale, shift) = (
            random(shape, 1),
            random([shape[1]], 2),
            random([shape[1]], 3),
        );
        let run = |layer: &dyn Fn(Tensor<D>, Tensor<1>, Tensor<1>) -> Tensor<E>| {
            let y = layer(x.clone(), scale.clone(), shift.clone());
            let weights = random(y.dims(), 4).detach();
            let gradients = (y.clone() * weights).sum().backward();
            let gradient = |tensor: Option<Tensor<1>>| tensor.map(Tensor::into_data);
            let dx = x.grad(&gradients).map(Tensor::into_data);
            (
                y.into_data(),
                dx,
                gradient(scale.grad(&gradients)),
                gradient(shift.grad(&gradients)),
            )
        };
        let (found, expected) = (run(&composed), run(&fused));
        let near = Tolerance::<f32>::rel_abs(1e-4, 1e-3);
        found.0.assert_approx_eq(&expected.0, near);
        for (found, expected) in [
            (found.1, expected.1),
            (found.2, expected.2),
            (found.3, expected.3),
        ] {
            assert_eq!(found.is_some(), expected.is_some());
            if let (Some(found), Some(expected)) = (found, expected) {
                found.assert_approx_eq(&expected, near);
            }
        }
    }

    #[test]
    fn batch_norm_agrees_with_the_kernels() {
        for activation in [Activation::None, Activation::Relu] {
            assert_agree(
                [6, 3, 4, 5],
                |x, scale, shift| batch_norm_train(x, scale, shift, 1e-5, activation).output,
                |x, scale, shift| {
                    kernels::batch_norm_train(x, scale, shift, 1e-5, activation).output
                },
            );
            let (mean, r) = (random([3], 5).detach(), random([3], 6).detach());
            assert_agree(
                [6, 3],
                |x, scale, shift| {
                    batch_norm_apply(x, mean.clone(), r.clone(), scale, shift, activation)
                },
                |x, scale, shift| {
                    kernels::batch_norm_apply(x, mean.clone(), r.clone(), scale, shift, activation)
                },
            );
        }
        let (x, one) = (random([6, 3, 9], 1), random([3], 2));
        let composed =
            batch_norm_train(x.clone(), one.clone(), one.clone(), 1e-5, Activation::None);
        let fused = kernels::batch_norm_train(x, one.clone(), one, 1e-5, Activation::None);
        let near = Tolerance::<f32>::default();
        composed
            .mean
            .into_data()
            .assert_approx_eq(&fused.mean.into_data(), near);
        composed
            .variance
            .into_data()
            .assert_approx_eq(&fused.variance.into_data(), near);
    }

    #[test]
    fn masks_are_the_kernels_bit_for_bit() {
        let mask = Dropout::new(Key::from_seed(3), 0.4, Scaling::Inverted);
        let x = random([5, 7, 3], 1);
        let fused = kernels::dropout(x.clone(), mask).into_data();
        dropout(x, mask).into_data().assert_eq(&fused, true);
    }

    #[test]
    fn pooling_agrees_with_the_kernels() {
        assert_agree(
            [2, 3, 4, 5],
            |x, _, _| global_avg_pool(x),
            |x, _, _| kernels::global_avg_pool(x),
        );
        let windows = [
            ([2, 2], [2, 2], [0, 0]),
            ([3, 3], [2, 1], [1, 0]),
            ([2, 4], [1, 3], [1, 2]),
        ];
        for (size, stride, padding) in windows {
            let window = Window {
                size,
                stride,
                padding,
            };
            assert_agree(
                [2, 3, 5, 7],
                |x, _, _| max_pool(x, window),
                |x, _, _| kernels::max_pool(x, window),
            );
        }
    }

    /// Values whose squares are more than f16 holds, and parameters in f32.
    #[test]
    fn half_precision_is_widened_for_the_computation() {
        for dtype in [FloatDType::F16, FloatDType::BF16, FloatDType::F64] {
            let x = || (random([16, 3, 9], 1) * 300.0).cast(dtype);
            let (scale, shift) = (random([3], 2), random([3], 3));
            let none = Activation::None;
            let composed = batch_norm_train(x(), scale.clone(), shift.clone(), 1e-5, none);
            let fused = kernels::batch_norm_train(x(), scale.clone(), shift.clone(), 1e-5, none);
            let wide = Tolerance::<f32>::rel_abs(1e-4, 1e-3);
            let same = |found: Tensor<1>, expected: Tensor<1>| {
                assert_eq!(found.dtype(), expected.dtype());
                let [found, expected] =
                    [found, expected].map(|t| t.cast(FloatDType::F32).into_data());
                found.assert_approx_eq(&expected, wide);
            };
            same(composed.variance, fused.variance);
            same(composed.mean.clone(), fused.mean);
            let near = |found: Tensor<3>, expected: Tensor<3>| {
                assert_eq!([found.dtype(), expected.dtype()], [dtype.into(); 2]);
                let [found, expected] =
                    [found, expected].map(|t| t.cast(FloatDType::F32).into_data());
                found.assert_approx_eq(&expected, Tolerance::<f32>::rel_abs(1e-2, 1e-2));
            };
            near(composed.output, fused.output);
            let mean = composed.mean;
            let r = mean.ones_like().mul_scalar(1.0 / 300.0);
            near(
                batch_norm_apply(
                    x(),
                    mean.clone(),
                    r.clone(),
                    scale.clone(),
                    shift.clone(),
                    none,
                ),
                kernels::batch_norm_apply(x(), mean, r, scale, shift, none),
            );
            let mask = Dropout::new(Key::from_seed(3), 0.4, Scaling::Inverted);
            near(dropout(x(), mask), kernels::dropout(x(), mask));
            let [found, expected] = [global_avg_pool(x()), kernels::global_avg_pool(x())];
            near(found.unsqueeze(), expected.unsqueeze());
        }
    }
}
