//! What makes a net more than linear.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use evenkeel_nn::{Activation, Pass};
use serde::{Deserialize, Serialize};

/// What follows each norm of a net.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nonlinearity {
    /// max(x, 0).
    #[default]
    Relu,
    /// 1/(1 + e⁻ˣ): its slope is at most ¼ and vanishes for large |x|, which is where nets without norms get stuck.
    Sigmoid,
    /// (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ).
    Tanh,
}

impl Nonlinearity {
    /// What the norm before it has fused into it.
    pub(super) fn fused(self) -> Activation {
        match self {
            Self::Relu => Activation::Relu,
            Self::Sigmoid | Self::Tanh => Activation::None,
        }
    }

    /// Whether that is all of it.
    pub(super) fn is_fused(self) -> bool {
        self == Self::Relu
    }

    /// What is left to do after [`fused`](Self::fused). It rises, so that it may come after a max pool as well.
    pub(super) fn rest<const D: usize>(self, x: Tensor<D>, pass: &Pass) -> Tensor<D> {
        match self {
            Self::Relu => x,
            Self::Sigmoid => pass.observing("sigmoid", x, sigmoid),
            Self::Tanh => pass.observing("tanh", x, Tensor::tanh),
        }
    }
}
