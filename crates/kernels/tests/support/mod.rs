//! What the tests of all kernels share.
#![allow(dead_code)] // Each test file uses a part of it.

use evenkeel_kernels::{Channels, Float};
use evenkeel_random::Key;

/// Shapes of every class: no elements, single ones, odd primes, dense nets (wide and tall), few
/// positions, slabs short and long, few channels, and sizes on both sides of every block and of
/// what threads are worth waking for.
pub const SHAPES: [[usize; 3]; 29] = [
    [0, 3, 5],
    [3, 0, 5],
    [3, 5, 0],
    [1, 1, 1],
    [1, 1, 2],
    [2, 1, 1],
    [3, 5, 7],
    [7, 3, 1],
    [3, 300, 1],
    [700, 3, 1],
    [129, 67, 1],
    [65, 33, 3],
    [66, 5, 15],
    [5, 17, 16],
    [5, 3, 17],
    [9, 40, 49],
    [33, 37, 31],
    [3, 129, 64],
    [1, 18, 997],
    [2, 16, 4096],
    [2, 17, 4101],
    [2, 2, 9001],
    [600, 17, 19],
    [300, 16, 40],
    [4100, 9, 1],
    [300, 129, 1],
    [700, 20, 3],
    [259, 1100, 1],
    [40, 901, 9],
];

pub fn shapes() -> impl Iterator<Item = Channels> {
    SHAPES.into_iter().map(shape)
}

pub fn shape([n, c, s]: [usize; 3]) -> Channels {
    Channels { n, c, s }
}

/// `count` numbers in −2..2, the same for every call with this seed.
pub fn values<T: Float>(seed: u64, count: usize) -> Vec<T> {
    let mut draws = Key::from_seed(seed).draws();
    (0..count)
        .map(|_| T::from_f64(draws.between(-2.0, 2.0)))
        .collect()
}

/// The distance from 1 to the next number: 2⁻²³ or 2⁻⁵².
pub fn unit<T: Float>() -> f64 {
    if size_of::<T>() == 4 {
        f64::from(f32::EPSILON)
    } else {
        f64::EPSILON
    }
}

pub fn to_f64<T: Float>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}

/// The bits, by which NaN equals itself and −0 differs from 0.
pub fn bits<T: Float>(values: &[T]) -> Vec<u64> {
    values
        .iter()
        .map(|value| value.to_f64().to_bits())
        .collect()
}

/// Runs `work` with 1, 2 and 5 threads, asserts that the bits are the same, and returns them.
pub fn with_pools(work: impl Fn() -> Vec<u64> + Sync) -> Vec<u64> {
    let [one, two, five] = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a small thread pool");
        pool.install(&work)
    });
    assert!(one == two && one == five, "bits depend on the threads");
    one
}

/// Asserts |found − expected| ≤ `tolerance`(i) everywhere.
pub fn assert_close<T: Float>(
    what: &str,
    found: &[T],
    expected: &[f64],
    tolerance: impl Fn(usize) -> f64,
) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found.to_f64() - expected).abs();
        assert!(
            error <= tolerance(i),
            "{what}[{i}]: {found:?}, expected {expected} within {}",
            tolerance(i)
        );
    }
}
