//! Channels of few positions (dense nets): rows of c·s columns, read in order.
//!
//! A column's values are a row apart, so a column alone would use one number of each cache line.
//! Rows are read whole instead, with a vector of statistics over the columns, in blocks of rows
//! that stay in cache for their second read; the blocks' statistics are merged.

use std::borrow::Cow;
use std::ops::Range;

use multiversion::multiversion;

use super::channels::Channels;
use super::moments::{MergeWeights, Moments};
use super::slabs::{Centring, Line};
use crate::Float;
use crate::activation::Activate;
use crate::output::{Grid, Source, Writer, build_over, pieces};
use crate::parallel;
use crate::simd::LANES;

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
    /// Of a column with these values.
    #[inline(always)]
    fn line(&self, [mean, scale, shift]: [T; 3]) -> Line<T, A> {
        Line {
            mean,
            scale,
            shift,
            activation: self.activation,
        }
    }

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
    #[inline(always)]
    fn columns(self, first: usize, count: usize) -> Self {
        Self {
            mean: &self.mean[first..][..count],
            scale: &self.scale[first..][..count],
            shift: &self.shift[first..][..count],
            activation: self.activation,
        }
    }

    #[inline(always)]
    fn line(&self, column: usize) -> Line<T, A> {
        Line {
            mean: self.mean[column],
            scale: self.scale[column],
            shift: self.shift[column],
            activation: self.activation,
        }
    }
}

/// A value per channel as a value per column.
pub(super) fn spread<T: Copy>(per_channel: &[T], shape: Channels) -> Vec<T> {
    per_channel
        .iter()
        .flat_map(|&value| std::iter::repeat_n(value, shape.s))
        .collect()
}

/// `work(rows)` for at most `MOST_BLOCKS` blocks of whole stretches.
fn by_blocks<R: Send>(shape: Channels, work: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
    let block = shape.n.div_ceil(MOST_BLOCKS).next_multiple_of(STRETCH);
    parallel::collect(shape.n.div_ceil(block), shape.len(), |i| {
        work(i * block..((i + 1) * block).min(shape.n))
    })
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

/// Rows that are added to the sums at a time, for the sums to be loaded and stored less often.
const TOGETHER: usize = 8;

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn moments_of_rows<T: Float>(x: &[T], width: usize, rows: Range<usize>) -> ColumnMoments {
    let mut all = ColumnMoments::none(width);
    let (mut sum, mut squares) = (vec![T::ZERO; width], vec![T::ZERO; width]);
    for stretch in x[rows.start * width..rows.end * width].chunks(STRETCH * width) {
        let shift = &stretch[..width];
        sum.fill(T::ZERO);
        squares.fill(T::ZERO);
        let mut together = stretch.chunks_exact(TOGETHER * width);
        for rows in &mut together {
            add_rows::<T, TOGETHER>(rows, shift, &mut sum, &mut squares);
        }
        for row in together.remainder().chunks_exact(width) {
            add_rows::<T, 1>(row, shift, &mut sum, &mut squares);
        }
        let count = (stretch.len() / width) as f64;
        let (sum, squares) = (&sum[..width], &squares[..width]);
        let moments = |j: usize| {
            let (sum, squares) = (sum[j].to_f64(), squares[j].to_f64());
            Moments::of_shifted_sums(count, shift[j], sum, squares)
        };
        // Rare, so asked once for all columns: the loop without it vectorizes.
        let overflowed = (0..width).fold(false, |any, j| any | moments(j).overflowed());
        all.merge(count, |j| {
            let mut moments = moments(j);
            if overflowed && moments.overflowed() {
                moments = Moments::of_wide(stretch[j..].iter().step_by(width).copied());
            }
            (moments.mean, moments.m2)
        });
    }
    all
}

#[inline(always)]
fn tile_of<T>(x: &[T], start: usize) -> &[T; LANES] {
    x[start..].first_chunk().expect("a whole tile of columns")
}

/// Adds R rows to the sums, tile by tile of columns: in local arrays, so that they stay in registers.
#[inline(always)]
fn add_rows<T: Float, const R: usize>(x: &[T], shift: &[T], sum: &mut [T], squares: &mut [T]) {
    let width = shift.len();
    let (shifts, shift_rest) = shift.as_chunks::<LANES>();
    let (sums, sum_rest) = sum.as_chunks_mut::<LANES>();
    let (squares, squares_rest) = squares.as_chunks_mut::<LANES>();
    for (tile, ((sums, squares), shift)) in sums.iter_mut().zip(squares).zip(shifts).enumerate() {
        let (mut sum, mut square) = (*sums, *squares);
        for row in 0..R {
            let x = tile_of(x, row * width + tile * LANES);
            for lane in 0..LANES {
                let distance = x[lane] - shift[lane];
                sum[lane] += distance;
                square[lane] += distance * distance;
            }
        }
        (*sums, *squares) = (sum, square);
    }
    let rest = width - shift_rest.len();
    for row in 0..R {
        let x = &x[row * width + rest..][..shift_rest.len()];
        for j in 0..x.len() {
            let distance = x[j] - shift_rest[j];
            sum_rest[j] += distance;
            squares_rest[j] += distance * distance;
        }
    }
}

/// The moments per channel.
pub(super) fn moments<T: Float>(x: &[T], shape: Channels) -> Vec<Moments> {
    let width = shape.c * shape.s;
    let mut all = ColumnMoments::none(width);
    for part in by_blocks(shape, |rows| moments_of_rows(x, width, rows)) {
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
            .fold(Moments::default(), |a, b| a.merge(&b))
    };
    (0..shape.c).map(channel).collect()
}

/// Σg and Σg·(x − mean) of all columns of some rows.
struct ColumnSums {
    gradient: Vec<f64>,
    product: Vec<f64>,
}

impl ColumnSums {
    fn none(width: usize) -> Self {
        Self {
            gradient: vec![0.0; width],
            product: vec![0.0; width],
        }
    }

    #[inline(always)]
    fn add<T: Float>(&mut self, gradient: &[T], product: &[T]) {
        for (sum, gradient) in self.gradient.iter_mut().zip(gradient) {
            *sum += gradient.to_f64();
        }
        for (sum, product) in self.product.iter_mut().zip(product) {
            *sum += product.to_f64();
        }
    }
}

/// Σg and Σg·(x − mean) per channel.
pub(super) fn gradient_sums<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    shape: Channels,
    lines: &Lines<T, A>,
) -> Vec<[f64; 2]> {
    let mut all = ColumnSums::none(shape.c * shape.s);
    for part in by_blocks(shape, |rows| gradient_sums_of_rows(x, dy, lines, rows)) {
        all.add(&part.gradient, &part.product);
    }
    let gradients = all.gradient.chunks(shape.s);
    let products = all.product.chunks(shape.s);
    let channels = gradients.zip(products);
    channels
        .map(|(gradients, products)| [gradients.iter().sum(), products.iter().sum()])
        .collect()
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn gradient_sums_of_rows<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    lines: &Lines<T, A>,
    rows: Range<usize>,
) -> ColumnSums {
    let width = lines.mean.len();
    let mut all = ColumnSums::none(width);
    let (mut gradient, mut product) = (vec![T::ZERO; width], vec![T::ZERO; width]);
    let elements = rows.start * width..rows.end * width;
    let stretches = x[elements.clone()].chunks(STRETCH * width);
    for (x, dy) in stretches.zip(dy[elements].chunks(STRETCH * width)) {
        gradient.fill(T::ZERO);
        product.fill(T::ZERO);
        let (mut xs, mut dys) = (
            x.chunks_exact(TOGETHER * width),
            dy.chunks_exact(TOGETHER * width),
        );
        for (x, dy) in (&mut xs).zip(&mut dys) {
            add_gradients::<T, A, TOGETHER>(x, dy, lines.row(width), &mut gradient, &mut product);
        }
        let rest = xs.remainder().chunks_exact(width);
        for (x, dy) in rest.zip(dys.remainder().chunks_exact(width)) {
            add_gradients::<T, A, 1>(x, dy, lines.row(width), &mut gradient, &mut product);
        }
        all.add(&gradient, &product);
    }
    all
}

/// See [`add_rows`].
#[inline(always)]
fn add_gradients<T: Float, A: Activate, const R: usize>(
    x: &[T],
    dy: &[T],
    line: Row<'_, T, A>,
    gradients: &mut [T],
    products: &mut [T],
) {
    let width = line.mean.len();
    let whole = width - width % LANES;
    let (gradient_tiles, gradients) = gradients.as_chunks_mut::<LANES>();
    let (product_tiles, products) = products.as_chunks_mut::<LANES>();
    for (tile, (gradients, products)) in gradient_tiles.iter_mut().zip(product_tiles).enumerate() {
        let (mut gradient_sums, mut product_sums) = (*gradients, *products);
        let line = line.columns(tile * LANES, LANES);
        for row in 0..R {
            let x = tile_of(x, row * width + tile * LANES);
            let dy = tile_of(dy, row * width + tile * LANES);
            for lane in 0..LANES {
                let line = line.line(lane);
                let gradient = line.gradient(x[lane], dy[lane]);
                gradient_sums[lane] += gradient;
                product_sums[lane] += gradient * (x[lane] - line.mean);
            }
        }
        (*gradients, *products) = (gradient_sums, product_sums);
    }
    let line = line.columns(whole, width - whole);
    for row in 0..R {
        let x = &x[row * width + whole..][..width - whole];
        let dy = &dy[row * width + whole..][..width - whole];
        for j in 0..x.len() {
            let line = line.line(j);
            let gradient = line.gradient(x[j], dy[j]);
            gradients[j] += gradient;
            products[j] += gradient * (x[j] - line.mean);
        }
    }
}

/// Writes the outputs of some rows, of these elements of the tensor.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_output<T: Float, A: Activate>(
    x: Source<'_, T>,
    elements: Range<usize>,
    lines: &Lines<T, A>,
    writer: &mut Writer<'_, T>,
) {
    let Lines {
        mean, scale, shift, ..
    } = lines;
    for row in pieces(elements, mean.len()) {
        writer.map_with(x, row, [mean, scale, shift], |x, line| {
            lines.line(line).output(x)
        });
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
    dy: Source<'_, T>,
    elements: Range<usize>,
    lines: &Lines<T, A>,
    centrings: &Centrings<T>,
    writer: &mut Writer<'_, T>,
) {
    let Lines {
        mean, scale, shift, ..
    } = lines;
    let Centrings {
        mean_gradient: means,
        slope: slopes,
    } = centrings;
    for row in pieces(elements, mean.len()) {
        let inputs = [&x[row.clone()], means, slopes, mean, scale, shift];
        writer.map_with(
            dy,
            row,
            inputs,
            |dy, [x, mean_gradient, slope, line @ ..]| {
                let centring = Centring {
                    mean_gradient,
                    slope,
                };
                lines.line(line).centred_gradient(x, dy, centring)
            },
        );
    }
}

/// Writes the gradients by some rows of input, the statistics being constants.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_plain_gradient<T: Float, A: Activate>(
    x: &[T],
    dy: Source<'_, T>,
    elements: Range<usize>,
    lines: &Lines<T, A>,
    writer: &mut Writer<'_, T>,
) {
    let Lines {
        mean, scale, shift, ..
    } = lines;
    for row in pieces(elements, mean.len()) {
        let inputs = [&x[row.clone()], mean, scale, shift];
        writer.map_with(dy, row, inputs, |dy, [x, line @ ..]| {
            lines.line(line).plain_gradient(x, dy)
        });
    }
}

/// Makes an output of this shape over an input: `write(elements, source, writer)`, in parallel over neighbouring rows.
pub(super) fn map<T: Float>(
    shape: Channels,
    input: Cow<'_, [T]>,
    write: impl Fn(Range<usize>, Source<'_, T>, &mut Writer<'_, T>) + Sync,
) -> Vec<T> {
    let width = shape.c * shape.s;
    let chunk = (CHUNK / width).max(1) * width;
    let grid = Grid::chunks(shape.len(), chunk);
    let (output, _) = build_over(input, grid, write);
    output
}
