//! Invert: the negative.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::point::{self, Levels};
use super::{Apply, Colour, Draw};
use crate::size::{Size, Sizes};

/// y = 255 − x. Nothing is drawn.
///
/// Dialect: Pillow's `ImageOps.invert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invert {}

impl Draw for Invert {
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

impl Apply for Invert {
    fn check(&self, size: Size) -> Result<Size, String> {
        Ok(size)
    }

    fn colour(&self, _: usize) -> Option<Colour> {
        Some(Colour::Levels(Levels::all(point::table(|level| !level))))
    }
}
