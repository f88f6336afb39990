//! Shake-shake: two branches in random shares, others in the backward than in the forward.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use evenkeel_kernels::Shares;

use super::{Sharing, widened};
use crate::Pass;
use crate::backend::{self, Shake};

/// Configuration of a [`ShakeShake`] layer.
#[derive(Config, Debug)]
pub struct ShakeShakeConfig {
    /// Whether each example has shares of its own (the paper's "image" level, its best) or the batch
    /// has one (its "batch" level).
    #[config(default = "Sharing::Example")]
    pub sharing: Sharing,
}

impl ShakeShakeConfig {
    /// The layer.
    pub fn init(&self) -> ShakeShake {
        ShakeShake {
            sharing: self.sharing,
        }
    }
}

/// Adds two branches of a residual block in random shares.
///
/// With α and β uniform in 0..1, independent of each other, one each per example or per batch:
///
/// | | noise drawn (training, Monte Carlo) | noise off (test) |
/// |---|---|---|
/// | y | α·first + (1 − α)·second | (first + second)/2 |
/// | gradient by first | β·dy | dy/2 |
/// | gradient by second | (1 − β)·dy | dy/2 |
///
/// The gradient is not that of the forward: that is the point. The mean of the noisy output is the
/// output at test. ("Shake-Shake" of the paper; its "Even" and "Keep" variants fix β.)
///
/// Source: Gastaldi, "Shake-Shake Regularization" (2017).
#[derive(Module, Debug)]
pub struct ShakeShake {
    /// What has shares of its own.
    #[module(skip)]
    pub sharing: Sharing,
}

impl ShakeShake {
    /// # Shapes
    /// - both branches: `[N, ...]`
    /// - output: the same
    ///
    /// Observers are shown the first branch as the input.
    ///
    /// # Panics
    /// If the branches are not of one shape.
    pub fn forward<const D: usize>(
        &self,
        first: Tensor<D>,
        second: Tensor<D>,
        pass: &Pass,
    ) -> Tensor<D> {
        assert_eq!(
            first.dims(),
            second.dims(),
            "ShakeShake: expected two branches of one shape"
        );
        pass.observing("shake_shake", first, |first| match pass.next_noise() {
            Some(key) => {
                let run = match self.sharing {
                    Sharing::Example => first.dims()[1..].iter().product(),
                    Sharing::Batch => first.dims().iter().product(),
                };
                let shares = |direction| Shares::new(key.child(direction), run);
                let shake = Shake {
                    forward: shares("forward"),
                    backward: shares("backward"),
                };
                backend::mix(first, second, shake)
            }
            None => {
                let dtype = first.dtype();
                ((widened(first) + widened(second)) * 0.5).cast(dtype)
            }
        })
    }
}
