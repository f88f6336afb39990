//! Count, mean and second central moment of a set of values, and merging them.

use multiversion::multiversion;

use crate::simd::{LANES, LaneSums, add_pairs};
use crate::{Float, folds};

/// The count n, the mean, and m2 = Σ(x − mean)² of some values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// How many values.
    pub count: f64,
    /// Their mean; 0 of none.
    pub mean: f64,
    /// The sum of squared differences from the mean.
    pub m2: f64,
}

/// What merging two sets of these counts takes: computed once where many columns share counts.
#[derive(Clone, Copy)]
pub(crate) struct MergeWeights {
    count: f64,
    /// n_b/n: how far the mean moves towards b's.
    towards: f64,
    /// n_a·n_b/n: what the squared distance of the means adds to m2.
    between: f64,
}

impl MergeWeights {
    #[inline(always)]
    pub fn new(a: f64, b: f64) -> Self {
        let count = a + b;
        let towards = if count == 0.0 { 0.0 } else { b / count };
        Self {
            count,
            towards,
            between: a * towards,
        }
    }

    /// Chan's formula; an infinite mean stays so.
    #[inline(always)]
    pub fn merge(self, (mean_a, m2_a): (f64, f64), (mean_b, m2_b): (f64, f64)) -> (f64, f64) {
        let distance = mean_b - mean_a;
        let mean = if distance.is_finite() {
            mean_a + distance * self.towards
        } else {
            mean_a + mean_b
        };
        (mean, m2_a + m2_b + distance * distance * self.between)
    }
}

impl Moments {
    /// The moments of both sets together: the one way in which parts (threads, micro-batches,
    /// replicas, batches of a recalibration) become a whole.
    ///
    /// Source: Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    /// Sample Variances" (1979).
    #[inline]
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let weights = MergeWeights::new(self.count, other.count);
        let (mean, m2) = weights.merge((self.mean, self.m2), (other.mean, other.m2));
        Self {
            count: weights.count,
            mean,
            m2,
        }
    }

    #[inline(always)]
    pub(crate) fn of_shifted_sums<T: Float>(count: f64, shift: T, sum: f64, squares: f64) -> Self {
        let m2 = squares - sum * sum / count;
        Self {
            count,
            mean: shift.to_f64() + sum / count,
            // Rounding can leave a little below 0. NaN compares false and stays.
            m2: if m2 < 0.0 { 0.0 } else { m2 },
        }
    }

    /// Whether these are not those of the values: a sum in f32 overflowed, or a value is not finite.
    #[inline(always)]
    pub(crate) fn overflowed(&self) -> bool {
        !(self.mean.is_finite() && self.m2.is_finite())
    }

    /// In two passes in f64, for values where [`overflowed`](Self::overflowed). Of infinite values
    /// the mean is infinite (or NaN, of both signs), and m2 NaN, as in PyTorch.
    #[cold]
    pub(crate) fn of_wide<T: Float>(values: impl Iterator<Item = T> + Clone) -> Self {
        let (mut count, mut sum) = (0.0, 0.0);
        for value in values.clone() {
            count += 1.0;
            sum += value.to_f64();
        }
        let mean = sum / count;
        let m2 = values.map(|value| (value.to_f64() - mean).powi(2)).sum();
        Self { count, mean, m2 }
    }

    /// m2/n, what a batch is normalized with; 0 of no values.
    pub fn variance(&self) -> f64 {
        if self.count == 0.0 {
            0.0
        } else {
            self.m2 / self.count
        }
    }

    /// m2/(n − 1), the unbiased estimate of what the values were drawn from; 0 of fewer than two.
    pub fn variance_unbiased(&self) -> f64 {
        if self.count < 2.0 {
            0.0
        } else {
            self.m2 / (self.count - 1.0)
        }
    }

    /// Of these values.
    #[inline(always)]
    pub fn of<T: Float>(values: &[T]) -> Self {
        let mut all = Self::default();
        for stretch in values.chunks(STRETCH) {
            let mut sums = ShiftedSums::around(stretch);
            sums.add(stretch);
            let mut moments = sums.moments(stretch.len());
            if moments.overflowed() {
                moments = Self::of_wide(stretch.iter().copied());
            }
            all = all.merge(&moments);
        }
        all
    }
}

/// [`ShiftedSums`] of several rows: in steps, each for all rows, so that those of one row need not wait for each other.
pub(crate) struct RowSums<T> {
    /// Values of a row.
    len: usize,
    shifts: Vec<T>,
    totals: Vec<[f64; 2]>,
}

impl<T: Float> RowSums<T> {
    /// Of the rows of `len` values, at most a [`STRETCH`].
    pub fn of(x: &[T], len: usize) -> Self {
        debug_assert!(len <= STRETCH);
        let rows = x.len() / len;
        let mut first = Vec::with_capacity(rows);
        first.extend(x.chunks_exact(len).map(first_values));
        let mut shifts = vec![T::ZERO; rows];
        folds::means(&first, &mut shifts);
        let totals = folds::sums_of(&shifted_sums(x, len, &shifts));
        Self {
            len,
            shifts,
            totals,
        }
    }

    /// The moments of each row, or [overflowed](Moments::overflowed) ones.
    #[inline(always)]
    pub fn moments(&self) -> impl Iterator<Item = Moments> {
        let rows = self.shifts.iter().zip(&self.totals);
        rows.map(|(&shift, &[sum, squares])| {
            Moments::of_shifted_sums(self.len as f64, shift, sum, squares)
        })
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn shifted_sums<T: Float>(x: &[T], len: usize, shifts: &[T]) -> Vec<[[T; LANES]; 2]> {
    let mut all = vec![[[T::ZERO; LANES]; 2]; shifts.len()];
    for ((x, &shift), sums) in x.chunks_exact(len).zip(shifts).zip(&mut all) {
        add_pairs(sums, x, x, |x, _| shifted_powers(x, shift));
    }
    all
}

/// Values whose sums are kept in one go before they are merged in f64: few enough for the lanes of
/// an f32 sum to stay exact to a few ulps.
pub(crate) const STRETCH: usize = 4096;

/// Σ(x − k) and Σ(x − k)² of a stretch of values, for a k near them: with one pass over memory,
/// m2 = Σ(x − k)² − (Σ(x − k))²/n.
#[derive(Clone, Copy)]
pub(crate) struct ShiftedSums<T> {
    shift: T,
    sums: LaneSums<T, 2>,
}

impl<T: Float> ShiftedSums<T> {
    /// k is the mean of the [first values](first_values): the subtraction above loses at most the bits of
    /// n·(mean − k)²/m2, which is n for a single value and n/16 for this, at the worst. Equal values give exactly k, and
    /// so m2 = 0.
    #[inline(always)]
    pub fn around(x: &[T]) -> Self {
        Self::new(folds::mean(&first_values(x)))
    }

    #[inline(always)]
    fn new(shift: T) -> Self {
        Self {
            shift,
            sums: LaneSums::new(),
        }
    }

    #[inline(always)]
    pub fn add(&mut self, x: &[T]) {
        let shift = self.shift;
        self.sums.add(x, |x| shifted_powers(x, shift));
    }

    /// Of the `count` values added.
    #[inline(always)]
    pub fn moments(self, count: usize) -> Moments {
        let [sum, squares] = self.sums.totals();
        Moments::of_shifted_sums(count as f64, self.shift, sum, squares)
    }
}

/// What is summed up: x − k and its square.
#[inline(always)]
fn shifted_powers<T: Float>(x: T, shift: T) -> [T; 2] {
    let distance = x - shift;
    [distance, distance * distance]
}

/// The first 16 values; of fewer, the first one in the place of those that are missing.
#[inline(always)]
fn first_values<T: Float>(x: &[T]) -> [T; LANES] {
    match x.first_chunk() {
        Some(values) => *values,
        None => {
            let mut values = [x[0]; LANES];
            values[..x.len()].copy_from_slice(x);
            values
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(values: &[f64]) -> Moments {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let m2 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Moments { count, mean, m2 }
    }

    fn assert_close(a: Moments, b: Moments) {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()));
        assert!(
            a.count == b.count && close(a.mean, b.mean) && close(a.m2, b.m2),
            "{a:?} {b:?}"
        );
    }

    proptest! {
        #[test]
        fn merging_in_any_order_is_the_whole(
            values in prop::collection::vec(-1e3..1e3_f64, 0..60),
            first in 0..60_usize,
            second in 0..60_usize,
        ) {
            let first = first.min(values.len());
            let second = second.clamp(first, values.len());
            let parts = [&values[..first], &values[first..second], &values[second..]];
            let [a, b, c] = parts.map(naive);
            let whole = naive(&values);
            assert_close(a.merge(&b).merge(&c), whole);
            assert_close(a.merge(&b.merge(&c)), whole);
            assert_close(c.merge(&a).merge(&b), whole);
        }

        #[test]
        fn of_values_is_the_definition(values in prop::collection::vec(-1e3..1e3_f64, 0..5000)) {
            assert_close(Moments::of(&values), naive(&values));
        }
    }

    #[test]
    fn nothing_is_neutral() {
        let some = naive(&[1.0, 2.0, 4.0]);
        assert_eq!(some.merge(&Moments::default()), some);
        assert_eq!(Moments::default().merge(&some), some);
        assert_eq!(Moments::of::<f32>(&[]), Moments::default());
        assert_eq!(Moments::default().variance_unbiased(), 0.0);
    }
}
