//! DropBlock's mask: squares of an image are dropped together.

use std::borrow::Cow;

use evenkeel_random::Key;

use super::mask::Dropout;
use super::words::Words;
use crate::Float;
use crate::output::{Grid, build_over};
use crate::parallel;

/// Elements that a thread takes at least, in whole planes.
const CHUNK: usize = 1 << 15;

/// Blocks dropped from each plane of images `[planes, height, width]`.
///
/// A block begins (has its first row and column) at an element iff the element's word is below
/// ⌊γ·2³²⌋ and the block is then whole inside the plane; all that it covers is dropped. With blocks of
/// b×b, clipped to the plane, and
///
/// ```text
/// γ = p / b² · height·width / ((height − b + 1)·(width − b + 1))
/// ```
///
/// about a share p is dropped (less, as p grows: blocks overlap, which the formula does not know).
/// What is kept is multiplied by elements / kept elements, counted over the whole tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropBlock {
    key: Key,
    /// Words below this one begin a block: up to 2³².
    threshold: u64,
    image: [usize; 2],
    /// Height and width of a block.
    block: [usize; 2],
}

impl DropBlock {
    /// Drops about a share `prob` of images of this height and width, in squares of this size; all at
    /// 1.
    ///
    /// # Panics
    /// If `prob` is not in 0..=1 or the size is 0.
    pub fn new(key: Key, prob: f64, block_size: usize, image: [usize; 2]) -> Self {
        assert!(
            (0.0..=1.0).contains(&prob),
            "prob: expected 0 to 1, got {prob}"
        );
        assert!(block_size > 0, "block_size: expected at least 1, got 0");
        // Every place beginning a block of one element: nothing is left.
        let block = if prob == 1.0 {
            [1; 2]
        } else {
            image.map(|side| side.min(block_size))
        };
        let share = |side: usize, block: usize| side as f64 / ((side - block + 1) * block) as f64;
        let gamma = if image.contains(&0) {
            0.0
        } else {
            prob * share(image[0], block[0]) * share(image[1], block[1])
        };
        Self {
            key,
            threshold: (gamma.min(1.0) * 4_294_967_296.0) as u64,
            image,
            block,
        }
    }

    /// Whether a block begins at `row` and `column` of a plane, where the element's word is this one.
    #[inline(always)]
    pub(crate) fn begins(&self, word: u32, row: usize, column: usize) -> bool {
        u64::from(word) < self.threshold
            && row + self.block[0] <= self.image[0]
            && column + self.block[1] <= self.image[1]
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// A mask, as of dropout, that drops where a block begins if it is whole inside the plane: for whoever makes the
    /// blocks of it by other means.
    pub fn beginnings(&self) -> Dropout {
        Dropout::below(self.key, self.threshold)
    }

    /// Height and width of a plane.
    pub fn image(&self) -> [usize; 2] {
        self.image
    }

    /// Height and width of a block.
    pub fn block(&self) -> [usize; 2] {
        self.block
    }

    /// Calls `row(first, dropped)` for each row of the planes, with the index of its first element and
    /// whether each is dropped.
    fn rows(&self, planes: std::ops::Range<usize>, mut visit: impl FnMut(usize, &[bool])) {
        let [height, width] = self.image;
        let mut words = Words::new(self.key);
        let mut dropped = vec![false; width];
        for plane in planes {
            // How many rows each column is still covered, from this one on.
            let mut rows_left = vec![0; width];
            for row in 0..height {
                let first = (plane * height + row) * width;
                let (mut column, mut reach) = (0, 0);
                while column < width {
                    let words = words.from((first + column) as u64);
                    for &word in words.iter().take(width - column) {
                        if self.begins(word, row, column) {
                            reach = self.block[1];
                        }
                        if reach > 0 {
                            rows_left[column] = self.block[0];
                            reach -= 1;
                        }
                        dropped[column] = rows_left[column] > 0;
                        rows_left[column] = rows_left[column].saturating_sub(1);
                        column += 1;
                    }
                }
                visit(first, &dropped);
            }
        }
    }
}

/// y\[i\] = x\[i\]·m\[i\], m\[i\] being 0 where a block covers element i and elements / kept elements
/// otherwise (0 where nothing is kept). Its gradient is the same function.
///
/// # Panics
/// If `x` is no whole number of planes.
pub fn drop_block<'a, T: Float>(x: impl Into<Cow<'a, [T]>>, blocks: &DropBlock) -> Vec<T> {
    let x = x.into();
    let plane: usize = blocks.image.iter().product();
    if x.is_empty() {
        return Vec::new();
    }
    assert!(
        plane > 0 && x.len().is_multiple_of(plane),
        "x: expected planes of {:?}, got {} elements",
        blocks.image,
        x.len()
    );
    let planes = x.len() / plane;
    let at_once = CHUNK.div_ceil(plane);
    let part = |index: usize| index * at_once..((index + 1) * at_once).min(planes);
    // The mask is computed twice, to count and to multiply, and stored in neither.
    let kept: Vec<usize> = parallel::collect(planes.div_ceil(at_once), x.len(), |index| {
        let mut kept = 0;
        blocks.rows(part(index), |_, dropped| {
            kept += dropped.iter().filter(|dropped| !**dropped).count();
        });
        kept
    });
    let factor = match kept.iter().sum::<usize>() {
        0 => T::ZERO,
        kept => T::from_f64(x.len() as f64 / kept as f64),
    };
    let chunks = Grid::chunks(x.len(), at_once * plane);
    let (output, _) = build_over(x, chunks, |elements, x, writer| {
        let planes = elements.start / plane..elements.end / plane;
        blocks.rows(planes, |first, dropped| {
            writer.map(x, first..first + dropped.len(), |x, i| {
                x * if dropped[i] { T::ZERO } else { factor }
            });
        });
    });
    output
}
