//! Grid mask: squares in a regular grid are erased.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Apply, Draw, check};
use crate::Image;
use crate::image::LONGEST_SIDE;
use crate::size::{Size, Sizes};

/// The plane is divided into squares of side d, uniform over a range, shifted by a uniform way; in each
/// of them a square of side d − ⌈keep·d⌉ is erased, so that about 1 − (1 − keep)² of the image is
/// kept.
///
/// Source: Chen et al., "GridMask Data Augmentation" (2020), whose r is `keep`; their code can also turn
/// the grid, and erases after normalization.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridMask {
    /// The least and the greatest side of the grid's squares; each between is equally likely.
    pub side: [usize; 2],
    /// The share of a square's side that is kept.
    #[serde(default = "half")]
    pub keep: f64,
    /// What every channel of an erased pixel becomes.
    #[serde(default)]
    pub fill: u8,
    /// The probability of erasing at all.
    #[serde(default = "always")]
    pub probability: f64,
}

/// The grid erased from one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedGrid {
    /// The side of the grid's squares.
    pub side: usize,
    /// The side of what is erased of each; 0 erases nothing.
    pub erased: usize,
    /// The columns before the first erased square, below `side`.
    pub left: usize,
    /// The rows before the first erased square, below `side`.
    pub top: usize,
    /// What every channel of an erased pixel becomes.
    pub fill: u8,
}

fn half() -> f64 {
    0.5
}

fn always() -> f64 {
    1.0
}

impl Draw for GridMask {
    type Parameters = ErasedGrid;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        let range = 2.0..=LONGEST_SIDE as f64;
        check::range("side", self.side.map(|side| side as f64), range)?;
        check::number("keep", self.keep, 0.0..=1.0)?;
        check::probability("probability", self.probability).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> ErasedGrid {
        let [least, most] = self.side;
        // `check` bounds all of these.
        let side = least + draws.below((most - least + 1) as u32) as usize;
        let mut shift = || draws.below(side as u32) as usize;
        let (left, top) = (shift(), shift());
        let erased = if draws.chance(self.probability) {
            side - (self.keep * side as f64).ceil() as usize
        } else {
            0
        };
        ErasedGrid {
            side,
            erased,
            left,
            top,
            fill: self.fill,
        }
    }
}

impl Apply for ErasedGrid {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::count("side", self.side, 1..=LONGEST_SIDE)?;
        check::count("erased", self.erased, 0..=self.side)?;
        check::count("left", self.left, 0..=self.side - 1)?;
        check::count("top", self.top, 0..=self.side - 1)?;
        Ok(size)
    }

    fn apply(&self, image: &mut Image, _: &mut Vec<u8>) {
        let Self { side, erased, .. } = *self;
        let channels = image.channels();
        // How far into its square of the grid, counted from what is erased, a place is.
        let phase = |place: usize, shift: usize| (place + side - shift) % side;
        for (y, row) in image.rows_mut().enumerate() {
            if phase(y, self.top) < erased {
                for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                    if phase(x, self.left) < erased {
                        pixel.fill(self.fill);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_random::Key;

    #[test]
    fn squares_are_erased_where_the_grid_has_them() {
        let mut image = Image::new(6, 5, 1, vec![1; 30]).unwrap();
        let grid = ErasedGrid {
            side: 3,
            erased: 2,
            left: 1,
            top: 2,
            fill: 0,
        };
        grid.apply(&mut image, &mut Vec::new());
        #[rustfmt::skip]
        let expected = [
            1, 0, 0, 1, 0, 0,
            1, 1, 1, 1, 1, 1,
            1, 0, 0, 1, 0, 0,
            1, 0, 0, 1, 0, 0,
            1, 1, 1, 1, 1, 1,
        ];
        assert_eq!(image.pixels(), expected);
    }

    #[test]
    fn sides_and_shifts_are_uniform_and_the_kept_share_is_as_it_should_be() {
        let mask = GridMask {
            side: [4, 6],
            keep: 0.5,
            fill: 0,
            probability: 1.0,
        };
        let mut draws = Key::from_seed(8).draws();
        let (mut sides, mut shifts) = ([0.0; 3], [[0.0; 4]; 2]);
        for _ in 0..30_000 {
            let grid = mask.draw(Size::new(9, 9), &mut draws);
            assert_eq!(grid.erased, grid.side / 2);
            sides[grid.side - 4] += 1.0;
            if grid.side == 4 {
                shifts[0][grid.left] += 1.0;
                shifts[1][grid.top] += 1.0;
            }
        }
        let chi = |counts: &[f64]| -> f64 {
            let expected = counts.iter().sum::<f64>() / counts.len() as f64;
            counts
                .iter()
                .map(|n| (n - expected).powi(2) / expected)
                .sum()
        };
        assert!(chi(&sides) < 13.8, "{sides:?}"); // 2 degrees of freedom, once in a thousand
        for counts in shifts {
            assert!(chi(&counts) < 16.3, "{counts:?}"); // 3 degrees of freedom
        }
    }
}
