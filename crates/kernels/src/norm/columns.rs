//! Channels of few positions (dense nets): rows of c·s columns, read in order.
//!
//! A column's values are a row apart, so a column alone would use one number of each cache line.
//! Rows are read whole instead, with a vector of statistics over the columns, in blocks of rows
//! that stay in cache for their second read; the blocks' statistics are merged.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::channels::Channels;
use super::moments::{MergeWeights, Moments};
use crate::Float;
use crate::activation::Activate;
use crate::output::{Writer, build_chunks};

/// Rows whose sums are kept in the element type before they go to f64.
const STRETCH: usize = 64;
/// Blocks that the rows are divided into for threads, at most: bounds the memory for their sums.
const MOST_BLOCKS: usize = 32;
/// Elements that a thread takes at a time where only elements are mapped.
const CHUNK: usize = 1 << 15;

/// Values per column as separate vectors, so that a row is one loop over all of them.
#[derive(Clone)]
pub(super) struct Lines<T, A> {
    pub mean: Vec<T>,
    pub scale: Vec<T>,
    pub shift: Vec<T>,
    pub activation: A,
}

/// [`Lines`] as slices of one length, so that a loop below it needs no bounds checks.
#[derive(Clone, Copy)]
struct Row<'a, T, A> {
    mean: &'a [T],
    scale: &'a [T],
    shift: &'a [T],
    activation: A,
}

impl<T: Float, A: Activate> Lines<T, A> {
    #[inline(always)]
    fn row(&self, width: usize) -> Row<'_, T, A> {
        Row {
            mean: &self.mean[..width],
            scale: &self.scale[..width],
            shift: &self.shift[..width],
            activation: self.activation,
        }
    }
}

impl<T: Float, A: Activate> Row<'_, T, A> {
    /// See `slabs::Line`: the same arithmetic.
    #[inline(always)]
    fn normalized(&self, column: usize, x: T) -> T {
        (x - self.mean[column]) * self.scale[column] + self.shift[column]
    }

    #[inline(always)]
    fn output(&self, column: usize, x: T) -> T {
        self.activation.forward(self.normalized(column, x))
    }

    #[inline(always)]
    fn gradient(&self, column: usize, x: T, dy: T) -> T {
        self.activation.backward(self.normalized(column, x), dy)
    }
}

/// A value per channel as a value per column.
pub(super) fn spread<T: Copy>(per_channel: &[T], shape: Channels) -> Vec<T> {
    per_channel
        .iter()
        .flat_map(|&value| std::iter::repeat_n(value, shape.s))
        .collect()
}

/// The rows in at most `MOST_BLOCKS` blocks of whole stretches.
fn blocks(rows: usize) -> impl IndexedParallelIterator<Item = Range<usize>> {
    let block = rows.div_ceil(MOST_BLOCKS).next_multiple_of(STRETCH);
    (0..rows.div_ceil(block))
        .into_par_iter()
        .map(move |i| i * block..((i + 1) * block).min(rows))
}

/// Moments of all columns of some rows: a count shared by all, means, second moments.
struct ColumnMoments {
    count: f64,
    mean: Vec<f64>,
    m2: Vec<f64>,
}

impl ColumnMoments {
    fn none(width: usize) -> Self {
        Self {
            count: 0.0,
            mean: vec![0.0; width],
            m2: vec![0.0; width],
        }
    }

    #[inline(always)]
    fn merge(&mut self, count: f64, part: impl Fn(usize) -> (f64, f64)) {
        let weights = MergeWeights::new(self.count, count);
        let width = self.mean.len();
        let (means, m2s) = (&mut self.mean[..width], &mut self.m2[..width]);
        for j in 0..width {
            (means[j], m2s[j]) = weights.merge((means[j], m2s[j]), part(j));
        }
        self.count += count;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn moments_of_rows<T: Float>(x: &[T], width: usize, rows: Range<usize>) -> ColumnMoments {
    let mut all = ColumnMoments::none(width);
    let (mut sum, mut squares) = (vec![T::ZERO; width], vec![T::ZERO; width]);
    let mut start = rows.start;
    while start < rows.end {
        let end = (start + STRETCH).min(rows.end);
        let shift = &x[start * width..][..width];
        sum.fill(T::ZERO);
        squares.fill(T::ZERO);
        for row in start..end {
            let x = &x[row * width..][..width];
            let (sum, squares) = (&mut sum[..width], &mut squares[..width]);
            for j in 0..width {
                let distance = x[j] - shift[j];
                sum[j] += distance;
                squares[j] += distance * distance;
            }
        }
        let count = (end - start) as f64;
        let (sum, squares) = (&sum[..width], &squares[..width]);
        all.merge(count, |j| {
            let (sum, squares) = (sum[j].to_f64(), squares[j].to_f64());
            let m2 = squares - sum * sum / count;
            (
                shift[j].to_f64() + sum / count,
                if m2 < 0.0 { 0.0 } else { m2 },
            )
        });
        start = end;
    }
    all
}

/// The moments per channel.
pub(super) fn moments<T: Float>(x: &[T], shape: Channels) -> Vec<Moments> {
    let width = shape.c * shape.s;
    let parts: Vec<ColumnMoments> = blocks(shape.n)
        .map(|rows| moments_of_rows(x, width, rows))
        .collect();
    let mut all = ColumnMoments::none(width);
    for part in parts {
        all.merge(part.count, |j| (part.mean[j], part.m2[j]));
    }
    let column = |j: usize| Moments {
        count: all.count,
        mean: all.mean[j],
        m2: all.m2[j],
    };
    let channel = |c: usize| {
        (c * shape.s..(c + 1) * shape.s)
            .map(column)
            .reduce(|a, b| a.merge(&b))
            .unwrap_or_default()
    };
    (0..shape.c).map(channel).collect()
}

/// Σg and Σg·(x − mean) per channel.
pub(super) fn gradient_sums<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    shape: Channels,
    lines: &Lines<T, A>,
) -> Vec<[f64; 2]> {
    let width = shape.c * shape.s;
    let parts: Vec<Vec<[f64; 2]>> = blocks(shape.n)
        .map(|rows| gradient_sums_of_rows(x, dy, width, lines, rows))
        .collect();
    let mut all = vec![[0.0; 2]; shape.c];
    for part in parts {
        for (j, [gradient, product]) in part.into_iter().enumerate() {
            all[j / shape.s][0] += gradient;
            all[j / shape.s][1] += product;
        }
    }
    all
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn gradient_sums_of_rows<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    width: usize,
    lines: &Lines<T, A>,
    rows: Range<usize>,
) -> Vec<[f64; 2]> {
    let mut all = vec![[0.0; 2]; width];
    let (mut gradients, mut products) = (vec![T::ZERO; width], vec![T::ZERO; width]);
    let mut start = rows.start;
    while start < rows.end {
        let end = (start + STRETCH).min(rows.end);
        gradients.fill(T::ZERO);
        products.fill(T::ZERO);
        for row in start..end {
            let (x, dy) = (&x[row * width..][..width], &dy[row * width..][..width]);
            let (gradients, products) = (&mut gradients[..width], &mut products[..width]);
            let line = lines.row(width);
            for j in 0..width {
                let gradient = line.gradient(j, x[j], dy[j]);
                gradients[j] += gradient;
                products[j] += gradient * (x[j] - line.mean[j]);
            }
        }
        for (sums, (gradient, product)) in all.iter_mut().zip(gradients.iter().zip(&products)) {
            sums[0] += gradient.to_f64();
            sums[1] += product.to_f64();
        }
        start = end;
    }
    all
}

/// Writes the outputs of some rows.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_output<T: Float, A: Activate>(
    x: &[T],
    lines: &Lines<T, A>,
    writer: &mut Writer<'_, T>,
) {
    let width = lines.mean.len();
    for x in x.chunks_exact(width) {
        let line = lines.row(width);
        writer.append(width, |j| line.output(j, x[j]));
    }
}

/// See [`slabs::Centring`](super::slabs::Centring), one value per column.
pub(super) struct Centrings<T> {
    pub mean_gradient: Vec<T>,
    pub slope: Vec<T>,
}

/// Writes the gradients by some rows of input, the statistics being those of the batch.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_centred_gradient<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    lines: &Lines<T, A>,
    centrings: &Centrings<T>,
    writer: &mut Writer<'_, T>,
) {
    let width = lines.mean.len();
    for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
        let line = lines.row(width);
        let (mean, slope) = (&centrings.mean_gradient[..width], &centrings.slope[..width]);
        writer.append(width, |j| {
            let gradient = line.gradient(j, x[j], dy[j]) - mean[j];
            (gradient - (x[j] - line.mean[j]) * slope[j]) * line.scale[j]
        });
    }
}

/// Writes the gradients by some rows of input, the statistics being constants.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_plain_gradient<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    lines: &Lines<T, A>,
    writer: &mut Writer<'_, T>,
) {
    let width = lines.mean.len();
    for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
        let line = lines.row(width);
        writer.append(width, |j| line.gradient(j, x[j], dy[j]) * line.scale[j]);
    }
}

/// Makes an output of this shape: `write(element range, writer)`, in parallel over neighbouring
/// rows.
pub(super) fn map<T: Float>(
    shape: Channels,
    write: impl Fn(Range<usize>, &mut Writer<'_, T>) + Sync,
) -> Vec<T> {
    let width = shape.c * shape.s;
    let chunk = (CHUNK / width).max(1) * width;
    let (output, _) = build_chunks(shape.len(), chunk, |index, len, writer| {
        write(index * chunk..index * chunk + len, writer);
    });
    output
}
