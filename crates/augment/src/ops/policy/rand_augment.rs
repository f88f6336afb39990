//! RandAugment: some operations of one strength.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::Transform::{self, *};
use super::auto_augment::{MOST_STEPS, nearest};
use super::{AUTO_AUGMENT_PAPER, Dialect, Look, Rounding, Strengths, TORCHVISION, Way};
use crate::ops::warp::Interpolation;
use crate::ops::{Draw, Steps, check};
use crate::size::{Size, Sizes};

/// Several transforms, each drawn uniformly from all (so that one may come twice), all of the same
/// magnitude.
///
/// Dialects. `paper`: magnitude by 10 is the strength, and may go to 30; the table is AutoAugment's
/// (posterizing keeps 4 to 8 bits, solarizing has thresholds 0 to 256, both milder at greater
/// magnitude, factors go from 0.1 to 1.9). `torchvision`: magnitude by 30; its table (8 down to 4 bits,
/// thresholds 255 to 0, factors 1 ± 0.9). `timm`: magnitude by 10, at most 10; its recipes' increasing
/// table (`inc1`: 4 down to 0 bits, which leave an image black; thresholds 256 to 0; factors 1 ± 0.9,
/// at least 0.1), with inverting and adding to dark levels among the transforms, and each of them left
/// out half of the time. Source: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with
/// a Reduced Search Space" (2020).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandAugment {
    /// How many transforms.
    #[serde(default = "two")]
    pub count: usize,
    /// How much.
    #[serde(default = "nine")]
    pub magnitude: f64,
    /// The deviation of a normal number that is added to the magnitude of each transform, which then
    /// stays within the table: timm's `mstd`.
    #[serde(default)]
    pub deviation: f64,
    /// What magnitudes mean.
    #[serde(default)]
    pub magnitudes: Dialect,
    /// How the image is read between its pixels; nearest by default, as in torchvision.
    #[serde(default = "nearest")]
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    #[serde(default)]
    pub fill: u8,
}

fn two() -> usize {
    2
}

fn nine() -> f64 {
    9.0
}

impl Default for RandAugment {
    fn default() -> Self {
        Self {
            count: two(),
            magnitude: nine(),
            deviation: 0.0,
            magnitudes: Dialect::default(),
            interpolation: nearest(),
            fill: 0,
        }
    }
}

pub(super) const TRANSFORMS: [Transform; 14] = [
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    Autocontrast,
    Equalize,
];

const TIMM_TRANSFORMS: [Transform; 15] = [
    Autocontrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
];

const TIMM: Strengths = Strengths {
    translate: Way::Share(0.45),
    bits: [4.0, 0.0],
    threshold: [256.0, 0.0],
    rounding: Rounding::Timm,
    ..TORCHVISION
};

/// What a dialect makes of a magnitude.
struct Table {
    strengths: Strengths,
    transforms: &'static [Transform],
    /// The magnitude of strength 1.
    unit: f64,
    /// The greatest magnitude.
    most: f64,
    /// The probability of each transform.
    probability: f64,
}

impl Dialect {
    fn rand_augment(self) -> Table {
        let table = Table {
            strengths: TORCHVISION,
            transforms: &TRANSFORMS,
            unit: 30.0,
            most: 30.0,
            probability: 1.0,
        };
        match self {
            Self::Torchvision => table,
            Self::Paper => Table {
                strengths: AUTO_AUGMENT_PAPER,
                unit: 10.0,
                ..table
            },
            Self::Timm => Table {
                strengths: TIMM,
                transforms: &TIMM_TRANSFORMS,
                unit: 10.0,
                most: 10.0,
                probability: 0.5,
            },
        }
    }
}

impl Draw for RandAugment {
    type Parameters = Steps;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        let Table { most, .. } = self.magnitudes.rand_augment();
        check::count("count", self.count, 0..=MOST_STEPS)?;
        check::number("magnitude", self.magnitude, 0.0..=most)?;
        check::number("deviation", self.deviation, 0.0..=100.0).map(|()| sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> Steps {
        let Table {
            strengths,
            transforms,
            unit,
            most,
            probability,
        } = self.magnitudes.rand_augment();
        let look = Look {
            interpolation: self.interpolation,
            fill: self.fill,
        };
        let steps = (0..self.count).filter_map(|_| {
            let transform = transforms[draws.below(transforms.len() as u32) as usize];
            let happens = draws.chance(probability);
            let magnitude = self.magnitude + self.deviation * draws.normal();
            let strength = magnitude.clamp(0.0, most) / unit;
            let parameters = strengths.parameters(transform, strength, size, look, draws);
            parameters.filter(|_| happens)
        });
        Steps {
            steps: steps.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameters;
    use evenkeel_random::Key;
    use std::collections::HashMap;

    #[test]
    fn transforms_are_equally_likely_and_of_one_strength() {
        for (magnitudes, angle) in [
            (Dialect::Torchvision, 9.0),
            (Dialect::Paper, 27.0),
            (Dialect::Timm, 27.0),
        ] {
            let policy = RandAugment {
                count: 3,
                magnitudes,
                ..RandAugment::default()
            };
            let mut draws = Key::from_seed(4).draws();
            let mut counts: HashMap<String, f64> = HashMap::new();
            let mut steps_drawn = 0.0;
            for _ in 0..10_000 {
                for step in policy.draw(Size::new(50, 70), &mut draws).steps {
                    let name = match &step {
                        Parameters::Rotate(map) => {
                            assert!((map.angle.abs() - angle).abs() < 1e-9, "{map:?}");
                            "rotate"
                        }
                        Parameters::Shear(map) if map.shear[0] == 0.0 => "shear_y",
                        Parameters::Translate(map) if map.translate[0] == 0.0 => "translate_y",
                        other => other.name(),
                    };
                    *counts.entry(name.to_owned()).or_default() += 1.0;
                    steps_drawn += 1.0;
                }
            }
            let table = magnitudes.rand_augment();
            let none = table.transforms.iter().filter(|&&t| t == Identity).count();
            assert_eq!(counts.len(), table.transforms.len() - none, "{counts:?}");
            let expected = 3e4 * table.probability / table.transforms.len() as f64;
            let chi: f64 = counts
                .values()
                .map(|n| (n - expected).powi(2) / expected)
                .sum();
            // 36.1 is exceeded once in a thousand with 14 degrees of freedom.
            assert!(chi < 36.1, "{counts:?}");
            assert!(steps_drawn < 3e4);
        }
    }

    #[test]
    fn a_deviation_spreads_magnitudes_within_the_table() {
        let policy = RandAugment {
            deviation: 0.5,
            magnitudes: Dialect::Timm,
            ..RandAugment::default()
        };
        let mut draws = Key::from_seed(5).draws();
        let mut angles = Vec::new();
        while angles.len() < 2000 {
            for step in policy.draw(Size::new(9, 9), &mut draws).steps {
                if let Parameters::Rotate(map) = step {
                    angles.push(map.angle.abs() / 3.0);
                }
            }
        }
        assert!(angles.iter().all(|magnitude| *magnitude <= 10.0));
        let clipped = angles
            .iter()
            .filter(|magnitude| **magnitude == 10.0)
            .count();
        // Two deviations above the mean: 2.3 % of them, 46 ± 27.
        assert!((19..73).contains(&clipped), "{clipped}");
        let mean = angles.iter().sum::<f64>() / angles.len() as f64;
        assert!((mean - 9.0).abs() < 0.06, "{mean}");
    }
}
