//! The gradient of a convolution by its weight.

mod winograd;

use std::ops::Range;

use multiversion::multiversion;

use super::gather::{Channels, Gather};
use super::tiles::{CORRELATION_OFFSETS, Correlation, CorrelationTile, Machine};
use super::transpose::transpose;
use super::winograd::{PRODUCTS, Tiles};
use super::{Conv2d, ENOUGH_PARTS, PLANES};
use crate::Float;
use crate::parallel;
use crate::simd::LaneSums;

/// Ranges of the images, whose sums are added afterwards, and parts of the outputs: the more weights there are, the less
/// memory.
const DIVISIONS: [[usize; 2]; 3] = [
    [ENOUGH_PARTS, 1],
    [ENOUGH_PARTS / 4, 4],
    [ENOUGH_PARTS / 8, 4],
];
/// Elements of the sums of all ranges, at most, but for the last of those.
const PARTIAL_SUMS: usize = 1 << 21;

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
    if x.is_empty() || dy.is_empty() {
        return vec![T::ZERO; conv.channels[1] * conv.taps()];
    }
    let gather = Gather::forward(conv, output);
    Correlations::new::<T>(conv, &gather).gradient(x, dy)
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
    way: Way,
    /// Rows of positions, and images, that are handled at a time. The images' values alternate, but where [`Tiles`] of
    /// theirs are side by side.
    stripe: usize,
    images: usize,
    /// Parts of the work: ranges of the images, whose sums are added afterwards, and of the outputs.
    ranges: usize,
    splits: usize,
}

enum Way {
    /// Of the planes of a group's channels: channel after channel under a place of the kernel, so that a tile sees
    /// zeros at the same positions; the last offset several times.
    Planes(Vec<CorrelationTile>),
    /// Winograd's products of transformed inputs and gradients.
    Winograd(Tiles),
}

impl Way {
    /// For each channel in and out.
    fn sums(&self, conv: &Conv2d) -> usize {
        match self {
            Self::Planes(_) => conv.kernel[0] * conv.kernel[1],
            Self::Winograd(_) => PRODUCTS,
        }
    }
}

impl<'a> Correlations<'a> {
    fn new<T: Float>(conv: &'a Conv2d, gather: &'a Gather) -> Self {
        Self::with::<T>(Tiles::of_correlations(conv, gather), conv, gather)
    }

    /// In Winograd's way by these tiles, if there are any.
    fn with<T: Float>(tiles: Option<Tiles>, conv: &'a Conv2d, gather: &'a Gather) -> Self {
        let machine = Machine::new::<T>();
        let [sources, outputs] = conv.channels_of_group();
        let block = |machine: &Machine| match outputs {
            // A channel that is alone in its group shares what it reads with no others: plain dot products.
            1 => 1,
            _ => machine.lanes * machine.deep_vectors(outputs),
        };
        // Sums are added in an order that depends on these, which may not depend on the machine.
        let (stripe, images, way) = match tiles {
            Some(tiles) => (tiles.stripe, tiles.images, Way::Winograd(tiles)),
            None => {
                let usual = block(&Machine::usual::<T>());
                let (stripe, images) = pieces(conv, gather, usual);
                let tiles = plane_tiles(gather, sources, stripe, images);
                (stripe, images, Way::Planes(tiles))
            }
        };
        // Ranges of the images read nothing twice, parts of the outputs take no memory more.
        let groups = conv.examples.div_ceil(images);
        let sums = conv.channels[1] * sources * way.sums(conv);
        let divisions = DIVISIONS.map(|[ranges, splits]| [ranges.min(groups), splits]);
        let few = |[ranges, _]: &[usize; 2]| ranges * sums <= PARTIAL_SUMS;
        let [ranges, splits] = (divisions.into_iter().find(few)).unwrap_or(divisions[2]);
        let (down, across) = (&gather.down.classes[0], &gather.across.classes[0]);
        Self {
            conv,
            gather,
            machine,
            sources,
            outputs,
            block: block(&machine),
            places: down.places(across, conv.kernel[1]),
            stripe,
            images,
            ranges,
            splits,
            way,
        }
    }

    /// The whole gradient: what its parts have is added in order.
    fn gradient<T: Float>(&self, x: &[T], dy: &[T]) -> Vec<T> {
        let conv = self.conv;
        let mut gradient = vec![T::ZERO; conv.channels[1] * conv.taps()];
        let blocks = self.outputs.div_ceil(self.block);
        let of_split = blocks.div_ceil(self.splits);
        let splits = blocks.div_ceil(of_split);
        let split = |split: usize| split * of_split..((split + 1) * of_split).min(blocks);
        let groups = conv.examples.div_ceil(self.images);
        let images = |range: usize| {
            let edge = |range: usize| range * groups / self.ranges * self.images;
            edge(range)..edge(range + 1).min(conv.examples)
        };
        let work = conv.work(self.gather.target_size());
        let parts = parallel::collect(self.ranges * splits, work, |part| {
            self.sums(x, dy, images(part / splits), split(part % splits))
        });
        // A block's outputs lie together.
        let of_block = self.block * conv.taps();
        let gradients = gradient.chunks_mut(self.outputs * conv.taps());
        let gradients = gradients.flat_map(|of_group| of_group.chunks_mut(of_block));
        let work = self.ranges * conv.channels[1] * conv.taps();
        parallel::collect_with(gradients, work, Vec::new, |index, gradient, total| {
            let (group, block) = (index / blocks, index % blocks);
            let (split, block) = (block / of_split, block % of_split);
            let of_group = parts[split].len() / conv.groups;
            let first = group * of_group + block * self.of_block();
            total.clear();
            total.extend_from_slice(&parts[split][first..][..self.of_block()]);
            for sums in parts[split..].iter().step_by(splits).skip(1) {
                for (total, &sum) in total.iter_mut().zip(&sums[first..]) {
                    *total += sum;
                }
            }
            self.put(total, gradient);
        });
        gradient
    }

    /// Sums of a block of outputs.
    fn of_block(&self) -> usize {
        match &self.way {
            Way::Planes(tiles) => tiles.len() * CORRELATION_OFFSETS * self.block,
            Way::Winograd(_) => PRODUCTS * self.of_product(),
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
        let of_block = self.of_block();
        let of_group = blocks.len() * of_block;
        let mut sums = vec![T::ZERO; self.conv.groups * of_group];
        if of_group == 0 {
            return sums;
        }
        let scratch = match &self.way {
            Way::Planes(_) => self.planes() + self.stripe * columns * self.images * self.block,
            Way::Winograd(tiles) => self.winograd_scratch(tiles),
        };
        let mut scratch = vec![T::ZERO; scratch];
        for first in range.clone().step_by(self.images) {
            let images = first..(first + self.images).min(range.end);
            for (group, sums) in sums.chunks_exact_mut(of_group).enumerate() {
                for row in (0..rows).step_by(self.stripe) {
                    let piece = Piece {
                        images: images.clone(),
                        group,
                        rows: row..(row + self.stripe).min(rows),
                        blocks: blocks.clone(),
                    };
                    match &self.way {
                        Way::Planes(tiles) => {
                            self.add_by_planes(x, dy, &piece, tiles, &mut scratch, sums)
                        }
                        Way::Winograd(tiles) => {
                            self.add_by_products(x, dy, &piece, tiles, &mut scratch, sums)
                        }
                    }
                }
            }
        }
        sums
    }

    /// Adds the sums of a piece, block by block, by tiles over padded planes.
    fn add_by_planes<T: Float>(
        &self,
        x: &[T],
        dy: &[T],
        piece: &Piece,
        tiles: &[CorrelationTile],
        scratch: &mut [T],
        sums: &mut [T],
    ) {
        let [height, columns] = self.gather.target;
        let (planes, gradient) = scratch.split_at_mut(self.planes());
        let Piece { rows, images, .. } = piece;
        let stripe = rows.start..rows.start + self.stripe;
        let channels = self.channels(piece);
        self.gather.pad(x, &channels, &stripe, self.images, planes);
        if self.block == 1 {
            let output = images.start * self.conv.groups + piece.group;
            let dy = &dy[(output * height + rows.start) * columns..][..rows.len() * columns];
            add_dots(planes, self.gather.pitch, rows.len(), tiles, dy, sums);
            return;
        }
        let gradient = &mut gradient[..rows.len() * columns * self.images * self.block];
        if images.len() < self.images {
            gradient.fill(T::ZERO);
        }
        let blocks = piece
            .blocks
            .clone()
            .zip(sums.chunks_exact_mut(self.of_block()));
        for (block, sums) in blocks {
            for (index, image) in images.clone().enumerate() {
                let to = &mut gradient[index * self.block..];
                self.outputs_last(dy, image, piece, block, to, self.images * self.block);
            }
            self.machine.run(Correlation {
                planes,
                row_step: self.gather.pitch * self.images,
                tiles,
                rows,
                gradient,
                sums,
                vectors: self.block / self.machine.lanes,
            });
        }
    }

    /// Elements of the padded planes of a stripe.
    fn planes(&self) -> usize {
        self.images * self.sources * self.gather.planes(self.stripe)
    }

    /// What a piece reads of `x`.
    fn channels(&self, piece: &Piece) -> Channels {
        let apart = self.conv.groups * self.sources;
        Channels {
            first: piece.images.start * apart + piece.group * self.sources,
            count: self.sources,
            images: piece.images.len(),
            apart,
        }
    }

    /// A block's `dy` of an image as `[rows, columns, outputs of the block]`, so far from one position to the next.
    fn outputs_last<T: Float>(
        &self,
        dy: &[T],
        image: usize,
        Piece { group, rows, .. }: &Piece,
        block: usize,
        to: &mut [T],
        position: usize,
    ) {
        let [height, width] = self.gather.target;
        let outputs = block * self.block..((block + 1) * self.block).min(self.outputs);
        let first = (image * self.conv.groups + group) * self.outputs + outputs.start;
        let dy = &dy[(first * height + rows.start) * width..];
        let size = [outputs.len(), rows.len() * width];
        transpose(dy, height * width, size, to, position);
    }

    /// Sums of a block to their places in `[outputs, sources, places]`.
    fn put<T: Float>(&self, sums: &[T], gradient: &mut [T]) {
        if let Way::Winograd(_) = &self.way {
            return self.put_products(sums, gradient);
        }
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

/// Some images, a group, some rows of their positions, and some blocks of the group's outputs.
struct Piece {
    images: Range<usize>,
    group: usize,
    rows: Range<usize>,
    blocks: Range<usize>,
}

/// Rows of positions whose planes, and gradient of so many outputs, stay in cache, and images.
fn pieces(conv: &Conv2d, gather: &Gather, outputs: usize) -> (usize, usize) {
    let [sources, of_group] = conv.channels_of_group();
    let [rows, columns] = gather.target;
    let fits = |stripe: usize, images: usize| {
        let gradient = stripe * columns * outputs;
        images * (sources * gather.planes(stripe)).max(gradient) <= PLANES
    };
    let mut stripe = rows;
    while stripe > 1 && !fits(stripe, 1) {
        stripe = stripe.div_ceil(2);
    }
    let most = if of_group == 1 { 1 } else { MOST_IMAGES };
    let images = (1..=most.min(conv.examples.div_ceil(ENOUGH_PARTS))).rev();
    let mut images = images.filter(|&images| stripe == rows && fits(stripe, images));
    (stripe, images.next().unwrap_or(1))
}

/// All offsets of a group's planes.
fn plane_tiles(
    gather: &Gather,
    sources: usize,
    stripe: usize,
    images: usize,
) -> Vec<CorrelationTile> {
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
