//! Invert: the negative.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Apply, Draw, point};
use crate::Image;
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

    fn apply(&self, image: &mut Image, _: &mut Vec<u8>) {
        point::map(image, &point::table(|level| !level));
    }
}
