//! Sums of a [`Gather`] over the channels of its source: a convolution, or its gradient by the input.

mod deep;
mod wide;
mod winograd;

use std::ops::Range;

use super::gather::{Channels, Class, Gather};
use super::tiles::{DEEP_POSITIONS, Machine, WIDE_VECTORS};
use super::winograd::{Tiles, transform_weights};
use super::{ENOUGH_PARTS, PLANES};
use crate::Float;
use crate::norm;
use crate::output::{Parts, build_parts};
use crate::parallel;
use crate::pool::{Pooling, global_avg_pool, write_means};

/// Outputs of a deep tile, in `f32`.
const USUAL_BLOCK: usize = 32;
/// Elements of a part's target that are in use at a time before they are pooled.
const BAND: usize = 1 << 17;
/// Elements of a part's target that are in use at a time before they are averaged.
const MOST_AVERAGED: usize = 1 << 20;
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
    /// Vectors of outputs, which are put in order afterwards. The values of this many images alternate: of as many
    /// as a tile has positions, a tile is one position, and leaves out the taps that see only zeros there.
    Deep { images: usize },
    /// Winograd's products, 2×2 outputs at a time, in vectors of neighbouring tiles.
    Winograd(Tiles),
}

/// Positions of the target that see the source in the same way, down and across.
struct Pair<'a, T> {
    down: &'a Class,
    across: &'a Class,
    /// See [`Kernels::packed`].
    weights: Vec<T>,
    /// On the planes of a group's channels, in the order of the weights: for [`Cut::Wide`].
    offsets: Vec<usize>,
    /// For [`Cut::Deep`].
    regions: Vec<deep::Region>,
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
        let cut = cut(gather, kernels, examples);
        Self::with(cut, gather, kernels, bias, examples, work)
    }

    fn with(
        cut: Cut,
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
        let (images, block) = match cut {
            Cut::Wide => (1, machine.wide_outputs(outputs)),
            Cut::Deep { images } => (images, machine.lanes * machine.deep_vectors(outputs)),
            Cut::Winograd(tiles) => (tiles.images, machine.wide_outputs(outputs)),
        };
        let blocks = outputs.div_ceil(block);
        let stripe = match cut {
            Cut::Winograd(tiles) => tiles.stripe,
            _ => stripe(gather, sources, images),
        };
        let splits = match cut {
            // Each split transforms its inputs again: half as many parts will do.
            Cut::Winograd(_) if images == 1 => splits(kernels, USUAL_BLOCK, 2 * examples),
            _ if images == 1 => splits(kernels, block, examples),
            _ => 1,
        };
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
            weights: match (cut, kernels.packed(down, across, block)) {
                (Cut::Winograd(_), packed) => {
                    transform_weights(&packed, [down, across], sources, block)
                }
                (_, packed) => packed,
            },
            offsets: match cut {
                Cut::Wide => gather.offsets(down, across, stripe, sources, 1),
                Cut::Deep { .. } => Vec::new(),
                Cut::Winograd(tiles) => {
                    let positions = tiles.positions(machine.lanes);
                    (0..sources).map(|source| source * positions).collect()
                }
            },
            regions: match cut {
                Cut::Deep { images } => deep::regions(gather, down, across, stripe, images),
                Cut::Wide | Cut::Winograd(_) => Vec::new(),
            },
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
            splits,
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
        self.build(size, 0, |part, to, scratch| {
            let rows = 0..self.gather.down.positions();
            self.part(x, part, &rows, scratch, to);
            let channel = part.index % self.splits * (self.outputs / self.splits);
            (channel, finish(part.images, to))
        })
    }

    /// The largest values under the windows of the target, which `finish` changes before and which is never whole
    /// in memory: some rows of it at a time are, of a part.
    pub fn pooled(
        &self,
        x: &[T],
        finish: impl Fn(&mut [T]) + Sync + Send,
        pooling: &Pooling,
    ) -> Vec<T> {
        let size = self.groups * self.outputs * pooling.pooled.area();
        if size == 0 {
            return Vec::new();
        }
        if matches!(self.cut, Cut::Winograd(_)) && pooling.halves() {
            let (pooled, _) = self.build(size, 0, |part, to, scratch| {
                let rows = 0..2 * pooling.pooled.height;
                self.winograd(x, part, &rows, Some(&finish), scratch, to);
            });
            return pooled;
        }
        let row = self.groups * self.outputs / self.splits * self.gather.target[1];
        let mut windows = pooling.pooled.height;
        let rows = |windows: usize| pooling.rows(&(0..windows)).len() + pooling.padding();
        while windows > 1 && self.images * row * rows(windows) > BAND {
            windows = windows.div_ceil(2);
        }
        let band = self.images * row * rows(windows);
        let (pooled, _) = self.build(size, band, |part, to, scratch| {
            let (band, scratch) = scratch.split_at_mut(band);
            for first in (0..pooling.pooled.height).step_by(windows) {
                let windows = first..(first + windows).min(pooling.pooled.height);
                let rows = pooling.rows(&windows);
                let band = &mut band[..part.images * row * rows.len()];
                self.part(x, part, &rows, scratch, band);
                finish(band);
                pooling.pool_rows(band, &windows, to);
            }
        });
        pooled
    }

    /// The mean over all positions of each plane of the target, which `finish` changes before and which is never whole in
    /// memory, unless its planes are large: one part of it a thread is.
    pub fn averaged(&self, x: &[T], finish: impl Fn(&mut [T]) + Sync + Send) -> Vec<T> {
        let (size, area) = (self.groups * self.outputs, self.gather.target_size());
        if size == 0 {
            return Vec::new();
        }
        let whole = self.images * size / self.splits * area;
        if whole > MOST_AVERAGED {
            let (y, _) = self.of_with(x, |_, y| finish(y));
            let shape = norm::Channels {
                n: self.examples,
                c: size,
                s: area,
            };
            return global_avg_pool(&y, shape);
        }
        let (means, _) = self.build(size, whole, |part, to, scratch| {
            let (whole, scratch) = scratch.split_at_mut(whole);
            let whole = &mut whole[..to.len() * area];
            let rows = 0..self.gather.down.positions();
            self.part(x, part, &rows, scratch, whole);
            finish(whole);
            write_means(whole, area, to);
        });
        means
    }

    /// An output of `size` elements an image, part by part: see [`build_parts`]. Each can use `more` elements besides
    /// what its sums need.
    fn build<R: Send>(
        &self,
        size: usize,
        more: usize,
        work: impl Fn(Part, &mut [T], &mut [T]) -> R + Sync + Send,
    ) -> (Vec<T>, Vec<R>) {
        let parts = Parts {
            total: self.examples * size,
            part: self.images * size / self.splits,
            scratch: more + self.planes() + self.scratch(),
            work: self.work,
        };
        build_parts(parts, |index, to, scratch| {
            let images = to.len() * self.splits / size;
            work(Part { index, images }, to, scratch)
        })
    }

    /// The sums of some images of a part, of some rows of positions (of all, where the target has several classes of
    /// them), to `[images, groups, outputs, rows, width]`.
    fn part(&self, x: &[T], part: Part, rows: &Range<usize>, scratch: &mut [T], to: &mut [T]) {
        if matches!(self.cut, Cut::Winograd(_)) {
            return self.winograd(x, part, rows, None, scratch, to);
        }
        let (planes, sums) = scratch.split_at_mut(self.planes());
        for group in 0..self.groups {
            let piece = self.piece(part, group, rows.start, to.len());
            for row in rows.clone().step_by(self.stripe) {
                let rows = row..(row + self.stripe).min(rows.end);
                let channels = self.channels(&piece);
                // The planes are as large as those of a whole stripe.
                let stripe = row..row + self.stripe;
                self.gather.pad(x, &channels, &stripe, self.images, planes);
                if self.cut == Cut::Wide {
                    self.wide(planes, &rows, &piece, sums, to);
                } else {
                    self.deep(planes, &rows, &piece, sums, to);
                }
            }
        }
    }

    /// What a part handles of a group, in an output of so many elements.
    fn piece(&self, part: Part, group: usize, first_row: usize, size: usize) -> Piece {
        let outputs = self.outputs / self.splits;
        let blocks = self.outputs.div_ceil(self.block);
        let image = size / part.images;
        let first = part.index / self.splits * self.images;
        Piece {
            images: part.images,
            sources: (first * self.groups + group) * self.sources,
            blocks: group * blocks + part.index % self.splits * (blocks / self.splits),
            outputs,
            group: group * image / self.groups,
            image,
            plane: image / (self.groups * outputs),
            first_row,
        }
    }

    /// What a piece reads.
    fn channels(&self, piece: &Piece) -> Channels {
        Channels {
            first: piece.sources,
            count: self.sources,
            images: piece.images,
            apart: self.groups * self.sources,
        }
    }

    /// Elements of the padded planes of a stripe, or all that Winograd's way uses.
    fn planes(&self) -> usize {
        if let Cut::Winograd(tiles) = &self.cut {
            return tiles.scratch(self.sources, self.block, self.machine.lanes);
        }
        self.images * self.sources * self.gather.planes(self.stripe) + SLACK
    }

    /// Elements of the sums before they are in their places.
    fn scratch(&self) -> usize {
        match self.cut {
            Cut::Wide => self.block * (self.stripe * self.gather.pitch + self.machine.lanes),
            Cut::Deep { images } => {
                let row =
                    (self.gather.across.positions() * images).next_multiple_of(DEEP_POSITIONS);
                self.stripe * row * self.block
            }
            Cut::Winograd(_) => 0,
        }
    }
}

/// Some images, and of their outputs all or a share.
#[derive(Clone, Copy)]
struct Part {
    index: usize,
    images: usize,
}

/// What a part handles of a group.
struct Piece {
    images: usize,
    /// Of all channels of the source, the first of the first image.
    sources: usize,
    /// The first block of outputs.
    blocks: usize,
    outputs: usize,
    /// In what it writes to: where the group begins, and from one image, and one output, to the next.
    group: usize,
    image: usize,
    plane: usize,
    /// Of the target, the first row there.
    first_row: usize,
}

impl Piece {
    /// The outputs of a block.
    fn block(&self, index: usize, block: usize) -> Range<usize> {
        index * block..((index + 1) * block).min(self.outputs)
    }
}

/// Parts of an image's outputs, whole blocks. Where there are enough images, there is enough to do for all threads
/// without.
fn splits<T>(kernels: &Kernels<'_, T>, block: usize, examples: usize) -> usize {
    let outputs = kernels.outputs;
    (1..=ENOUGH_PARTS.div_ceil(examples.max(1)))
        .filter(|splits| kernels.groups == 1 && outputs.is_multiple_of(splits * block))
        .max()
        .unwrap_or(1)
}

/// Rows of positions of so many images whose planes, and sums of a block, stay in cache.
fn stripe(gather: &Gather, sources: usize, images: usize) -> usize {
    let fits = |stripe: usize| {
        let sums = images * stripe * gather.across.positions() * USUAL_BLOCK;
        let sums = if images == 1 { 0 } else { sums };
        images * sources * gather.planes(stripe) <= PLANES && sums <= PLANES / 2
    };
    let mut stripe = gather.down.positions();
    while stripe > 1 && !fits(stripe) {
        stripe = stripe.div_ceil(2);
    }
    stripe
}

/// The cut that has less to do. It depends on the shape alone, not on the machine's vectors: what [`Sums::of_with`]
/// returns is of its parts.
fn cut<T: Float>(gather: &Gather, kernels: &Kernels<'_, T>, examples: usize) -> Cut {
    if let Some(tiles) = Tiles::of_sums(gather, kernels.sources, kernels.outputs, examples) {
        return Cut::Winograd(tiles);
    }
    let machine = Machine::usual::<T>();
    let wide = (wide::work(gather, kernels, &machine), Cut::Wide);
    let deep = [1, 2, 4, DEEP_POSITIONS].into_iter().filter_map(|images| {
        let groups = examples.div_ceil(images).max(1);
        // Several images at a time should leave enough to do for some threads.
        let enough = images == 1 || groups >= ENOUGH_PARTS / 2;
        let work = deep::work(gather, kernels, &machine, images);
        let wanted = examples as f64 / (groups * images) as f64;
        enough.then_some((work / wanted, Cut::Deep { images }))
    });
    let best = deep.fold(wide, |best, deep| if deep.0 < best.0 { deep } else { best });
    best.1
}

/// What moving a value into another order, and copying a row, takes as long as, in vectors of products.
const MOVE: f64 = 4.0;
const COPY: f64 = 40.0;
