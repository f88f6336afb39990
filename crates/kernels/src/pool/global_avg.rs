//! Global average pooling.

use std::borrow::Cow;
use std::ops::Range;

use multiversion::multiversion;

use crate::Float;
use crate::norm::Channels;
use crate::output::{Grid, build, build_from};
use crate::simd::LaneSums;

/// Values that a thread takes at a time.
const CHUNK: usize = 1 << 15;
/// Values summed in the element type before they go to f64.
const STRETCH: usize = 4096;

/// y\[n, c\] = the mean of x\[n, c, ..\] over the positions; NaN where there are none.
///
/// # Panics
/// If `x` is not of this shape.
pub fn global_avg_pool<T: Float>(x: &[T], shape: Channels) -> Vec<T> {
    shape.check("x", x.len());
    global_avg_pool_of(shape, |slabs| {
        Cow::Borrowed(&x[slabs.start * shape.s..slabs.end * shape.s])
    })
}

/// [`global_avg_pool`], where x is not at hand in whole: `part` gives some slabs of it, `[n·c, s]`.
pub(crate) fn global_avg_pool_of<'a, T: Float>(
    shape: Channels,
    part: impl Fn(Range<usize>) -> Cow<'a, [T]> + Sync,
) -> Vec<T> {
    let Channels { n, c, s } = shape;
    let grid = Grid::chunks(n * c, (CHUNK / s.max(1)).max(1));
    let (output, _) = build_from(shape.len(), grid, |_, slabs, writer| {
        let mut means = vec![T::ZERO; slabs.len()];
        write_means(&part(slabs), s, &mut means);
        writer.append(means.len(), |i| means[i]);
    });
    output
}

/// The means of slabs of `s` positions.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn write_means<T: Float>(x: &[T], s: usize, means: &mut [T]) {
    for (i, mean) in means.iter_mut().enumerate() {
        let mut sum = 0.0;
        for stretch in x[i * s..][..s].chunks(STRETCH) {
            let mut sums = LaneSums::<T, 1>::new();
            sums.add(stretch, |x| [x]);
            let [total] = sums.totals();
            sum += total;
        }
        *mean = T::from_f64(sum / s as f64);
    }
}

/// What each of `s` positions has of their mean.
pub(crate) fn share<T: Float>(s: usize) -> T {
    T::from_f64(1.0 / s as f64)
}

/// The gradient by x, given `dy` `[n, c]`: dx\[n, c, ..\] = dy\[n, c\]/s.
///
/// # Panics
/// If `dy` is not `[n, c]`.
pub fn global_avg_pool_backward<T: Float>(dy: &[T], shape: Channels) -> Vec<T> {
    let Channels { n, c, s } = shape;
    assert_eq!(dy.len(), n * c, "dy: expected [{n}, {c}] values");
    if shape.is_empty() {
        return Vec::new();
    }
    let share = share(s);
    let together = CHUNK.div_ceil(s);
    let (output, _) = build(
        Grid::chunks(shape.len(), together * s),
        |_, elements, writer| {
            for dy in &dy[elements.start / s..elements.end / s] {
                let value = *dy * share;
                writer.append(s, |_| value);
            }
        },
    );
    output
}
