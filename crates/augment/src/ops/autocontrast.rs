//! Autocontrast: levels stretched to the whole range.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Apply, Colour, Draw, point};
use crate::size::{Size, Sizes};

/// y = ⌊255·(x − least)/(greatest − least)⌋ in each channel. A channel with one level stays as it is.
/// Nothing is drawn.
///
/// Dialect: Pillow's `ImageOps.autocontrast` without a cutoff, whose rounding in `f64` is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autocontrast {}

impl Draw for Autocontrast {
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

impl Apply for Autocontrast {
    fn check(&self, size: Size) -> Result<Size, String> {
        Ok(size)
    }

    fn colour(&self, _: usize) -> Option<Colour> {
        Some(Colour::Counted(stretched))
    }
}

fn stretched(counts: &[u32; 256]) -> point::Table {
    let least = counts.iter().position(|&count| count > 0).unwrap_or(0);
    let greatest = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    if greatest <= least {
        return point::table(|level| level);
    }
    let scale = 255.0 / (greatest - least) as f64;
    let offset = -(least as f64) * scale;
    point::table(|level| (f64::from(level) * scale + offset) as u8)
}
