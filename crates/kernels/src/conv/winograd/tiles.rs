//! The 2×2 tiles of a target, and the inputs that they see.

use std::ops::Range;

use super::{LANES, PRODUCTS, TAPS, split, transform_inputs};
use crate::Float;
use crate::conv::ENOUGH_PARTS;
use crate::conv::gather::{Channels, Gather};
use crate::conv::transpose::transpose;

/// With fewer channels the transforms take longer than they save; on smaller images than these, which have more edges,
/// there must be more channels.
const FEWEST: usize = 32;
const WIDE_IMAGE: usize = 10;
/// On smaller images the other ways leave out much that sees only zeros.
const SMALLEST: usize = 7;
/// Of the definition's: the last tiles of images with odd sides are cut, and there are more than 4 of 9.
const MOST_PRODUCTS: f64 = 0.59;
/// Tiles of a row, of which several images fill vectors better than one.
const SHORT: usize = LANES / 2;

/// How an image's target is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::conv) struct Tiles {
    /// Tiles of a row.
    pub across: usize,
    /// Rows of the target that are handled at a time.
    pub stripe: usize,
    /// Images that are.
    pub images: usize,
    /// Whether the values of the images, [`ALTERNATING`] of them, alternate: then whole vectors move from place to place.
    /// Otherwise their tiles are side by side.
    pub alternate: bool,
}

/// Images whose values alternate.
pub(in crate::conv) const ALTERNATING: usize = 8;

impl Tiles {
    /// Tiles down and across, where these transforms are the convolution's and save more than they take.
    pub fn that_save(gather: &Gather, sources: usize, outputs: usize) -> Option<[usize; 2]> {
        let [height, width] = gather.target;
        let plain = gather.down.is_plain(3) && gather.across.is_plain(3);
        let tiles = gather.target.map(|size| size.div_ceil(2));
        let products = (PRODUCTS * tiles[0] * tiles[1]) as f64 / (TAPS * height * width) as f64;
        let side = height.min(width);
        let pays = sources.min(outputs) * side.min(WIDE_IMAGE) >= FEWEST * WIDE_IMAGE;
        let saves = side >= SMALLEST && products <= MOST_PRODUCTS;
        (plain && saves && pays).then_some(tiles)
    }

    /// Tiles of as many rows as fit: of images whose values alternate, where rows of tiles would fill vectors badly and
    /// there are enough images for some threads; or of one image.
    pub fn that_fit(
        [down, across]: [usize; 2],
        examples: usize,
        fits: impl Fn(usize) -> bool,
    ) -> Self {
        let alternate = across <= SHORT && examples >= ALTERNATING * ENOUGH_PARTS / 2;
        let images = if alternate { ALTERNATING } else { 1 };
        let mut stripe = down;
        while stripe > 1 && !fits(images * stripe * across) {
            stripe = stripe.div_ceil(2);
        }
        Self {
            across,
            stripe: 2 * stripe,
            images,
            alternate,
        }
    }

    /// Tiles that are handled together.
    pub fn count(&self) -> usize {
        self.images * self.stripe.div_ceil(2) * self.across
    }

    /// From a tile to its neighbour.
    pub fn apart(&self) -> usize {
        if self.alternate { ALTERNATING } else { 1 }
    }

    /// From the even columns of a padded row to the odd ones, and from those to the next row's.
    fn pitch(&self) -> usize {
        (self.across * self.apart()).next_multiple_of(LANES) + self.apart()
    }

    /// Elements of the rows of the source that are seen, of images whose values alternate.
    fn alternating(&self) -> usize {
        if self.alternate {
            (self.stripe + 2) * (2 * self.across + 2) * ALTERNATING
        } else {
            0
        }
    }

    /// Elements of the padded rows of a channel, and of the rows before they are padded.
    pub fn padded(&self) -> usize {
        2 * (self.stripe + 2) * self.pitch() + self.alternating()
    }

    /// The transformed inputs of these channels for these rows of the target, the first of which is even:
    /// `[products, channels, images and tiles]`, the channels so many `positions` apart.
    pub fn transform_inputs<T: Float>(
        &self,
        x: &[T],
        gather: &Gather,
        channels: &Channels,
        rows: &Range<usize>,
        positions: usize,
        [padded, inputs]: [&mut [T]; 2],
    ) {
        let Gather { down, across, .. } = gather;
        let (size, width, pitch) = (gather.source_size(), across.size(), self.pitch());
        let of_tiles = [rows.len().div_ceil(2), self.across];
        let step = inputs.len() / PRODUCTS;
        // What is around an image is the same for all of them, and so are the images that there are not.
        padded.fill(T::ZERO);
        let (alternating, padded) = padded.split_at_mut(self.alternating());
        // The rows that are seen, of the source and of the padded ones.
        let first = rows.start.saturating_sub(down.before());
        let padded_rows = 2 * of_tiles[0] + 2;
        let first_padded = (down.before() + first).saturating_sub(rows.start);
        let end = (rows.start + padded_rows).saturating_sub(down.before());
        let seen = first..end.clamp(first, down.size().max(first));
        // Channel after channel: a row of tiles is written in whole blocks of lanes, into what follows.
        for index in 0..channels.count {
            let images = if self.alternate { 1 } else { channels.images };
            for image in 0..images {
                let channel = channels.first + image * channels.apart + index;
                let x = &x[channel * size + seen.start * width..];
                let padded_rows = padded.chunks_exact_mut(2 * pitch).skip(first_padded);
                let padded_rows = padded_rows.take(seen.len());
                let before = across.before();
                if self.alternate {
                    let positions = [channels.images, seen.len() * width];
                    transpose(
                        x,
                        channels.apart * size,
                        positions,
                        alternating,
                        ALTERNATING,
                    );
                    let x = alternating.chunks_exact(width * ALTERNATING);
                    for (x, to) in x.zip(padded_rows) {
                        split::<T, ALTERNATING>(x, before, to, pitch);
                    }
                } else {
                    for (x, to) in x.chunks_exact(width).zip(padded_rows) {
                        split::<T, 1>(x, before, to, pitch);
                    }
                }
                let to = &mut inputs[index * positions + image * of_tiles[0] * of_tiles[1]..];
                if self.alternate {
                    transform_inputs::<T, ALTERNATING>(padded, pitch, of_tiles, to, step);
                } else {
                    transform_inputs::<T, 1>(padded, pitch, of_tiles, to, step);
                }
            }
        }
    }
}
