//! The average over noise at test: the mean of many noisy passes.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use super::Moments;
use crate::Pass;

/// Mean and variance of a model's output over its noise: `forward` is called with
/// [`Pass::monte_carlo`] for draws 0, 1, ... of this seed, running statistics being used and kept. Works
/// on plain and autodiff devices; the result is on no graph.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use evenkeel_nn::{DropoutConfig, monte_carlo};
///
/// let dropout = DropoutConfig::new(0.5).init();
/// let x = Tensor::<1>::ones([4], &Device::flex());
/// let moments = monte_carlo(100, 42, |pass| dropout.forward(x.clone(), pass).square());
/// assert_eq!(moments.mean().dims(), [4]); // about 2: 4 in half of the draws
/// ```
///
/// Source: Gal and Ghahramani, "Dropout as a Bayesian Approximation" (2016).
///
/// # Panics
/// If there are no draws.
pub fn monte_carlo<const D: usize>(
    draws: u64,
    seed: u64,
    mut forward: impl FnMut(&Pass) -> Tensor<D>,
) -> Moments<D> {
    let passes = (0..draws).map(|draw| Pass::monte_carlo(seed, draw));
    let mut moments: Option<Moments<D>> = None;
    for pass in passes {
        let output = forward(&pass);
        moments = Some(match moments {
            None => Moments::of(output),
            Some(moments) => moments.and(output),
        });
    }
    moments.expect("monte_carlo: expected at least one draw, got 0")
}

/// What a classifier predicts on average over its noise, and how sure it is.
#[derive(Clone, Debug)]
pub struct Predictive {
    /// Mean probabilities `[N, K]`.
    pub probabilities: Tensor<2>,
    /// Variance of the probabilities over draws, `[N, K]`.
    pub variance: Tensor<2>,
    /// H\[mean p\] = −Σ p·ln p of the mean probabilities, `[N]`, in nats: all of the uncertainty.
    pub entropy: Tensor<1>,
    /// H\[mean p\] − mean H\[p\], `[N]`, in nats: the part of it that comes from the draws' disagreement.
    /// It is high where the model does not know, and low where it knows that classes overlap.
    pub mutual_information: Tensor<1>,
}

/// As [`monte_carlo`], for logits `[N, K]`: of their probabilities, which are what can be averaged.
///
/// Source: Gal and Ghahramani (2016); Houlsby, Huszár, Ghahramani, Lengyel, "Bayesian Active Learning for
/// Classification and Preference Learning" (2011).
///
/// # Panics
/// If there are no draws.
pub fn monte_carlo_predictive(
    draws: u64,
    seed: u64,
    mut forward: impl FnMut(&Pass) -> Tensor<2>,
) -> Predictive {
    let mut entropies: Option<Moments<1>> = None;
    let moments = monte_carlo(draws, seed, |pass| {
        let logits = forward(pass).without_autodiff();
        let dtype = crate::backend::computed_in(logits.dtype());
        let logarithms = log_softmax(logits.cast(dtype), 1);
        let probabilities = logarithms.clone().exp();
        let entropy = entropy(probabilities.clone(), logarithms);
        entropies = Some(match entropies.take() {
            None => Moments::of(entropy),
            Some(moments) => moments.and(entropy),
        });
        probabilities
    });
    let probabilities = moments.mean();
    let total = entropy(probabilities.clone(), probabilities.clone().log());
    let within = entropies.expect("monte_carlo had a draw").mean();
    Predictive {
        variance: moments.variance(),
        // Not negative but for rounding.
        mutual_information: (total.clone() - within).clamp_min(0.0),
        entropy: total,
        probabilities,
    }
}

/// −Σ p·ln p over the classes of each row.
fn entropy(probabilities: Tensor<2>, logarithms: Tensor<2>) -> Tensor<1> {
    // Of a class that is impossible the logarithm is −∞, and 0 times that would be NaN.
    let terms = probabilities * logarithms.clamp_min(-1e4);
    terms.sum_dim(1).neg().squeeze_dim(1)
}
