//! Dropout's mask: its definition, its statistics, and its independence of how work is divided.

mod support;

use evenkeel_kernels::{Dropout, Scaling, dropout, keeps, reference};
use evenkeel_random::Key;
use proptest::prelude::*;
use support::{assert_close, bits, to_f64, unit, values, with_pools};

const KEY: Key = Key::from_seed(42);

fn inverted(prob: f64) -> Dropout {
    Dropout::new(KEY, prob, Scaling::Inverted)
}

#[test]
fn matches_the_definition() {
    for prob in [0.0, 0.1, 0.5, 0.9, 1.0 - 1e-9] {
        for (len, offset) in [
            (0, 0),
            (1, 3),
            (7, 1),
            (1000, 0),
            (1001, 2),
            (100_003, 5),
            (300, u64::MAX / 2),
        ] {
            let x: Vec<f32> = values(1, len);
            let mask = inverted(prob);
            let kept = 1.0 / (1.0 - prob);
            let expected = reference::dropout(&to_f64(&x), &mask, kept, offset);
            assert_close("y", &dropout(&x, &mask, offset), &expected, |_| {
                4.0 * unit::<f32>() * kept
            });
            let x: Vec<f64> = values(1, len);
            let expected = reference::dropout(&x, &mask, kept, offset);
            assert_close("y", &dropout(&x, &mask, offset), &expected, |_| 0.0);
        }
    }
}

/// Pins the mask, so that it is the same on every machine and in every version: element i is
/// dropped iff word i mod 4 of Philox block i div 4 is below ⌊p·2³²⌋.
#[test]
fn the_mask_is_the_word_below_the_threshold() {
    let zero = Key::from_seed(0);
    // Random123's known answer for block 0 of key 0.
    let words = [0x6627_e8d5_u32, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
    for (i, word) in words.into_iter().enumerate() {
        let at = |threshold: f64| {
            let mask = Dropout::new(zero, threshold / 4_294_967_296.0, Scaling::Classic);
            keeps(&mask, i as u64)
        };
        assert!(at(f64::from(word)) && !at(f64::from(word) + 1.0));
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let x: Vec<f32> = values(2, 100_003);
    with_pools(|| bits(&dropout(&x, &inverted(0.3), 5)));
}

proptest! {
    #[test]
    fn parts_make_the_whole(len in 0..1000_usize, cut in 0..1000_usize, offset: u32, prob in 0.0..=1.0_f64) {
        let cut = cut.min(len);
        let x: Vec<f32> = values(3, len);
        let (mask, offset) = (inverted(prob), u64::from(offset));
        let mut parts = dropout(&x[..cut], &mask, offset);
        parts.extend(dropout(&x[cut..], &mask, offset + cut as u64));
        prop_assert_eq!(bits(&parts), bits(&dropout(&x, &mask, offset)));
    }

    #[test]
    fn a_factor_is_zero_or_the_kept_one(prob in 0.0..1.0_f64, scale_in_training: bool) {
        let scaling = if scale_in_training { Scaling::Inverted } else { Scaling::Classic };
        let mask = Dropout::new(KEY, prob, scaling);
        let kept = if scale_in_training { 1.0 / (1.0 - prob) } else { 1.0 };
        for (i, y) in dropout(&[1.0_f64; 400], &mask, 0).into_iter().enumerate() {
            prop_assert_eq!(y, if keeps(&mask, i as u64) { kept } else { 0.0 });
        }
    }
}

#[test]
fn nothing_is_dropped_at_probability_zero() {
    let x: Vec<f32> = values(4, 1000);
    assert_eq!(dropout(&x, &inverted(0.0), 0), x);
    assert_eq!(dropout(&x, &Dropout::new(KEY, 0.0, Scaling::Classic), 0), x);
}

#[test]
fn all_is_dropped_at_probability_one() {
    let x: Vec<f32> = values(4, 1000);
    for scaling in [Scaling::Inverted, Scaling::Classic] {
        let mask = Dropout::new(KEY, 1.0, scaling);
        assert!(dropout(&x, &mask, 0).iter().all(|&y| y == 0.0));
        assert!((0..1000).all(|i| !keeps(&mask, i)));
    }
}

/// A dropped value is multiplied by zero, as PyTorch's is: NaN and infinity become NaN.
#[test]
fn values_that_are_not_finite_pass() {
    for prob in [0.5, 1.0] {
        let mask = inverted(prob);
        let ys = dropout(&[f32::INFINITY; 400], &mask, 0);
        for (i, y) in ys.into_iter().enumerate() {
            let kept = keeps(&mask, i as u64);
            assert!(if kept { y == f32::INFINITY } else { y.is_nan() });
        }
        assert!(
            dropout(&[f32::NAN; 400], &mask, 0)
                .iter()
                .all(|y| y.is_nan())
        );
    }
}

/// The four words of a block as a pattern of kept and dropped: 16 patterns, with the probabilities
/// of independent elements.
#[test]
fn elements_are_dropped_independently_with_the_probability() {
    for prob in [0.1, 0.5, 0.8_f64] {
        let blocks = 100_000;
        let ys = dropout(vec![1.0_f32; 4 * blocks], &inverted(prob), 0);
        let mut counts = [0_u32; 16];
        for block in ys.as_chunks::<4>().0 {
            let pattern = block
                .iter()
                .fold(0, |pattern, &y| 2 * pattern + usize::from(y == 0.0));
            counts[pattern] += 1;
        }
        let chi: f64 = (0..16_u32)
            .zip(counts)
            .map(|(pattern, count)| {
                let dropped = pattern.count_ones() as i32;
                let expected = prob.powi(dropped) * (1.0 - prob).powi(4 - dropped) * blocks as f64;
                (f64::from(count) - expected).powi(2) / expected
            })
            .sum();
        // 15 degrees of freedom exceed 37.7 once in a thousand; the seed is fixed.
        assert!(chi < 37.7, "{prob}: {chi} {counts:?}");

        // So the output's mean is the input's, and its variance p/(1 − p) times its square.
        let mean = ys.iter().map(|&y| f64::from(y)).sum::<f64>() / ys.len() as f64;
        let squares = ys
            .iter()
            .map(|&y| (f64::from(y) - mean).powi(2))
            .sum::<f64>();
        let (variance, expected) = (squares / ys.len() as f64, prob / (1.0 - prob));
        assert!(
            (mean - 1.0).abs() < 5.0 * (expected / ys.len() as f64).sqrt(),
            "{mean}"
        );
        assert!((variance - expected).abs() < 0.02 * expected, "{variance}");
    }
}

/// Neighbouring elements, blocks and keys: dropped together as often as chance has it.
#[test]
fn masks_are_not_correlated() {
    let ones = vec![1.0_f32; 400_000];
    let dropped = |key: Key| -> Vec<bool> {
        let ys = dropout(&ones, &Dropout::new(key, 0.5, Scaling::Classic), 0);
        ys.iter().map(|&y| y == 0.0).collect()
    };
    let mask = dropped(KEY);
    let agreement = |a: &[bool], b: &[bool]| {
        let count = a.len().min(b.len());
        let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
        (same as f64 - 0.5 * count as f64) / (0.25 * count as f64).sqrt()
    };
    for shift in [1, 2, 3, 4, 8, 128, 1024, 32_768] {
        let deviations = agreement(&mask, &mask[shift..]);
        assert!(deviations.abs() < 4.0, "shift {shift}: {deviations}");
    }
    for key in [
        KEY.at(0),
        KEY.at(1),
        KEY.child("block3"),
        Key::from_seed(43),
    ] {
        let deviations = agreement(&mask, &dropped(key));
        assert!(deviations.abs() < 4.0, "{key:?}: {deviations}");
    }
}

/// Inverted in training is classic in training, then times 1/(1 − p).
#[test]
fn inverted_is_classic_scaled() {
    let x: Vec<f64> = values(6, 1000);
    let classic = dropout(&x, &Dropout::new(KEY, 0.75, Scaling::Classic), 0);
    let scaled: Vec<f64> = classic.iter().map(|y| y * 4.0).collect();
    assert_eq!(dropout(&x, &inverted(0.75), 0), scaled);
}

#[test]
#[should_panic(expected = "prob: expected 0 to 1, got 1.5")]
fn a_probability_above_one_is_refused() {
    inverted(1.5);
}

#[test]
#[should_panic(expected = "prob: expected 0 to 1, got NaN")]
fn a_nan_probability_is_refused() {
    inverted(f64::NAN);
}
