//! The gradient by the weight in [Winograd's way](crate::conv::winograd).

use super::{Correlations, Piece};
use crate::Float;
use crate::conv::gather::Gather;
use crate::conv::tiles::{CORRELATION_OFFSETS, Correlation, CorrelationTile};
use crate::conv::winograd::{
    ALTERNATING, PRODUCTS, SLACK, TAPS, Tiles, transform_gradients, transform_sums,
};
use crate::conv::{Conv2d, ENOUGH_PARTS};

/// Elements of the transformed inputs and gradients that are in use at a time.
const TRANSFORMED: usize = 3 << 16;
/// Outputs of a block, in `f32`.
const USUAL_BLOCK: usize = 32;
/// Images whose tiles are side by side, at most.
const MOST_IMAGES: usize = 8;
/// With fewer channels by an image's side the transforms take longer than they save;
const FEWEST: usize = 512;
/// with more weights, their products' sums, which are more, take too much memory.
const MOST_WEIGHTS: usize = 1 << 16;

impl Tiles {
    /// If this is the way to make such sums. That does not depend on the number of examples, nor on the machine: it
    /// rounds differently from the other.
    pub(super) fn of_correlations(conv: &Conv2d, gather: &Gather) -> Option<Self> {
        let [sources, outputs] = conv.channels_of_group();
        let [down, across] = Self::that_save(gather, sources, outputs)?;
        let side = gather.target[0].min(gather.target[1]);
        let pays = sources.min(outputs) * side >= FEWEST;
        if !pays || sources * outputs > MOST_WEIGHTS {
            return None;
        }
        let fits = |tiles: usize| PRODUCTS * (sources + USUAL_BLOCK) * tiles <= TRANSFORMED;
        let mut tiles = Self::that_fit([down, across], conv.examples, fits);
        if !tiles.alternate && tiles.stripe == 2 * down {
            let images = (1..=MOST_IMAGES.min(conv.examples / ENOUGH_PARTS)).rev();
            let mut images = images.filter(|images| fits(images * down * across));
            tiles.images = images.next().unwrap_or(1);
        }
        Some(tiles)
    }
}

impl Correlations<'_> {
    /// Sums of a product and a block of outputs.
    pub(super) fn of_product(&self) -> usize {
        self.sources.next_multiple_of(CORRELATION_OFFSETS) * self.block
    }

    /// Elements of the padded rows of a channel, of a block's gradient with its outputs last, and of what is
    /// transformed.
    pub(super) fn winograd_scratch(&self, tiles: &Tiles) -> usize {
        tiles.padded()
            + tiles.stripe * self.gather.target[1] * self.block
            + PRODUCTS * self.steps(tiles).iter().sum::<usize>()
    }

    /// From one product to the next of the transformed inputs, and gradients.
    fn steps(&self, tiles: &Tiles) -> [usize; 2] {
        [
            self.sources * tiles.count() + SLACK,
            self.block * tiles.count(),
        ]
    }

    /// Adds the sums of a piece, block by block, by Winograd's products.
    pub(super) fn add_by_products<T: Float>(
        &self,
        x: &[T],
        dy: &[T],
        piece: &Piece,
        tiles: &Tiles,
        scratch: &mut [T],
        sums: &mut [T],
    ) {
        let width = self.gather.target[1];
        let [of_inputs, of_gradients] = self.steps(tiles);
        let (padded, scratch) = scratch.split_at_mut(tiles.padded());
        let (inputs, scratch) = scratch.split_at_mut(PRODUCTS * of_inputs);
        let (gradients, ordered) = scratch.split_at_mut(PRODUCTS * of_gradients);
        let ordered = &mut ordered[..piece.rows.len() * width * self.block];
        let positions = tiles.count();
        let channels = self.channels(piece);
        let transformed = [padded, &mut *inputs];
        tiles.transform_inputs(
            x,
            self.gather,
            &channels,
            &piece.rows,
            positions,
            transformed,
        );
        let of_image = piece.rows.len().div_ceil(2) * tiles.across;
        // Images that there are not are zeros where they alternate with others.
        let (images, from_image, from_tile) = if tiles.alternate {
            (ALTERNATING, 1, ALTERNATING)
        } else {
            (piece.images.len(), of_image, 1)
        };
        let used = images * of_image;
        let of_sources = (0..self.sources).step_by(CORRELATION_OFFSETS);
        let of_sources = of_sources.map(|first| CorrelationTile {
            offsets: std::array::from_fn(|k| (first + k).min(self.sources - 1) * positions),
            rows: 0..1,
            positions: 0..used,
        });
        let of_sources: Vec<CorrelationTile> = of_sources.collect();
        let sums = sums.chunks_exact_mut(self.of_block());
        for (block, sums) in piece.blocks.clone().zip(sums) {
            for index in 0..images {
                if index < piece.images.len() {
                    let image = piece.images.start + index;
                    self.outputs_last(dy, image, piece, block, ordered, self.block);
                } else {
                    ordered.fill(T::ZERO);
                }
                let to = &mut gradients[index * from_image * self.block..];
                let steps = [of_gradients, from_tile * self.block];
                transform_gradients(ordered, [width, self.block], to, steps);
            }
            let sums = sums.chunks_exact_mut(self.of_product());
            let inputs = inputs.chunks_exact(of_inputs);
            let gradients = gradients.chunks_exact(of_gradients);
            for ((planes, gradient), sums) in inputs.zip(gradients).zip(sums) {
                self.machine.run(Correlation {
                    planes,
                    row_step: 0,
                    tiles: &of_sources,
                    rows: &(0..1),
                    gradient: &gradient[..used * self.block],
                    sums,
                    vectors: self.block / self.machine.lanes,
                });
            }
        }
    }

    /// A block's sums of products, transformed, to their places in `[outputs, sources, places]`.
    pub(super) fn put_products<T: Float>(&self, sums: &[T], gradient: &mut [T]) {
        let sizes = [self.conv.taps(), self.block];
        for source in 0..self.sources {
            let sums = &sums[source * self.block..];
            let gradient = &mut gradient[source * TAPS..];
            transform_sums(sums, self.of_product(), gradient, sizes, &self.places);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::winograd::tests::{usual, whole_numbers};

    #[test]
    fn small_whole_numbers_are_exact() {
        for (image, padding, [sources, outputs], side_by_side) in [
            ([4, 5], [(0, 0), (0, 0)], [2, 3], 1),
            ([5, 7], [(1, 1), (1, 1)], [3, 9], 2),
            ([7, 7], [(2, 2), (2, 2)], [4, 40], 3),
            ([9, 40], [(1, 0), (0, 2)], [2, 20], 1),
            ([4, 33], [(2, 1), (1, 2)], [9, 4], 4),
        ] {
            let conv = Conv2d {
                image,
                padding,
                groups: 2,
                ..usual(11, [2 * sources, 2 * outputs], 0)
            };
            let [rows, columns] = conv.output().unwrap();
            let gather = Gather::forward(&conv, [rows, columns]);
            let x = whole_numbers(1, 11 * 2 * sources * image[0] * image[1]);
            let dy = whole_numbers(2, 11 * 2 * outputs * rows * columns);
            let of = |tiles| Correlations::with::<f32>(tiles, &conv, &gather).gradient(&x, &dy);
            let expected = of(None);
            for stripe in [2, 4, rows.next_multiple_of(2)] {
                for (images, alternate) in [(side_by_side, false), (ALTERNATING, true)] {
                    let tiles = Tiles {
                        across: columns.div_ceil(2),
                        stripe,
                        images,
                        alternate,
                    };
                    assert_eq!(of(Some(tiles)), expected, "{conv:?} by {tiles:?}");
                }
            }
        }
    }

    #[test]
    fn the_way_is_the_same_for_any_number_of_examples() {
        for (channels, side, expected) in [
            ([32, 64], 28, true),
            ([32, 64], 14, false),
            ([64, 64], 14, true),
            ([64, 128], 7, false),
            ([256, 256], 8, true),
            ([512, 512], 8, false),
        ] {
            for examples in [1, 8, 128] {
                let conv = usual(examples, channels, side);
                let gather = Gather::forward(&conv, [side; 2]);
                let tiles = Tiles::of_correlations(&conv, &gather);
                assert_eq!(tiles.is_some(), expected, "{conv:?}");
            }
        }
    }
}
