//! What norms are for: the scale and the shift of what goes in leave no trace in what comes out.

use evenkeel_kernels::{
    Activation, Affine, Channels, RowNorm, RowStatistics, Rows, batch_norm_train, row_norm,
};
use evenkeel_random::Key;
use proptest::prelude::*;

fn values(seed: u64, count: usize) -> Vec<f64> {
    let mut draws = Key::from_seed(seed).draws();
    (0..count).map(|_| draws.normal()).collect()
}

/// ε is a part of the variance, so it scales with it: then the invariance is exact.
const EPSILON: f64 = 1e-3;

fn batch_norm(x: &[f64], shape: Channels, epsilon: f64) -> Vec<f64> {
    let (scale, shift) = (values(2, shape.c), values(3, shape.c));
    let affine = Affine {
        scale: &scale,
        shift: &shift,
    };
    batch_norm_train(x, shape, Some(affine), epsilon, Activation::Relu).output
}

fn by_rows(x: &[f64], shape: Rows, statistics: RowStatistics, epsilon: f64) -> Vec<f64> {
    let count = shape.parameters();
    let (scale, shift) = (values(2, count), values(3, count));
    let affine = Affine {
        scale: &scale,
        shift: &shift,
    };
    let norm = RowNorm {
        shape,
        statistics,
        epsilon,
        activation: Activation::Relu,
    };
    row_norm(x, affine, &norm).output
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-7, "{found} {expected}");
    }
}

proptest! {
    #[test]
    fn of_batch_norm(
        n in 2..9_usize,
        c in 1..7_usize,
        s in 1..40_usize,
        factor in 0.1..100.0_f64,
        offsets in prop::collection::vec(-100.0..100.0_f64, 7),
    ) {
        let shape = Channels { n, c, s };
        let x = values(1, shape.len());
        // Each channel by an offset of its own.
        let channel = |i: usize| i / s % c;
        let moved: Vec<f64> = (0..).zip(&x).map(|(i, x)| x * factor + offsets[channel(i)]).collect();
        let found = batch_norm(&moved, shape, EPSILON * factor * factor);
        assert_close(&found, &batch_norm(&x, shape, EPSILON));
    }

    #[test]
    fn of_norms_by_rows(
        examples in 1..5_usize,
        groups in 1..4_usize,
        channels in 2..6_usize,
        positions in 1..40_usize,
        factors in prop::collection::vec(0.1..100.0_f64, 16),
        offsets in prop::collection::vec(-100.0..100.0_f64, 16),
    ) {
        let shape = Rows { examples, groups, channels, positions };
        let x = values(1, shape.len());
        // Each row by a factor and an offset of its own; ε can follow one factor only.
        let row = |i: usize| i / shape.row() % 16;
        for (statistics, shifts) in [(RowStatistics::Deviation, true), (RowStatistics::RootMeanSquare, false)] {
            let offset = |i: usize| if shifts { offsets[row(i)] } else { 0.0 };
            let factor = factors[0];
            let moved: Vec<f64> = (0..).zip(&x).map(|(i, x)| x * factor + offset(i)).collect();
            let found = by_rows(&moved, shape, statistics, EPSILON * factor * factor);
            assert_close(&found, &by_rows(&x, shape, statistics, EPSILON));
            let moved: Vec<f64> = (0..).zip(&x).map(|(i, x)| x * factors[row(i)] + offset(i)).collect();
            let found = by_rows(&moved, shape, statistics, 1e-14);
            assert_close(&found, &by_rows(&x, shape, statistics, 1e-14));
        }
    }
}
