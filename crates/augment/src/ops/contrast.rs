//! Contrast: a blend with the mean gray.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::check::{self, MOST_FACTOR};
use super::point::{self, Levels};
use super::{Apply, Draw};
use crate::Image;
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

    fn apply(&self, image: &mut Image, _: &mut Vec<u8>) {
        Levels::blend(mean_gray(image), self.factor as f32).apply(image);
    }
}

/// The mean of the gray levels, rounded to the nearest, a half upwards.
fn mean_gray(image: &Image) -> u8 {
    let sum: u64 = match image.channels() {
        channels @ (1 | 2) => {
            let levels = image.pixels().iter().step_by(channels);
            levels.map(|&level| u64::from(level)).sum()
        }
        3 => point::gray_sum(image.pixels()),
        _ => {
            let pixels = image.pixels().as_chunks::<4>().0.iter();
            let grays = pixels.map(|&[red, green, blue, _]| point::gray([red, green, blue]));
            grays.map(u64::from).sum()
        }
    };
    let count = (image.width() * image.height()) as u64;
    ((2 * sum + count) / (2 * count)) as u8
}
