//! Alpha dropout: dropout that keeps the moments of SELU's activations.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use evenkeel_kernels::{self as kernels, Scaling};

use super::check_prob;
use crate::{Pass, backend};

/// −λα of the SELU: what it tends to for very negative inputs.
const SATURATED: f64 = -1.758_099_340_847_376_6;

/// Configuration of an [`AlphaDropout`] layer.
#[derive(Config, Debug)]
pub struct AlphaDropoutConfig {
    /// The probability of *dropping* an element, in 0..=1.
    pub prob: f64,
}

impl AlphaDropoutConfig {
    /// # Panics
    /// If `prob` is not in 0..=1.
    pub fn init(&self) -> AlphaDropout {
        check_prob("AlphaDropout", self.prob);
        AlphaDropout { prob: self.prob }
    }
}

/// Sets elements to where SELU saturates, and scales and shifts so that activations of mean 0 and
/// variance 1 keep both.
///
/// With m = 0 with probability p = `prob` and 1 otherwise, independently per element, and
/// s = −λα = −1.7581 of the SELU:
///
/// | noise drawn (training, Monte Carlo) | noise off (test) |
/// |---|---|
/// | y = a·(x·m + s·(1 − m)) + b, a = 1/√((1 − p)·(1 + p·s²)), b = −a·p·s | y = x |
///
/// What is kept is the mean and the variance over activations, not each one's mean: that is a·(1 − p)·x,
/// not x. So the average over masks is nearer to zero than the test's output. `prob = 1` gives zeros,
/// as in PyTorch.
///
/// Source: Klambauer, Unterthiner, Mayr, Hochreiter, "Self-Normalizing Neural Networks" (2017).
#[derive(Module, Debug)]
pub struct AlphaDropout {
    /// The probability of dropping an element.
    pub prob: f64,
}

impl AlphaDropout {
    /// Any shape in, the same shape out.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        let p = self.prob;
        pass.observing("alpha_dropout", input, |input| match pass.next_noise() {
            Some(key) if p == 1.0 => {
                let nothing = kernels::Dropout::new(key, p, Scaling::Classic);
                backend::dropout(input, nothing)
            }
            Some(key) if p != 0.0 => {
                let a = 1.0 / ((1.0 - p) * (1.0 + p * SATURATED * SATURATED)).sqrt();
                let b = -a * p * SATURATED;
                // a·(x·m + s·(1 − m)) + b = (x − s)·m·a + (a·s + b).
                let mask = kernels::Dropout::new(key, p, Scaling::Classic).with_kept(a);
                backend::dropout_around(input, mask, SATURATED, a * SATURATED + b)
            }
            _ => input,
        })
    }
}
