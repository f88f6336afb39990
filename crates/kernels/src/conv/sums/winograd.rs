//! Winograd's way to a convolution with 3×3 kernels, F(2×2, 3×3).
//!
//! The four outputs of a 2×2 tile are Aᵀ\[(G g Gᵀ) ⊙ (Bᵀ d B)\]A of the kernel g and the 4×4 inputs d that they see:
//! 16 multiplications where the definition has 36. Summed over channels, each of the 16 is a matrix product of
//! transformed weights and transformed inputs. The transforms have no factors but ±1 and ½, so the rounding error is
//! only a few times that of the definition's sum, and none for small whole numbers; but a value that is not finite
//! makes its whole tile so.
//!
//! Lavin & Gray, [Fast Algorithms for Convolutional Neural Networks](https://arxiv.org/abs/1509.09308), 2016.

use std::ops::Range;

use multiversion::multiversion;

use super::{Cut, Gather, Part, Piece, Sums};
use crate::Float;
use crate::conv::ENOUGH_PARTS;
use crate::conv::gather::Class;
use crate::conv::tiles::{WIDE_OUTPUTS, WIDE_VECTORS, Wide};
use crate::parallel;
use crate::pool::larger_of;
use crate::simd::LANES;

/// Products of a tile.
const PRODUCTS: usize = 16;
/// Of [`PRODUCTS`], the one that all four outputs have with a factor of 1.
const IN_ALL: usize = 5;

/// What is written in whole blocks of lanes goes beyond its end by less than this.
const SLACK: usize = LANES;

/// Places of a kernel.
const TAPS: usize = 9;

/// With fewer channels the transforms take longer than they save; on smaller images than these, rows of tiles fill
/// vectors less, and there must be more channels.
const FEWEST: usize = 32;
const WIDE_IMAGE: usize = 28;
/// On smaller images the other ways leave out much that sees only zeros.
const SMALLEST: usize = 8;
/// Of the definition's: the last tiles of images with odd sides are cut, and there are more than 4 of 9.
const MOST_PRODUCTS: f64 = 0.53;
/// Elements of the transformed inputs that are in use at a time.
const INPUTS: usize = 1 << 17;
/// Images whose tiles are handled together, at most.
const MOST_IMAGES: usize = 8;

/// How an image's target is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tiles {
    /// Tiles of a row.
    pub across: usize,
    /// Rows of the target that are handled at a time.
    pub stripe: usize,
    /// Images that are.
    pub images: usize,
}

impl Tiles {
    /// If this is the way to make such sums. That does not depend on the number of examples, nor on the machine: it
    /// rounds differently from the others.
    pub fn new(gather: &Gather, sources: usize, outputs: usize, examples: usize) -> Option<Self> {
        let [height, width] = gather.target;
        let plain = gather.down.is_plain(3) && gather.across.is_plain(3);
        let [down, across] = [height.div_ceil(2), width.div_ceil(2)];
        let products = (PRODUCTS * down * across) as f64 / (TAPS * height * width) as f64;
        let side = height.min(width);
        let pays = sources.min(outputs) * side.min(WIDE_IMAGE) >= FEWEST * WIDE_IMAGE;
        if !plain || side < SMALLEST || products > MOST_PRODUCTS || !pays {
            return None;
        }
        let fits = |tiles: usize| PRODUCTS * sources * tiles.next_multiple_of(LANES) <= INPUTS;
        let mut stripe = down;
        while stripe > 1 && !fits(stripe * across) {
            stripe = stripe.div_ceil(2);
        }
        // Several images where that fills tiles in registers better.
        let most = MOST_IMAGES.min(examples / ENOUGH_PARTS);
        let candidates = (2..=most).filter(|images| stripe == down && fits(images * down * across));
        let work = |images: usize| wide_work(images * down * across) / images as f64;
        let images = candidates.fold(1, |best, images| {
            if work(images) < 0.99 * work(best) {
                images
            } else {
                best
            }
        });
        Some(Self {
            across,
            stripe: 2 * stripe,
            images,
        })
    }

    /// Places for the tiles, whole vectors.
    pub fn positions(&self, lanes: usize) -> usize {
        (self.images * self.stripe.div_ceil(2) * self.across).next_multiple_of(lanes)
    }

    /// Elements of the transformed inputs, the padded rows of a channel, the products of a block of outputs, and an
    /// output in two lines.
    pub fn scratch(&self, sources: usize, block: usize, lanes: usize) -> usize {
        let positions = self.positions(lanes);
        let lines = 4 * (positions + SLACK);
        PRODUCTS * ((sources + block) * positions + 2 * SLACK) + self.padded() + lines
    }

    /// From the even columns of a padded row to the odd ones, and from those to the next row's.
    fn pitch(&self) -> usize {
        self.across.next_multiple_of(LANES) + 1
    }

    /// Elements of the padded rows of a channel.
    fn padded(&self) -> usize {
        2 * (self.stripe + 2) * self.pitch()
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
        let (padded, lines) = scratch.split_at_mut(tiles.padded());
        for group in 0..self.groups {
            let piece = self.piece(part, group, rows.start, to.len());
            // Tiles lie at even rows, whatever the rows that are wanted: the same bits for any.
            for first in (rows.start - rows.start % 2..rows.end).step_by(tiles.stripe) {
                let stripe = first..(first + tiles.stripe).min(rows.end);
                self.transform(x, tiles, &stripe, &piece, padded, inputs);
                let of_image = stripe.len().div_ceil(2) * tiles.across;
                let used = (piece.images * of_image).next_multiple_of(self.machine.lanes);
                for block in 0..piece.outputs.div_ceil(self.block) {
                    self.multiply(piece.blocks + block, inputs, products, steps, used);
                    for (index, output) in piece.block(block, self.block).enumerate() {
                        let products = &products[index * used..];
                        transform_outputs(products, steps[1], used, lines, finish.is_none());
                        if let Some(finish) = finish {
                            finish(lines);
                            largest(lines);
                        }
                        let planes = &mut to[piece.group + output * piece.plane..];
                        let planes = planes.chunks_mut(piece.image).take(piece.images);
                        for (image, plane) in planes.enumerate() {
                            let first = image * of_image;
                            self.put_lines(lines, first, &stripe, &piece, finish.is_some(), plane);
                        }
                    }
                }
            }
        }
    }

    /// The transformed inputs of all sources and images for these rows of the target, the first of which is even:
    /// `[products, sources, images and tiles]`.
    fn transform(
        &self,
        x: &[T],
        tiles: &Tiles,
        rows: &Range<usize>,
        piece: &Piece,
        padded: &mut [T],
        inputs: &mut [T],
    ) {
        let Gather { down, across, .. } = self.gather;
        let (size, width, pitch) = (self.gather.source_size(), across.size(), tiles.pitch());
        let of_tiles = [rows.len().div_ceil(2), tiles.across];
        let positions = tiles.positions(self.machine.lanes);
        let step = inputs.len() / PRODUCTS;
        // What is around an image is the same for all of them.
        padded.fill(T::ZERO);
        // Source after source: a row of tiles is written in whole blocks of lanes, into what follows.
        for source in 0..self.sources {
            for image in 0..piece.images {
                let channel = piece.sources + image * self.groups * self.sources + source;
                let x = &x[channel * size..][..size];
                let padded_rows = padded.chunks_exact_mut(2 * pitch);
                for (row, padded) in padded_rows.take(2 * of_tiles[0] + 2).enumerate() {
                    let from = (rows.start + row).checked_sub(down.before());
                    if let Some(from) = from.filter(|&from| from < down.size()) {
                        let x = &x[from * width..][..width];
                        split(x, across.before(), padded, pitch);
                    }
                }
                let first = source * positions + image * of_tiles[0] * of_tiles[1];
                transform_rows(padded, pitch, of_tiles, &mut inputs[first..], step);
            }
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

/// Transformed kernels, G g Gᵀ: from `[blocks, sources, taps, outputs of a block]` to
/// `[blocks, products, sources, outputs of a block]`.
pub(super) fn transform_weights<T: Float>(
    packed: &[T],
    [down, across]: [&Class; 2],
    sources: usize,
    block: usize,
) -> Vec<T> {
    let place = |offset: usize| {
        let tap = |class: &Class, offset| class.taps.iter().position(|tap| tap.offset() == offset);
        let places = [tap(down, offset / 3), tap(across, offset % 3)];
        let [a, b] = places.map(|place| place.expect("a tap for each offset"));
        3 * a + b
    };
    let places: [usize; TAPS] = std::array::from_fn(place);
    let of_block = sources * block;
    let mut transformed = vec![T::ZERO; packed.len() / TAPS * PRODUCTS];
    let parts = transformed.chunks_mut(PRODUCTS * of_block);
    parallel::collect_with(
        parts,
        packed.len(),
        || (),
        |part, transformed, ()| {
            let packed = &packed[part * TAPS * of_block..][..TAPS * of_block];
            transform_block(packed, &places, block, transformed);
        },
    );
    transformed
}

/// [`transform_weights`] of one block.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn transform_block<T: Float>(packed: &[T], places: &[usize; TAPS], block: usize, to: &mut [T]) {
    let step = to.len() / PRODUCTS;
    for (source, packed) in packed.chunks_exact(TAPS * block).enumerate() {
        let to = &mut to[source * block..];
        match block {
            1 => transform_kernels::<T, 1>(packed, places, to, step),
            4 => transform_kernels::<T, 4>(packed, places, to, step),
            _ => transform_kernels::<T, WIDE_OUTPUTS>(packed, places, to, step),
        }
    }
}

/// One source's kernels for N outputs: product k of output o goes to `to`\[k·`step` + o\].
#[inline(always)]
fn transform_kernels<T: Float, const N: usize>(
    packed: &[T],
    places: &[usize; TAPS],
    to: &mut [T],
    step: usize,
) {
    // G·(g0, g1, g2) = (g0, (g0 + g1 + g2)/2, (g0 − g1 + g2)/2, g2), down and then across.
    let half = T::from_f64(0.5);
    let mut g = [[T::ZERO; N]; TAPS];
    for k in 0..TAPS {
        g[k].copy_from_slice(&packed[places[k] * N..][..N]);
    }
    let mut columns = [[[T::ZERO; N]; 4]; 3];
    for b in 0..3 {
        for o in 0..N {
            let outer = half * (g[b][o] + g[6 + b][o]);
            let inner = half * g[3 + b][o];
            columns[b][0][o] = g[b][o];
            columns[b][1][o] = outer + inner;
            columns[b][2][o] = outer - inner;
            columns[b][3][o] = g[6 + b][o];
        }
    }
    for a in 0..4 {
        let mut row = [[T::ZERO; N]; 4];
        for o in 0..N {
            let outer = half * (columns[0][a][o] + columns[2][a][o]);
            let inner = half * columns[1][a][o];
            row[0][o] = columns[0][a][o];
            row[1][o] = outer + inner;
            row[2][o] = outer - inner;
            row[3][o] = columns[2][a][o];
        }
        for b in 0..4 {
            to[(4 * a + b) * step..][..N].copy_from_slice(&row[b]);
        }
    }
}

/// A row of tiles' inputs, Bᵀ d B, from the four padded rows that they see, split into even and odd columns: product k
/// of tile j goes to `to`\[k·`step` + j\]. Whole blocks of N are read and written.
#[inline(always)]
fn transform_inputs<T: Float, const N: usize>(
    rows: &[T],
    pitch: usize,
    across: usize,
    to: &mut [T],
    step: usize,
) {
    for first in (0..across).step_by(N) {
        // Across: (x0 − x2, x1 + x2, x2 − x1, x1 − x3).
        let mut h = [[[T::ZERO; N]; 4]; 4];
        for a in 0..4 {
            let even = &rows[2 * a * pitch + first..][..N + 1];
            let odd = &rows[(2 * a + 1) * pitch + first..][..N + 1];
            for j in 0..N {
                h[a][0][j] = even[j] - even[j + 1];
            }
            for j in 0..N {
                h[a][1][j] = odd[j] + even[j + 1];
            }
            for j in 0..N {
                h[a][2][j] = even[j + 1] - odd[j];
            }
            for j in 0..N {
                h[a][3][j] = odd[j] - odd[j + 1];
            }
        }
        // And down.
        for b in 0..4 {
            let mut v = [[T::ZERO; N]; 4];
            for j in 0..N {
                v[0][j] = h[0][b][j] - h[2][b][j];
            }
            for j in 0..N {
                v[1][j] = h[1][b][j] + h[2][b][j];
            }
            for j in 0..N {
                v[2][j] = h[2][b][j] - h[1][b][j];
            }
            for j in 0..N {
                v[3][j] = h[1][b][j] - h[3][b][j];
            }
            for a in 0..4 {
                to[(4 * a + b) * step + first..][..N].copy_from_slice(&v[a]);
            }
        }
    }
}

/// The transformed inputs of rows of tiles: see [`transform_inputs`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn transform_rows<T: Float>(
    padded: &[T],
    pitch: usize,
    [down, across]: [usize; 2],
    to: &mut [T],
    step: usize,
) {
    for row in 0..down {
        let padded = &padded[4 * row * pitch..];
        let to = &mut to[row * across..];
        match across {
            0..=4 => transform_inputs::<T, 4>(padded, pitch, across, to, step),
            5..=8 => transform_inputs::<T, 8>(padded, pitch, across, to, step),
            _ => transform_inputs::<T, LANES>(padded, pitch, across, to, step),
        }
    }
}

/// The values of a row into even and odd columns of a padded one, which are `pitch` apart, from a column on.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn split<T: Float>(x: &[T], before: usize, padded: &mut [T], pitch: usize) {
    let (even, odd) = padded.split_at_mut(pitch);
    let [first, second] = if before.is_multiple_of(2) {
        [even, odd]
    } else {
        [odd, even]
    };
    let first = &mut first[before / 2..];
    let second = &mut second[before.div_ceil(2)..];
    let (pairs, last) = x.as_chunks::<2>();
    for ((pair, first), second) in pairs.iter().zip(&mut *first).zip(second) {
        *first = pair[0];
        *second = pair[1];
    }
    if let [last] = last {
        first[pairs.len()] = *last;
    }
}

/// Tiles' outputs, Aᵀ m A, from their products: product k of tile j is `products`\[k·`step` + j\]. The two rows of
/// outputs are the halves of `lines`: as they lie in an image, or, if those of a column do not `alternate` with those of
/// the other, in quarters. Whole blocks of lanes are read and written.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn transform_outputs<T: Float>(
    products: &[T],
    step: usize,
    tiles: usize,
    lines: &mut [T],
    alternate: bool,
) {
    let (upper, lower) = lines.split_at_mut(lines.len() / 2);
    for first in (0..tiles).step_by(LANES) {
        // Down: (m0 + m1 + m2, m1 − m2 − m3).
        let mut s = [[[T::ZERO; LANES]; 4]; 2];
        for b in 0..4 {
            let mut m = [products; 4];
            for a in 0..4 {
                m[a] = &products[(4 * a + b) * step + first..][..LANES];
            }
            for j in 0..LANES {
                s[0][b][j] = m[0][j] + m[1][j] + m[2][j];
                s[1][b][j] = m[1][j] - m[2][j] - m[3][j];
            }
        }
        // And across.
        for (s, line) in s.iter().zip([&mut *upper, &mut *lower]) {
            let mut y = [[T::ZERO; LANES]; 2];
            for j in 0..LANES {
                y[0][j] = s[0][j] + s[1][j] + s[2][j];
                y[1][j] = s[1][j] - s[2][j] - s[3][j];
            }
            if alternate {
                let line = &mut line[2 * first..][..2 * LANES];
                for j in 0..LANES {
                    line[2 * j] = y[0][j];
                    line[2 * j + 1] = y[1][j];
                }
            } else {
                let (left, right) = line.split_at_mut(line.len() / 2);
                left[first..][..LANES].copy_from_slice(&y[0]);
                right[first..][..LANES].copy_from_slice(&y[1]);
            }
        }
    }
}

/// The largest of each tile's outputs, from the quarters of `lines`, to the first of them.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn largest<T: Float>(lines: &mut [T]) {
    let quarter = lines.len() / 4;
    let (first, others) = lines.split_at_mut(quarter);
    for others in others.chunks_exact(quarter) {
        for (largest, &value) in first.iter_mut().zip(others) {
            *largest = larger_of(*largest, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use super::*;
    use crate::pool::Pooling;
    use crate::{Conv2d, Planes, Window};
    use evenkeel_random::Key;

    /// Whole numbers from −4 to 4, whose sums are exact in all ways of adding them.
    fn values(seed: u64, len: usize) -> Vec<f32> {
        let mut draws = Key::from_seed(seed).draws();
        (0..len)
            .map(|_| (draws.uniform() * 9.0).floor() as f32 - 4.0)
            .collect()
    }

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
                examples: 5,
                channels: [2 * sources, 2 * outputs],
                image,
                kernel: [3, 3],
                stride: [1, 1],
                padding,
                dilation: [1, 1],
                groups: 2,
            };
            let target = conv.output().unwrap();
            let gather = Gather::forward(&conv, target);
            let kernels = Kernels {
                weight: &values(1, 2 * outputs * sources * 9),
                groups: 2,
                width: 3,
                outputs,
                sources,
                output_step: sources * 9,
                source_step: 9,
            };
            let x = values(2, 5 * 2 * sources * image[0] * image[1]);
            let bias = values(3, 2 * outputs);
            let of = |cut| Sums::with(cut, &gather, &kernels, Some(&bias), 5, 1);
            let expected = of(Cut::Wide).of_with(&x, |_, _| ()).0;
            for stripe in [2, 4, target[0].next_multiple_of(2)] {
                let tiles = Tiles {
                    across: target[1].div_ceil(2),
                    stripe,
                    images,
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
            ([64, 128], 7, false),
            ([512, 512], 4, false),
        ] {
            for examples in [1, 8, 128] {
                let conv = Conv2d {
                    examples,
                    channels,
                    image: [side; 2],
                    kernel: [3, 3],
                    stride: [1, 1],
                    padding: [(1, 1); 2],
                    dilation: [1, 1],
                    groups: 1,
                };
                let gather = Gather::forward(&conv, [side; 2]);
                let tiles = Tiles::new(&gather, channels[0], channels[1], examples);
                assert_eq!(tiles.is_some(), expected, "{conv:?}");
            }
        }
    }
}
