//! Grayscale: colour is taken out.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Apply, Draw, point};
use crate::Image;
use crate::size::{Size, Sizes};

/// y = (.299 r + .587 g + .114 b) in each of the three channels, of which there stay as many as there
/// were. Gray images stay as they are. Nothing is drawn.
///
/// Dialect: Pillow's conversion to `L` (ITU-R BT.601 in 16-bit fixed point), as torchvision's
/// `RandomGrayscale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grayscale {}

impl Draw for Grayscale {
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

impl Apply for Grayscale {
    fn check(&self, size: Size) -> Result<Size, String> {
        Ok(size)
    }

    fn apply(&self, image: &mut Image, _: &mut Vec<u8>) {
        point::recolor(image, |colour| [point::gray(colour); 3]);
    }
}
