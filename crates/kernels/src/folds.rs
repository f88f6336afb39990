//! Lanes of vectors folded to one number, pairwise: eight of sixteen, four of eight and so on, so that four steps wait for
//! each other instead of fifteen.
//!
//! Of a single vector's lanes compilers make scalars, so where there is AVX-512 its instructions are named, by `pulp`,
//! which makes them safe. They give the same bits.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

#[cfg(target_arch = "x86_64")]
use pulp::{NullaryFnOnce, cast, x86::V4};

use crate::Float;
use crate::simd::LANES;

/// Halves `lanes` in place with `merge` until one is left.
#[inline(always)]
fn fold<T: Copy>(mut lanes: [T; LANES], merge: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = merge(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of lanes, in `f64`.
#[inline(always)]
pub(crate) fn sum<T: Float>(lanes: &[T; LANES]) -> f64 {
    let mut wide = [0.0; LANES];
    for (wide, lane) in wide.iter_mut().zip(lanes) {
        *wide = lane.to_f64();
    }
    fold(wide, |a, b| a + b)
}

/// The mean of lanes. Of equal ones it is exactly what they are.
#[inline(always)]
pub(crate) fn mean<T: Float>(lanes: &[T; LANES]) -> T {
    let half = T::from_f64(0.5);
    fold(*lanes, |a, b| a * half + b * half)
}

/// [`sum`] of each.
pub(crate) fn sums<T: Float>(lanes: &[[T; LANES]], sums: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if let (Some(lanes), Some(simd)) = (T::as_f32_arrays(lanes), V4::try_new()) {
        return simd.vectorize(Sums { simd, lanes, sums });
    }
    for (lanes, result) in lanes.iter().zip(sums) {
        *result = sum(lanes);
    }
}

/// [`sums`] of K vectors each.
pub(crate) fn sums_of<T: Float, const K: usize>(lanes: &[[[T; LANES]; K]]) -> Vec<[f64; K]> {
    let mut all = vec![[0.0; K]; lanes.len()];
    sums(lanes.as_flattened(), all.as_flattened_mut());
    all
}

/// [`mean`] of each.
pub(crate) fn means<T: Float>(lanes: &[[T; LANES]], means: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    if let (Some(lanes), Some(means), Some(simd)) =
        (T::as_f32_arrays(lanes), T::as_f32s(means), V4::try_new())
    {
        return simd.vectorize(Means { simd, lanes, means });
    }
    for (lanes, result) in lanes.iter().zip(means) {
        *result = mean(lanes);
    }
}

#[cfg(target_arch = "x86_64")]
struct Sums<'a> {
    simd: V4,
    lanes: &'a [[f32; LANES]],
    sums: &'a mut [f64],
}

#[cfg(target_arch = "x86_64")]
impl NullaryFnOnce for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let V4 {
            sse2,
            avx,
            avx512f,
            avx512dq,
            ..
        } = self.simd;
        for (&lanes, sum) in self.lanes.iter().zip(self.sums) {
            let lanes: __m512 = cast(lanes);
            let low = avx512f._mm512_cvtps_pd(avx512f._mm512_castps512_ps256(lanes));
            let high = avx512f._mm512_cvtps_pd(avx512dq._mm512_extractf32x8_ps::<1>(lanes));
            let eight = avx512f._mm512_add_pd(low, high);
            let low = avx512f._mm512_castpd512_pd256(eight);
            let four = avx._mm256_add_pd(low, avx512f._mm512_extractf64x4_pd::<1>(eight));
            let low = avx._mm256_castpd256_pd128(four);
            let two = sse2._mm_add_pd(low, avx._mm256_extractf128_pd::<1>(four));
            let [low, high]: [f64; 2] = cast(two);
            *sum = low + high;
        }
    }
}

#[cfg(target_arch = "x86_64")]
struct Means<'a> {
    simd: V4,
    lanes: &'a [[f32; LANES]],
    means: &'a mut [f32],
}

#[cfg(target_arch = "x86_64")]
impl NullaryFnOnce for Means<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let V4 {
            sse,
            avx,
            avx512f,
            avx512dq,
            ..
        } = self.simd;
        for (&lanes, mean) in self.lanes.iter().zip(self.means) {
            // Each step halves what it adds, as `mean` does.
            let lanes = avx512f._mm512_mul_ps(cast(lanes), avx512f._mm512_set1_ps(0.5));
            let low = avx512f._mm512_castps512_ps256(lanes);
            let eight = avx._mm256_add_ps(low, avx512dq._mm512_extractf32x8_ps::<1>(lanes));
            let eight: __m256 = avx._mm256_mul_ps(eight, avx._mm256_set1_ps(0.5));
            let low = avx._mm256_castps256_ps128(eight);
            let four = sse._mm_add_ps(low, avx._mm256_extractf128_ps::<1>(eight));
            let four = sse._mm_mul_ps(four, sse._mm_set1_ps(0.5));
            let two = sse._mm_add_ps(four, sse._mm_movehl_ps(four, four));
            let [first, second, ..]: [f32; 4] = cast(two);
            *mean = first * 0.5 + second * 0.5;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_give_the_same_bits() {
        let mut lanes: Vec<[f32; LANES]> = (0..9)
            .map(|row| std::array::from_fn(|i| ((row * LANES + i) as f32 * 0.7).sin() * 1e3))
            .collect();
        lanes[4][7] = f32::INFINITY;
        lanes[5] = [f32::MAX; LANES];
        lanes[6] = [0.1; LANES];
        let found = sums_of(&lanes.iter().map(|&lanes| [lanes]).collect::<Vec<_>>());
        let mut found_means = vec![0.0; lanes.len()];
        means(&lanes, &mut found_means);
        for (i, lanes) in lanes.iter().enumerate() {
            assert_eq!(found[i][0].to_bits(), sum(lanes).to_bits());
            assert_eq!(found_means[i].to_bits(), mean(lanes).to_bits());
        }
        assert_eq!(found_means[5..7], [f32::MAX, 0.1]);
    }

    #[test]
    fn wide_lanes_are_folded_too() {
        let lanes = [std::array::from_fn::<f64, LANES, _>(|i| i as f64)];
        let mut found = [0.0];
        sums(&lanes, &mut found);
        assert_eq!(found, [120.0]);
        means(&lanes, &mut found);
        assert_eq!(found, [7.5]);
    }
}
