//! AutoAugment: a pair of operations, chosen among those that a search found.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{
    AUTO_AUGMENT_PAPER, Dialect, Look, Rounding, Strengths, TORCHVISION, Transform, Way, published,
};
use crate::ops::warp::Interpolation;
use crate::ops::{Draw, Steps, check};
use crate::size::{Size, Sizes};

/// One of a policy's sub-policies, each equally likely; each of its steps happens with a probability
/// of its own.
///
/// Dialects: a level's strength is level/9 in torchvision's table and level/10 in the paper's (table
/// 6: posterizing keeps 4 to 8 bits, solarizing has thresholds 0 to 256, both milder at higher levels;
/// factors from 0.1 to 1.9) and in timm's `original`, which is that but for angles and moves that are
/// not whole. Source: Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data" (2019).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoAugment {
    /// What was found.
    pub policy: AutoAugmentPolicy,
    /// What levels mean.
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

/// A list of sub-policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoAugmentPolicy {
    /// Found on CIFAR-10 (table 7 of the paper).
    Cifar10,
    /// Found on ImageNet (table 9).
    Imagenet,
    /// Found on SVHN (table 8).
    Svhn,
    /// Any other, such as one found by a search of one's own.
    Custom(Vec<Vec<PolicyStep>>),
}

/// A step of a sub-policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyStep {
    /// What is done.
    pub transform: Transform,
    /// How likely.
    pub probability: f64,
    /// How much, from 0 to 9 (torchvision) or 10; some transforms have no more and less.
    #[serde(default)]
    pub level: u8,
}

pub(super) fn nearest() -> Interpolation {
    Interpolation::Nearest
}

const MOST_SUB_POLICIES: usize = 1000;
pub(super) const MOST_STEPS: usize = 16;

const TIMM_ORIGINAL: Strengths = Strengths {
    translate: Way::Share(0.45),
    rounding: Rounding::Timm,
    ..AUTO_AUGMENT_PAPER
};

impl AutoAugment {
    /// What strengths mean, and the level of strength 1.
    fn table(&self) -> (Strengths, u8) {
        match self.magnitudes {
            Dialect::Torchvision => (TORCHVISION, 9),
            Dialect::Paper => (AUTO_AUGMENT_PAPER, 10),
            Dialect::Timm => (TIMM_ORIGINAL, 10),
        }
    }
}

impl Draw for AutoAugment {
    type Parameters = Steps;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        let AutoAugmentPolicy::Custom(sub_policies) = &self.policy else {
            return Ok(sizes);
        };
        let (_, most) = self.table();
        check::count("policy.custom", sub_policies.len(), 1..=MOST_SUB_POLICIES)?;
        for (i, steps) in sub_policies.iter().enumerate() {
            check::count(&format!("policy.custom[{i}]"), steps.len(), 0..=MOST_STEPS)?;
            for (j, step) in steps.iter().enumerate() {
                let name = |field| format!("policy.custom[{i}][{j}].{field}");
                check::probability(&name("probability"), step.probability)?;
                let levels = 0..=usize::from(most);
                check::count(&name("level"), usize::from(step.level), levels)?;
            }
        }
        Ok(sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> Steps {
        let (strengths, most) = self.table();
        let mut choose = |count: usize| draws.below(count as u32) as usize;
        let steps: &[PolicyStep] = match &self.policy {
            AutoAugmentPolicy::Cifar10 => &published::CIFAR10[choose(published::CIFAR10.len())],
            AutoAugmentPolicy::Imagenet => &published::IMAGENET[choose(published::IMAGENET.len())],
            AutoAugmentPolicy::Svhn => &published::SVHN[choose(published::SVHN.len())],
            AutoAugmentPolicy::Custom(sub_policies) => &sub_policies[choose(sub_policies.len())],
        };
        let look = Look {
            interpolation: self.interpolation,
            fill: self.fill,
        };
        let steps = steps.iter().filter_map(|step| {
            let happens = draws.chance(step.probability);
            let strength = f64::from(step.level) / f64::from(most);
            let parameters = strengths.parameters(step.transform, strength, size, look, draws);
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

    fn custom(steps: &[(Transform, f64, u8)]) -> AutoAugment {
        let step = |&(transform, probability, level): &(Transform, f64, u8)| {
            vec![PolicyStep {
                transform,
                probability,
                level,
            }]
        };
        AutoAugment {
            policy: AutoAugmentPolicy::Custom(steps.iter().map(step).collect()),
            magnitudes: Dialect::Torchvision,
            interpolation: Interpolation::Nearest,
            fill: 0,
        }
    }

    #[test]
    fn steps_happen_as_often_as_they_should() {
        let policy = custom(&[
            (Transform::Invert, 0.7, 0),
            (Transform::Rotate, 1.0, 9),
            (Transform::Identity, 1.0, 0),
        ]);
        let mut draws = Key::from_seed(4).draws();
        let mut counts = HashMap::new();
        for _ in 0..30_000 {
            let Steps { steps } = policy.draw(Size::new(9, 9), &mut draws);
            let outcome = match &steps[..] {
                [] => 0,
                [Parameters::Invert(_)] => 1,
                [Parameters::Rotate(map)] if map.angle == 30.0 => 2,
                [Parameters::Rotate(map)] if map.angle == -30.0 => 3,
                other => panic!("{other:?}"),
            };
            *counts.entry(outcome).or_insert(0.0) += 1.0;
        }
        let expected = [(0, 13_000.0), (1, 7_000.0), (2, 5_000.0), (3, 5_000.0)];
        let chi = |(outcome, n): (i32, f64)| (counts[&outcome] - n).powi(2) / n;
        let chi: f64 = expected.into_iter().map(chi).sum();
        assert!(chi < 16.3, "{counts:?}"); // 3 degrees of freedom, once in a thousand
    }

    #[test]
    fn published_policies_have_levels_and_probabilities_in_range() {
        for policies in [&published::CIFAR10, &published::IMAGENET, &published::SVHN] {
            for step in policies.iter().flatten() {
                assert!(
                    (0.0..=1.0).contains(&step.probability) && step.level <= 9,
                    "{step:?}"
                );
            }
        }
    }
}
