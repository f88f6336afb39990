//! Matrix products, by the library `gemm`: the one place where slices become the pointers that it
//! takes.
#![allow(unsafe_code)]

use gemm::Parallelism;

use crate::Float;
use crate::output::Unwritten;

/// A matrix whose neighbours along a row or a column are a fixed step apart in a slice.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    /// From a row to the next, and from a column to the next.
    steps: [usize; 2],
}

impl<'a, T> Matrix<'a, T> {
    /// Row by row.
    ///
    /// # Panics
    /// If there are not `rows`·`columns` values.
    pub fn by_rows(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix {rows}×{columns}");
        Self {
            values,
            rows,
            columns,
            steps: [columns, 1],
        }
    }

    pub fn transposed(self) -> Self {
        let [row, column] = self.steps;
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            steps: [column, row],
        }
    }

    fn is_empty(&self) -> bool {
        self.rows == 0 || self.columns == 0
    }
}

/// `to` = a·b, row by row, on the current thread.
///
/// # Panics
/// If the sizes do not fit.
pub(crate) fn product<'t, T: Float>(
    to: Unwritten<'t, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
) -> &'t mut [T] {
    check(to.len(), a, b);
    if a.is_empty() || b.is_empty() {
        return to.fill(T::ZERO);
    }
    // SAFETY: `multiply` writes a.rows·b.columns elements, which is `to.len()`, and reads none.
    unsafe { to.by_pointer(|to| multiply(to, false, a, b)) }
}

/// `to` += a·b, row by row, on the current thread.
///
/// # Panics
/// If the sizes do not fit.
pub(crate) fn add_product<T: Float>(to: &mut [T], a: Matrix<'_, T>, b: Matrix<'_, T>) {
    check(to.len(), a, b);
    if !a.is_empty() && !b.is_empty() {
        // SAFETY: `to` is exclusive and has a.rows·b.columns elements.
        unsafe { multiply(to.as_mut_ptr(), true, a, b) };
    }
}

fn check<T>(len: usize, a: Matrix<'_, T>, b: Matrix<'_, T>) {
    assert_eq!(a.columns, b.rows, "a product of matrices that fit");
    assert_eq!(len, a.rows * b.columns, "a product as large as its place");
}

/// # Safety
/// - `to` must be valid for writing a.rows·b.columns elements, and for reading them if `add`.
/// - a.columns must be b.rows, and nothing empty.
unsafe fn multiply<T: Float>(to: *mut T, add: bool, a: Matrix<'_, T>, b: Matrix<'_, T>) {
    // SAFETY: the steps and sizes of a `Matrix` keep within its slice, by construction; `to` is the
    // caller's promise. `T` is `f32` or `f64`, sealed, both of which `gemm` has. A slice has at most
    // `isize::MAX` bytes, so the casts keep the values.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            to,
            1,
            b.columns as isize,
            add,
            a.values.as_ptr(),
            a.steps[1] as isize,
            a.steps[0] as isize,
            b.values.as_ptr(),
            b.steps[1] as isize,
            b.steps[0] as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
