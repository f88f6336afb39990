//! Rows whose channels have many positions: each is a loop of its own with one γ and β.

use std::ops::Range;

use multiversion::multiversion;

use super::{ParameterSums, RowInput, RowNorm, Rows};
use crate::activation::Activate;
use crate::norm::Affine;
use crate::norm::moments::STRETCH;
use crate::norm::slabs::{Centring, Line};
use crate::output::{Source, Writer, pieces};
use crate::simd::{LANES, add_pairs};
use crate::{Float, folds};

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
    dy: Source<'_, T>,
    elements: Range<usize>,
    affine: SlabRows<'_, T>,
    row: impl Fn(usize) -> RowInput<T, C>,
    activation: A,
    writer: &mut Writer<'_, T>,
) -> ParameterSums {
    let shape = affine.shape;
    let mut parameters = ParameterSums::none(shape.parameters());
    let mut lines = Vec::new();
    for start in elements.clone().step_by(shape.together()) {
        let elements = start..(start + shape.together()).min(elements.end);
        let rows = elements.start / shape.row()..elements.end / shape.row();
        lines.clear();
        for row in rows.clone().map(&row) {
            let channel = affine.channel(row.index);
            for channel in channel..channel + shape.channels {
                lines.push(affine.line(channel, row.mean, row.r, activation));
            }
        }
        let gradients = writer.read(dy, elements.clone());
        let sums = slab_sums(&x[elements.clone()], gradients, shape.positions, &lines);
        let mut slabs = pieces(elements, shape.positions).zip(&lines);
        for (row, sums) in rows.map(&row).zip(sums.chunks_exact(shape.channels)) {
            let channel = affine.channel(row.index);
            let mut all = [0.0; 2];
            for (channel, &[shift, product]) in (channel..).zip(sums) {
                parameters.shift[channel] += shift;
                parameters.scale[channel] += product * row.r.to_f64();
                let scale = affine.affine.scale[channel].to_f64();
                all[0] += scale * shift;
                all[1] += scale * product;
            }
            let centring = (row.centring)(all);
            let scales = &affine.affine.scale[channel..][..shape.channels];
            for (&scale, (slab, &line)) in scales.iter().zip(&mut slabs) {
                let x = &x[slab.clone()];
                writer.map_with(dy, slab, [x], |dy, [x]| {
                    let gradient = line.gradient(x, dy) * scale - centring.mean_gradient;
                    (gradient - (x - row.mean) * centring.slope) * row.r
                });
            }
        }
    }
    parameters
}

/// Σd and Σd·(x − μ) of each channel of each row.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn slab_sums<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    positions: usize,
    lines: &[Line<T, A>],
) -> Vec<[f64; 2]> {
    let mut totals = vec![[0.0; 2]; lines.len()];
    let mut sums = vec![[[T::ZERO; LANES]; 2]; lines.len()];
    for start in (0..positions).step_by(STRETCH) {
        let part = start..(start + STRETCH).min(positions);
        let slabs = x.chunks_exact(positions).zip(dy.chunks_exact(positions));
        for (((x, dy), &line), sums) in slabs.zip(lines).zip(&mut sums) {
            add_pairs(sums, &x[part.clone()], &dy[part.clone()], |x, dy| {
                let gradient = line.gradient(x, dy);
                [gradient, gradient * (x - line.mean)]
            });
        }
        for (all, [gradient, product]) in totals.iter_mut().zip(folds::sums_of(&sums)) {
            all[0] += gradient;
            all[1] += product;
        }
        sums.fill([[T::ZERO; LANES]; 2]);
    }
    totals
}
