//! Cross-entropy with label smoothing.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// The mean over examples of −Σ t\[k\]·ln softmax(logits)\[k\], with the target
/// t\[k\] = (1 − s)·\[k is the label\] + s/K for K classes and smoothing s.
///
/// Smoothing keeps the net from growing its logits without end on examples it has learned. Measure
/// with s = 0. Source: Szegedy and others, "Rethinking the Inception Architecture" (2015).
///
/// # Shapes
/// - logits: `[N, K]`
/// - labels: `[N]`, each in 0..K
/// - output: `[1]`
///
/// # Panics
/// If the smoothing is not in 0..=1.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, smoothing: f64) -> Tensor<1> {
    assert!(
        (0.0..=1.0).contains(&smoothing),
        "cross_entropy: expected a smoothing in 0..=1, got {smoothing}"
    );
    let log_probabilities = log_softmax(logits, 1);
    let right = log_probabilities
        .clone()
        .gather(1, labels.unsqueeze_dim(1))
        .mean();
    if smoothing == 0.0 {
        return right.neg();
    }
    let all = log_probabilities.mean();
    (right.mul_scalar(1.0 - smoothing) + all.mul_scalar(smoothing)).neg()
}
