//! Color jitter: brightness, contrast, saturation and hue in random order.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::brightness::Brightness;
use super::contrast::Contrast;
use super::hue::Hue;
use super::saturation::Saturation;
use super::{Draw, Operation, Steps, check};
use crate::size::{Size, Sizes};

/// Each of the four, in an order drawn uniformly: brightness, contrast and saturation by a factor
/// uniform in \[max(0, 1 − strength), 1 + strength\], hue by a shift uniform in \[−strength, strength\].
/// What has strength 0 is left out.
///
/// Dialect: torchvision's `ColorJitter(brightness, contrast, saturation, hue)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// The strength of [`Brightness`].
    #[serde(default)]
    pub brightness: f64,
    /// The strength of [`Contrast`].
    #[serde(default)]
    pub contrast: f64,
    /// The strength of [`Saturation`].
    #[serde(default)]
    pub saturation: f64,
    /// The strength of [`Hue`], at most 0.5.
    #[serde(default)]
    pub hue: f64,
}

impl ColorJitter {
    fn adjustments(&self) -> Vec<Operation> {
        let factor = |strength: f64| [f64::max(0.0, 1.0 - strength), 1.0 + strength];
        let all = [
            (
                self.brightness,
                Operation::Brightness(Brightness {
                    factor: factor(self.brightness),
                }),
            ),
            (
                self.contrast,
                Operation::Contrast(Contrast {
                    factor: factor(self.contrast),
                }),
            ),
            (
                self.saturation,
                Operation::Saturation(Saturation {
                    factor: factor(self.saturation),
                }),
            ),
            (
                self.hue,
                Operation::Hue(Hue {
                    shift: [-self.hue, self.hue],
                }),
            ),
        ];
        let wanted = all.into_iter().filter(|(strength, _)| *strength > 0.0);
        wanted.map(|(_, operation)| operation).collect()
    }
}

impl Draw for ColorJitter {
    type Parameters = Steps;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        for (name, strength, most) in [
            ("brightness", self.brightness, check::MOST_FACTOR - 1.0),
            ("contrast", self.contrast, check::MOST_FACTOR - 1.0),
            ("saturation", self.saturation, check::MOST_FACTOR - 1.0),
            ("hue", self.hue, 0.5),
        ] {
            check::number(name, strength, 0.0..=most)?;
        }
        Ok(sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> Steps {
        let mut adjustments = self.adjustments();
        draws.shuffle(&mut adjustments);
        let steps = adjustments.iter().map(|step| step.draw(size, draws));
        Steps {
            steps: steps.collect(),
        }
    }
}
