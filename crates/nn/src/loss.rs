//! Cross-entropy with label smoothing, and with soft targets.

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

/// The mean over examples of −Σ t\[k\]·ln softmax(logits)\[k\] for targets t that are distributions, such
/// as mixup's and CutMix's mixed labels or a teacher's. With targets of one class each, smoothed or not,
/// it is [`cross_entropy`]. Measure with the labels. Source: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup:
/// Beyond Empirical Risk Minimization" (2018).
///
/// # Shapes
/// - logits: `[N, K]`
/// - targets: `[N, K]`, each row summing to 1, which is not checked
/// - output: `[1]`
///
/// # Panics
/// If the targets are not of the logits' shape.
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    assert_eq!(
        targets.dims(),
        logits.dims(),
        "soft_cross_entropy: expected a target for each logit"
    );
    // The mean over examples and classes, times the classes: a mean over rows of their sums.
    let classes = logits.dims()[1] as f64;
    let log_probabilities = log_softmax(logits, 1);
    (log_probabilities * targets).mean().mul_scalar(-classes)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn logits() -> Tensor<2> {
        let numbers = [[1.0_f32, -2.0, 0.5], [0.0, 3.0, -1.0]];
        Tensor::from_data(TensorData::from(numbers), &Device::flex().autodiff()).require_grad()
    }

    /// Loss and gradient.
    fn ran(loss: impl Fn(Tensor<2>) -> Tensor<1>) -> Vec<f32> {
        let logits = logits();
        let loss = loss(logits.clone());
        let gradient = logits.grad(&loss.backward()).unwrap().into_data();
        let mut numbers = vec![loss.into_scalar::<f32>()];
        numbers.extend(gradient.iter::<f32>());
        numbers
    }

    #[track_caller]
    fn assert_near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    fn targets(numbers: [[f32; 3]; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::from(numbers), &Device::flex().autodiff())
    }

    #[test]
    fn labels_as_targets_are_the_loss_of_labels() {
        for smoothing in [0.0, 0.1_f32] {
            let other = smoothing / 3.0;
            let right = 1.0 - smoothing + other;
            let soft = ran(|logits| {
                soft_cross_entropy(
                    logits,
                    targets([[other, other, right], [other, right, other]]),
                )
            });
            let hard = ran(|logits| {
                let labels = Tensor::from_ints([2, 1], &logits.device());
                cross_entropy(logits, labels, f64::from(smoothing))
            });
            assert_near(&soft, &hard);
        }
    }

    /// The loss of a mixture is the mixture of the losses: mixup by either is the same.
    #[test]
    fn it_is_linear_in_the_targets() {
        let label = |labels: [i32; 2]| {
            ran(|logits| {
                let labels = Tensor::from_ints(labels, &logits.device());
                cross_entropy(logits, labels, 0.0)
            })
        };
        let mixed =
            ran(|logits| soft_cross_entropy(logits, targets([[0.7, 0.0, 0.3], [0.0, 1.0, 0.0]])));
        let pairs = label([0, 1]).into_iter().zip(label([2, 1]));
        let expected: Vec<f32> = pairs.map(|(a, b)| 0.7 * a + 0.3 * b).collect();
        assert_near(&mixed, &expected);
    }

    #[test]
    #[should_panic(expected = "soft_cross_entropy: expected a target for each logit")]
    fn targets_of_another_shape_are_refused() {
        soft_cross_entropy(logits(), Tensor::ones([2, 4], &Device::flex().autodiff()));
    }
}
