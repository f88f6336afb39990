//! The same operations composed of Burn's own, for backends without a kernel of their own.
//!
//! Slower, and differentiable by Burn's autodiff as they stand; the results agree with the kernels
//! within rounding, and the masks agree bit for bit. As in the kernels, half precision is widened
//! for the computation, and types may differ.

use burn::tensor::activation::relu;
use burn::tensor::{DType, Tensor};
use evenkeel_kernels::Activation;

use super::computed_in;

/// `[N, C, ...]` as `[N, C, S]`.
pub(super) fn channels<const D: usize>(x: Tensor<D>) -> Tensor<3> {
    let dims = x.dims();
    x.reshape([dims[0], dims[1], dims[2..].iter().product()])
}

/// A value per channel as `[1, C, 1]`.
pub(super) fn per_channel(values: Tensor<1>) -> Tensor<3> {
    values.unsqueeze_dim::<2>(0).unsqueeze_dim(2)
}

/// In the type that tensors of `dtype` are computed in.
pub(super) fn widened<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    tensor.cast(computed_in(dtype))
}

pub(super) fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::None => x,
        Activation::Relu => relu(x),
    }
}

/// What the tests of the composed operations share.
#[cfg(test)]
pub(crate) mod testing {
    use burn::tensor::{Device, Tensor, TensorData, Tolerance};
    use evenkeel_random::Key;

    /// Values around 2.
    pub fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
        let mut draws = Key::from_seed(seed).draws();
        let numbers: Vec<f32> = (0..shape.iter().product())
            .map(|_| 2.0 + draws.normal() as f32)
            .collect();
        let device = Device::flex().autodiff();
        Tensor::from_data(TensorData::new(numbers, shape), &device).require_grad()
    }

    /// Runs on the CPU both ways: outputs and gradients of x, scale and shift agree.
    pub fn assert_agree<const D: usize, const E: usize>(
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
}
