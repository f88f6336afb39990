//! Brightness: a blend with black.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::check::{self, MOST_FACTOR};
use super::point::Levels;
use super::{Apply, Colour, Draw};
use crate::size::{Size, Sizes};

/// y = factor·x, the fraction dropped, clipped to 255: 0 is black, 1 the image itself.
///
/// Dialect: Pillow's `ImageEnhance.Brightness`, which torchvision's `adjust_brightness` calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brightness {
    /// The least and the greatest factor; the draw is uniform.
    pub factor: [f64; 2],
}

/// By how much the brightness of an image changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustBrightness {
    /// 0 is black, 1 the image itself.
    pub factor: f64,
}

impl Draw for Brightness {
    type Parameters = AdjustBrightness;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("factor", self.factor, 0.0..=MOST_FACTOR).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> AdjustBrightness {
        let [low, high] = self.factor;
        AdjustBrightness {
            factor: draws.between(low, high),
        }
    }
}

impl Apply for AdjustBrightness {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::number("factor", self.factor, 0.0..=MOST_FACTOR).map(|()| size)
    }

    fn colour(&self, _: usize) -> Option<Colour> {
        Some(Colour::Levels(Levels::blend(0, self.factor as f32)))
    }
}
