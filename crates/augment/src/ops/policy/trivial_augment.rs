//! TrivialAugment: one operation of a strength drawn afresh for each image.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::auto_augment::nearest;
use super::rand_augment::TRANSFORMS;
use super::{Dialect, Factor, Look, Rounding, Strengths, TORCHVISION, Way};
use crate::ops::Draw;
use crate::ops::Steps;
use crate::ops::warp::Interpolation;
use crate::size::{Size, Sizes};

/// One transform, drawn uniformly, at one of 31 strengths from nothing to the most, each equally
/// likely: TrivialAugment with its wide table (moves to 32 pixels, angles to 135°, shears to 0.99, 8
/// down to 2 bits).
///
/// Dialects: `torchvision` has factors 1 ± 0.99 and thresholds 255 to 0, `paper` (its authors' code)
/// factors 0.01 to 2 and thresholds 256 to 0, and angles, bits and thresholds without their fraction.
/// timm has none. Source: Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data
/// Augmentation" (2021).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrivialAugment {
    /// What strengths mean.
    #[serde(default)]
    pub magnitudes: Dialect,
    /// How the image is read between its pixels; nearest by default, as in the paper's code and in
    /// torchvision.
    #[serde(default = "nearest")]
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    #[serde(default)]
    pub fill: u8,
}

const STRENGTHS: u32 = 31;

pub(super) const TORCHVISION_WIDE: Strengths = Strengths {
    shear: 0.99,
    translate: Way::Pixels(32.0),
    rotate: 135.0,
    factor: Factor::AroundOne(0.99),
    bits: [8.0, 2.0],
    ..TORCHVISION
};

const PAPER_WIDE: Strengths = Strengths {
    factor: Factor::Between(0.01, 2.0),
    threshold: [256.0, 0.0],
    rounding: Rounding::Truncated,
    ..TORCHVISION_WIDE
};

impl Draw for TrivialAugment {
    type Parameters = Steps;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        if self.magnitudes == Dialect::Timm {
            return Err("magnitudes: expected paper or torchvision, found timm".into());
        }
        Ok(sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> Steps {
        let strengths = match self.magnitudes {
            Dialect::Paper => PAPER_WIDE,
            Dialect::Torchvision | Dialect::Timm => TORCHVISION_WIDE,
        };
        let look = Look {
            interpolation: self.interpolation,
            fill: self.fill,
        };
        let transform = TRANSFORMS[draws.below(TRANSFORMS.len() as u32) as usize];
        let strength = f64::from(draws.below(STRENGTHS)) / f64::from(STRENGTHS - 1);
        let parameters = strengths.parameters(transform, strength, size, look, draws);
        Steps {
            steps: parameters.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameters;
    use evenkeel_random::Key;

    #[test]
    fn strengths_are_equally_likely() {
        let policy = TrivialAugment {
            magnitudes: Dialect::Torchvision,
            interpolation: Interpolation::Nearest,
            fill: 0,
        };
        let mut draws = Key::from_seed(4).draws();
        let mut counts = [0.0; 31];
        for _ in 0..200_000 {
            for step in policy.draw(Size::new(9, 9), &mut draws).steps {
                if let Parameters::Rotate(map) = step {
                    counts[(map.angle.abs() / 4.5).round() as usize] += 1.0;
                }
            }
        }
        let expected = counts.iter().sum::<f64>() / 31.0;
        assert!((expected - 2e5 / 14.0 / 31.0).abs() < 20.0, "{expected}");
        let chi = counts.iter().map(|n| (n - expected).powi(2) / expected);
        assert!(chi.sum::<f64>() < 59.7, "{counts:?}"); // 30 degrees of freedom, once in a thousand
    }
}
