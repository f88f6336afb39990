//! Layers that draw noise in training and take its average at test.

mod alpha;
mod drop_block;
mod drop_connect;
mod drop_path;
mod dropout;
mod gaussian;
mod mask;
mod shake_shake;
mod spatial;

pub use alpha::{AlphaDropout, AlphaDropoutConfig};
pub use drop_block::{DropBlock, DropBlockConfig};
pub use drop_connect::{
    DropConnectConv2d, DropConnectConv2dConfig, DropConnectLinear, DropConnectLinearConfig,
    PreActivation,
};
pub use drop_path::{DropPath, DropPathConfig, linear_schedule};
pub use dropout::{Dropout, DropoutConfig};
pub use gaussian::{GaussianDropout, GaussianDropoutConfig};
pub use shake_shake::{ShakeShake, ShakeShakeConfig};
pub use spatial::{SpatialDropout, SpatialDropoutConfig};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::backend::computed_in;

/// What shares one draw of the noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// All examples of the batch.
    #[default]
    Batch,
    /// All of an example: each has a draw of its own.
    Example,
}

/// # Panics
/// If `prob` is not in 0..=1.
fn check_prob(layer: &str, prob: f64) {
    assert!(
        (0.0..=1.0).contains(&prob),
        "{layer}: expected a probability of dropping in 0..=1, got prob = {prob}"
    );
}

/// In the type that tensors of this one's are computed in, so that an output is rounded once.
fn widened<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let dtype = computed_in(tensor.dtype());
    tensor.cast(dtype)
}
