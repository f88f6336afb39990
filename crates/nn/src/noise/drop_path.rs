//! DropPath, or stochastic depth: a residual branch is dropped for some examples.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use evenkeel_kernels::Scaling;

use super::check_prob;
use super::mask::Mask;
use crate::Pass;

/// Configuration of a [`DropPath`] layer.
#[derive(Config, Debug)]
pub struct DropPathConfig {
    /// The probability of *dropping* the branch, in 0..=1: 1 − the paper's survival probability.
    pub prob: f64,
    /// Keep the mean right in training (inverted, as timm and torchvision do), or as the paper does,
    /// at test (classic).
    #[config(default = "Scaling::Inverted")]
    pub scaling: Scaling,
}

impl DropPathConfig {
    /// # Panics
    /// If `prob` is not in 0..=1.
    pub fn init(&self) -> DropPath {
        check_prob("DropPath", self.prob);
        DropPath {
            prob: self.prob,
            scaling: self.scaling,
        }
    }
}

/// The probabilities of dropping for blocks 1 to `depth`: l/`depth` · `last` for block l, the paper's
/// linear decay of survival from 1 at the input. (timm gives the first block 0, that is
/// (l − 1)/(`depth` − 1) · `last`.)
///
/// # Panics
/// If `last` is not in 0..=1.
pub fn linear_schedule(last: f64, depth: usize) -> Vec<f64> {
    check_prob("linear_schedule", last);
    (1..=depth)
        .map(|block| last * (block as f64 / depth as f64))
        .collect()
}

/// Drops a residual branch for whole examples at random, so that the net is trained at many depths.
///
/// With m = 0 with probability `prob` and 1 otherwise, independently per example n, and the branch
/// f(x) of the block y = x + f(x):
///
/// | | noise drawn (training, Monte Carlo) | noise off (test) |
/// |---|---|---|
/// | inverted | f(x)\[n\]·m\[n\] / (1 − prob) | f(x) |
/// | classic | f(x)\[n\]·m\[n\] | f(x)·(1 − prob) |
///
/// In both, the mean of the noisy output is the output at test. `prob = 1` gives zeros. The branch is
/// computed for all examples, the dropped ones too.
///
/// Source: Huang, Sun, Liu, Sedra, Weinberger, "Deep Networks with Stochastic Depth" (2016); per
/// example, Larsson, Maire, Shakhnarovich, "FractalNet" (2016).
#[derive(Module, Debug)]
pub struct DropPath {
    /// The probability of dropping the branch.
    pub prob: f64,
    /// Where the mean is kept right.
    #[module(skip)]
    pub scaling: Scaling,
}

impl DropPath {
    /// # Shapes
    /// - branch: `[N, ...]`
    /// - output: the same
    pub fn forward<const D: usize>(&self, branch: Tensor<D>, pass: &Pass) -> Tensor<D> {
        self.mask(&branch).apply(branch, None, pass)
    }

    /// `residual` + forward(`branch`), in one pass over memory.
    ///
    /// # Panics
    /// If the residual is not of the branch's shape.
    pub fn forward_add<const D: usize>(
        &self,
        residual: Tensor<D>,
        branch: Tensor<D>,
        pass: &Pass,
    ) -> Tensor<D> {
        self.mask(&branch).apply(branch, Some(residual), pass)
    }

    fn mask<const D: usize>(&self, branch: &Tensor<D>) -> Mask {
        Mask {
            layer: "drop_path",
            prob: self.prob,
            scaling: self.scaling,
            run: branch.dims()[1..].iter().product(),
        }
    }
}
