//! Gamma: a power of the level.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::point::{self, Levels};
use super::{Apply, Colour, Draw, check};
use crate::size::{Size, Sizes};

/// y = ⌊255.999·(x/255)^γ⌋: γ above 1 makes shadows darker, below 1 lighter, 1 keeps the image.
///
/// Dialect: torchvision's `adjust_gamma` on a PIL image, with gain 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gamma {
    /// The least and the greatest γ. The logarithm is drawn uniformly: γ and 1/γ are equally likely.
    pub gamma: [f64; 2],
}

/// The power that an image's levels are raised to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustGamma {
    /// γ.
    pub gamma: f64,
}

const LEAST: f64 = 0.01;
const MOST: f64 = 100.0;

impl Draw for Gamma {
    type Parameters = AdjustGamma;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("gamma", self.gamma, LEAST..=MOST).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> AdjustGamma {
        let [low, high] = self.gamma;
        let gamma = draws.between(low.ln(), high.ln()).exp();
        AdjustGamma {
            gamma: gamma.clamp(low, high), // the logarithms were rounded
        }
    }
}

impl Apply for AdjustGamma {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::number("gamma", self.gamma, LEAST..=MOST).map(|()| size)
    }

    fn colour(&self, _: usize) -> Option<Colour> {
        let power = |level| (255.999 * (f64::from(level) / 255.0).powf(self.gamma)) as u8;
        Some(Colour::Levels(Levels::all(point::table(power))))
    }
}
