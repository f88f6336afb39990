//! The learned scale γ and shift β of a norm.

use burn::module::Param;
use burn::tensor::{Device, Tensor};

/// γ and β, where a layer learns them.
pub(super) struct Affine<'a> {
    pub scale: Option<&'a Param<Tensor<1>>>,
    pub shift: Option<&'a Param<Tensor<1>>>,
}

impl Affine<'_> {
    /// Ones and zeros where they are not learned.
    pub fn or_identity<const D: usize>(
        self,
        features: usize,
        input: &Tensor<D>,
    ) -> (Tensor<1>, Tensor<1>) {
        let constant =
            |value: f64| Tensor::full([features], value, (&input.device(), input.dtype()));
        (
            self.scale.map_or_else(|| constant(1.0), Param::val),
            self.shift.map_or_else(|| constant(0.0), Param::val),
        )
    }
}

/// γ = 1, if learned.
pub(super) fn scale(learned: bool, features: usize, device: &Device) -> Option<Param<Tensor<1>>> {
    learned.then(|| Param::from_tensor(Tensor::ones([features], device)))
}

/// β = 0, if learned.
pub(super) fn shift(learned: bool, features: usize, device: &Device) -> Option<Param<Tensor<1>>> {
    learned.then(|| Param::from_tensor(Tensor::zeros([features], device)))
}
