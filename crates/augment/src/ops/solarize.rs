//! Solarize: bright levels are inverted.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::point::{self, Levels};
use super::{Apply, Colour, Draw, check};
use crate::size::{Size, Sizes};

/// y = x below the threshold and 255 − x from it on: threshold 0 gives the negative, 256 the image
/// itself.
///
/// Dialect: Pillow's `ImageOps.solarize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Solarize {
    /// The least and the greatest threshold; each between is equally likely.
    pub threshold: [u16; 2],
}

/// From which level on an image is inverted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvertFrom {
    /// 0 to 256.
    pub threshold: u16,
}

/// Adds to dark levels: y = min(x + addition, 255) below level 128, and x from it on.
///
/// Dialect: timm and the TensorFlow TPU models, whose policies use it beside solarizing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolarizeAdd {
    /// The least and the greatest addition; each between is equally likely.
    pub addition: [u8; 2],
}

/// How much is added to an image's dark levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddToDark {
    /// In levels.
    pub addition: u8,
}

const GREATEST: u16 = 256;

impl Draw for Solarize {
    type Parameters = InvertFrom;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        let threshold = self.threshold.map(f64::from);
        check::range("threshold", threshold, 0.0..=f64::from(GREATEST)).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> InvertFrom {
        let [least, most] = self.threshold.map(u32::from);
        let threshold = least + draws.below(most - least + 1);
        InvertFrom {
            threshold: threshold as u16,
        }
    }
}

impl Apply for InvertFrom {
    fn check(&self, size: Size) -> Result<Size, String> {
        let range = 0..=usize::from(GREATEST);
        check::count("threshold", usize::from(self.threshold), range).map(|()| size)
    }

    fn colour(&self, _: usize) -> Option<Colour> {
        let inverted = |level: u8| {
            if u16::from(level) < self.threshold {
                level
            } else {
                !level
            }
        };
        Some(Colour::Levels(Levels::all(point::table(inverted))))
    }
}

impl Draw for SolarizeAdd {
    type Parameters = AddToDark;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("addition", self.addition.map(f64::from), 0.0..=255.0).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> AddToDark {
        let [least, most] = self.addition.map(u32::from);
        let addition = least + draws.below(most - least + 1);
        AddToDark {
            addition: addition as u8,
        }
    }
}

impl Apply for AddToDark {
    fn check(&self, size: Size) -> Result<Size, String> {
        Ok(size)
    }

    fn colour(&self, _: usize) -> Option<Colour> {
        let brighter = |level: u8| {
            if level < 128 {
                level.saturating_add(self.addition)
            } else {
                level
            }
        };
        Some(Colour::Levels(Levels::all(point::table(brighter))))
    }
}
