//! What a search chooses from: transforms, how likely, how strong.

use std::fs;
use std::path::Path;

use evenkeel_augment::{PolicyStep, Transform};
use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use crate::RecipeError;

/// Steps that are taken one after another.
pub type SubPolicy = Vec<PolicyStep>;

/// The greatest level of torchvision's table, in which policies are written.
pub(crate) const MOST_LEVEL: u8 = 9;
/// Probabilities are tenths of this many.
pub(crate) const MOST_TENTHS: u8 = 10;

/// The transforms and strengths of candidates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Space {
    /// What may be done.
    pub transforms: Vec<Transform>,
    /// Steps of a sub-policy.
    pub steps: usize,
    /// The least and the greatest level, in 0..=9 of torchvision's table.
    pub levels: [u8; 2],
    /// Sub-policies of a policy, for the methods that train with whole policies.
    pub sub_policies: usize,
}

impl Default for Space {
    /// AutoAugment's transforms and the flip from left to right, two steps each, every level, five sub-policies.
    fn default() -> Self {
        let transforms = Transform::ALL.into_iter();
        Self {
            transforms: transforms
                .filter(|transform| *transform != Transform::VerticalFlip)
                .collect(),
            steps: 2,
            levels: [0, MOST_LEVEL],
            sub_policies: 5,
        }
    }
}

const MOST_BYTES: u64 = 1 << 20;

impl Space {
    /// Reads a space: TOML with any of `transforms`, `steps`, `levels` and `sub_policies`.
    ///
    /// # Errors
    /// If it cannot be read or is none: names the line and the field.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let wrong = |problem: String| {
            let place = format!("--space {}", path.display());
            RecipeError::new(
                place,
                format!(
                    "{problem}. Expected TOML such as transforms = [\"rotate\", \"brightness\"], steps = 2, \
                     levels = [0, 9]"
                ),
            )
        };
        let size = fs::metadata(path)
            .map_err(|error| wrong(error.to_string()))?
            .len();
        if size > MOST_BYTES {
            return Err(wrong(format!("{size} bytes are too many for a space")));
        }
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let space: Self =
            toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().into()))?;
        space.validate().map_err(wrong)?;
        Ok(space)
    }

    /// Checks every number against its range.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let known = |transform: &Transform| Transform::ALL.contains(transform);
        if self.transforms.is_empty() || !self.transforms.iter().all(known) {
            let found: Vec<&str> = self.transforms.iter().map(|t| t.name()).collect();
            return Err(format!(
                "transforms: expected some other than identity, found [{}]",
                found.join(", ")
            ));
        }
        for (index, transform) in self.transforms.iter().enumerate() {
            if self.transforms[..index].contains(transform) {
                return Err(format!("transforms: {} is there twice", transform.name()));
            }
        }
        let [least, most] = self.levels;
        if least > most || most > MOST_LEVEL {
            return Err(format!(
                "levels: expected two of 0 to {MOST_LEVEL}, the least first, found [{least}, {most}]"
            ));
        }
        for (name, value, range) in [
            ("steps", self.steps, 1..=4),
            ("sub_policies", self.sub_policies, 1..=100),
        ] {
            if !range.contains(&value) {
                return Err(format!(
                    "{name}: expected {} to {}, found {value}",
                    range.start(),
                    range.end()
                ));
            }
        }
        Ok(())
    }

    /// Without some transforms, and without those that do nothing to gray images if images are gray.
    pub(crate) fn without(&self, excluded: &[Transform], gray: bool) -> Self {
        let mut transforms = self.transforms.clone();
        transforms.retain(|transform| !excluded.contains(transform));
        if gray {
            transforms.retain(|transform| *transform != Transform::Color);
        }
        Self {
            transforms,
            ..self.clone()
        }
    }

    /// How many levels there are.
    pub(crate) fn level_count(&self) -> u8 {
        self.levels[1] - self.levels[0] + 1
    }

    /// A step by its numbers: the transform's, tenths of the probability, levels above the least.
    pub(crate) fn step(&self, transform: usize, tenths: u8, level: u8) -> PolicyStep {
        PolicyStep {
            transform: self.transforms[transform],
            probability: f64::from(tenths) / f64::from(MOST_TENTHS),
            level: self.levels[0] + level,
        }
    }

    /// The numbers of a step of the space.
    pub(crate) fn numbers(&self, step: &PolicyStep) -> (usize, u8, u8) {
        let transform = self.transforms.iter().position(|t| *t == step.transform);
        let tenths = (step.probability * f64::from(MOST_TENTHS)).round() as u8;
        (
            transform.expect("the step is of the space"),
            tenths,
            step.level - self.levels[0],
        )
    }

    /// Sub-policies drawn uniformly.
    pub(crate) fn policy(&self, draws: &mut Draws) -> Vec<SubPolicy> {
        (0..self.sub_policies)
            .map(|_| self.sub_policy(draws))
            .collect()
    }

    /// Steps drawn uniformly, none with probability 0.
    pub(crate) fn sub_policy(&self, draws: &mut Draws) -> SubPolicy {
        let step = |_| {
            let transform = draws.below(self.transforms.len() as u32) as usize;
            let tenths = 1 + draws.below(u32::from(MOST_TENTHS)) as u8;
            let level = draws.below(u32::from(self.level_count())) as u8;
            self.step(transform, tenths, level)
        };
        (0..self.steps).map(step).collect()
    }
}

/// One step.
pub(crate) fn single(transform: Transform, probability: f64, level: u8) -> SubPolicy {
    vec![PolicyStep {
        transform,
        probability,
        level,
    }]
}

/// A sub-policy for people: `rotate 7 (0.6), brightness 4 (1)`.
pub(crate) fn in_words(sub_policy: &[PolicyStep]) -> String {
    let step = |step: &PolicyStep| match step.transform.has_levels() {
        true => format!(
            "{} {} ({})",
            step.transform.name(),
            step.level,
            step.probability
        ),
        false => format!("{} ({})", step.transform.name(), step.probability),
    };
    sub_policy.iter().map(step).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_random::Key;

    #[test]
    fn draws_cover_the_space_and_stay_in_it() {
        let space = Space {
            transforms: vec![Transform::Rotate, Transform::Invert],
            levels: [3, 5],
            ..Space::default()
        };
        let mut draws = Key::from_seed(1).draws();
        let steps: Vec<PolicyStep> = (0..500)
            .flat_map(|_| space.sub_policy(&mut draws))
            .collect();
        assert_eq!(steps.len(), 1000);
        for transform in &space.transforms {
            assert!(steps.iter().filter(|s| s.transform == *transform).count() > 400);
        }
        for level in 0..=9 {
            let found = steps.iter().any(|step| step.level == level);
            assert_eq!(found, (3..=5).contains(&level), "level {level}");
        }
        for tenths in 0..=10 {
            let probability = f64::from(tenths) / 10.0;
            let found = steps.iter().any(|step| step.probability == probability);
            assert_eq!(found, tenths > 0, "{probability}");
        }
    }

    #[test]
    fn what_is_no_space_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("space.toml");
        for (text, problem) in [
            ("transforms = []", "expected some other than identity"),
            ("transforms = [\"identity\"]", "found [identity]"),
            (
                "transforms = [\"invert\", \"invert\"]",
                "invert is there twice",
            ),
            ("levels = [5, 3]", "found [5, 3]"),
            ("levels = [0, 10]", "found [0, 10]"),
            ("steps = 0", "steps: expected 1 to 4, found 0"),
            ("sub_policies = 101", "found 101"),
            ("level = [0, 1]", "unknown field `level`"),
            ("transforms = [\"rotat\"]", "unknown variant `rotat`"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Space::read(&path).unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains("space.toml"),
                "{error}"
            );
        }
        fs::write(&path, "steps = 1").unwrap();
        let read = Space::read(&path).unwrap();
        assert_eq!((read.steps, read.transforms.len()), (1, 16));
        assert_eq!(
            read.without(&[Transform::HorizontalFlip], true)
                .transforms
                .len(),
            14
        );
    }
}
