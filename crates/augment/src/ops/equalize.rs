//! Equalize: a flat histogram.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Apply, Colour, Draw, point};
use crate::size::{Size, Sizes};

/// y = ⌊(s/2 + Σ_(l < x) h(l))/s⌋ in each channel, where h(l) is how many pixels have level l and the
/// step s is ⌊(pixels − h(greatest level))/255⌋. A channel with one level, or so few pixels that the
/// step is 0, stays as it is. Nothing is drawn.
///
/// Dialect: Pillow's `ImageOps.equalize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Equalize {}

impl Draw for Equalize {
    type Parameters = Self;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        Ok(sizes)
    }

    fn draw(&self, _: Size, _: &mut Draws) -> Self {
        *self
    }

    fn is_fixed(&self) -> bool {
        true
    }
}

impl Apply for Equalize {
    fn check(&self, size: Size) -> Result<Size, String> {
        Ok(size)
    }

    fn colour(&self, _: usize) -> Option<Colour> {
        Some(Colour::Counted(flat))
    }
}

fn flat(counts: &[u32; 256]) -> point::Table {
    let greatest = counts.iter().rev().find(|&&count| count > 0);
    let step = (counts.iter().sum::<u32>() - greatest.unwrap_or(&0)) / 255;
    if step == 0 {
        return point::table(|level| level);
    }
    let mut below = step / 2;
    counts.map(|count| {
        let level = below / step;
        below += count;
        level.min(255) as u8
    })
}
