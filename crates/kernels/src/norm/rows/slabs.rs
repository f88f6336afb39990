//! Rows whose channels have many positions: each is a loop of its own with one γ and β.

use std::ops::Range;

use multiversion::multiversion;

use super::{ParameterSums, RowInput, RowNorm, Rows};
use crate::Float;
use crate::activation::Activate;
use crate::norm::Affine;
use crate::norm::moments::STRETCH;
use crate::norm::slabs::{Centring, Line};
use crate::output::Writer;
use crate::simd::LaneSums;

/// γ and β of rows whose channels have many positions.
#[derive(Clone, Copy)]
pub(super) struct SlabRows<'a, T> {
    pub shape: Rows,
    pub affine: Affine<'a, T>,
}

impl<T: Float> SlabRows<'_, T> {
    /// The first channel of a row.
    #[inline(always)]
    fn channel(&self, row: usize) -> usize {
        row % self.shape.groups * self.shape.channels
    }

    #[inline(always)]
    fn line<A>(&self, channel: usize, mean: T, r: T, activation: A) -> Line<T, A> {
        Line {
            mean,
            scale: self.affine.scale[channel] * r,
            shift: self.affine.shift[channel],
            activation,
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_output<T: Float, A: Activate>(
    x: &[T],
    elements: Range<usize>,
    affine: SlabRows<'_, T>,
    norm: &RowNorm,
    activation: A,
    writer: &mut Writer<'_, T>,
) -> Vec<(T, T)> {
    let shape = affine.shape;
    let first = elements.start / shape.row();
    let mut statistics = Vec::with_capacity(elements.len() / shape.row());
    for x in x[elements].chunks(shape.together()) {
        let known = statistics.len();
        norm.push_statistics(x, &mut statistics);
        for (i, x) in (known..).zip(x.chunks_exact(shape.row())) {
            let channel = affine.channel(first + i);
            let (mean, r) = statistics[i];
            for (j, x) in x.chunks_exact(shape.positions).enumerate() {
                let line = affine.line(channel + j, mean, r, activation);
                writer.append_of([x], |[x]| line.output(x));
            }
        }
    }
    statistics
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_gradient<T: Float, A: Activate, C: Fn([f64; 2]) -> Centring<T>>(
    x: &[T],
    dy: &[T],
    elements: Range<usize>,
    affine: SlabRows<'_, T>,
    row: impl Fn(usize) -> RowInput<T, C>,
    activation: A,
    writer: &mut Writer<'_, T>,
) -> ParameterSums {
    let shape = affine.shape;
    let mut parameters = ParameterSums::none(shape.parameters());
    let first = elements.start / shape.row();
    let rows = x[elements.clone()].chunks_exact(shape.row());
    let rows = rows.zip(dy[elements].chunks_exact(shape.row()));
    for (i, (x, dy)) in rows.enumerate() {
        let row = row(first + i);
        let channel = affine.channel(row.index);
        let slabs = || {
            x.chunks_exact(shape.positions)
                .zip(dy.chunks_exact(shape.positions))
        };
        let mut sums = [0.0; 2];
        for (j, (x, dy)) in slabs().enumerate() {
            let line = affine.line(channel + j, row.mean, row.r, activation);
            let [shift, product] = slab_sums(x, dy, line);
            parameters.shift[channel + j] += shift;
            parameters.scale[channel + j] += product * row.r.to_f64();
            let scale = affine.affine.scale[channel + j].to_f64();
            sums[0] += scale * shift;
            sums[1] += scale * product;
        }
        let centring = (row.centring)(sums);
        for (j, (x, dy)) in slabs().enumerate() {
            let line = affine.line(channel + j, row.mean, row.r, activation);
            let scale = affine.affine.scale[channel + j];
            writer.append_of([x, dy], |[x, dy]| {
                let gradient = line.gradient(x, dy) * scale - centring.mean_gradient;
                (gradient - (x - row.mean) * centring.slope) * row.r
            });
        }
    }
    parameters
}

/// Σd and Σd·(x − μ) of a channel in a row.
#[inline(always)]
fn slab_sums<T: Float, A: Activate>(x: &[T], dy: &[T], line: Line<T, A>) -> [f64; 2] {
    let mut all = [0.0; 2];
    for (x, dy) in x.chunks(STRETCH).zip(dy.chunks(STRETCH)) {
        let mut sums = LaneSums::<T, 2>::new();
        sums.add_pairs(x, dy, |x, dy| {
            let gradient = line.gradient(x, dy);
            [gradient, gradient * (x - line.mean)]
        });
        let [gradient, product] = sums.totals();
        all[0] += gradient;
        all[1] += product;
    }
    all
}
