//! Sums in [Winograd's way](crate::conv::winograd).

use std::ops::Range;

use super::{Cut, Gather, Part, Piece, Sums};
use crate::Float;
use crate::conv::ENOUGH_PARTS;
use crate::conv::tiles::{WIDE_OUTPUTS, WIDE_VECTORS, Wide};
use crate::conv::transpose::transpose;
use crate::conv::winograd::{
    ALTERNATING, IN_ALL, Order, PRODUCTS, SLACK, Tiles, largest, transform_outputs,
};
use crate::simd::LANES;

/// Elements of the transformed inputs that are in use at a time.
const INPUTS: usize = 1 << 17;
/// Images whose tiles are side by side, at most.
const MOST_IMAGES: usize = 8;

impl Tiles {
    /// If this is the way to make such sums. That does not depend on the number of examples, nor on the machine: it
    /// rounds differently from the others.
    pub(super) fn of_sums(
        gather: &Gather,
        sources: usize,
        outputs: usize,
        examples: usize,
    ) -> Option<Self> {
        let [down, across] = Self::that_save(gather, sources, outputs)?;
        let fits = |tiles: usize| PRODUCTS * sources * tiles.next_multiple_of(LANES) <= INPUTS;
        let mut tiles = Self::that_fit([down, across], examples, fits);
        if !tiles.alternate && tiles.stripe == 2 * down {
            // Several images where that fills tiles in registers better.
            let candidates = 2..=MOST_IMAGES.min(examples / ENOUGH_PARTS);
            let work = |images: usize| wide_work(images * down * across) / images as f64;
            for images in candidates.filter(|images| fits(images * down * across)) {
                if work(images) < 0.99 * work(tiles.images) {
                    tiles.images = images;
                }
            }
        }
        Some(tiles)
    }

    /// Places for the tiles, whole vectors.
    pub(super) fn positions(&self, lanes: usize) -> usize {
        self.count().next_multiple_of(lanes)
    }

    /// Elements of the transformed inputs, the padded rows of a channel, the products of a block of outputs, and an
    /// output in two lines.
    pub(super) fn scratch(&self, sources: usize, block: usize, lanes: usize) -> usize {
        let positions = self.positions(lanes);
        let lines = 4 * (positions + SLACK) + if self.alternate { 4 * positions } else { 0 };
        PRODUCTS * ((sources + block) * positions + 2 * SLACK) + self.padded() + lines
    }
}

/// Changes values before they are pooled.
type Finish<'a, T> = &'a dyn Fn(&mut [T]);

impl<T: Float> Sums<'_, T> {
    /// The sums of a part, of some rows of the target. If `finish` is given, it changes them, and they are pooled by
    /// [`Window::HALVING`](crate::Window::HALVING): a window is a tile.
    pub(super) fn winograd(
        &self,
        x: &[T],
        part: Part,
        rows: &Range<usize>,
        finish: Option<Finish<'_, T>>,
        scratch: &mut [T],
        to: &mut [T],
    ) {
        let Cut::Winograd(tiles) = &self.cut else {
            unreachable!("sums in another way");
        };
        let positions = tiles.positions(self.machine.lanes);
        let steps = [self.sources, self.block].map(|channels| channels * positions + SLACK);
        let (inputs, scratch) = scratch.split_at_mut(PRODUCTS * steps[0]);
        let (products, scratch) = scratch.split_at_mut(PRODUCTS * steps[1]);
        let (padded, scratch) = scratch.split_at_mut(tiles.padded());
        let (lines, ordered) = scratch.split_at_mut(4 * (positions + SLACK));
        let order = match (finish, tiles.alternate) {
            (Some(_), _) => Order::Halves,
            (None, true) => Order::AlternatingRow,
            (None, false) => Order::Row,
        };
        for group in 0..self.groups {
            let piece = self.piece(part, group, rows.start, to.len());
            // Tiles lie at even rows, whatever the rows that are wanted: the same bits for any.
            for first in (rows.start - rows.start % 2..rows.end).step_by(tiles.stripe) {
                let stripe = first..(first + tiles.stripe).min(rows.end);
                let channels = self.channels(&piece);
                let scratch = [&mut *padded, &mut *inputs];
                tiles.transform_inputs(x, self.gather, &channels, &stripe, positions, scratch);
                let of_image = stripe.len().div_ceil(2) * tiles.across;
                let images = if tiles.alternate {
                    ALTERNATING
                } else {
                    piece.images
                };
                let used = (images * of_image).next_multiple_of(self.machine.lanes);
                for block in 0..piece.outputs.div_ceil(self.block) {
                    self.multiply(piece.blocks + block, inputs, products, steps, used);
                    for (index, output) in piece.block(block, self.block).enumerate() {
                        let products = &products[index * used..];
                        transform_outputs(products, steps[1], used, lines, order);
                        if let Some(finish) = finish {
                            finish(lines);
                            largest(lines);
                        }
                        let planes = &mut to[piece.group + output * piece.plane..];
                        let halved = finish.is_some();
                        if tiles.alternate {
                            self.put_alternating(lines, &stripe, &piece, halved, ordered, planes);
                        } else {
                            self.put_side_by_side(lines, of_image, &stripe, &piece, halved, planes);
                        }
                    }
                }
            }
        }
    }

    /// The outputs of a stripe of rows, `lines` of images side by side, each of so many tiles, to their planes, the first of
    /// which is given.
    fn put_side_by_side(
        &self,
        lines: &[T],
        of_image: usize,
        stripe: &Range<usize>,
        piece: &Piece,
        halved: bool,
        planes: &mut [T],
    ) {
        let planes = planes.chunks_mut(piece.image).take(piece.images);
        for (plane, first) in planes.zip((0..).step_by(of_image)) {
            self.put_lines(lines, first, stripe, piece, halved, plane);
        }
    }

    /// An image's outputs of a stripe of rows, whose tiles are those of the `lines` from the `first` on, to their plane.
    fn put_lines(
        &self,
        lines: &[T],
        first: usize,
        stripe: &Range<usize>,
        piece: &Piece,
        halved: bool,
        plane: &mut [T],
    ) {
        let [_, width] = self.gather.target;
        let across = width.div_ceil(2);
        if halved {
            let lines = lines[first..].chunks(across);
            let plane = plane[stripe.start / 2 * (width / 2)..].chunks_mut((width / 2).max(1));
            for (to, line) in plane.zip(lines).take(stripe.len() / 2) {
                to.copy_from_slice(&line[..width / 2]);
            }
        } else {
            for row in stripe.start.max(piece.first_row)..stripe.end {
                let line = row % 2 * (lines.len() / 2);
                let tile = first + (row - stripe.start) / 2 * across;
                let to = &mut plane[(row - piece.first_row) * width..][..width];
                to.copy_from_slice(&lines[line + 2 * tile..][..width]);
            }
        }
    }

    /// As [`put_side_by_side`](Self::put_side_by_side), of images whose values alternate, which are put in order first.
    fn put_alternating(
        &self,
        lines: &[T],
        stripe: &Range<usize>,
        piece: &Piece,
        halved: bool,
        ordered: &mut [T],
        planes: &mut [T],
    ) {
        let [_, width] = self.gather.target;
        let across = width.div_ceil(2) * ALTERNATING;
        let (rows, width) = if halved {
            (stripe.start / 2..stripe.end / 2, width / 2)
        } else {
            (stripe.start.max(piece.first_row)..stripe.end, width)
        };
        let of_row = (width * ALTERNATING).max(1);
        for (row, ordered) in rows.clone().zip(ordered.chunks_exact_mut(of_row)) {
            let first = if halved {
                (row - stripe.start / 2) * across
            } else {
                row % 2 * (lines.len() / 2) + (row - stripe.start) / 2 * 2 * across
            };
            ordered.copy_from_slice(&lines[first..][..of_row]);
        }
        let to = &mut planes[(rows.start - piece.first_row) * width..];
        let positions = rows.len() * width;
        transpose(
            ordered,
            ALTERNATING,
            [positions, piece.images],
            to,
            piece.image,
        );
    }

    /// All products of a block of outputs: `[products, outputs of the block, tiles]`.
    fn multiply(
        &self,
        block: usize,
        inputs: &[T],
        products: &mut [T],
        [of_inputs, of_products]: [usize; 2],
        used: usize,
    ) {
        let pair = &self.pairs[0];
        let of_block = self.sources * self.block;
        let weights = &pair.weights[block * PRODUCTS * of_block..];
        let none = &[T::ZERO; WIDE_OUTPUTS][..self.block];
        for product in 0..PRODUCTS {
            self.machine.run(Wide {
                planes: &inputs[product * of_inputs..],
                offsets: &pair.offsets,
                weights: &weights[product * of_block..][..of_block],
                start: if product == IN_ALL {
                    &self.start[block * self.block..][..self.block]
                } else {
                    none
                },
                to: &mut products[product * of_products..][..self.block * used],
            });
        }
    }
}

/// What so many neighbouring tiles take in vectors of full tiles in registers; those with fewer vectors take longer.
fn wide_work(tiles: usize) -> f64 {
    let vectors = tiles.div_ceil(LANES);
    let last = match vectors % WIDE_VECTORS {
        1 if vectors == 1 => 0.5,
        1 => 0.2,
        2 => 0.1,
        _ => 0.0,
    };
    vectors as f64 + last
}

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use super::*;
    use crate::conv::winograd::tests::{usual, whole_numbers};
    use crate::pool::Pooling;
    use crate::{Conv2d, Planes, Window};

    #[test]
    fn small_whole_numbers_are_exact() {
        let overlapping = Window {
            size: [3, 2],
            stride: [1, 2],
            padding: [1, 0],
        };
        for (image, padding, [sources, outputs], images) in [
            ([2, 2], [(1, 1), (1, 1)], [1, 1], 1),
            ([4, 5], [(0, 0), (0, 0)], [2, 3], 1),
            ([5, 7], [(1, 1), (1, 1)], [3, 9], 2),
            ([7, 7], [(2, 2), (2, 2)], [4, 8], 3),
            ([9, 40], [(1, 0), (0, 2)], [2, 20], 1),
            ([4, 33], [(2, 1), (1, 2)], [5, 4], 4),
        ] {
            let conv = Conv2d {
                image,
                padding,
                groups: 2,
                ..usual(5, [2 * sources, 2 * outputs], 0)
            };
            let target = conv.output().unwrap();
            let gather = Gather::forward(&conv, target);
            let kernels = Kernels {
                weight: &whole_numbers(1, 2 * outputs * sources * 9),
                groups: 2,
                width: 3,
                outputs,
                sources,
                output_step: sources * 9,
                source_step: 9,
            };
            let x = whole_numbers(2, 5 * 2 * sources * image[0] * image[1]);
            let bias = whole_numbers(3, 2 * outputs);
            let of = |cut| Sums::with(cut, &gather, &kernels, Some(&bias), 5, 1);
            let expected = of(Cut::Wide).of_with(&x, |_, _| ()).0;
            let ways = [2, 4, target[0].next_multiple_of(2)]
                .map(|stripe| [(stripe, false), (stripe, true)]);
            for &(stripe, alternate) in ways.as_flattened() {
                let tiles = Tiles {
                    across: target[1].div_ceil(2),
                    stripe,
                    images: if alternate { ALTERNATING } else { images },
                    alternate,
                };
                let found = of(Cut::Winograd(tiles)).of_with(&x, |_, _| ()).0;
                assert_eq!(found, expected, "{conv:?} by {tiles:?}");
                for window in [Window::HALVING, overlapping] {
                    let planes = Planes {
                        count: 5 * 2 * outputs,
                        height: target[0],
                        width: target[1],
                    };
                    let pooled = |cut| {
                        let finish = |y: &mut [f32]| y.iter_mut().for_each(|y| *y = y.max(-1.0));
                        of(cut).pooled(&x, finish, &Pooling::new(planes, window))
                    };
                    let (found, expected) = (pooled(Cut::Winograd(tiles)), pooled(Cut::Wide));
                    assert_eq!(found, expected, "{conv:?} by {tiles:?}, {window:?}");
                }
            }
        }
    }

    #[test]
    fn the_way_is_the_same_for_any_number_of_examples() {
        for (channels, side, expected) in [
            ([32, 64], 28, true),
            ([64, 32], 28, true),
            ([16, 64], 28, false),
            ([64, 64], 14, true),
            ([64, 128], 7, true),
            ([32, 64], 7, false),
            ([512, 512], 4, false),
        ] {
            for examples in [1, 8, 128] {
                let conv = usual(examples, channels, side);
                let gather = Gather::forward(&conv, [side; 2]);
                let tiles = Tiles::of_sums(&gather, channels[0], channels[1], examples);
                assert_eq!(tiles.is_some(), expected, "{conv:?}");
            }
        }
    }
}
