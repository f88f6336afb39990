//! How far the test pass is from the mean over training passes.

use std::fmt;

use burn::tensor::Tensor;

use crate::Pass;
use crate::host::numbers;

/// Mean of a model's outputs over training passes less its output at test, measured.
#[derive(Clone, Debug)]
pub struct ExpectationGap {
    /// How many training passes.
    pub draws: u64,
    /// The output's shape.
    pub shape: Vec<usize>,
    /// Mean over training passes − test, for each element of the output in order.
    pub gap: Vec<f64>,
    /// The standard error of the mean, for each.
    pub standard_error: Vec<f64>,
    /// The largest |gap|/error over the elements, where the error is the standard one and what `f32`
    /// rounds, 10⁻⁵ of the test output's root mean square.
    pub largest: f64,
    /// The root mean square of the gap, without what the standard errors account for, in standard
    /// deviations of the test output over all its elements (infinite where that is constant and the
    /// gap is not zero).
    pub relative: f64,
    /// What `largest` is compared with: exceeded with a probability below 1 in 1000 by as many normal
    /// numbers as there are elements.
    pub limit: f64,
}

impl ExpectationGap {
    /// Whether the test pass is the mean over training passes, as far as these draws can tell.
    pub fn is_within_error(&self) -> bool {
        self.largest <= self.limit
    }
}

impl fmt::Display for ExpectationGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_within_error() {
            "the test pass is the mean over training passes within error"
        } else {
            "the test pass is not the mean over training passes"
        };
        write!(
            f,
            "{verdict}: largest gap {:.1} standard errors (limit {:.1}), root mean square gap {:.2} % of \
             the output's deviation, {} outputs, {} draws",
            self.largest,
            self.limit,
            100.0 * self.relative,
            self.gap.len(),
            self.draws
        )
    }
}

/// Measures the promise «train with noise, test with its average»: `forward` is called with training
/// passes 0, 1, ... of this seed (batch statistics, noise drawn, running statistics left as they are) and
/// once with [`Pass::test`].
///
/// A layer whose noise is averaged exactly, such as dropout seen at its own output, is within error;
/// after a non-linearity, or with the statistics of small batches, the average at test is an
/// approximation, and this is its error. Normal numbers are assumed for the means, so use draws enough
/// that each element sees every kind of noise dozens of times: 1000 for masks of probability 0.1 to 0.9.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use evenkeel_nn::{DropoutConfig, expectation_gap};
///
/// let dropout = DropoutConfig::new(0.5).init();
/// let x = Tensor::<1>::from_floats([1.0, -2.0, 3.0], &Device::flex());
/// let exact = expectation_gap(1000, 42, |pass| dropout.forward(x.clone(), pass));
/// assert!(exact.is_within_error(), "{exact}");
/// let squared = expectation_gap(1000, 42, |pass| dropout.forward(x.clone(), pass).square());
/// assert!(!squared.is_within_error(), "{squared}");
/// ```
///
/// # Panics
/// If there are less than two draws, of which no error can be told, or outputs are not of one shape.
pub fn expectation_gap<const D: usize>(
    draws: u64,
    seed: u64,
    mut forward: impl FnMut(&Pass) -> Tensor<D>,
) -> ExpectationGap {
    assert!(
        draws >= 2,
        "expectation_gap: expected at least 2 draws to tell an error from, got {draws}"
    );
    let test = forward(&Pass::test());
    let shape = test.dims();
    let test = numbers(test);
    // Distances from the test's output, and their squares, as running means (Welford): in f64 on the
    // host, so that the error is the noise's and not the sum's.
    let mut gap = vec![0.0; test.len()];
    let mut squares = vec![0.0; test.len()];
    for draw in 0..draws {
        let output = forward(&Pass::train(seed, draw).keep_statistics());
        assert_eq!(
            output.dims(),
            shape,
            "expectation_gap: expected outputs of one shape"
        );
        for (i, output) in numbers(output).into_iter().enumerate() {
            let distance = output - test[i];
            let from_old = distance - gap[i];
            gap[i] += from_old / (draw + 1) as f64;
            squares[i] += from_old * (distance - gap[i]);
        }
    }
    let freedom = ((draws - 1) * draws) as f64;
    let standard_error: Vec<f64> = squares.iter().map(|s| (s / freedom).sqrt()).collect();
    let count = test.len().max(1) as f64;
    let rounding = 1e-5 * (test.iter().map(|y| y * y).sum::<f64>() / count).sqrt();
    let pairs = || gap.iter().zip(&standard_error);
    // Once NaN, always NaN: beyond every limit.
    let largest = pairs()
        .map(|(gap, error)| match gap.abs() {
            0.0 => 0.0,
            gap => gap / error.hypot(rounding),
        })
        .fold(0.0, |largest: f64, ratio| {
            if ratio <= largest || largest.is_nan() {
                largest
            } else {
                ratio
            }
        });
    let mean = test.iter().sum::<f64>() / count;
    let deviation = (test.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / count).sqrt();
    let excess = pairs().map(|(gap, error)| gap * gap - error * error);
    let excess = (excess.sum::<f64>() / count).max(0.0).sqrt();
    ExpectationGap {
        draws,
        shape: shape.to_vec(),
        largest,
        relative: if excess == 0.0 {
            0.0
        } else {
            excess / deviation
        },
        // P(|z| > t) ≤ exp(−t²/2) for a normal z, times the number of elements.
        limit: (2.0 * (count * 1000.0).ln()).sqrt(),
        gap,
        standard_error,
    }
}
