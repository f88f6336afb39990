//! What a search finds: a policy, and what must not be done to whom.

use std::collections::BTreeMap;

use evenkeel_augment::{
    AutoAugment, AutoAugmentPolicy, Class, Dialect, Interpolation, LabelAware, Operation, Pipeline,
    Transform,
};
use evenkeel_record::{Estimate, Preparation};
use serde::{Deserialize, Serialize};

use super::space::SubPolicy;
use crate::recipe::Recipe;

/// Layers that are applied one after another; of each, one sub-policy at random.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// In order.
    pub layers: Vec<Vec<SubPolicy>>,
}

/// A transform that hurts a class, with the evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Harm {
    /// What hurts.
    pub transform: Transform,
    /// Whom: the class's number.
    pub class: u32,
    /// The accuracy of trainings with the transform less that without, on the plain held-out images that are of the
    /// class or that either net takes for it.
    pub difference: Estimate,
    /// These images, in all trainings.
    pub examples: u64,
}

impl Policy {
    /// Of one layer.
    pub fn of(sub_policies: Vec<SubPolicy>) -> Self {
        let layers = match sub_policies.is_empty() {
            true => Vec::new(),
            false => vec![sub_policies],
        };
        Self { layers }
    }

    /// Without the sub-policies that have one of these transforms; a layer without any is left out.
    fn without(&self, excluded: &[Transform]) -> Self {
        let safe = |sub_policy: &&SubPolicy| {
            !sub_policy
                .iter()
                .any(|step| excluded.contains(&step.transform))
        };
        let layers = self.layers.iter();
        let layers = layers.map(|layer| layer.iter().filter(safe).cloned().collect());
        Self {
            layers: layers.filter(|layer: &Vec<_>| !layer.is_empty()).collect(),
        }
    }

    fn plain_operations(&self) -> Vec<Operation> {
        let layers = self.layers.iter().cloned();
        layers
            .map(|sub_policies| auto_augment(AutoAugmentPolicy::Custom(sub_policies)))
            .collect()
    }

    /// As operations of a pipeline, each class without what harms it.
    pub fn operations(&self, harms: &[Harm], classes: u32) -> Vec<Operation> {
        // Classes with the same exclusions have one step together.
        let mut groups: BTreeMap<Vec<&str>, (Vec<Transform>, Vec<u32>)> = BTreeMap::new();
        for class in 0..classes {
            let excluded = harms.iter().filter(|harm| harm.class == class);
            let excluded: Vec<Transform> = excluded.map(|harm| harm.transform).collect();
            let names = excluded.iter().map(|transform| transform.name()).collect();
            let group = groups.entry(names).or_insert((excluded, Vec::new()));
            group.1.push(class);
        }
        if groups.len() < 2 {
            let excluded = groups.into_values().next().map(|(excluded, _)| excluded);
            return self
                .without(&excluded.unwrap_or_default())
                .plain_operations();
        }
        let steps = groups.into_values().filter_map(|(excluded, members)| {
            let operations = self.without(&excluded).plain_operations();
            let others = (0..classes).filter(|class| !members.contains(class));
            let aware = LabelAware {
                operations,
                except: others.map(Class::Index).collect(),
                left_right: Vec::new(),
                up_down: Vec::new(),
            };
            (!aware.operations.is_empty()).then_some(Operation::LabelAware(aware))
        });
        steps.collect()
    }

    /// Every step of every sub-policy.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &evenkeel_augment::PolicyStep> {
        self.layers.iter().flatten().flatten()
    }
}

/// A policy in torchvision's dialect, whose levels those of a space are.
pub(crate) fn auto_augment(policy: AutoAugmentPolicy) -> Operation {
    Operation::AutoAugment(AutoAugment {
        policy,
        magnitudes: Dialect::Torchvision,
        interpolation: Interpolation::Nearest,
        fill: 0,
    })
}

/// The recipe's operations with a policy's among them: behind its crops and flips, before it erases anything, as in
/// AutoAugment's paper.
pub(crate) fn inserted(recipe: &Recipe, policy: Vec<Operation>) -> Vec<Operation> {
    let mut operations = recipe.augment.operations.clone();
    let erases = |operation: &Operation| {
        matches!(
            operation,
            Operation::Cutout(_) | Operation::RandomErasing(_) | Operation::GridMask(_)
        )
    };
    let place = operations.iter().position(erases);
    let place = place.unwrap_or(operations.len());
    operations.splice(place..place, policy);
    operations
}

/// The recipe with other operations.
pub(crate) fn with_operations(recipe: &Recipe, operations: Vec<Operation>) -> Recipe {
    let mut recipe = recipe.clone();
    recipe.augment.operations = operations;
    recipe
}

/// The name of the policy among a recipe's operations, if there is one.
pub(crate) fn has_policy(operations: &[Operation]) -> Option<&'static str> {
    operations.iter().find_map(|operation| match operation {
        Operation::AutoAugment(_)
        | Operation::RandAugment(_)
        | Operation::TrivialAugment(_)
        | Operation::AugMix(_) => Some(operation.name()),
        other => other.nested().into_iter().find_map(has_policy),
    })
}

/// A pipeline file: TOML, with where it comes from in comments.
pub(crate) fn file(comment: &str, operations: Vec<Operation>, preparation: &Preparation) -> String {
    let pipeline = Pipeline {
        operations,
        normalize: evenkeel_augment::Normalize {
            mean: preparation.mean.clone(),
            std: preparation.deviation.clone(),
        },
        exact: false,
    };
    let comment: String = comment.lines().map(|line| format!("# {line}\n")).collect();
    let text = toml::to_string(&pipeline).expect("a pipeline has only string keys");
    format!("{comment}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipes::BUILT_IN;
    use evenkeel_augment::PolicyStep;

    fn step(transform: Transform) -> PolicyStep {
        PolicyStep {
            transform,
            probability: 0.5,
            level: 3,
        }
    }

    fn harm(transform: Transform, class: u32) -> Harm {
        Harm {
            transform,
            class,
            difference: Estimate::new(-0.5, None),
            examples: 10,
        }
    }

    fn policy() -> Policy {
        Policy::of(vec![
            vec![step(Transform::Rotate), step(Transform::HorizontalFlip)],
            vec![step(Transform::Brightness)],
        ])
    }

    /// The transforms that an image of a class may see.
    fn seen(operations: &[Operation], class: u32) -> Vec<&'static str> {
        let of = |operations: &[Operation]| {
            let mut names = Vec::new();
            for operation in operations {
                let Operation::AutoAugment(auto) = operation else {
                    panic!("{operation:?}")
                };
                let AutoAugmentPolicy::Custom(sub_policies) = &auto.policy else {
                    panic!("{auto:?}")
                };
                names.extend(sub_policies.iter().flatten().map(|s| s.transform.name()));
            }
            names
        };
        let mut names = Vec::new();
        for operation in operations {
            match operation {
                Operation::LabelAware(aware) if aware.except.contains(&Class::Index(class)) => {}
                Operation::LabelAware(aware) => names.extend(of(&aware.operations)),
                other => names.extend(of(std::slice::from_ref(other))),
            }
        }
        names
    }

    #[test]
    fn a_class_is_spared_what_harms_it_and_nothing_else() {
        let harms = [harm(Transform::HorizontalFlip, 1)];
        let operations = policy().operations(&harms, 3);
        let all = ["rotate", "horizontal_flip", "brightness"];
        assert_eq!(seen(&operations, 0), all);
        assert_eq!(seen(&operations, 1), ["brightness"]);
        assert_eq!(seen(&operations, 2), all);
        // Where all classes are harmed, it is left out altogether.
        let harms: Vec<Harm> = (0..3).map(|c| harm(Transform::Brightness, c)).collect();
        let operations = policy().operations(&harms, 3);
        assert!(matches!(operations[..], [Operation::AutoAugment(_)]));
        assert_eq!(seen(&operations, 2), ["rotate", "horizontal_flip"]);
        // A class that nothing is safe for sees nothing.
        let harms = [
            harm(Transform::HorizontalFlip, 1),
            harm(Transform::Brightness, 1),
        ];
        assert!(seen(&policy().operations(&harms, 3), 1).is_empty());
        assert!(Policy::of(Vec::new()).operations(&[], 3).is_empty());
    }

    #[test]
    fn policies_come_before_what_erases() {
        let recipe = Recipe::parse(BUILT_IN[0].text, "default", &[]).unwrap();
        let operations = inserted(&recipe, policy().operations(&[], 10));
        let names: Vec<&str> = operations.iter().map(Operation::name).collect();
        assert_eq!(names, ["auto_augment", "cutout"]);
        assert_eq!(has_policy(&operations), Some("auto_augment"));
        assert_eq!(has_policy(&recipe.augment.operations), None);
    }

    #[test]
    fn a_file_says_where_it_is_from_and_is_a_pipeline() {
        let harms = [harm(Transform::HorizontalFlip, 1)];
        let operations = policy().operations(&harms, 3);
        let preparation = Preparation {
            mean: vec![0.25],
            deviation: vec![0.5],
        };
        let text = file("Found by a test.\nTwice.", operations.clone(), &preparation);
        assert!(
            text.starts_with("# Found by a test.\n# Twice.\n\n"),
            "{text}"
        );
        let pipeline: Pipeline = toml::from_str(&text).unwrap();
        assert_eq!(pipeline.operations, operations);
        assert_eq!(pipeline.normalize.std, [0.5]);
        assert_eq!(pipeline.output_size(28, 28).unwrap(), (28, 28));
    }
}
