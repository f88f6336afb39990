//! What both DropConnect layers do with a weight or bias.

use burn::module::Param;
use burn::tensor::{DType, Tensor};
use evenkeel_kernels::{Dropout, Scaling};
use evenkeel_random::Key;

use crate::backend::{self, computed_in};

/// A parameter under a mask of its own, or its mean where noise is off; in the type that an input of
/// this type is computed in.
pub(super) fn noisy<const D: usize>(
    parameter: &Param<Tensor<D>>,
    key: Option<Key>,
    (prob, scaling): (f64, Scaling),
    input: DType,
) -> Tensor<D> {
    let value = parameter.val().cast(computed_in(input));
    match key {
        _ if prob == 0.0 => value,
        Some(key) => backend::dropout(value, Dropout::new(key, prob, scaling)),
        None => mean(value, prob, scaling),
    }
}

/// What a weight is at test.
pub(super) fn mean<const D: usize>(value: Tensor<D>, prob: f64, scaling: Scaling) -> Tensor<D> {
    match scaling {
        Scaling::Inverted => value,
        Scaling::Classic => value.mul_scalar(1.0 - prob),
    }
}

/// The parameter whose value is this one's mean: the same id, still trained if it was.
pub(super) fn mean_parameter<const D: usize>(
    parameter: Param<Tensor<D>>,
    prob: f64,
    scaling: Scaling,
) -> Param<Tensor<D>> {
    if scaling == Scaling::Inverted {
        return parameter;
    }
    parameter.map(|value| {
        let trained = value.is_require_grad();
        mean(value, prob, scaling)
            .detach()
            .set_require_grad(trained)
    })
}
