//! Gaussian dropout: each element times a normal number of mean 1.

use evenkeel_random::Key;
use multiversion::multiversion;

use super::normal::normal_group;
use super::words::{GROUP, group};
use crate::Float;
use crate::output::{Grid, Writer, build};

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
pub fn gaussian_dropout<T: Float>(x: &[T], dropout: &GaussianDropout) -> Vec<T> {
    let (output, _) = build(Grid::chunks(x.len(), CHUNK), |_, elements, writer| {
        fill(&x[elements.clone()], dropout, elements.start, writer);
    });
    output
}

/// `start` is a multiple of [`GROUP`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fill<T: Float>(x: &[T], dropout: &GaussianDropout, start: usize, writer: &mut Writer<'_, T>) {
    let deviation = T::from_f64(dropout.deviation);
    for (at, x) in (start..).step_by(GROUP).zip(x.chunks(GROUP)) {
        let z = normal_group(group(dropout.key, (at / 4) as u64));
        writer.append(x.len(), |i| {
            x[i] * (T::ONE + deviation * T::from_f64(f64::from(z[i])))
        });
    }
}
