//! Gaussian dropout: multiplicative noise with dropout's mean and variance.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use evenkeel_kernels::{self as kernels, Factors};

use crate::{Pass, backend};

/// Configuration of a [`GaussianDropout`] layer.
#[derive(Config, Debug)]
pub struct GaussianDropoutConfig {
    /// The probability of dropping of the dropout whose variance the noise has, in 0..1.
    pub prob: f64,
}

impl GaussianDropoutConfig {
    /// # Panics
    /// If `prob` is not in 0..1: at 1 the variance p/(1 − p) is infinite.
    pub fn init(&self) -> GaussianDropout {
        assert!(
            (0.0..1.0).contains(&self.prob),
            "GaussianDropout: expected a probability in 0..1 (at 1 the variance p/(1 − p) of the noise \
             is infinite), got prob = {}",
            self.prob
        );
        GaussianDropout { prob: self.prob }
    }
}

/// Multiplies elements by normal numbers of mean 1.
///
/// With z a standard normal number, independent per element, and p = `prob`:
///
/// | noise drawn (training, Monte Carlo) | noise off (test) |
/// |---|---|
/// | y = x·(1 + √(p/(1 − p))·z) | y = x |
///
/// The factor has the mean and the variance of inverted dropout's, and the mean of the noisy output is
/// the output at test. z is a function of the pass and the element's index
/// ([`normals`](evenkeel_kernels::normals)): backward computes it again, the same bits on any backend.
///
/// Source: Srivastava and others, "Dropout" (2014), section 10; Wang and Manning, "Fast Dropout
/// Training" (2013).
#[derive(Module, Debug)]
pub struct GaussianDropout {
    /// The probability of dropping of the dropout whose variance the noise has.
    pub prob: f64,
}

impl GaussianDropout {
    /// Any shape in, the same shape out.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        pass.observing("gaussian_dropout", input, |input| match pass.next_noise() {
            Some(key) if self.prob != 0.0 => {
                let deviation = (self.prob / (1.0 - self.prob)).sqrt();
                let noise = kernels::GaussianDropout::new(key, deviation);
                backend::multiply(input, Factors::Gaussian(noise))
            }
            _ => input,
        })
    }
}
