//! Means and variances over many cubes: partial moments, merged by Chan's formula.
//!
//! Partials are triples (count, mean, m2); those of a channel lie together. Their number and order
//! depend on the shape and the device alone, and no atomics are used: the same bits each time.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use evenkeel_kernels::Channels;

use super::line::Geometry;
use super::parts::{COLUMNS, Columns, FINISHING, LEAST_SLAB, ROWS, Slabs, one_cube_each};
use crate::backend::cube::{UNITS, elems, empty, width};

/// Mean, biased variance and reciprocal deviation of each channel of a contiguous `[n, c, s]`; around
/// 0 instead of the mean for a root mean square.
pub(super) fn moments(
    x: &CubeTensor,
    shape: Channels,
    epsilon: f64,
    around_zero: bool,
    wide: DType,
) -> [CubeTensor; 3] {
    let (partials, of_channel) = if shape.s < LEAST_SLAB {
        by_columns(x, shape, around_zero, wide)
    } else {
        by_slabs(x, shape, around_zero, wide)
    };
    let [_, float] = elems(x.dtype);
    let outputs = [(); 3].map(|()| empty(x, [shape.c], wide));
    let [mean, variance, r] = outputs.clone().map(CubeTensor::into_buffer_arg);
    let (count, dim) = one_cube_each(&x.client, shape.c, FINISHING);
    finish_kernel::launch(
        &x.client,
        count,
        dim,
        partials.into_buffer_arg(),
        mean,
        variance,
        r,
        of_channel,
        InputScalar::new(epsilon, float),
        float,
    );
    outputs
}

fn by_slabs(
    x: &CubeTensor,
    shape: Channels,
    around_zero: bool,
    wide: DType,
) -> (CubeTensor, usize) {
    let width = width(x, shape.s);
    let slabs = Slabs::new(shape.n, shape.c, shape.s / width);
    let of_channel = slabs.parts * width;
    let partials = empty(x, [shape.c * of_channel * 3], wide);
    let (count, dim) = one_cube_each(&x.client, shape.c * slabs.parts, UNITS);
    slab_moments_kernel::launch(
        &x.client,
        count,
        dim,
        width,
        x.clone().into_buffer_arg(),
        partials.clone().into_buffer_arg(),
        slabs.channels,
        slabs.slab,
        slabs.of_channel(),
        slabs.length(),
        slabs.parts,
        around_zero,
        elems(x.dtype),
    );
    (partials, of_channel)
}

fn by_columns(
    x: &CubeTensor,
    shape: Channels,
    around_zero: bool,
    wide: DType,
) -> (CubeTensor, usize) {
    let run = Geometry::batch(shape).run;
    let width = width(x, run);
    let columns = Columns::new(shape.n, shape.c * shape.s / width);
    let of_channel = columns.parts * shape.s;
    let partials = empty(x, [shape.c * of_channel * 3], wide);
    let (count, dim) = one_cube_each(&x.client, columns.cubes(), UNITS);
    column_moments_kernel::launch(
        &x.client,
        count,
        dim,
        width,
        x.clone().into_buffer_arg(),
        partials.clone().into_buffer_arg(),
        columns.rows,
        columns.columns,
        columns.length(),
        columns.parts,
        around_zero,
        elems(x.dtype),
    );
    (partials, of_channel)
}

/// The moments of as many sets of values as a vector has lanes.
#[derive(CubeType)]
struct Moments<F: Float, N: Size> {
    count: F,
    mean: Vector<F, N>,
    m2: Vector<F, N>,
}

#[cube]
impl<F: Float, N: Size> Moments<F, N> {
    fn none() -> Moments<F, N> {
        Moments::<F, N> {
            count: F::new(0.0),
            mean: Vector::zeroed(),
            m2: Vector::zeroed(),
        }
    }

    /// Chan's formula; an infinite mean stays so.
    fn merge(&mut self, other: &Moments<F, N>) {
        let count = self.count + other.count;
        let towards = select(count > F::new(0.0), other.count / count, F::new(0.0));
        let distance = other.mean - self.mean;
        let moved = self.mean + distance * Vector::new(towards);
        let between = distance * distance * Vector::new(self.count * towards);
        self.mean = select_many(is_finite(distance), moved, self.mean + other.mean);
        self.m2 = self.m2 + other.m2 + between;
        self.count = count;
    }
}

#[cube]
fn is_finite<F: Float, N: Size>(values: Vector<F, N>) -> Vector<bool, N> {
    values.abs().less_equal(&Vector::new(F::max_value()))
}

/// Σ(x − k) and Σ(x − k)² of a unit's values, around the first one of them: equal values give m2 = 0,
/// and the subtraction m2 = Σ(x − k)² − (Σ(x − k))²/n loses at most a factor n of precision, since k is
/// among the values. Around 0 if that one is not finite.
#[derive(CubeType)]
struct ShiftedSums<F: Float, N: Size> {
    shift: Vector<F, N>,
    count: F,
    sum: Vector<F, N>,
    squares: Vector<F, N>,
}

#[cube]
impl<F: Float, N: Size> ShiftedSums<F, N> {
    fn around(first: Vector<F, N>, #[comptime] around_zero: bool) -> ShiftedSums<F, N> {
        let zero = Vector::<F, N>::zeroed();
        let shift = if comptime!(around_zero) {
            zero
        } else {
            select_many(is_finite(first), first, zero)
        };
        ShiftedSums::<F, N> {
            shift,
            count: F::new(0.0),
            sum: zero,
            squares: zero,
        }
    }

    fn add(&mut self, x: Vector<F, N>) {
        let distance = x - self.shift;
        self.count += F::new(1.0);
        self.sum += distance;
        self.squares += distance * distance;
    }

    fn moments(&self, #[comptime] around_zero: bool) -> Moments<F, N> {
        let zero = Vector::<F, N>::zeroed();
        if comptime!(around_zero) {
            Moments::<F, N> {
                count: self.count,
                mean: zero,
                m2: self.squares,
            }
        } else {
            let of_one = self.sum / Vector::new(max(self.count, F::new(1.0)));
            let m2 = self.squares - self.sum * of_one;
            Moments::<F, N> {
                count: self.count,
                mean: self.shift + of_one,
                m2: select_many(m2.less_than(&zero), zero, m2),
            }
        }
    }
}

/// Merges the moments of units whose distance is a multiple of `nearest`, a tree of `units` leaves:
/// complete in the first `nearest` units.
#[cube]
fn merge_units<F: Float, N: Size>(
    moments: Moments<F, N>,
    #[comptime] units: usize,
    #[comptime] nearest: usize,
) -> Moments<F, N> {
    let mut counts = Shared::<[F]>::new_slice(units);
    let mut means = Shared::<[Vector<F, N>]>::new_slice(units);
    let mut m2s = Shared::<[Vector<F, N>]>::new_slice(units);
    let unit = UNIT_POS as usize;
    counts[unit] = moments.count;
    means[unit] = moments.mean;
    m2s[unit] = moments.m2;
    sync_cube();
    let mut distance = comptime!(units / 2).runtime();
    while distance >= nearest {
        if unit < distance {
            let mut near = Moments::<F, N> {
                count: counts[unit],
                mean: means[unit],
                m2: m2s[unit],
            };
            let far = Moments::<F, N> {
                count: counts[unit + distance],
                mean: means[unit + distance],
                m2: m2s[unit + distance],
            };
            near.merge(&far);
            counts[unit] = near.count;
            means[unit] = near.mean;
            m2s[unit] = near.m2;
        }
        sync_cube();
        distance /= 2;
    }
    Moments::<F, N> {
        count: counts[unit],
        mean: means[unit],
        m2: m2s[unit],
    }
}

/// A cube takes a part of a channel. Each lane of a vector is a partial of its own.
///
/// Memory: each element is read once, 4 bytes in `f32`.
#[cube(launch)]
fn slab_moments_kernel<E: Float, F: Float, N: Size>(
    x: &[Vector<E, N>],
    partials: &mut [F],
    channels: usize,
    slab: usize,
    of_channel: usize,
    length: usize,
    parts: usize,
    #[comptime] around_zero: bool,
    #[define(E, F)] _types: [ElemType; 2],
) {
    if CUBE_POS >= channels * parts {
        terminate!();
    }
    let channel = CUBE_POS / parts;
    let start = CUBE_POS % parts * length;
    let end = min(start + length, of_channel);
    let mut at = start + UNIT_POS as usize;
    // The example and the position are carried along: no division an element.
    let mut example = at / slab;
    let mut position = at % slab;
    let first = select(
        at < end,
        (example * channels + channel) * slab + position,
        0,
    );
    let mut sums = ShiftedSums::<F, N>::around(Vector::cast_from(x[first]), around_zero);
    while at < end {
        let index = (example * channels + channel) * slab + position;
        sums.add(Vector::cast_from(x[index]));
        at += UNITS;
        example += UNITS / slab;
        position += UNITS % slab;
        if position >= slab {
            position -= slab;
            example += 1;
        }
    }
    let merged = merge_units(sums.moments(around_zero), UNITS, 1usize);
    if UNIT_POS == 0 {
        let width = N::value();
        #[unroll]
        for lane in 0..width {
            let partial = (CUBE_POS * width + lane) * 3;
            partials[partial] = merged.count;
            partials[partial + 1] = merged.mean.extract(lane);
            partials[partial + 2] = merged.m2.extract(lane);
        }
    }
}

/// A cube takes [`COLUMNS`] vectors of columns and a part of the rows.
///
/// Memory: each element is read once, 4 bytes in `f32`.
#[cube(launch)]
fn column_moments_kernel<E: Float, F: Float, N: Size>(
    x: &[Vector<E, N>],
    partials: &mut [F],
    rows: usize,
    columns: usize,
    length: usize,
    parts: usize,
    #[comptime] around_zero: bool,
    #[define(E, F)] _types: [ElemType; 2],
) {
    let unit = UNIT_POS as usize;
    let part = CUBE_POS % parts;
    let column = CUBE_POS / parts * COLUMNS + unit % COLUMNS;
    let mut row = part * length + unit / COLUMNS;
    let end = select(column < columns, min((part + 1) * length, rows), 0);
    let first = select(row < end, row * columns + column, 0);
    let mut sums = ShiftedSums::<F, N>::around(Vector::cast_from(x[first]), around_zero);
    while row < end {
        sums.add(Vector::cast_from(x[row * columns + column]));
        row += ROWS;
    }
    let merged = merge_units(sums.moments(around_zero), UNITS, COLUMNS);
    if unit < COLUMNS && column < columns {
        let width = N::value();
        #[unroll]
        for lane in 0..width {
            let partial = ((column * width + lane) * parts + part) * 3;
            partials[partial] = merged.count;
            partials[partial + 1] = merged.mean.extract(lane);
            partials[partial + 2] = merged.m2.extract(lane);
        }
    }
}

/// One set of values.
type Single = Const<1>;

/// A cube merges the partials of a channel. Memory: 12 bytes a partial, of which there are few.
#[cube(launch)]
fn finish_kernel<F: Float>(
    partials: &[F],
    mean: &mut [F],
    variance: &mut [F],
    reciprocal_deviation: &mut [F],
    of_channel: usize,
    epsilon: InputScalar,
    #[define(F)] _type: ElemType,
) {
    let channel = CUBE_POS;
    if channel >= mean.len() {
        terminate!();
    }
    let mut all = Moments::<F, Single>::none();
    let mut at = UNIT_POS as usize;
    while at < of_channel {
        let partial = (channel * of_channel + at) * 3;
        let next = Moments::<F, Single> {
            count: partials[partial],
            mean: Vector::new(partials[partial + 1]),
            m2: Vector::new(partials[partial + 2]),
        };
        all.merge(&next);
        at += FINISHING;
    }
    let all = merge_units(all, FINISHING, 1usize);
    if UNIT_POS == 0 {
        let square = all.m2.extract(0usize) / all.count;
        mean[channel] = all.mean.extract(0usize);
        variance[channel] = square;
        reciprocal_deviation[channel] = F::new(1.0) / (square + epsilon.get::<F>()).sqrt();
    }
}
