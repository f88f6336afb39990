//! Sums by [`Cut::Wide`](super::Cut::Wide): vectors of neighbouring positions, in the target's order but for the gaps between
//! rows.

use std::ops::Range;

use super::{COPY, Gather, Kernels, Piece, Sums, stripe};
use crate::Float;
use crate::conv::tiles::{Machine, Wide};

impl<T: Float> Sums<'_, T> {
    pub(super) fn wide(
        &self,
        planes: &[T],
        rows: &Range<usize>,
        piece: &Piece,
        sums: &mut [T],
        to: &mut [T],
    ) {
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
                    let to = &mut to[piece.group + o * piece.plane..];
                    for (row, sums) in rows.clone().zip(sums.chunks(pitch)) {
                        let row = down.first + row * down.apart - piece.first_row;
                        let row = row * width + across.first;
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
}

/// Vectors of products, wanted or not, and moves, for an image of a group in this way.
pub(super) fn work<T>(gather: &Gather, kernels: &Kernels<'_, T>, machine: &Machine) -> f64 {
    let &Kernels {
        outputs, sources, ..
    } = kernels;
    let mut vectors = 0;
    for down in &gather.down.classes {
        for across in &gather.across.classes {
            let terms = sources * down.taps.len() * across.taps.len();
            let positions = (down.positions * gather.pitch).div_ceil(machine.lanes);
            vectors += outputs.next_multiple_of(machine.wide_outputs(outputs)) * positions * terms;
        }
    }
    let rows = sources * gather.padded_rows(stripe(gather, sources, 1));
    vectors as f64 + COPY * (rows + outputs * gather.target[0]) as f64
}
