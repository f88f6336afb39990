//! Sums of a [`Gather`] over the channels of its source: a convolution, or its gradient by the input.

use std::ops::Range;

use super::gather::{Class, Gather};
use super::tiles::{DEEP_POSITIONS, Deep, Machine, WIDE_VECTORS, Wide};
use super::{ENOUGH_PARTS, ENOUGH_POSITIONS, PLANES};
use crate::Float;
use crate::output::{Parts, build_parts};
use crate::parallel;

/// Elements of the weights that a deep tile goes through at a time: they should stay in the cache.
const WEIGHTS: usize = 1 << 15;
/// A tile reads beyond the last position of a plane, at most so much.
const SLACK: usize = WIDE_VECTORS * 16;

/// The weights of all groups, and how they are laid out.
pub(super) struct Kernels<'a, T> {
    pub weight: &'a [T],
    pub groups: usize,
    /// Of the kernel.
    pub width: usize,
    /// Channels of the target and of the source, of a group.
    pub outputs: usize,
    pub sources: usize,
    /// From one of them to the next, in `weight`.
    pub output_step: usize,
    pub source_step: usize,
}

impl<T: Float> Kernels<'_, T> {
    /// The weights of some taps, by blocks of outputs: `[groups, blocks, sources, taps, outputs of a block]`,
    /// with zeros where a block has more outputs than there are.
    fn packed(&self, down: &Class, across: &Class, block: usize) -> Vec<T> {
        let taps = down.places(across, self.width);
        let of_block = self.sources * taps.len() * block;
        let blocks = self.outputs.div_ceil(block);
        let mut packed = vec![T::ZERO; self.groups * blocks * of_block];
        let of_group = self.weight.len() / self.groups;
        let parts = packed.chunks_mut(of_block.max(1));
        parallel::collect_with(
            parts,
            self.weight.len(),
            || (),
            |part, packed, ()| {
                let (group, first) = (part / blocks, part % blocks * block);
                for o in 0..block.min(self.outputs - first) {
                    let weight = &self.weight[group * of_group + (first + o) * self.output_step..];
                    let rows = packed.chunks_exact_mut(taps.len() * block);
                    for (source, row) in rows.enumerate() {
                        let weight = &weight[source * self.source_step..];
                        for (row, &tap) in row.chunks_exact_mut(block).zip(&taps) {
                            row[o] = weight[tap];
                        }
                    }
                }
            },
        );
        packed
    }
}

/// How tiles are cut.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// Vectors of positions, of one image. Rows follow each other with their zeros between them, so some are
    /// computed for nothing; but they come out in the target's order.
    Wide,
    /// Vectors of outputs, which are put in order afterwards. The values of this many images alternate, so that
    /// rows of positions are whole tiles.
    Deep { images: usize },
}

/// Positions of the target that see the source in the same way, down and across.
struct Pair<'a, T> {
    down: &'a Class,
    across: &'a Class,
    /// See [`Kernels::packed`].
    weights: Vec<T>,
    /// On the planes of a group's channels, in the order of the weights.
    offsets: Vec<usize>,
}

/// All that is known before the source is looked at.
pub(super) struct Sums<'a, T> {
    gather: &'a Gather,
    machine: Machine,
    examples: usize,
    groups: usize,
    /// Of a group.
    outputs: usize,
    sources: usize,
    cut: Cut,
    /// Images whose values alternate.
    images: usize,
    /// Outputs of a tile.
    block: usize,
    /// Rows of positions that are handled at a time.
    stripe: usize,
    /// Parts of an image's outputs that are handled on their own.
    splits: usize,
    pairs: Vec<Pair<'a, T>>,
    /// What sums start with: `[groups, outputs]`, whole blocks.
    start: Vec<T>,
    work: usize,
}

impl<'a, T: Float> Sums<'a, T> {
    pub fn new(
        gather: &'a Gather,
        kernels: &Kernels<'_, T>,
        bias: Option<&[T]>,
        examples: usize,
        work: usize,
    ) -> Self {
        let machine = Machine::new::<T>();
        let &Kernels {
            groups,
            outputs,
            sources,
            ..
        } = kernels;
        let cut = cut(gather, kernels, &machine, examples);
        let (images, block) = match cut {
            Cut::Wide => (1, machine.wide_outputs(outputs)),
            Cut::Deep { images } => (images, machine.lanes * machine.deep_vectors(outputs)),
        };
        let blocks = outputs.div_ceil(block);
        let mut stripe = gather.down.positions();
        while stripe > 1 && sources * gather.planes(stripe) > PLANES {
            stripe = stripe.div_ceil(2);
        }
        // Where there are enough images, there is enough to do for all threads without.
        let splits = (1..=ENOUGH_PARTS.div_ceil(examples.max(1)))
            .filter(|splits| groups == 1 && outputs.is_multiple_of(splits * block))
            .max();
        let classes = gather.down.classes.iter();
        let pairs = classes.flat_map(|down| {
            gather
                .across
                .classes
                .iter()
                .map(move |across| (down, across))
        });
        let pairs = pairs.map(|(down, across)| Pair {
            down,
            across,
            weights: kernels.packed(down, across, block),
            offsets: gather.offsets(down, across, stripe, sources, images),
        });
        let mut start = vec![T::ZERO; groups * blocks * block];
        if let Some(bias) = bias {
            let groups = start.chunks_exact_mut((blocks * block).max(1));
            for (start, bias) in groups.zip(bias.chunks_exact(outputs.max(1))) {
                start[..outputs].copy_from_slice(bias);
            }
        }
        Self {
            gather,
            machine,
            examples,
            groups,
            outputs,
            sources,
            cut,
            images,
            block,
            stripe,
            splits: splits.unwrap_or(1),
            pairs: pairs.collect(),
            start,
            work,
        }
    }

    /// The target, from all images of the source, and for each of its parts, in order, its first channel and what
    /// `finish` returns of its images and values while they are in cache.
    pub fn of_with<R: Send>(
        &self,
        x: &[T],
        finish: impl Fn(usize, &mut [T]) -> R + Sync + Send,
    ) -> (Vec<T>, Vec<(usize, R)>) {
        let size = self.groups * self.outputs * self.gather.target_size();
        if size == 0 {
            return (Vec::new(), Vec::new());
        }
        let planes = self.images * self.sources * self.gather.planes(self.stripe) + SLACK;
        let shape = Parts {
            total: self.examples * size,
            part: self.images * size / self.splits,
            scratch: planes + self.scratch(),
            work: self.work,
        };
        let blocks = self.outputs.div_ceil(self.block);
        build_parts(shape, |part, to, scratch| {
            let (planes, sums) = scratch.split_at_mut(planes);
            let first = part / self.splits * self.images;
            let images = to.len() * self.splits / size;
            for group in 0..self.groups {
                let outputs = self.outputs / self.splits;
                let piece = Piece {
                    images,
                    blocks: group * blocks + part % self.splits * (blocks / self.splits),
                    outputs,
                    group: group * outputs * self.gather.target_size(),
                    image: size / self.splits,
                };
                let rows = self.gather.down.positions();
                for row in (0..rows).step_by(self.stripe) {
                    let rows = row..(row + self.stripe).min(rows);
                    let channel = |image: usize| (image * self.groups + group) * self.sources;
                    let channels = (first..first + images).map(channel);
                    // The planes are as large as those of a whole stripe.
                    let stripe = row..row + self.stripe;
                    self.gather
                        .pad(x, channels, self.sources, &stripe, self.images, planes);
                    match self.cut {
                        Cut::Wide => self.wide(planes, &rows, &piece, sums, to),
                        Cut::Deep { .. } => self.deep(planes, &rows, &piece, sums, to),
                    }
                }
            }
            let channel = part % self.splits * (self.outputs / self.splits);
            (channel, finish(images, to))
        })
    }

    /// Elements of the sums before they are in their places.
    fn scratch(&self) -> usize {
        match self.cut {
            Cut::Wide => self.block * (self.stripe * self.gather.pitch + self.machine.lanes),
            Cut::Deep { images } => {
                let row =
                    (self.gather.across.positions() * images).next_multiple_of(DEEP_POSITIONS);
                self.stripe * row * self.start.len() / self.groups
            }
        }
    }

    fn wide(&self, planes: &[T], rows: &Range<usize>, piece: &Piece, sums: &mut [T], to: &mut [T]) {
        let [_, width] = self.gather.target;
        let pitch = self.gather.pitch;
        for pair in &self.pairs {
            let (down, across) = (pair.down, pair.across);
            let rows = rows.start..rows.end.min(down.positions);
            if rows.is_empty() || across.positions == 0 {
                continue;
            }
            let positions = (rows.len() - 1) * pitch + across.positions;
            let positions = positions.next_multiple_of(self.machine.lanes);
            let sums = &mut sums[..self.block * positions];
            let of_block = pair.offsets.len() * self.block;
            for block in 0..piece.outputs.div_ceil(self.block) {
                let index = piece.blocks + block;
                self.machine.run(Wide {
                    planes,
                    offsets: &pair.offsets,
                    weights: &pair.weights[index * of_block..][..of_block],
                    start: &self.start[index * self.block..][..self.block],
                    to: &mut *sums,
                });
                for (o, sums) in piece
                    .block(block, self.block)
                    .zip(sums.chunks_exact(positions))
                {
                    let to = &mut to[piece.group + o * self.gather.target_size()..];
                    for (row, sums) in rows.clone().zip(sums.chunks(pitch)) {
                        let row = (down.first + row * down.apart) * width + across.first;
                        let sums = &sums[..across.positions];
                        if across.apart == 1 {
                            to[row..][..sums.len()].copy_from_slice(sums);
                        } else {
                            for (to, &sum) in to[row..].iter_mut().step_by(across.apart).zip(sums) {
                                *to = sum;
                            }
                        }
                    }
                }
            }
        }
    }

    fn deep(&self, planes: &[T], rows: &Range<usize>, piece: &Piece, sums: &mut [T], to: &mut [T]) {
        let terms = (WEIGHTS / self.block).max(1);
        for pair in &self.pairs {
            let rows = rows.start..rows.end.min(pair.down.positions);
            let row =
                (pair.across.positions * self.images).next_multiple_of(DEEP_POSITIONS) * self.block;
            if rows.is_empty() || row == 0 {
                continue;
            }
            let of_block = rows.len() * row;
            let blocks = piece.outputs.div_ceil(self.block);
            let sums = &mut sums[..blocks * of_block];
            for (block, sums) in sums.chunks_exact_mut(of_block).enumerate() {
                let start = &self.start[(piece.blocks + block) * self.block..][..self.block];
                for sums in sums.chunks_exact_mut(self.block) {
                    sums.copy_from_slice(start);
                }
            }
            let starts: Vec<usize> = (0..rows.len())
                .map(|row| row * self.gather.pitch * self.images)
                .collect();
            for (part, offsets) in pair.offsets.chunks(terms).enumerate() {
                for (block, sums) in sums.chunks_exact_mut(of_block).enumerate() {
                    let first = (piece.blocks + block) * pair.offsets.len() + part * terms;
                    let weights = &pair.weights[first * self.block..];
                    self.machine.run(Deep {
                        planes,
                        rows: &starts,
                        offsets,
                        weights: &weights[..offsets.len() * self.block],
                        sums,
                        vectors: self.block / self.machine.lanes,
                    });
                }
            }
            for (block, sums) in sums.chunks_exact(of_block).enumerate() {
                let outputs = piece.block(block, self.block);
                for (row, sums) in rows.clone().zip(sums.chunks_exact(row)) {
                    self.put_row(pair, row, piece, outputs.clone(), sums, to);
                }
            }
        }
    }

    /// A row of sums `[positions, images, outputs]` to its places.
    fn put_row(
        &self,
        Pair { down, across, .. }: &Pair<'_, T>,
        row: usize,
        piece: &Piece,
        outputs: Range<usize>,
        sums: &[T],
        to: &mut [T],
    ) {
        let [_, width] = self.gather.target;
        let row = (down.first + row * down.apart) * width + across.first;
        for image in 0..piece.images {
            let sums = &sums[image * self.block..];
            for (lane, o) in outputs.clone().enumerate() {
                let output = piece.group + o * self.gather.target_size();
                let to = &mut to[image * piece.image + output + row..];
                let to = to.iter_mut().step_by(across.apart).take(across.positions);
                for (to, sums) in to.zip(sums.chunks(self.images * self.block)) {
                    *to = sums[lane];
                }
            }
        }
    }
}

/// What a part handles of a group.
struct Piece {
    images: usize,
    /// The first block of outputs.
    blocks: usize,
    outputs: usize,
    /// In the part's target, where the group begins, and from one image to the next.
    group: usize,
    image: usize,
}

impl Piece {
    /// The outputs of a block.
    fn block(&self, index: usize, block: usize) -> Range<usize> {
        index * block..((index + 1) * block).min(self.outputs)
    }
}

/// The cut that has less to do: sums, wanted or not, and moves of what is not in order.
fn cut<T: Float>(
    gather: &Gather,
    kernels: &Kernels<'_, T>,
    machine: &Machine,
    examples: usize,
) -> Cut {
    let block = machine.lanes * machine.deep_vectors(kernels.outputs);
    let deep_outputs = kernels.outputs.next_multiple_of(block);
    let wide_outputs = kernels
        .outputs
        .next_multiple_of(machine.wide_outputs(kernels.outputs));
    let columns = gather.across.positions();
    let rows = gather.down.positions();
    let fits = |images: usize| {
        let sums = rows * (columns * images).next_multiple_of(DEEP_POSITIONS) * deep_outputs;
        images == 1 || (images * kernels.sources * gather.planes(rows)).max(sums) <= PLANES
    };
    // The share of a tile's positions that are wanted.
    let share = |images: usize| {
        let positions = columns * images;
        positions as f64 / positions.next_multiple_of(DEEP_POSITIONS).max(1) as f64
    };
    let most = examples.div_ceil(ENOUGH_PARTS).max(1);
    let enough = ENOUGH_POSITIONS
        .div_ceil(gather.target_size().max(1))
        .min(most);
    let images = (enough..=DEEP_POSITIONS.max(enough).min(most))
        .filter(|&images| fits(images))
        .min_by(|&a, &b| share(b).total_cmp(&share(a)))
        .unwrap_or(1);
    let [mut wide, mut deep] = [0.0; 2];
    for down in &gather.down.classes {
        for across in &gather.across.classes {
            let terms = (kernels.sources * down.taps.len() * across.taps.len()) as f64;
            let positions = (down.positions * gather.pitch).next_multiple_of(machine.lanes);
            wide += (wide_outputs * positions) as f64 * terms;
            let positions = (down.positions * across.positions) as f64 / share(images);
            // Moving a sum takes as long as two vectors of products.
            let moves = 2 * machine.lanes * kernels.outputs;
            deep += positions * (deep_outputs as f64 * terms + moves as f64);
        }
    }
    if wide <= deep {
        Cut::Wide
    } else {
        Cut::Deep { images }
    }
}
