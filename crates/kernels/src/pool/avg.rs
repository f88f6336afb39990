//! Average pooling over the windows of images.

use multiversion::multiversion;

use super::max::{Planes, Span, Window, spans};
use crate::Float;
use crate::output::{Grid, Writer, build, build_from};

/// The windows of an average, and what it is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool {
    /// The windows.
    pub window: Window,
    /// Whether padding counts as zeros: then all windows are divided by their size, otherwise by how many of their
    /// positions lie in the image.
    pub count_padding: bool,
}

impl AvgPool {
    /// What each window is divided by: its share down times its share across.
    fn divisors(&self, planes: Planes, pooled: Planes) -> [Vec<usize>; 2] {
        let along = |axis: usize, image: usize, windows: usize| {
            let (size, padding) = (self.window.size[axis], self.window.padding[axis]);
            let divisor = |window: usize| {
                let first = window * self.window.stride[axis];
                if self.count_padding {
                    return size;
                }
                (first + size).min(image + padding) - first.max(padding)
            };
            (0..windows).map(divisor).collect()
        };
        [
            along(0, planes.height, pooled.height),
            along(1, planes.width, pooled.width),
        ]
    }
}

/// What a thread needs to know besides the pooling.
struct Plan {
    pool: AvgPool,
    planes: Planes,
    pooled: Planes,
    spans: Vec<Span>,
    divisors: [Vec<usize>; 2],
}

impl Plan {
    fn new(pool: AvgPool, planes: Planes) -> Self {
        let pooled = match pool.window.output(planes) {
            Ok(pooled) => pooled,
            Err(problem) => panic!("avg_pool: {problem}"),
        };
        Self {
            pool,
            planes,
            pooled,
            spans: spans(&pool.window, planes.width, pooled.width),
            divisors: pool.divisors(planes, pooled),
        }
    }

    /// The image's rows under row `i` of the windows.
    fn rows(&self, i: usize) -> std::ops::Range<usize> {
        let ([size, _], [padding, _]) = (self.pool.window.size, self.pool.window.padding);
        let top = i * self.pool.window.stride[0];
        top.saturating_sub(padding)..(top + size).saturating_sub(padding).min(self.planes.height)
    }
}

/// y\[p, i, j\] = the mean of x\[p, i·stride − padding + a, j·stride − padding + b\] over the window's (a, b).
///
/// # Panics
/// If `x` is not of this shape, or the windows do not fit it: see [`Window::output`].
pub fn avg_pool<T: Float>(x: &[T], planes: Planes, pool: AvgPool) -> Vec<T> {
    planes.check("x", x.len());
    let plan = Plan::new(pool, planes);
    let area = plan.pooled.area();
    let grid = Grid::chunks(planes.count * area, planes.together() * area);
    let (output, _) = build_from(x.len(), grid, |_, range, writer| {
        let images = range.start / area..range.end / area;
        let x = &x[images.start * planes.area()..images.end * planes.area()];
        average(x, &plan, writer);
    });
    output
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn average<T: Float>(x: &[T], plan: &Plan, writer: &mut Writer<'_, T>) {
    let (width, stride) = (plan.planes.width, plan.pool.window.stride[1]);
    let mut sums = vec![T::ZERO; plan.pooled.width];
    let [down, across] = &plan.divisors;
    for image in x.chunks_exact(plan.planes.area()) {
        for (i, &down) in down.iter().enumerate() {
            sums.fill(T::ZERO);
            for row in plan.rows(i) {
                let x = &image[row * width..][..width];
                for span in &plan.spans {
                    let values = x[span.start..].iter().step_by(stride);
                    for (sum, &value) in sums[span.windows.clone()].iter_mut().zip(values) {
                        *sum += value;
                    }
                }
            }
            writer.append(sums.len(), |j| {
                sums[j] * T::from_f64(1.0 / (down * across[j]) as f64)
            });
        }
    }
}

/// The gradient by x, given `dy` of the output's shape: each window's goes to its positions in equal parts.
///
/// # Panics
/// As [`avg_pool`].
pub fn avg_pool_backward<T: Float>(dy: &[T], planes: Planes, pool: AvgPool) -> Vec<T> {
    let plan = Plan::new(pool, planes);
    plan.pooled.check("dy", dy.len());
    let area = planes.area();
    let grid = Grid::chunks(planes.count * area, planes.together() * area);
    let (output, _) = build(grid, |_, range, writer| {
        let images = range.start / area..range.end / area;
        let windows = plan.pooled.area();
        spread(
            &dy[images.start * windows..images.end * windows],
            &plan,
            writer,
        );
    });
    output
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn spread<T: Float>(dy: &[T], plan: &Plan, writer: &mut Writer<'_, T>) {
    let (width, stride) = (plan.planes.width, plan.pool.window.stride[1]);
    let mut dx = vec![T::ZERO; plan.planes.area()];
    let mut parts = vec![T::ZERO; plan.pooled.width];
    let [down, across] = &plan.divisors;
    for dy in dy.chunks_exact(plan.pooled.area()) {
        dx.fill(T::ZERO);
        for (i, (dy, &down)) in dy.chunks_exact(parts.len()).zip(down).enumerate() {
            for ((part, &dy), &across) in parts.iter_mut().zip(dy).zip(across) {
                *part = dy * T::from_f64(1.0 / (down * across) as f64);
            }
            for row in plan.rows(i) {
                let dx = &mut dx[row * width..][..width];
                for span in &plan.spans {
                    let places = dx[span.start..].iter_mut().step_by(stride);
                    for (place, &part) in places.zip(&parts[span.windows.clone()]) {
                        *place += part;
                    }
                }
            }
        }
        writer.append(dx.len(), |i| dx[i]);
    }
}
