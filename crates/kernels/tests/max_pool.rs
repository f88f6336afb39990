//! Max pooling against its definition, and its gradient.

mod support;

use evenkeel_kernels::{Float, Planes, Window, max_pool, max_pool_backward, reference};
use proptest::prelude::*;
use support::{assert_close, bits, to_f64, unit, values, with_pools};

const fn planes(count: usize, height: usize, width: usize) -> Planes {
    Planes {
        count,
        height,
        width,
    }
}

const fn window(size: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> Window {
    Window {
        size,
        stride,
        padding,
    }
}

const HALVING: Window = Window::HALVING;

/// Of every class: none, one, odd sizes, rests that no window covers, overlap, gaps, padding,
/// long rows, many images, the largest window.
const CASES: [(Planes, Window); 14] = [
    (planes(0, 4, 4), HALVING),
    (planes(1, 1, 1), window([1, 1], [1, 1], [0, 0])),
    (planes(3, 2, 2), HALVING),
    (planes(5, 7, 9), HALVING),
    (planes(3, 28, 28), HALVING),
    (planes(300, 14, 14), HALVING),
    (planes(2, 67, 131), HALVING),
    (planes(3, 9, 11), window([3, 3], [2, 2], [1, 1])),
    (planes(2, 33, 70), window([3, 3], [1, 1], [1, 1])),
    (planes(3, 12, 17), window([2, 3], [4, 5], [0, 1])),
    (planes(3, 5, 40), window([5, 7], [3, 1], [2, 3])),
    (planes(2, 1, 1), window([3, 3], [2, 2], [1, 1])),
    (planes(2, 3, 50), window([1, 4], [1, 3], [0, 2])),
    (planes(2, 20, 18), window([16, 16], [1, 2], [8, 8])),
];

fn check<T: Float>(planes: Planes, window: Window, x: &[T]) {
    let (y, winners) = reference::max_pool(&to_f64(x), planes, window);
    let found = max_pool(x, planes, window);
    let what = format!("{planes:?} {window:?}");
    assert_eq!(bits(&found.output), bits(&y), "{what}");
    assert_eq!(found.winners, winners, "{what}");
    let dy: Vec<T> = values(2, y.len());
    let expected = reference::max_pool_backward(&to_f64(x), &to_f64(&dy), planes, window);
    let dx = max_pool_backward(&dy, &winners, planes, window);
    // At most 256 windows share a position.
    assert_close(&what, &dx, &expected, |_| 256.0 * 2.0 * unit::<T>());
}

#[test]
fn matches_the_definition() {
    for (planes, window) in CASES {
        let count = planes.count * planes.height * planes.width;
        check::<f32>(planes, window, &values(1, count));
        check::<f64>(planes, window, &values(1, count));
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for (planes, window) in CASES {
        let x: Vec<f32> = values(1, planes.count * planes.height * planes.width);
        let pooled = max_pool(&x, planes, window);
        let dy: Vec<f32> = values(2, pooled.output.len());
        with_pools(|| bits(&max_pool(&x, planes, window).output));
        with_pools(|| bits(&max_pool_backward(&dy, &pooled.winners, planes, window)));
    }
}

proptest! {
    /// Equal values, infinities and NaN, in all places.
    #[test]
    fn special_values_match_the_definition(
        (count, height, width) in (0..4_usize, 1..9_usize, 1..12_usize),
        (rows, columns) in (1..4_usize, 1..4_usize),
        (down, right) in (1..4_usize, 1..4_usize),
        padded in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let planes = planes(count, height, width);
        let padding = if padded { [rows / 2, columns / 2] } else { [0, 0] };
        let window = window([rows, columns], [down, right], padding);
        prop_assume!(window.output(planes).is_ok());
        let special = [f32::NEG_INFINITY, -1.0, 0.0, 1.0, f32::INFINITY, f32::NAN];
        let mut draws = evenkeel_random::Key::from_seed(seed).draws();
        // Mostly −∞, for windows that hold nothing else.
        let x: Vec<f32> = (0..count * height * width)
            .map(|_| special[(draws.uniform() * draws.uniform() * 6.0) as usize])
            .collect();
        check(planes, window, &x);
    }
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let refused = |planes: Planes, window: Window| window.output(planes).unwrap_err();
    let cases = [
        (
            refused(planes(1, 1, 4), HALVING),
            "does not fit images of 1×4",
        ),
        (
            refused(planes(1, 0, 4), HALVING),
            "does not fit images of 0×4",
        ),
        (
            refused(planes(1, 4, 4), window([0, 2], [1, 1], [0, 0])),
            "1 to 256 positions, got 0×2",
        ),
        (
            refused(planes(1, 40, 40), window([17, 16], [1, 1], [0, 0])),
            "1 to 256 positions, got 17×16",
        ),
        (
            refused(planes(1, 4, 4), window([2, 2], [2, 0], [0, 0])),
            "stride of at least 1, got [2, 0]",
        ),
        (
            refused(planes(1, 4, 4), window([3, 2], [1, 1], [2, 0])),
            "at most half the window of 3×2, got [2, 0]",
        ),
    ];
    for (problem, expected) in cases {
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
#[should_panic(expected = "max_pool: a window of 2×2 does not fit images of 1×1")]
fn pooling_what_does_not_fit_panics() {
    max_pool(&[0.0_f32], planes(1, 1, 1), HALVING);
}

#[test]
#[should_panic(expected = "dy: expected [1, 1, 1] values")]
fn a_wrong_length_is_named() {
    max_pool_backward(&[0.0_f32; 2], &[0], planes(1, 2, 2), HALVING);
}
