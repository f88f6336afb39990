//! Gaussian dropout: each element times a normal number of mean 1.

use std::borrow::Cow;
use std::ops::Range;

use evenkeel_random::Key;
use multiversion::multiversion;

use super::normal::normal_group;
use super::words::{GROUP, group};
use crate::Float;
use crate::output::{Grid, Source, Writer, build_over};

const CHUNK: usize = 1 << 15;

/// Factors 1 + σ·z\[i\], with z the key's [`normals`](super::normals).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianDropout {
    key: Key,
    deviation: f64,
}

impl GaussianDropout {
    /// Factors of deviation σ.
    ///
    /// # Panics
    /// If the deviation is negative or not finite.
    pub fn new(key: Key, deviation: f64) -> Self {
        assert!(
            deviation.is_finite() && deviation >= 0.0,
            "deviation: expected a finite number not below 0, got {deviation}"
        );
        Self { key, deviation }
    }
}

/// y\[i\] = x\[i\]·(1 + σ·z\[i\]); its gradient is the same function.
pub fn gaussian_dropout<'a, T: Float>(
    x: impl Into<Cow<'a, [T]>>,
    dropout: &GaussianDropout,
) -> Vec<T> {
    let x = x.into();
    let grid = Grid::chunks(x.len(), CHUNK);
    let (output, _) = build_over(x, grid, |elements, x, writer| {
        fill(x, elements, dropout, writer);
    });
    output
}

/// The elements start at a multiple of [`GROUP`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fill<T: Float>(
    x: Source<'_, T>,
    elements: Range<usize>,
    dropout: &GaussianDropout,
    writer: &mut Writer<'_, T>,
) {
    let deviation = T::from_f64(dropout.deviation);
    for start in elements.clone().step_by(GROUP) {
        let z = normal_group(group(dropout.key, (start / 4) as u64));
        writer.map(x, start..(start + GROUP).min(elements.end), |x, i| {
            x * (T::ONE + deviation * T::from_f64(f64::from(z[i])))
        });
    }
}
