//! Sums by [`Cut::Deep`](super::Cut::Deep): vectors of outputs, which are put in order afterwards, of images whose values
//! alternate.

use std::ops::Range;

use super::{COPY, Gather, Kernels, MOVE, Pair, Piece, Sums, stripe};
use crate::Float;
use crate::conv::gather::{Axis, Class};
use crate::conv::tiles::{DEEP_POSITIONS, Deep, DeepTap, Machine};
use crate::conv::transpose::transpose;

/// Elements of the weights that a tile goes through at a time: they should stay in the cache.
const WEIGHTS: usize = 1 << 15;

/// Rows of positions, and tiles of a row, that see more than zeros under the same taps.
pub(super) struct Region {
    rows: Range<usize>,
    tiles: Range<usize>,
    taps: Vec<DeepTap>,
}

impl<T: Float> Sums<'_, T> {
    pub(super) fn deep(
        &self,
        planes: &[T],
        rows: &Range<usize>,
        piece: &Piece,
        sums: &mut [T],
        to: &mut [T],
    ) {
        let source_step = self.images * self.gather.planes(self.stripe);
        let row_step = self.images * self.gather.pitch;
        for pair in &self.pairs {
            let rows = rows.start..rows.end.min(pair.down.positions);
            let row =
                (pair.across.positions * self.images).next_multiple_of(DEEP_POSITIONS) * self.block;
            if rows.is_empty() || row == 0 {
                continue;
            }
            let sums = &mut sums[..rows.len() * row];
            let of_source = pair.down.taps.len() * pair.across.taps.len() * self.block;
            let together = (WEIGHTS / of_source.max(1)).max(1);
            for block in 0..piece.outputs.div_ceil(self.block) {
                let index = piece.blocks + block;
                let start = &self.start[index * self.block..][..self.block];
                for sums in sums.chunks_exact_mut(self.block) {
                    sums.copy_from_slice(start);
                }
                let weights = &pair.weights[index * self.sources * of_source..];
                for first in (0..self.sources).step_by(together) {
                    let sources = together.min(self.sources - first);
                    let weights = &weights[first * of_source..][..sources * of_source];
                    for region in pair.regions.iter().filter(|region| !region.taps.is_empty()) {
                        let seen = region.rows.start.max(rows.start)..region.rows.end.min(rows.end);
                        if seen.is_empty() {
                            continue;
                        }
                        let begin = seen.start - rows.start;
                        self.machine.run(Deep {
                            planes: &planes[first * source_step + begin * row_step..],
                            row_step,
                            source_step,
                            sources,
                            taps: &region.taps,
                            weights,
                            rows: seen.len(),
                            tiles: &region.tiles,
                            sums: &mut sums[begin * row..][..seen.len() * row],
                            vectors: self.block / self.machine.lanes,
                        });
                    }
                }
                let outputs = piece.block(block, self.block);
                self.put(pair, &rows, piece, outputs, sums, to);
            }
        }
    }

    /// Sums `[rows, positions, images, outputs]` to their places.
    fn put(
        &self,
        Pair { down, across, .. }: &Pair<'_, T>,
        rows: &Range<usize>,
        piece: &Piece,
        outputs: Range<usize>,
        sums: &[T],
        to: &mut [T],
    ) {
        let [_, width] = self.gather.target;
        let plane = piece.plane;
        let position = self.images * self.block;
        let of_row = sums.len() / rows.len();
        // Where rows follow each other without gaps, all of them are one.
        let whole = across.apart == 1
            && across.positions == width
            && down.apart == 1
            && of_row == width * position;
        let [runs, positions] = if whole {
            [1, rows.len() * width]
        } else {
            [rows.len(), across.positions]
        };
        for image in 0..piece.images {
            let to = &mut to[image * piece.image + piece.group + outputs.start * plane..];
            for run in 0..runs {
                let row = down.first + (rows.start + run) * down.apart - piece.first_row;
                let row = row * width + across.first;
                let sums = &sums[run * of_row + image * self.block..];
                if across.apart == 1 {
                    transpose(
                        sums,
                        position,
                        [positions, outputs.len()],
                        &mut to[row..],
                        plane,
                    );
                    continue;
                }
                for lane in 0..outputs.len() {
                    let to = to[lane * plane + row..].iter_mut().step_by(across.apart);
                    for (to, sums) in to.take(positions).zip(sums.chunks(position)) {
                        *to = sums[lane];
                    }
                }
            }
        }
    }
}

/// A class's positions, so many at a time, in ranges that see more than zeros under the same of its taps.
fn seen(axis: &Axis, class: &Class, positions: impl Iterator<Item = Range<usize>>) -> Vec<Seen> {
    let mut ranges: Vec<Seen> = Vec::new();
    for (index, positions) in positions.enumerate() {
        let sees = |&tap: &usize| {
            let from = axis.seen_from(class, tap);
            from.start < positions.end && positions.start < from.end
        };
        let taps: Vec<usize> = (0..class.taps.len()).filter(sees).collect();
        match ranges.last_mut() {
            Some(last) if last.taps == taps => last.range.end += 1,
            _ => ranges.push(Seen {
                range: index..index + 1,
                taps,
            }),
        }
    }
    ranges
}

/// What [`seen`] returns.
struct Seen {
    range: Range<usize>,
    taps: Vec<usize>,
}

/// Rows and tiles by what they see, on planes for so many rows of positions of alternating images.
pub(super) fn regions(
    gather: &Gather,
    down: &Class,
    across: &Class,
    stripe: usize,
    images: usize,
) -> Vec<Region> {
    let rows = (0..down.positions).map(|row| row..row + 1);
    let tiles = (across.positions * images).div_ceil(DEEP_POSITIONS);
    let tiles = (0..tiles).map(|tile| {
        let [first, last] = [0, DEEP_POSITIONS - 1].map(|p| (tile * DEEP_POSITIONS + p) / images);
        first..last + 1
    });
    let by_tiles = seen(&gather.across, across, tiles);
    let regions = seen(&gather.down, down, rows).into_iter().flat_map(|rows| {
        let region = |tiles: &Seen| {
            let taps = rows.taps.iter().flat_map(|&a| {
                tiles.taps.iter().map(move |&b| DeepTap {
                    offset: gather.offset(&down.taps[a], &across.taps[b], stripe) * images,
                    place: a * across.taps.len() + b,
                })
            });
            Region {
                rows: rows.range.clone(),
                tiles: tiles.range.clone(),
                taps: taps.collect(),
            }
        };
        by_tiles.iter().map(region).collect::<Vec<_>>()
    });
    regions.collect()
}

/// Vectors of products, wanted or not, and moves, for an image of a group in this way.
pub(super) fn work<T>(
    gather: &Gather,
    kernels: &Kernels<'_, T>,
    machine: &Machine,
    images: usize,
) -> f64 {
    let &Kernels {
        outputs, sources, ..
    } = kernels;
    let stripe = stripe(gather, sources, images);
    let mut products = 0;
    for down in &gather.down.classes {
        for across in &gather.across.classes {
            for region in regions(gather, down, across, stripe, images) {
                let tiles = region.rows.len() * region.tiles.len();
                products += tiles * DEEP_POSITIONS * region.taps.len() * sources;
            }
        }
    }
    let vectors = machine.deep_vectors(outputs);
    let vectors = outputs.div_ceil(vectors * machine.lanes) * vectors;
    let rows = sources * gather.padded_rows(stripe);
    let padding = match images {
        1 => COPY * rows as f64,
        _ => MOVE * (rows * gather.across.size()) as f64,
    };
    (vectors * products) as f64 / images as f64
        + padding
        + MOVE * (outputs * gather.target_size()) as f64
}
