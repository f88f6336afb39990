//! Rows whose channels have few positions, such as tokens: γ and β are spread to one value an element.

use std::ops::Range;

use multiversion::multiversion;

use super::{ParameterSums, RowInput, RowNorm, Rows};
use crate::Float;
use crate::activation::Activate;
use crate::norm::Affine;
use crate::norm::moments::STRETCH;
use crate::norm::slabs::Centring;
use crate::output::{Source, Writer, pieces};
use crate::simd::{LANES, LaneSums};

/// Rows whose parameter gradients are kept in the element type before they go to f64.
const ROWS_IN_FLOAT: usize = 64;

/// γ and β with one value an element of all groups.
pub(super) struct Spread<T> {
    scale: Vec<T>,
    shift: Vec<T>,
}

impl<T: Float> Spread<T> {
    pub fn new(shape: Rows, affine: Affine<'_, T>) -> Option<Self> {
        let spread = |values: &[T]| {
            let values = values.iter();
            values
                .flat_map(|&value| std::iter::repeat_n(value, shape.positions))
                .collect()
        };
        shape.by_element().then(|| Self {
            scale: spread(affine.scale),
            shift: spread(affine.shift),
        })
    }

    pub fn rows(&self, shape: Rows) -> SpreadRows<'_, T> {
        SpreadRows {
            shape,
            scale: &self.scale,
            shift: &self.shift,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct SpreadRows<'a, T> {
    shape: Rows,
    scale: &'a [T],
    shift: &'a [T],
}

impl<T> SpreadRows<'_, T> {
    /// γ and β of a row's elements, and where they start among all groups'.
    #[inline(always)]
    fn of(&self, row: usize) -> (usize, &[T], &[T]) {
        let len = self.shape.row();
        let start = row % self.shape.groups * len;
        (
            start,
            &self.scale[start..][..len],
            &self.shift[start..][..len],
        )
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_output<T: Float, A: Activate>(
    x: &[T],
    elements: Range<usize>,
    affine: &SpreadRows<'_, T>,
    norm: &RowNorm,
    activation: A,
    writer: &mut Writer<'_, T>,
) -> Vec<(T, T)> {
    let len = affine.shape.row();
    let first = elements.start / len;
    let mut statistics = Vec::with_capacity(elements.len() / len);
    for x in x[elements].chunks(affine.shape.together()) {
        let known = statistics.len();
        norm.push_statistics(x, &mut statistics);
        for (i, x) in (known..).zip(x.chunks_exact(len)) {
            let (_, scale, shift) = affine.of(first + i);
            let (mean, r) = statistics[i];
            writer.append_of([x, scale, shift], |[x, scale, shift]| {
                activation.forward((x - mean) * (scale * r) + shift)
            });
        }
    }
    statistics
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_gradient<T: Float, A: Activate, C: Fn([f64; 2]) -> Centring<T>>(
    x: &[T],
    dy: Source<'_, T>,
    elements: Range<usize>,
    affine: &SpreadRows<'_, T>,
    row: impl Fn(usize) -> RowInput<T, C>,
    activation: A,
    writer: &mut Writer<'_, T>,
) -> ParameterSums {
    let shape = affine.shape;
    let len = shape.row();
    let columns = affine.scale.len();
    let mut parameters = ParameterSums::none(columns);
    let (mut dscale, mut dshift) = (vec![T::ZERO; columns], vec![T::ZERO; columns]);
    let first = elements.start / len;
    for (i, elements) in pieces(elements, len).enumerate() {
        if i % (ROWS_IN_FLOAT * shape.groups) == 0 {
            flush(&mut dscale, &mut parameters.scale);
            flush(&mut dshift, &mut parameters.shift);
        }
        let row = row(first + i);
        let (start, scale, shift) = affine.of(row.index);
        let line = RowLine {
            mean: row.mean,
            r: row.r,
            scale,
            shift,
            activation,
        };
        let (dscale, dshift) = (&mut dscale[start..][..len], &mut dshift[start..][..len]);
        let x = &x[elements.clone()];
        let gradients = writer.read(dy, elements.clone());
        let mut sums = [0.0; 2];
        for first in (0..len).step_by(STRETCH) {
            let part = first..(first + STRETCH).min(len);
            let [gradients, products] = add_stretch(
                &x[part.clone()],
                &gradients[part.clone()],
                line.part(part.clone()),
                &mut dscale[part.clone()],
                &mut dshift[part],
            );
            sums[0] += gradients;
            sums[1] += products;
        }
        let centring = (row.centring)(sums);
        writer.map_with(dy, elements, [x, scale, shift], |dy, [x, scale, shift]| {
            let (gradient, distance) = line.gradient([scale, shift], x, dy);
            let gradient = gradient * scale - centring.mean_gradient;
            (gradient - distance * centring.slope) * line.r
        });
    }
    flush(&mut dscale, &mut parameters.scale);
    flush(&mut dshift, &mut parameters.shift);
    parameters.over_positions(shape.positions)
}

/// Adds sums kept in the element type to those in f64, and starts them afresh.
#[inline(always)]
fn flush<T: Float>(sums: &mut [T], all: &mut [f64]) {
    for (all, sum) in all.iter_mut().zip(sums) {
        *all += sum.to_f64();
        *sum = T::ZERO;
    }
}

/// What maps a stretch of a row to its output.
#[derive(Clone, Copy)]
struct RowLine<'a, T, A> {
    mean: T,
    r: T,
    scale: &'a [T],
    shift: &'a [T],
    activation: A,
}

impl<T: Float, A: Activate> RowLine<'_, T, A> {
    #[inline(always)]
    fn part(self, range: Range<usize>) -> Self {
        Self {
            scale: &self.scale[range.clone()],
            shift: &self.shift[range],
            ..self
        }
    }

    /// The gradient by the value before the activation, and the distance x − μ.
    #[inline(always)]
    fn gradient(self, [scale, shift]: [T; 2], x: T, dy: T) -> (T, T) {
        let distance = x - self.mean;
        let before = distance * (scale * self.r) + shift;
        (self.activation.backward(before, dy), distance)
    }
}

/// Adds a stretch's d·x̂ and d to the parameters' gradients; returns its Σg and Σg·(x − μ).
#[inline(always)]
fn add_stretch<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    line: RowLine<'_, T, A>,
    dscale: &mut [T],
    dshift: &mut [T],
) -> [f64; 2] {
    let (mut sums, mut products) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    let whole = x.len() - x.len() % LANES;
    for first in (0..whole).step_by(LANES) {
        let line = line.part(first..first + LANES);
        let (x, dy) = (&x[first..][..LANES], &dy[first..][..LANES]);
        let dscale = &mut dscale[first..][..LANES];
        let dshift = &mut dshift[first..][..LANES];
        for lane in 0..LANES {
            let (scale, shift) = (line.scale[lane], line.shift[lane]);
            let (gradient, distance) = line.gradient([scale, shift], x[lane], dy[lane]);
            dscale[lane] += gradient * (distance * line.r);
            dshift[lane] += gradient;
            sums[lane] += gradient * scale;
            products[lane] += gradient * scale * distance;
        }
    }
    for j in whole..x.len() {
        let (scale, shift) = (line.scale[j], line.shift[j]);
        let (gradient, distance) = line.gradient([scale, shift], x[j], dy[j]);
        dscale[j] += gradient * (distance * line.r);
        dshift[j] += gradient;
        sums[j - whole] += gradient * scale;
        products[j - whole] += gradient * scale * distance;
    }
    LaneSums([sums, products]).totals()
}
