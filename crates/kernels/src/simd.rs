//! The one way of summing.
//!
//! The hot loops of this crate are functions with `#[multiversion]`: compiled for AVX-512, AVX2 and
//! the baseline, and chosen at run time. What they call is `#[inline(always)]`, or it would be
//! compiled for the baseline. No arithmetic is contracted or regrouped, so all versions give the
//! same bits.

use crate::{Float, folds};

/// Sums are kept in this many lanes, a whole number of vectors on every machine: the grouping, and
/// so the rounding, is the same whatever the instruction set.
pub(crate) const LANES: usize = 16;

/// K sums in progress, each in lanes.
#[derive(Clone, Copy)]
pub(crate) struct LaneSums<T, const K: usize>(pub [[T; LANES]; K]);

impl<T: Float, const K: usize> LaneSums<T, K> {
    #[inline(always)]
    pub fn new() -> Self {
        Self([[T::ZERO; LANES]; K])
    }

    /// Adds the K numbers `terms(x[i])` for each i.
    #[inline(always)]
    pub fn add(&mut self, x: &[T], terms: impl Fn(T) -> [T; K]) {
        self.add_pairs(x, x, |x, _| terms(x));
    }

    /// Adds the K numbers `terms(x[i], y[i])` for each i.
    ///
    /// # Panics
    /// If `x` and `y` are not of one length.
    #[inline(always)]
    pub fn add_pairs(&mut self, x: &[T], y: &[T], terms: impl Fn(T, T) -> [T; K]) {
        add_pairs(&mut self.0, x, y, terms);
    }

    /// The lanes' sums.
    #[inline(always)]
    pub fn totals(self) -> [f64; K] {
        let mut totals = [0.0; K];
        for (total, lanes) in totals.iter_mut().zip(&self.0) {
            *total = folds::sum(lanes);
        }
        totals
    }
}

/// Adds the K numbers `terms(x[i], y[i])` for each i to the lanes of `sums`.
///
/// # Panics
/// If `x` and `y` are not of one length.
#[inline(always)]
pub(crate) fn add_pairs<T: Float, const K: usize>(
    sums: &mut [[T; LANES]; K],
    x: &[T],
    y: &[T],
    terms: impl Fn(T, T) -> [T; K],
) {
    assert_eq!(x.len(), y.len());
    // Fixed-size blocks vectorize, and a local copy keeps the lanes in registers.
    let (x_blocks, x_rest) = x.as_chunks::<LANES>();
    let (y_blocks, y_rest) = y.as_chunks::<LANES>();
    let mut local = *sums;
    for (x, y) in x_blocks.iter().zip(y_blocks) {
        for lane in 0..LANES {
            let terms = terms(x[lane], y[lane]);
            for k in 0..K {
                local[k][lane] += terms[k];
            }
        }
    }
    *sums = local;
    for (lane, (&x, &y)) in x_rest.iter().zip(y_rest).enumerate() {
        let terms = terms(x, y);
        for k in 0..K {
            sums[k][lane] += terms[k];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scripts/check-widths` leaves instructions out: then they are not to be found, or it would test nothing.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn instructions_that_are_left_out_are_not_found() {
        let without = std::env::var("RUST_STD_DETECT_UNSTABLE").unwrap_or_default();
        let without: Vec<_> = without.split(' ').collect();
        assert!(!(without.contains(&"avx512f") && is_x86_feature_detected!("avx512f")));
        assert!(!(without.contains(&"avx2") && is_x86_feature_detected!("avx2")));
    }

    #[test]
    fn every_element_is_added_once() {
        for len in 0..100 {
            let x: Vec<f64> = (0..len).map(|i| f64::from(1 + i)).collect();
            let mut sums = LaneSums::<f64, 2>::new();
            sums.add_pairs(&x, &x, |x, y| [x, x * y]);
            let n = f64::from(len);
            let squares = n * (n + 1.0) * (2.0 * n + 1.0) / 6.0;
            assert_eq!(sums.totals(), [n * (n + 1.0) / 2.0, squares]);
        }
    }
}
