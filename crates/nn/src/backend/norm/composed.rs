//! Norms composed of Burn's operations.

use burn::tensor::Tensor;
use evenkeel_kernels::{Activation, RowNorm, RowStatistics};

use super::Normalized;
use crate::backend::composed::{activate, channels, per_channel, widened};

pub(super) fn batch_norm_train<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> Normalized<D> {
    let variance = |centred: Tensor<3>| centred.square().mean_dim(2).mean_dim(0);
    norm_by_variance(x, scale, shift, epsilon, activation, variance)
}

/// Batch norm where `dispersion` takes the part of the deviation: from x − μ `[N, C, S]` to `[1, C, 1]`.
/// Its square takes that of the variance.
pub(crate) fn batch_norm_by<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
    activation: Activation,
    dispersion: impl Fn(Tensor<3>) -> Tensor<3>,
) -> Normalized<D> {
    let square = |centred| dispersion(centred).square();
    norm_by_variance(x, scale, shift, epsilon, activation, square)
}

fn norm_by_variance<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
    activation: Activation,
    variance: impl Fn(Tensor<3>) -> Tensor<3>,
) -> Normalized<D> {
    let (shape, dtype) = (x.shape(), x.dtype());
    let [scale, shift] = [scale, shift].map(|parameter| widened(parameter, dtype));
    let (mean, centred) = centred(x);
    let variance = variance(centred.clone());
    let deviation = variance.clone().add_scalar(epsilon).sqrt();
    let output = centred / deviation * per_channel(scale) + per_channel(shift);
    Normalized {
        output: activate(output.reshape(shape), activation).cast(dtype),
        mean: mean.detach().flatten(0, 2),
        variance: variance.detach().flatten(0, 2),
    }
}

/// The mean `[1, C, 1]`, and the values less it `[N, C, S]`.
fn centred<const D: usize>(x: Tensor<D>) -> (Tensor<3>, Tensor<3>) {
    let dtype = x.dtype();
    let x = channels(widened(x, dtype));
    let mean = x.clone().mean_dim(2).mean_dim(0);
    (mean.clone(), x - mean)
}

/// The mean per channel, and the square of what `dispersion` says of x − μ.
pub(crate) fn channel_dispersion<const D: usize>(
    x: Tensor<D>,
    dispersion: impl Fn(Tensor<3>) -> Tensor<3>,
) -> (Tensor<1>, Tensor<1>) {
    let (mean, centred) = centred(x);
    (
        mean.flatten(0, 2),
        dispersion(centred).square().flatten(0, 2),
    )
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
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    let rows = norm.shape;
    let (shape, dtype) = (x.shape(), x.dtype());
    let [scale, shift] = [scale, shift].map(|parameter| widened(parameter, dtype));
    let x = widened(x, dtype).reshape([rows.examples, rows.groups, rows.row()]);
    let mean = match norm.statistics {
        RowStatistics::Deviation => x.clone().mean_dim(2),
        RowStatistics::RootMeanSquare => {
            Tensor::zeros([rows.examples, rows.groups, 1], &x.device())
        }
    };
    let centred = match norm.statistics {
        RowStatistics::Deviation => x - mean.clone(),
        RowStatistics::RootMeanSquare => x,
    };
    let square = centred.clone().square().mean_dim(2);
    let deviation = square.add_scalar(norm.epsilon).sqrt();
    let normalized = centred / deviation.clone();
    let channels = [rows.examples, rows.groups, rows.channels, rows.positions];
    let parameters = |values: Tensor<1>| values.reshape([1, rows.groups, rows.channels, 1]);
    let output = normalized.reshape(channels) * parameters(scale) + parameters(shift);
    let output = activate(output.reshape(shape), norm.activation).cast(dtype);
    let [mean, r] = [mean, deviation.recip()].map(|values| values.detach().flatten(0, 2));
    (output, mean, r)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend as kernels;
    use crate::backend::composed::testing::{assert_agree, random};
    use burn::tensor::{FloatDType, Tolerance};

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
        }
    }
}
