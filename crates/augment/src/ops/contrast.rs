//! Contrast: a blend with the mean gray.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::check::{self, MOST_FACTOR};
use super::{Apply, Colour, Draw};
use crate::size::{Size, Sizes};

/// y = m + factor·(x − m), the fraction dropped, clipped, where m is the mean of the image's gray
/// levels, rounded: 0 is that gray everywhere, 1 the image itself.
///
/// Dialect: Pillow's `ImageEnhance.Contrast`, which torchvision's `adjust_contrast` calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contrast {
    /// The least and the greatest factor; the draw is uniform.
    pub factor: [f64; 2],
}

/// By how much the contrast of an image changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustContrast {
    /// 0 is the mean gray everywhere, 1 the image itself.
    pub factor: f64,
}

impl Draw for Contrast {
    type Parameters = AdjustContrast;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("factor", self.factor, 0.0..=MOST_FACTOR).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> AdjustContrast {
        let [low, high] = self.factor;
        AdjustContrast {
            factor: draws.between(low, high),
        }
    }
}

impl Apply for AdjustContrast {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::number("factor", self.factor, 0.0..=MOST_FACTOR).map(|()| size)
    }

    fn colour(&self, _: usize) -> Option<Colour> {
        Some(Colour::Contrast(self.factor as f32))
    }
}
