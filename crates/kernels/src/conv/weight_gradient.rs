//! The gradient of a convolution by its weight.

use std::ops::Range;

use multiversion::multiversion;

use super::gather::{Channels, Gather};
use super::tiles::{CORRELATION_OFFSETS, Correlation, CorrelationTile, Machine};
use super::transpose::transpose;
use super::{Conv2d, ENOUGH_PARTS, PLANES};
use crate::Float;
use crate::parallel;
use crate::simd::LaneSums;

/// Weights of which as many sums as there are parts would take too much memory.
const MANY_WEIGHTS: usize = 1 << 17;
/// Then this many parts are outputs, which take no memory more, but pad the images again.
const OUTPUT_PARTS: usize = 4;

/// Images whose values alternate, at most.
const MOST_IMAGES: usize = 8;

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
    let blocks = correlations.outputs.div_ceil(correlations.block);
    let of_split = blocks.div_ceil(correlations.splits);
    let splits = blocks.div_ceil(of_split);
    let split = |split: usize| split * of_split..((split + 1) * of_split).min(blocks);
    let groups = conv.examples.div_ceil(correlations.images);
    let ranges = correlations.ranges;
    let images = |range: usize| {
        let edge = |range: usize| range * groups / ranges * correlations.images;
        edge(range)..edge(range + 1).min(conv.examples)
    };
    let parts = parallel::collect(ranges * splits, conv.work(gather.target_size()), |part| {
        correlations.sums(x, dy, images(part / splits), split(part % splits))
    });
    // A block's outputs lie together.
    let of_block = correlations.block * conv.taps();
    let gradients = gradient.chunks_mut(correlations.outputs * conv.taps());
    let gradients = gradients.flat_map(|of_group| of_group.chunks_mut(of_block));
    let work = correlations.ranges * conv.channels[1] * conv.taps();
    parallel::collect_with(gradients, work, Vec::new, |index, gradient, total| {
        let (group, block) = (index / blocks, index % blocks);
        let (split, block) = (block / of_split, block % of_split);
        let of_group = parts[split].len() / conv.groups;
        let of_block = correlations.tiles.len() * CORRELATION_OFFSETS * correlations.block;
        let first = group * of_group + block * of_block;
        total.clear();
        total.extend_from_slice(&parts[split][first..][..of_block]);
        for sums in parts[split..].iter().step_by(splits).skip(1) {
            for (total, &sum) in total.iter_mut().zip(&sums[first..][..of_block]) {
                *total += sum;
            }
        }
        correlations.put(total, gradient);
    });
    gradient
}

/// `sums`\[k\] += Σ over rows and p of planes\[row·`row_step` + offsets\[k\] + p\]·dy\[row, p\].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add_dots<T: Float>(
    planes: &[T],
    row_step: usize,
    rows: usize,
    tiles: &[CorrelationTile],
    dy: &[T],
    sums: &mut [T],
) {
    let width = dy.len() / rows;
    let offsets = tiles.iter().flat_map(|tile| tile.offsets);
    for (offset, sum) in offsets.zip(sums) {
        let mut lanes = LaneSums::<T, 1>::new();
        for (row, dy) in dy.chunks_exact(width).enumerate() {
            lanes.add_pairs(&planes[row * row_step + offset..][..width], dy, |x, dy| {
                [x * dy]
            });
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
    /// Of the planes of a group's channels: channel after channel under a place of the kernel, so that a tile sees
    /// zeros at the same positions; the last offset several times.
    tiles: Vec<CorrelationTile>,
    /// Rows of positions, and images, that are handled at a time. The images' values alternate.
    stripe: usize,
    images: usize,
    /// Parts of the work: ranges of the images, whose sums are added afterwards, and of the outputs.
    ranges: usize,
    splits: usize,
}

impl<'a> Correlations<'a> {
    fn new<T: Float>(conv: &'a Conv2d, gather: &'a Gather) -> Self {
        let machine = Machine::new::<T>();
        let [sources, outputs] = conv.channels.map(|channels| channels / conv.groups);
        // A channel that is alone in its group shares what it reads with no others: plain dot products.
        let alone = outputs == 1;
        let block = |machine: &Machine| match outputs {
            1 => 1,
            _ => machine.lanes * machine.deep_vectors(outputs),
        };
        let [rows, columns] = gather.target;
        // Sums are added in an order that depends on these, which may not depend on the machine.
        let usual = block(&Machine::usual::<T>());
        let fits = |stripe: usize, images: usize| {
            let gradient = stripe * columns * usual;
            images * (sources * gather.planes(stripe)).max(gradient) <= PLANES
        };
        let mut stripe = rows;
        while stripe > 1 && !fits(stripe, 1) {
            stripe = stripe.div_ceil(2);
        }
        let most = if alone { 1 } else { MOST_IMAGES };
        let most = most.min(conv.examples.div_ceil(ENOUGH_PARTS));
        let images = (1..=most).rev();
        let mut images = images.filter(|&images| stripe == rows && fits(stripe, images));
        let images = images.next().unwrap_or(1);
        let splits = if conv.channels[1] * conv.taps() > MANY_WEIGHTS {
            OUTPUT_PARTS
        } else {
            1
        };
        let (down, across) = (&gather.down.classes[0], &gather.across.classes[0]);
        Self {
            conv,
            gather,
            machine,
            sources,
            outputs,
            block: block(&machine),
            places: down.places(across, conv.kernel[1]),
            tiles: tiles(gather, sources, stripe, images),
            stripe,
            images,
            ranges: (ENOUGH_PARTS / splits).clamp(1, conv.examples.div_ceil(images)),
            splits,
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
        let of_block = self.tiles.len() * CORRELATION_OFFSETS * self.block;
        let of_group = blocks.len() * of_block;
        let mut sums = vec![T::ZERO; self.conv.groups * of_group];
        if of_group == 0 {
            return sums;
        }
        let planes = self.images * self.sources * self.gather.planes(self.stripe);
        let mut planes = vec![T::ZERO; planes];
        let mut gradient = vec![T::ZERO; self.stripe * columns * self.images * self.block];
        for first in range.clone().step_by(self.images) {
            let images = first..(first + self.images).min(range.end);
            for (group, sums) in sums.chunks_exact_mut(of_group).enumerate() {
                for row in (0..rows).step_by(self.stripe) {
                    let rows = row..(row + self.stripe).min(rows);
                    let channels = Channels {
                        first: (images.start * self.conv.groups + group) * self.sources,
                        count: self.sources,
                        images: images.len(),
                        apart: self.conv.groups * self.sources,
                    };
                    let stripe = row..row + self.stripe;
                    self.gather
                        .pad(x, &channels, &stripe, self.images, &mut planes);
                    if self.block == 1 {
                        let output = images.start * self.conv.groups + group;
                        let dy = &dy[(output * self.gather.target[0] + row) * columns..];
                        let dy = &dy[..rows.len() * columns];
                        add_dots(
                            &planes,
                            self.gather.pitch,
                            rows.len(),
                            &self.tiles,
                            dy,
                            sums,
                        );
                        continue;
                    }
                    let gradient = &mut gradient[..rows.len() * columns * self.images * self.block];
                    for (block, sums) in blocks.clone().zip(sums.chunks_exact_mut(of_block)) {
                        self.interleave(dy, images.clone(), group, &rows, block, gradient);
                        self.machine.run(Correlation {
                            planes: &planes,
                            row_step: self.gather.pitch * self.images,
                            tiles: &self.tiles,
                            rows: &rows,
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
            let first = (image * self.conv.groups + group) * self.outputs + outputs.start;
            let dy = &dy[(first * height + rows.start) * width..];
            let to = &mut to[index * self.block..];
            let position = self.images * self.block;
            transpose(dy, height * width, [outputs.len(), positions], to, position);
        }
    }

    /// Sums of a block to their places in `[outputs, sources, places]`.
    fn put<T: Float>(&self, sums: &[T], gradient: &mut [T]) {
        let of_output = self.conv.taps();
        let of_source = self.conv.kernel[0] * self.conv.kernel[1];
        let outputs = gradient.len() / of_output;
        for source in 0..self.sources {
            for (index, place) in self.places.iter().enumerate() {
                let sums = &sums[(index * self.sources + source) * self.block..][..outputs];
                let gradient = gradient[source * of_source + place..].iter_mut();
                for (gradient, &sum) in gradient.step_by(of_output).zip(sums) {
                    *gradient = sum;
                }
            }
        }
    }
}

/// All offsets of a group's planes.
fn tiles(gather: &Gather, sources: usize, stripe: usize, images: usize) -> Vec<CorrelationTile> {
    let (down, across) = (&gather.down.classes[0], &gather.across.classes[0]);
    let mut taps = Vec::new();
    for (a, tap_down) in down.taps.iter().enumerate() {
        for (b, tap_across) in across.taps.iter().enumerate() {
            let first = gather.offset(tap_down, tap_across, stripe);
            let rows = gather.down.seen_from(down, a);
            let columns = gather.across.seen_from(across, b);
            for source in 0..sources {
                let offset = (source * gather.planes(stripe) + first) * images;
                taps.push((offset, rows.clone(), columns.clone()));
            }
        }
    }
    let tile = |taps: &[(usize, Range<usize>, Range<usize>)]| {
        let last = taps.len() - 1;
        let all = |range: &dyn Fn(usize) -> Range<usize>| {
            let ranges = || (0..taps.len()).map(range);
            let start = ranges().map(|range| range.start).min().unwrap_or(0);
            start..ranges().map(|range| range.end).max().unwrap_or(0)
        };
        let columns = all(&|k| taps[k].2.clone());
        CorrelationTile {
            offsets: std::array::from_fn(|k| taps[k.min(last)].0),
            rows: all(&|k| taps[k].1.clone()),
            positions: columns.start * images..columns.end * images,
        }
    };
    taps.chunks(CORRELATION_OFFSETS).map(tile).collect()
}
