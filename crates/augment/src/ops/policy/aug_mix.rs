//! AugMix: the image mixed with several chains of operations on it.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::Transform::{self, *};
use super::auto_augment::MOST_STEPS;
use super::{Dialect, Factor, Look, Rounding, Strengths, TORCHVISION, Way};
use crate::Image;
use crate::ops::warp::Interpolation;
use crate::ops::{Apply, Draw, Parameters, check};
use crate::size::{Size, Sizes};

/// y = (1 − m)·x + m·Σ_i w_i·chain_i(x), rounded, where each chain is one to three transforms (or a
/// fixed number) of random strength, w has the Dirichlet distribution and m the beta distribution, both
/// of parameter α.
///
/// Only the mixing of pictures; the paper's loss compares the predictions for three such mixtures.
/// Dialects. `paper` (its authors' code): the strength is uniform in [0.01, severity/10), the transforms
/// are the nine that do not occur in the corruptions of ImageNet-C. `torchvision`: the strength is one of
/// 0, 1/9, …, (severity − 1)/9, brightness, colour, contrast and sharpness are among the transforms, and
/// the mixture loses its fraction there. In both, posterizing keeps 4 bits at most. timm's is not
/// among them. Source: Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness
/// and Uncertainty" (2020).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugMix {
    /// How strong transforms are, from 1 to 10.
    #[serde(default = "three")]
    pub severity: usize,
    /// How many chains.
    #[serde(default = "three")]
    pub width: usize,
    /// How many transforms a chain; one to three, if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// α.
    #[serde(default = "one")]
    pub alpha: f64,
    /// What strengths mean, and which transforms there are.
    #[serde(default)]
    pub magnitudes: Dialect,
    /// How the image is read between its pixels.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    #[serde(default)]
    pub fill: u8,
}

/// The mixture that one image becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedChains {
    /// 1 − m.
    pub original: f64,
    /// What is mixed with the image.
    pub chains: Vec<Chain>,
}

/// A chain of operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// m·w.
    pub weight: f64,
    /// In order.
    pub steps: Vec<Parameters>,
}

fn three() -> usize {
    3
}

fn one() -> f64 {
    1.0
}

const MOST_CHAINS: usize = 16;

const TRANSFORMS: [Transform; 13] = [
    Autocontrast,
    Equalize,
    Posterize,
    Rotate,
    Solarize,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Color,
    Contrast,
    Brightness,
    Sharpness,
];
/// The first ones do not occur in ImageNet-C.
const PAPER_TRANSFORMS: usize = 9;

pub(super) const TORCHVISION_MIX: Strengths = Strengths {
    translate: Way::Share(1.0 / 3.0),
    bits: [4.0, 0.0],
    ..TORCHVISION
};

const PAPER_MIX: Strengths = Strengths {
    factor: Factor::Between(0.1, 1.9),
    threshold: [256.0, 0.0],
    rounding: Rounding::Truncated,
    ..TORCHVISION_MIX
};

impl Draw for AugMix {
    type Parameters = MixedChains;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::count("severity", self.severity, 1..=10)?;
        check::count("width", self.width, 1..=MOST_CHAINS)?;
        check::count("depth", self.depth.unwrap_or(1), 1..=MOST_STEPS)?;
        check::number("alpha", self.alpha, 1e-6..=1e6)?;
        if self.magnitudes == Dialect::Timm {
            return Err("magnitudes: expected paper or torchvision, found timm".into());
        }
        Ok(sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> MixedChains {
        let look = Look {
            interpolation: self.interpolation,
            fill: self.fill,
        };
        let paper = self.magnitudes == Dialect::Paper;
        let (strengths, transforms) = if paper {
            (PAPER_MIX, &TRANSFORMS[..PAPER_TRANSFORMS])
        } else {
            (TORCHVISION_MIX, &TRANSFORMS[..])
        };
        let mixed = draws.beta(self.alpha, self.alpha);
        let weights = draws.dirichlet(self.alpha, self.width);
        let chains = weights.into_iter().map(|weight| {
            let depth = self.depth.unwrap_or(1 + draws.below(3) as usize);
            let steps = (0..depth).filter_map(|_| {
                let transform = transforms[draws.below(transforms.len() as u32) as usize];
                let strength = if paper {
                    draws.between(0.1, self.severity as f64) / 10.0
                } else {
                    f64::from(draws.below(self.severity as u32)) / 9.0
                };
                strengths.parameters(transform, strength, size, look, draws)
            });
            Chain {
                weight: mixed * weight,
                steps: steps.collect(),
            }
        });
        MixedChains {
            chains: chains.collect(),
            original: 1.0 - mixed,
        }
    }
}

impl Apply for MixedChains {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::number("original", self.original, 0.0..=1.0)?;
        check::count("chains", self.chains.len(), 0..=MOST_CHAINS)?;
        for (i, chain) in self.chains.iter().enumerate() {
            check::number(&format!("chains[{i}].weight"), chain.weight, 0.0..=1.0)?;
            let mut output = size;
            for (j, step) in chain.steps.iter().enumerate() {
                let name = || format!("chains[{i}].steps[{j}] ({})", step.name());
                output = step
                    .check(output)
                    .map_err(|problem| format!("{}: {problem}", name()))?;
                if output != size {
                    return Err(format!(
                        "{}: expected one that keeps the size {size}, found one that makes it \
                         {output}",
                        name()
                    ));
                }
            }
        }
        Ok(size)
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        let mut sums: Vec<f32> = Vec::with_capacity(image.pixels().len());
        let share = self.original as f32;
        sums.extend(image.pixels().iter().map(|&level| share * f32::from(level)));
        for Chain { weight, steps } in &self.chains {
            let mut changed = image.clone();
            for step in steps {
                step.apply(&mut changed, scratch);
            }
            let weight = *weight as f32;
            for (sum, &level) in sums.iter_mut().zip(changed.pixels()) {
                *sum += weight * f32::from(level);
            }
        }
        for (level, sum) in image.pixels_mut().iter_mut().zip(sums) {
            *level = sum.round() as u8;
        }
    }

    fn nested(&self) -> Vec<&[Parameters]> {
        let chains = self.chains.iter();
        chains.map(|chain| &chain.steps[..]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Invert, KeepBits};
    use evenkeel_random::Key;

    #[test]
    fn pictures_are_mixed_by_their_weights() {
        let mut image = Image::new(2, 1, 1, vec![200, 9]).unwrap();
        let chain = |weight, steps| Chain { weight, steps };
        let mixed = MixedChains {
            original: 0.5,
            chains: vec![
                chain(0.3, vec![Parameters::Invert(Invert {})]),
                chain(
                    0.2,
                    vec![
                        Parameters::Invert(Invert {}),
                        Parameters::Posterize(KeepBits { bits: 2 }),
                    ],
                ),
            ],
        };
        mixed.apply(&mut image, &mut Vec::new());
        // ½·200 + .3·55 + .2·0 and ½·9 + .3·246 + .2·192
        assert_eq!(image.pixels(), [117, 117]);
    }

    #[test]
    fn weights_sum_to_one_and_chains_have_one_to_three_transforms() {
        for magnitudes in [Dialect::Paper, Dialect::Torchvision] {
            let mix = AugMix {
                severity: 3,
                width: 4,
                depth: None,
                alpha: 1.0,
                magnitudes,
                interpolation: Interpolation::Nearest,
                fill: 0,
            };
            let mut draws = Key::from_seed(4).draws();
            let (mut depths, mut originals) = ([0.0; 3], [0.0; 10]);
            for _ in 0..9_000 {
                let mixed = mix.draw(Size::new(9, 9), &mut draws);
                let chains: f64 = mixed.chains.iter().map(|chain| chain.weight).sum();
                assert!((mixed.original + chains - 1.0).abs() < 1e-12);
                originals[(mixed.original * 10.0) as usize % 10] += 1.0;
                for chain in &mixed.chains {
                    depths[chain.steps.len() - 1] += 1.0;
                }
            }
            let chi = |counts: &[f64]| -> f64 {
                let expected = counts.iter().sum::<f64>() / counts.len() as f64;
                counts
                    .iter()
                    .map(|n| (n - expected).powi(2) / expected)
                    .sum()
            };
            assert!(chi(&depths) < 13.8, "{depths:?}"); // 2 degrees of freedom
            assert!(chi(&originals) < 27.9, "{originals:?}"); // 9: Beta(1, 1) is uniform
        }
    }

    #[test]
    fn chains_that_change_the_size_are_refused() {
        let text = r#"{"original": 0.5, "chains": [{"weight": 0.5, "steps": [
            {"op": "center_crop", "left": 0, "top": 0, "width": 1, "height": 1, "mode": "edge"}
        ]}]}"#;
        let mixed: MixedChains = serde_json::from_str(text).unwrap();
        let error = mixed.check(Size::new(2, 2)).unwrap_err();
        assert!(
            error.starts_with("chains[0].steps[0] (center_crop): expected"),
            "{error}"
        );
    }
}
