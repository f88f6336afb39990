//! Vectors with a fused multiplication and addition, by the library `pulp`.
//!
//! Loops that are bound by memory are left to the compiler (see [`simd`](crate::simd)). Sums of products are
//! bound by arithmetic: there it matters that one instruction multiplies and adds, and that a tile of sums
//! stays in registers. `pulp` chooses AVX-512, AVX2 or NEON at run time, without unsafe code of ours. Where a
//! sum is one chain of fused operations, whatever the vectors' width, all of them give the same bits.

use pulp::Simd;

/// An element type, and its vectors.
pub trait Lanes: Sized + Copy {
    /// As many elements as a register of `S` holds.
    type Vector<S: Simd>: Copy;

    /// The same value in all lanes.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;

    /// a·b + c, rounded once where the machine can.
    fn multiply_add<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;

    /// The whole vectors that `values` begin with.
    fn vectors<S: Simd>(values: &[Self]) -> &[Self::Vector<S>];

    /// [`vectors`](Self::vectors), to write.
    fn vectors_mut<S: Simd>(values: &mut [Self]) -> &mut [Self::Vector<S>];

    /// These values, if that is their type.
    fn as_f32s(values: &mut [Self]) -> Option<&mut [f32]>;

    /// These arrays, if that is their values' type.
    fn as_f32_arrays<const N: usize>(arrays: &[[Self; N]]) -> Option<&[[f32; N]]>;
}

impl Lanes for f32 {
    type Vector<S: Simd> = S::f32s;

    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Self) -> S::f32s {
        simd.splat_f32s(value)
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, c)
    }

    #[inline(always)]
    fn vectors<S: Simd>(values: &[Self]) -> &[S::f32s] {
        S::as_simd_f32s(values).0
    }

    #[inline(always)]
    fn vectors_mut<S: Simd>(values: &mut [Self]) -> &mut [S::f32s] {
        S::as_mut_simd_f32s(values).0
    }

    #[inline(always)]
    fn as_f32s(values: &mut [Self]) -> Option<&mut [f32]> {
        Some(values)
    }

    #[inline(always)]
    fn as_f32_arrays<const N: usize>(arrays: &[[Self; N]]) -> Option<&[[f32; N]]> {
        Some(arrays)
    }
}

impl Lanes for f64 {
    type Vector<S: Simd> = S::f64s;

    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Self) -> S::f64s {
        simd.splat_f64s(value)
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_e_f64s(a, b, c)
    }

    #[inline(always)]
    fn vectors<S: Simd>(values: &[Self]) -> &[S::f64s] {
        S::as_simd_f64s(values).0
    }

    #[inline(always)]
    fn vectors_mut<S: Simd>(values: &mut [Self]) -> &mut [S::f64s] {
        S::as_mut_simd_f64s(values).0
    }

    #[inline(always)]
    fn as_f32s(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }

    #[inline(always)]
    fn as_f32_arrays<const N: usize>(_: &[[Self; N]]) -> Option<&[[f32; N]]> {
        None
    }
}

/// The lanes of a vector.
#[inline(always)]
pub(crate) const fn lanes<T: Lanes, S: Simd>() -> usize {
    size_of::<T::Vector<S>>() / size_of::<T>()
}
