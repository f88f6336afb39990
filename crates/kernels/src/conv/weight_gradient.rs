//! The gradient of a convolution by its weight.

use std::ops::Range;

use multiversion::multiversion;

use super::gather::Gather;
use super::tiles::{CORRELATION_OFFSETS, Correlation, Machine};
use super::{Conv2d, ENOUGH_PARTS, ENOUGH_POSITIONS, PLANES};
use crate::Float;
use crate::parallel;
use crate::simd::LaneSums;

/// Weights of which as many sums as there are parts would take too much memory.
const MANY_WEIGHTS: usize = 1 << 17;
/// Then this many parts are outputs, which take no memory more, but pad the images again.
const OUTPUT_PARTS: usize = 4;

/// Positions that are put in another order at a time.
const NEAR: usize = 64;

/// The gradient by the weight, given `dy` of the output's shape: sums over a few ranges of the
/// images, added in order.
///
/// # Panics
/// As [`conv2d`](super::conv2d).
pub fn conv2d_weight_gradient<T: Float>(x: &[T], dy: &[T], conv: &Conv2d) -> Vec<T> {
    let output = conv.checked_output();
    conv.check_input(x);
    conv.check_output(dy, output);
    let mut gradient = vec![T::ZERO; conv.channels[1] * conv.taps()];
    if x.is_empty() || dy.is_empty() {
        return gradient;
    }
    let gather = Gather::forward(conv, output);
    let correlations = Correlations::new::<T>(conv, &gather);
    let block = correlations.block;
    let blocks = correlations.outputs.div_ceil(block);
    let splits = if gradient.len() > MANY_WEIGHTS {
        OUTPUT_PARTS
    } else {
        1
    };
    let of_split = blocks.div_ceil(splits);
    let splits = blocks.div_ceil(of_split);
    let split = |split: usize| split * of_split..((split + 1) * of_split).min(blocks);
    let ranges = (ENOUGH_PARTS / splits).clamp(1, conv.examples);
    let images = |range: usize| {
        let edge = |range: usize| range * conv.examples / ranges;
        edge(range)..edge(range + 1)
    };
    let parts = parallel::collect(ranges * splits, conv.work(gather.target_size()), |part| {
        correlations.sums(x, dy, images(part / splits), split(part % splits))
    });
    let mut parts = parts.into_iter();
    let mut totals: Vec<Vec<T>> = parts.by_ref().take(splits).collect();
    for (part, sums) in parts.enumerate() {
        for (total, sum) in totals[part % splits].iter_mut().zip(sums) {
            *total += sum;
        }
    }
    for (index, total) in totals.iter().enumerate() {
        correlations.put(total, split(index), &mut gradient);
    }
    gradient
}

/// `sums`\[k\] += Σ over rows and p of planes\[rows\[row\] + offsets\[k\] + p\]·dy\[row, p\].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add_dots<T: Float>(planes: &[T], rows: &[usize], offsets: &[usize], dy: &[T], sums: &mut [T]) {
    let width = dy.len() / rows.len();
    for (&offset, sum) in offsets.iter().zip(sums) {
        let mut lanes = LaneSums::<T, 1>::new();
        for (&row, dy) in rows.iter().zip(dy.chunks_exact(width)) {
            lanes.add_pairs(&planes[row + offset..][..width], dy, |x, dy| [x * dy]);
        }
        *sum += T::from_f64(lanes.totals()[0]);
    }
}

/// Sums over positions of what lies under each place of the kernel, times the output's gradient.
struct Correlations<'a> {
    conv: &'a Conv2d,
    gather: &'a Gather,
    machine: Machine,
    /// Of a group.
    sources: usize,
    outputs: usize,
    /// Outputs of a tile.
    block: usize,
    /// The places of a channel's kernel that see something.
    places: Vec<usize>,
    /// On the planes of a group's channels: whole tiles, the last offset several times.
    offsets: Vec<usize>,
    /// Rows of positions, and images, that are handled at a time. The images' values alternate.
    stripe: usize,
    images: usize,
}

impl<'a> Correlations<'a> {
    fn new<T: Float>(conv: &'a Conv2d, gather: &'a Gather) -> Self {
        let machine = Machine::new::<T>();
        let [sources, outputs] = conv.channels.map(|channels| channels / conv.groups);
        // A channel that is alone in its group shares what it reads with no others: plain dot products.
        let alone = outputs == 1;
        let block = if alone {
            1
        } else {
            machine.lanes * machine.deep_vectors(outputs)
        };
        let [rows, columns] = gather.target;
        let fits = |stripe: usize, images: usize| {
            let gradient = stripe * columns * block;
            images * (sources * gather.planes(stripe)).max(gradient) <= PLANES
        };
        let mut stripe = rows;
        while stripe > 1 && !fits(stripe, 1) {
            stripe = stripe.div_ceil(2);
        }
        let enough = ENOUGH_POSITIONS.div_ceil(rows * columns).min(conv.examples);
        let enough = if alone { 1 } else { enough };
        let images = (1..=enough)
            .rev()
            .find(|&images| stripe == rows && fits(stripe, images));
        let images = images.unwrap_or(1);
        let (down, across) = (&gather.down.classes[0], &gather.across.classes[0]);
        let places = down.places(across, conv.kernel[1]);
        let mut offsets = gather.offsets(down, across, stripe, sources, images);
        let tiles = offsets.len().next_multiple_of(CORRELATION_OFFSETS);
        offsets.resize(tiles, offsets.last().copied().unwrap_or(0));
        Self {
            conv,
            gather,
            machine,
            sources,
            outputs,
            block,
            places,
            offsets,
            stripe,
            images,
        }
    }

    /// Over some images, of some blocks of outputs: `[groups, blocks, offsets, outputs of a block]`.
    fn sums<T: Float>(
        &self,
        x: &[T],
        dy: &[T],
        range: Range<usize>,
        blocks: Range<usize>,
    ) -> Vec<T> {
        let [rows, columns] = self.gather.target;
        let of_block = self.offsets.len() * self.block;
        let of_group = blocks.len() * of_block;
        let mut sums = vec![T::ZERO; self.conv.groups * of_group];
        if of_group == 0 {
            return sums;
        }
        let planes = self.images * self.sources * self.gather.planes(self.stripe);
        let mut planes = vec![T::ZERO; planes];
        let mut gradient = vec![T::ZERO; self.stripe * columns * self.images * self.block];
        let starts: Vec<usize> = (0..self.stripe)
            .map(|row| row * self.gather.pitch * self.images)
            .collect();
        for first in range.clone().step_by(self.images) {
            let images = first..(first + self.images).min(range.end);
            for (group, sums) in sums.chunks_exact_mut(of_group).enumerate() {
                for row in (0..rows).step_by(self.stripe) {
                    let rows = row..(row + self.stripe).min(rows);
                    let channel = |image: usize| (image * self.conv.groups + group) * self.sources;
                    let stripe = row..row + self.stripe;
                    let channels = images.clone().map(channel);
                    self.gather
                        .pad(x, channels, self.sources, &stripe, self.images, &mut planes);
                    if self.block == 1 {
                        let output = images.start * self.conv.groups + group;
                        let dy = &dy[(output * self.gather.target[0] + row) * columns..];
                        let dy = &dy[..rows.len() * columns];
                        add_dots(&planes, &starts[..rows.len()], &self.offsets, dy, sums);
                        continue;
                    }
                    let gradient = &mut gradient[..rows.len() * columns * self.images * self.block];
                    for (block, sums) in blocks.clone().zip(sums.chunks_exact_mut(of_block)) {
                        self.interleave(dy, images.clone(), group, &rows, block, gradient);
                        self.machine.run(Correlation {
                            planes: &planes,
                            rows: &starts[..rows.len()],
                            offsets: &self.offsets,
                            gradient,
                            sums,
                            vectors: self.block / self.machine.lanes,
                        });
                    }
                }
            }
        }
        sums
    }

    /// `dy` as `[rows, columns, images, outputs of the block]`, with zeros for images that there are not.
    fn interleave<T: Float>(
        &self,
        dy: &[T],
        images: Range<usize>,
        group: usize,
        rows: &Range<usize>,
        block: usize,
        to: &mut [T],
    ) {
        if images.len() < self.images {
            to.fill(T::ZERO);
        }
        let [height, width] = self.gather.target;
        let outputs = block * self.block..((block + 1) * self.block).min(self.outputs);
        let positions = rows.len() * width;
        for (index, image) in images.enumerate() {
            let first = (image * self.conv.groups + group) * self.outputs;
            // Few positions at a time, so that all outputs are written while these are in cache.
            for start in (0..positions).step_by(NEAR) {
                let end = (start + NEAR).min(positions);
                let to = &mut to[(start * self.images + index) * self.block..];
                for (lane, o) in outputs.clone().enumerate() {
                    let dy = &dy[((first + o) * height + rows.start) * width..][start..end];
                    let to = to.iter_mut().skip(lane).step_by(self.images * self.block);
                    for (to, &dy) in to.zip(dy) {
                        *to = dy;
                    }
                }
            }
        }
    }

    /// Sums of some blocks to their places in `[groups, outputs, sources, places]`.
    fn put<T: Float>(&self, sums: &[T], blocks: Range<usize>, gradient: &mut [T]) {
        let of_output = self.conv.taps();
        let of_source = self.conv.kernel[0] * self.conv.kernel[1];
        let mut sums = sums.chunks_exact((self.offsets.len() * self.block).max(1));
        for group in 0..self.conv.groups {
            for (block, sums) in blocks.clone().zip(&mut sums) {
                let outputs = block * self.block..((block + 1) * self.block).min(self.outputs);
                for (lane, o) in outputs.enumerate() {
                    let gradient = &mut gradient[(group * self.outputs + o) * of_output..];
                    let sources = gradient.chunks_exact_mut(of_source).take(self.sources);
                    let sums = sums.chunks_exact((self.places.len() * self.block).max(1));
                    for (gradient, sums) in sources.zip(sums) {
                        for (&place, sums) in self.places.iter().zip(sums.chunks_exact(self.block))
                        {
                            gradient[place] = sums[lane];
                        }
                    }
                }
            }
        }
    }
}
