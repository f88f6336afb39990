//! Dropout: a mask over activations in training, its mean at test.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use evenkeel_kernels::Scaling;

use super::check_prob;
use super::mask::Mask;
use crate::Pass;

/// Configuration of a [`Dropout`] layer.
#[derive(Config, Debug)]
pub struct DropoutConfig {
    /// The probability of *dropping* an element, in 0..=1, as in Burn and PyTorch. The paper of
    /// 2014 and many lectures call the probability of *keeping* it p.
    pub prob: f64,
    /// Keep the mean right in training (inverted: kept values times 1/(1−prob), test as it is), or
    /// as the 2014 paper does, at test (classic: test times 1−prob).
    #[config(default = "Scaling::Inverted")]
    pub scaling: Scaling,
}

impl DropoutConfig {
    /// # Panics
    /// If `prob` is not in 0..=1.
    pub fn init(&self) -> Dropout {
        check_prob("Dropout", self.prob);
        Dropout {
            prob: self.prob,
            scaling: self.scaling,
        }
    }
}

/// Sets elements to zero at random.
///
/// With m the mask, m = 0 with probability `prob` and 1 otherwise, independently per element:
///
/// | | noise drawn (training, Monte Carlo) | noise off (test) |
/// |---|---|---|
/// | inverted | y = x·m / (1 − prob) | y = x |
/// | classic | y = x·m | y = x·(1 − prob) |
///
/// In both, the mean of the noisy output is the output at test. `prob = 1` gives zeros. The mask is
/// a function of the pass (seed, step, scope, call) and the element's index: the backward computes
/// it again, nothing is stored, and it is the same bits for any number of threads, on any backend.
///
/// Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: A Simple Way to
/// Prevent Neural Networks from Overfitting" (2014).
#[derive(Module, Debug)]
pub struct Dropout {
    /// The probability of dropping an element.
    pub prob: f64,
    /// Where the mean is kept right.
    #[module(skip)]
    pub scaling: Scaling,
}

impl Dropout {
    /// Any shape in, the same shape out.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        self.mask().apply(input, None, pass)
    }

    /// `residual` + forward(`input`), in one pass over memory.
    ///
    /// # Panics
    /// If the residual is not of the input's shape.
    pub fn forward_add<const D: usize>(
        &self,
        input: Tensor<D>,
        residual: Tensor<D>,
        pass: &Pass,
    ) -> Tensor<D> {
        self.mask().apply(input, Some(residual), pass)
    }

    fn mask(&self) -> Mask {
        Mask {
            layer: "dropout",
            prob: self.prob,
            scaling: self.scaling,
            run: 1,
        }
    }
}
