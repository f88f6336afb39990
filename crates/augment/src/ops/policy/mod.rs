//! Policies: operations chosen at random from a list, at strengths that a table gives meaning to.

mod aug_mix;
mod auto_augment;
mod published;
mod rand_augment;
mod three_augment;
mod trivial_augment;

pub use aug_mix::{AugMix, Chain, MixedChains};
pub use auto_augment::{AutoAugment, AutoAugmentPolicy, PolicyStep};
pub use rand_augment::RandAugment;
pub use three_augment::three_augment;
pub use trivial_augment::TrivialAugment;

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::affine::{About, AffineMap};
use super::brightness::AdjustBrightness;
use super::contrast::AdjustContrast;
use super::posterize::KeepBits;
use super::saturation::AdjustSaturation;
use super::sharpness::AdjustSharpness;
use super::solarize::{AddToDark, InvertFrom};
use super::warp::Interpolation;
use super::{Autocontrast, Equalize, Flipped, FlippedVertically, Invert, Parameters};
use crate::size::Size;

/// An operation of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// Nothing.
    Identity,
    /// Rows move to the side in proportion to their height, about the top left corner.
    ShearX,
    /// Columns move up or down in proportion to their place, about the top left corner.
    ShearY,
    /// A move to the side.
    TranslateX,
    /// A move up or down.
    TranslateY,
    /// A turn about the middle.
    Rotate,
    /// See [`Brightness`](super::Brightness).
    Brightness,
    /// See [`Saturation`](super::Saturation).
    Color,
    /// See [`Contrast`](super::Contrast).
    Contrast,
    /// See [`Sharpness`](super::Sharpness).
    Sharpness,
    /// See [`Posterize`](super::Posterize).
    Posterize,
    /// See [`Solarize`](super::Solarize).
    Solarize,
    /// See [`SolarizeAdd`](super::SolarizeAdd).
    SolarizeAdd,
    /// See [`Autocontrast`].
    Autocontrast,
    /// See [`Equalize`].
    Equalize,
    /// See [`Invert`].
    Invert,
    /// Left becomes right. In no published policy, but in searched ones where it is safe.
    HorizontalFlip,
    /// Top becomes bottom. In no published policy either.
    VerticalFlip,
}

impl Transform {
    /// All of them but [`Transform::Identity`].
    pub const ALL: [Self; 17] = [
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::SolarizeAdd,
        Self::Autocontrast,
        Self::Equalize,
        Self::Invert,
        Self::HorizontalFlip,
        Self::VerticalFlip,
    ];

    /// Its name, as in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::ShearX => "shear_x",
            Self::ShearY => "shear_y",
            Self::TranslateX => "translate_x",
            Self::TranslateY => "translate_y",
            Self::Rotate => "rotate",
            Self::Brightness => "brightness",
            Self::Color => "color",
            Self::Contrast => "contrast",
            Self::Sharpness => "sharpness",
            Self::Posterize => "posterize",
            Self::Solarize => "solarize",
            Self::SolarizeAdd => "solarize_add",
            Self::Autocontrast => "autocontrast",
            Self::Equalize => "equalize",
            Self::Invert => "invert",
            Self::HorizontalFlip => "horizontal_flip",
            Self::VerticalFlip => "vertical_flip",
        }
    }

    /// Whether a greater level does more: others do all or nothing.
    pub fn has_levels(self) -> bool {
        !matches!(
            self,
            Self::Identity
                | Self::Autocontrast
                | Self::Equalize
                | Self::Invert
                | Self::HorizontalFlip
                | Self::VerticalFlip
        )
    }
}

/// Whose table says what a magnitude means. They differ most for posterizing, where the same number
/// may keep all bits or none; each policy says what it takes from whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// The table or the code of the policy's own paper.
    Paper,
    /// torchvision's.
    #[default]
    Torchvision,
    /// timm's.
    Timm,
}

/// What a strength of 1 does, and 0, of each transform; in between it is in proportion.
#[derive(Clone, Copy, Debug)]
struct Strengths {
    /// The tangent of the angle, of either sign.
    shear: f64,
    /// Of either sign.
    translate: Way,
    /// Degrees, of either sign.
    rotate: f64,
    /// Of brightness, colour, contrast and sharpness.
    factor: Factor,
    /// The bits kept at strength 0 and at 1.
    bits: [f64; 2],
    /// The threshold of solarizing at strength 0 and at 1.
    threshold: [f64; 2],
    rounding: Rounding,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// Of the side.
    Share(f64),
    Pixels(f64),
}

#[derive(Clone, Copy, Debug)]
enum Factor {
    /// 1 ± the strength times this.
    AroundOne(f64),
    /// From the first, at strength 0, to the second.
    Between(f64, f64),
}

/// How amounts become whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rounding {
    /// All lose their fraction.
    Truncated,
    /// Moves lose it, bits are rounded to even, thresholds and angles keep it.
    Torchvision,
    /// Bits and thresholds lose it, moves and angles keep it.
    Timm,
}

/// torchvision's table for AutoAugment and RandAugment.
const TORCHVISION: Strengths = Strengths {
    shear: 0.3,
    translate: Way::Share(150.0 / 331.0),
    rotate: 30.0,
    factor: Factor::AroundOne(0.9),
    bits: [8.0, 4.0],
    threshold: [255.0, 0.0],
    rounding: Rounding::Torchvision,
};

/// Table 6 of the AutoAugment paper, whose images had a side of 331 pixels. Posterizing keeps more
/// bits, and solarizing inverts less, at greater strength.
const AUTO_AUGMENT_PAPER: Strengths = Strengths {
    factor: Factor::Between(0.1, 1.9),
    bits: [4.0, 8.0],
    threshold: [0.0, 256.0],
    rounding: Rounding::Truncated,
    ..TORCHVISION
};

/// What a policy's images are filled with and how they are read.
#[derive(Clone, Copy, Debug)]
struct Look {
    interpolation: Interpolation,
    fill: u8,
}

impl Strengths {
    /// The parameters of a transform of this strength, in 0..1 where a policy does not go beyond, for
    /// an image of this size; `None` if it does nothing. One word is drawn, for the sign.
    fn parameters(
        &self,
        transform: Transform,
        strength: f64,
        size: Size,
        look: Look,
        draws: &mut Draws,
    ) -> Option<Parameters> {
        let sign = if draws.chance(0.5) { 1.0 } else { -1.0 };
        let whole = |value: f64, rounding: &[Rounding]| {
            if rounding.contains(&self.rounding) {
                value.trunc()
            } else {
                value
            }
        };
        let map = AffineMap::identity(look.interpolation, look.fill);
        let shear = (self.shear * strength * sign).atan().to_degrees();
        let way = |side: usize| {
            let farthest = match self.translate {
                Way::Share(share) => share * side as f64,
                Way::Pixels(pixels) => pixels,
            };
            let way = farthest * strength * sign;
            whole(way, &[Rounding::Truncated, Rounding::Torchvision])
        };
        let factor = match self.factor {
            Factor::AroundOne(most) => f64::max(0.0, 1.0 + most * strength * sign),
            Factor::Between(least, most) => least + (most - least) * strength,
        };
        Some(match transform {
            Transform::Identity => return None,
            Transform::ShearX => Parameters::Shear(AffineMap {
                shear: [shear, 0.0],
                about: About::Corner,
                ..map
            }),
            Transform::ShearY => Parameters::Shear(AffineMap {
                shear: [0.0, shear],
                about: About::Corner,
                ..map
            }),
            Transform::TranslateX => Parameters::Translate(AffineMap {
                translate: [way(size.width), 0.0],
                ..map
            }),
            Transform::TranslateY => Parameters::Translate(AffineMap {
                translate: [0.0, way(size.height)],
                ..map
            }),
            Transform::Rotate => Parameters::Rotate(AffineMap {
                angle: whole(self.rotate * strength, &[Rounding::Truncated]) * -sign,
                ..map
            }),
            Transform::Brightness => Parameters::Brightness(AdjustBrightness { factor }),
            Transform::Color => Parameters::Saturation(AdjustSaturation { factor }),
            Transform::Contrast => Parameters::Contrast(AdjustContrast { factor }),
            Transform::Sharpness => Parameters::Sharpness(AdjustSharpness { factor }),
            Transform::Posterize => Parameters::Posterize(KeepBits {
                bits: self.bits(strength),
            }),
            Transform::Solarize => Parameters::Solarize(InvertFrom {
                threshold: self.threshold(strength),
            }),
            Transform::SolarizeAdd => Parameters::SolarizeAdd(AddToDark {
                addition: (110.0 * strength) as u8,
            }),
            Transform::Autocontrast => Parameters::Autocontrast(Autocontrast {}),
            Transform::Equalize => Parameters::Equalize(Equalize {}),
            Transform::Invert => Parameters::Invert(Invert {}),
            Transform::HorizontalFlip => Parameters::HorizontalFlip(Flipped { flipped: true }),
            Transform::VerticalFlip => {
                Parameters::VerticalFlip(FlippedVertically { flipped: true })
            }
        })
    }

    fn bits(&self, strength: f64) -> u8 {
        let [start, end] = self.bits;
        let change = exact((end - start) * strength);
        let change = match self.rounding {
            Rounding::Torchvision => change.round_ties_even(),
            Rounding::Truncated | Rounding::Timm => change.trunc(),
        };
        (start + change).clamp(0.0, 8.0) as u8
    }

    fn threshold(&self, strength: f64) -> u16 {
        let [start, end] = self.threshold;
        let change = exact((end - start) * strength);
        let threshold = match self.rounding {
            // Levels below a threshold between two levels are those below the upper one.
            Rounding::Torchvision => (start + change).ceil(),
            Rounding::Truncated | Rounding::Timm => start + change.trunc(),
        };
        threshold.clamp(0.0, 256.0) as u16
    }
}

/// A whole number that was missed by rounding is that number.
fn exact(value: f64) -> f64 {
    if (value - value.round()).abs() < 1e-9 {
        value.round()
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_have_the_names_of_policies_and_levels_where_these_tell() {
        let at = |transform, strength| {
            let look = Look {
                interpolation: Interpolation::Nearest,
                fill: 0,
            };
            let mut draws = evenkeel_random::Key::from_seed(1).draws();
            TORCHVISION.parameters(transform, strength, Size::new(9, 9), look, &mut draws)
        };
        for transform in Transform::ALL {
            let name = serde_json::to_value(transform).unwrap();
            assert_eq!(name, transform.name());
            let differs = at(transform, 1.0 / 3.0) != at(transform, 1.0);
            assert_eq!(differs, transform.has_levels(), "{transform:?}");
        }
    }

    #[test]
    fn tables_give_what_their_dialects_say() {
        let bits = |table: Strengths, of: f64| -> Vec<u8> {
            (0..=of as u8)
                .map(|level| table.bits(f64::from(level) / of))
                .collect()
        };
        assert_eq!(bits(TORCHVISION, 9.0), [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]);
        assert_eq!(
            bits(AUTO_AUGMENT_PAPER, 10.0),
            [4, 4, 4, 5, 5, 6, 6, 6, 7, 7, 8]
        );
        let threshold = |table: Strengths, of: f64| -> Vec<u16> {
            (0..=of as u8)
                .map(|level| table.threshold(f64::from(level) / of))
                .collect()
        };
        assert_eq!(
            threshold(TORCHVISION, 9.0),
            [255, 227, 199, 170, 142, 114, 85, 57, 29, 0]
        );
        assert_eq!(
            threshold(AUTO_AUGMENT_PAPER, 10.0),
            [0, 25, 51, 76, 102, 128, 153, 179, 204, 230, 256]
        );
        // Beyond the table's end there is nothing more to keep or to invert.
        assert_eq!(AUTO_AUGMENT_PAPER.bits(3.0), 8);
        assert_eq!(AUTO_AUGMENT_PAPER.threshold(3.0), 256);
    }

    #[derive(Deserialize)]
    struct Tables {
        cases: Vec<Table>,
    }

    #[derive(Deserialize)]
    struct Table {
        policy: String,
        width: usize,
        height: usize,
        transform: Transform,
        signed: bool,
        magnitudes: Vec<f64>,
    }

    /// The number that torchvision's table holds for these parameters.
    fn magnitude(parameters: &Parameters) -> f64 {
        match parameters {
            Parameters::Shear(map) => (map.shear[0] + map.shear[1]).to_radians().tan(),
            Parameters::Translate(map) => map.translate[0] + map.translate[1],
            Parameters::Rotate(map) => -map.angle,
            Parameters::Brightness(AdjustBrightness { factor })
            | Parameters::Contrast(AdjustContrast { factor })
            | Parameters::Saturation(AdjustSaturation { factor })
            | Parameters::Sharpness(AdjustSharpness { factor }) => factor - 1.0,
            Parameters::Posterize(kept) => f64::from(kept.bits),
            Parameters::Solarize(from) => f64::from(from.threshold),
            _ => 0.0,
        }
    }

    #[test]
    fn tables_are_torchvisions() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../reference/fixtures/policy_tables.json"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let tables: Tables = serde_json::from_str(&text).unwrap();
        assert_eq!(tables.cases.len(), 14 + 14 + 14 + 13);
        let look = Look {
            interpolation: Interpolation::Nearest,
            fill: 0,
        };
        let mut draws = evenkeel_random::Key::from_seed(0).draws();
        for table in tables.cases {
            let strengths = match table.policy.as_str() {
                "auto_augment" | "rand_augment" => TORCHVISION,
                "trivial_augment" => trivial_augment::TORCHVISION_WIDE,
                "aug_mix" => aug_mix::TORCHVISION_MIX,
                other => panic!("no table of {other}"),
            };
            let size = Size::new(table.width, table.height);
            let steps = (table.magnitudes.len() - 1).max(1) as f64;
            for (i, &expected) in table.magnitudes.iter().enumerate() {
                // torchvision's moves lose their fraction later.
                let expected = match table.transform {
                    Transform::TranslateX | Transform::TranslateY => expected.trunc(),
                    Transform::Solarize => expected.ceil(),
                    _ => expected,
                };
                let mut found = || {
                    let strength = i as f64 / steps;
                    let parameters =
                        strengths.parameters(table.transform, strength, size, look, &mut draws);
                    parameters.as_ref().map_or(0.0, magnitude)
                };
                let found: Vec<f64> = (0..20).map(|_| found()).collect();
                let close = |value: f64| move |found: &f64| (found - value).abs() < 1e-5;
                let positive = found.iter().filter(|found| close(expected)(found)).count();
                let negative = found.iter().filter(|found| close(-expected)(found)).count();
                if table.signed && expected != 0.0 {
                    assert!(
                        positive > 0 && negative > 0 && positive + negative == 20,
                        "{found:?}"
                    );
                } else {
                    assert_eq!(
                        positive, 20,
                        "{:?} {i}: {expected} {found:?}",
                        table.transform
                    );
                }
            }
        }
    }
}
