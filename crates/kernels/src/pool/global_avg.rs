//! Global average pooling.

use multiversion::multiversion;

use crate::Float;
use crate::norm::Channels;
use crate::output::{Grid, Writer, build, build_from};
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
    let Channels { n, c, s } = shape;
    let means = Grid::chunks(n * c, (CHUNK / s.max(1)).max(1));
    let (output, _) = build_from(x.len(), means, |_, slabs, writer| {
        write_means(&x[slabs.start * s..slabs.end * s], s, slabs.len(), writer);
    });
    output
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn write_means<T: Float>(x: &[T], s: usize, len: usize, writer: &mut Writer<'_, T>) {
    writer.append(len, |i| {
        let mut sum = 0.0;
        for stretch in x[i * s..][..s].chunks(STRETCH) {
            let mut sums = LaneSums::<T, 1>::new();
            sums.add(stretch, |x| [x]);
            let [total] = sums.totals();
            sum += total;
        }
        T::from_f64(sum / s as f64)
    });
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
    let share = T::from_f64(1.0 / s as f64);
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
