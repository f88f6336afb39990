//! Saturation: a blend with the gray image.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::check::{self, MOST_FACTOR};
use super::{Apply, Colour, Draw};
use crate::size::{Size, Sizes};

/// y = g + factor·(x − g), the fraction dropped, clipped, where g is the pixel's own gray: 0 is the
/// gray image, 1 the image itself. Gray images stay as they are.
///
/// Dialect: Pillow's `ImageEnhance.Color`, which torchvision's `adjust_saturation` calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saturation {
    /// The least and the greatest factor; the draw is uniform.
    pub factor: [f64; 2],
}

/// By how much the saturation of an image changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustSaturation {
    /// 0 is the gray image, 1 the image itself.
    pub factor: f64,
}

impl Draw for Saturation {
    type Parameters = AdjustSaturation;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("factor", self.factor, 0.0..=MOST_FACTOR).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> AdjustSaturation {
        let [low, high] = self.factor;
        AdjustSaturation {
            factor: draws.between(low, high),
        }
    }
}

impl Apply for AdjustSaturation {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::number("factor", self.factor, 0.0..=MOST_FACTOR).map(|()| size)
    }

    fn colour(&self, _: usize) -> Option<Colour> {
        Some(Colour::Saturation(self.factor as f32))
    }
}
