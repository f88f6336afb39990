//! The same operations composed of Burn's own, for backends without a kernel of their own.
//!
//! Slower, and differentiable by Burn's autodiff as they stand; the results agree with the kernels
//! within rounding, and the masks agree bit for bit.

use burn::tensor::activation::relu;
use burn::tensor::{Tensor, TensorData};
use evenkeel_kernels::{Activation, Dropout};

use super::Normalized;

/// `[N, C, ...]` as `[N, C, S]`.
fn channels<const D: usize>(x: Tensor<D>) -> Tensor<3> {
    let dims = x.dims();
    x.reshape([dims[0], dims[1], dims[2..].iter().product()])
}

/// A value per channel as `[1, C, 1]`.
fn per_channel(values: Tensor<1>) -> Tensor<3> {
    values.unsqueeze_dim::<2>(0).unsqueeze_dim(2)
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
    let shape = x.shape();
    let x = channels(x);
    let mean = x.clone().mean_dim(2).mean_dim(0);
    let centred = x - mean.clone();
    let variance = centred.clone().square().mean_dim(2).mean_dim(0);
    let deviation = variance.clone().add_scalar(epsilon).sqrt();
    let output = centred / deviation * per_channel(scale) + per_channel(shift);
    Normalized {
        output: activate(output.reshape(shape), activation),
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
    let shape = x.shape();
    let output = (channels(x) - per_channel(mean)) * per_channel(scale * reciprocal_deviation)
        + per_channel(shift);
    activate(output.reshape(shape), activation)
}

/// The mask is computed on the host, so that it is the same bits as the kernels'.
pub(super) fn dropout<const D: usize>(x: Tensor<D>, dropout: Dropout) -> Tensor<D> {
    let shape = x.shape();
    let ones = vec![1.0_f32; shape.num_elements()];
    let mask = evenkeel_kernels::dropout(&ones, &dropout, 0);
    let mask = Tensor::<D>::from_data(TensorData::new(mask, shape), &x.device());
    let dtype = x.dtype();
    x * mask.cast(dtype)
}

pub(super) fn global_avg_pool<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    channels(x).mean_dim(2).squeeze_dim(2)
}
