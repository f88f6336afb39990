//! The one way of summing.
//!
//! The hot loops of this crate are functions with `#[multiversion]`: compiled for AVX-512, AVX2 and
//! the baseline, and chosen at run time. What they call is `#[inline(always)]`, or it would be
//! compiled for the baseline. No arithmetic is contracted or regrouped, so all versions give the
//! same bits.

use crate::Float;

/// Sums are kept in this many lanes, a whole number of vectors on every machine: the grouping, and
/// so the rounding, is the same whatever the instruction set.
pub(crate) const LANES: usize = 16;

/// K sums in progress, each in lanes.
#[derive(Clone, Copy)]
pub(crate) struct LaneSums<T, const K: usize>([[T; LANES]; K]);

impl<T: Float, const K: usize> LaneSums<T, K> {
    #[inline(always)]
    pub fn new() -> Self {
        Self([[T::ZERO; LANES]; K])
    }

    /// Adds the K numbers `terms(i)` for i in 0..`len`.
    #[inline(always)]
    pub fn add(&mut self, len: usize, terms: impl Fn(usize) -> [T; K]) {
        // A local copy, so that the lanes stay in registers.
        let mut sums = self.0;
        let whole = len - len % LANES;
        let mut i = 0;
        while i < whole {
            for lane in 0..LANES {
                let terms = terms(i + lane);
                for k in 0..K {
                    sums[k][lane] += terms[k];
                }
            }
            i += LANES;
        }
        self.0 = sums;
        for i in whole..len {
            let terms = terms(i);
            for k in 0..K {
                self.0[k][i - whole] += terms[k];
            }
        }
    }

    #[inline(always)]
    pub fn totals(self) -> [f64; K] {
        let mut totals = [0.0; K];
        for k in 0..K {
            for lane in 0..LANES {
                totals[k] += self.0[k][lane].to_f64();
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_added_once() {
        for len in 0..100 {
            let x: Vec<f64> = (0..len).map(|i| f64::from(1 + i)).collect();
            let mut sums = LaneSums::<f64, 2>::new();
            sums.add(x.len(), |i| [x[i], x[i] * x[i]]);
            let n = f64::from(len);
            let squares = n * (n + 1.0) * (2.0 * n + 1.0) / 6.0;
            assert_eq!(sums.totals(), [n * (n + 1.0) / 2.0, squares]);
        }
    }
}
