//! Operations that mind the label: classes that must not be changed, and labels that change with the image.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::combine::{check_in_order, draw_in_order};
use super::{Apply, Draw, Operation, Parameters, Steps};
use crate::size::{Size, Sizes};
use crate::{Error, Image};

/// Operations for images of all classes but some, and labels that are exchanged where an image is mirrored: a left
/// hand becomes a right one, and a 6 stays as it is.
///
/// A step of a pipeline itself, not inside another. Mirrored is what was flipped an odd number of times: from left to right
/// for [`left_right`](Self::left_right), upside down for [`up_down`](Self::up_down). Drawn without a label
/// ([`Pipeline::draw`](crate::Pipeline::draw)), it does what it does to a class that it does not name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelAware {
    /// In order.
    pub operations: Vec<Operation>,
    /// Classes whose images stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Class>,
    /// Pairs of classes that become each other when left becomes right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_right: Vec<[Class; 2]>,
    /// Pairs of classes that become each other when top becomes bottom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub up_down: Vec<[Class; 2]>,
}

/// A class: its number, or its name, which [`Pipeline::with_classes`](crate::Pipeline::with_classes) replaces by its
/// number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Class {
    /// From 0.
    Index(u32),
    /// As the data has it.
    Name(String),
}

/// What was done to an image of some class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labelled {
    /// In order; none for a class that stays as it is.
    pub steps: Vec<Parameters>,
    /// What the label becomes, where it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<u32>,
}

impl Class {
    fn is(&self, label: u32) -> bool {
        *self == Self::Index(label)
    }

    fn named(&self, classes: &[String]) -> Result<Self, String> {
        let number = match self {
            Self::Index(number) => usize::try_from(*number).ok(),
            Self::Name(name) => classes.iter().position(|class| class == name),
        };
        let number = number.filter(|&number| number < classes.len());
        let number = number.and_then(|number| u32::try_from(number).ok());
        number.map(Self::Index).ok_or_else(|| {
            let found = match self {
                Self::Index(number) => number.to_string(),
                Self::Name(name) => format!("{name:?}"),
            };
            let names = classes.join(", ");
            format!(
                "expected one of the data's {} classes ({names}), found {found}",
                classes.len()
            )
        })
    }
}

impl LabelAware {
    /// Every place that names a class.
    fn classes(&mut self) -> impl Iterator<Item = (&'static str, &mut Class)> {
        let except = self.except.iter_mut().map(|class| ("except", class));
        let left_right = self.left_right.iter_mut().flatten();
        let up_down = self.up_down.iter_mut().flatten();
        except
            .chain(left_right.map(|class| ("left_right", class)))
            .chain(up_down.map(|class| ("up_down", class)))
    }

    /// With numbers for names.
    pub(crate) fn with_classes(&self, classes: &[String]) -> Result<Self, String> {
        let mut numbered = self.clone();
        for (field, class) in numbered.classes() {
            *class = class
                .named(classes)
                .map_err(|problem| format!("{field}: {problem}"))?;
        }
        Ok(numbered)
    }

    /// Draws the parameters for an image with this label.
    pub(crate) fn draw_for(&self, label: Option<u32>, size: Size, draws: &mut Draws) -> Labelled {
        if label.is_some_and(|label| self.except.iter().any(|class| class.is(label))) {
            return Labelled {
                steps: Vec::new(),
                label: None,
            };
        }
        let Steps { steps } = draw_in_order(&self.operations, size, draws);
        let [left_right, up_down] = mirrored(&steps);
        let mut changed = label;
        for (mirrored, pairs) in [(left_right, &self.left_right), (up_down, &self.up_down)] {
            if mirrored {
                changed = changed.map(|label| other(pairs, label));
            }
        }
        Labelled {
            steps,
            label: changed.filter(|_| changed != label),
        }
    }
}

/// The other one of the pair that a label is in, or itself.
fn other(pairs: &[[Class; 2]], label: u32) -> u32 {
    let found = pairs.iter().find_map(|[a, b]| match (a, b) {
        (a, Class::Index(b)) if a.is(label) => Some(*b),
        (Class::Index(a), b) if b.is(label) => Some(*a),
        _ => None,
    });
    found.unwrap_or(label)
}

/// Whether steps flip left to right, and upside down, an odd number of times. Their depth is bounded.
fn mirrored(steps: &[Parameters]) -> [bool; 2] {
    steps
        .iter()
        .fold([false; 2], |[across, down], step| match step {
            Parameters::HorizontalFlip(flip) => [across ^ flip.flipped, down],
            Parameters::VerticalFlip(flip) => [across, down ^ flip.flipped],
            _ => match step.steps() {
                Some(steps) => {
                    let [a, d] = mirrored(steps);
                    [across ^ a, down ^ d]
                }
                None => [across, down],
            },
        })
}

impl Draw for LabelAware {
    type Parameters = Labelled;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        if self.operations.is_empty() {
            return Err("operations: expected at least one, found none".into());
        }
        for (field, class) in self.clone().classes() {
            if let Class::Name(name) = class {
                return Err(format!(
                    "{field}: expected the number of a class, found the name {name:?}; say which classes the data \
                     has (Pipeline::with_classes)"
                ));
            }
        }
        for (field, pairs) in [("left_right", &self.left_right), ("up_down", &self.up_down)] {
            let all: Vec<&Class> = pairs.iter().flatten().collect();
            let again = (0..all.len()).find(|&i| all[..i].contains(&all[i]));
            if let Some(Class::Index(class)) = again.map(|i| all[i]) {
                return Err(format!(
                    "{field}: expected each class once, found {class} again"
                ));
            }
        }
        let changed = check_in_order(&self.operations, sizes)?;
        Ok(match self.except.is_empty() {
            true => changed,
            false => sizes.or(changed),
        })
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> Labelled {
        self.draw_for(None, size, draws)
    }

    fn nested(&self) -> Vec<&[Operation]> {
        vec![&self.operations]
    }
}

impl Apply for Labelled {
    fn check(&self, size: Size) -> Result<Size, String> {
        Steps::check_all(&self.steps, size)
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        for parameters in &self.steps {
            parameters.apply(image, scratch);
        }
    }

    fn steps(&self) -> Option<&[Parameters]> {
        Some(&self.steps)
    }

    fn nested(&self) -> Vec<&[Parameters]> {
        vec![&self.steps]
    }
}

impl Operation {
    /// Draws the parameters for an image with this label.
    pub(crate) fn draw_for(&self, label: Option<u32>, size: Size, draws: &mut Draws) -> Parameters {
        match self {
            Self::LabelAware(aware) => Parameters::LabelAware(aware.draw_for(label, size, draws)),
            _ => self.draw(size, draws),
        }
    }
}

impl Parameters {
    /// What a label becomes.
    pub(crate) fn label(&self, label: u32) -> u32 {
        match self {
            Self::LabelAware(Labelled {
                label: Some(label), ..
            }) => *label,
            _ => label,
        }
    }
}

/// Operations with numbers for the names of classes.
///
/// # Errors
/// If a class is none of the data's: names the step, the field and the classes.
pub fn name_classes(operations: &[Operation], classes: &[String]) -> Result<Vec<Operation>, Error> {
    let numbered = |(step, operation): (usize, &Operation)| match operation {
        Operation::LabelAware(aware) => {
            let numbered = aware.with_classes(classes).map(Operation::LabelAware);
            numbered.map_err(|problem| Error::Operation {
                step,
                operation: operation.name(),
                problem,
            })
        }
        other => Ok(other.clone()),
    };
    operations.iter().enumerate().map(numbered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Normalize, Pipeline, Sample, Stream};

    fn classes() -> Vec<String> {
        ["left", "right", "six", "ball"].map(String::from).to_vec()
    }

    fn pipeline() -> Pipeline {
        let text = r#"
            operations = [{ op = "label_aware", except = ["six"], left_right = [["left", "right"]], operations = [
                { op = "horizontal_flip" },
                { op = "random_apply", operations = [{ op = "vertical_flip", probability = 1.0 }] },
            ] }]
            normalize = { mean = [0.0], std = [1.0] }
        "#;
        toml::from_str(text).unwrap()
    }

    #[test]
    fn labels_change_with_the_image_and_exceptions_stay() {
        let pipeline = pipeline().with_classes(&classes()).unwrap();
        let image = Image::new(2, 2, 1, vec![1, 2, 3, 4]).unwrap();
        let mut swapped = 0;
        for index in 0..200 {
            let stream = Stream::new(1, Sample { epoch: 0, index });
            for label in 0..4 {
                let drawn = pipeline.draw_for(label, 2, 2, stream).unwrap();
                let text = serde_json::to_string(&drawn).unwrap();
                let drawn: Vec<Parameters> = serde_json::from_str(&text).unwrap();
                let picture = Pipeline::replay(&image, &drawn).unwrap();
                let mirrored = matches!(picture.pixels(), [2, 1, 4, 3] | [4, 3, 2, 1]);
                let found = Pipeline::label(&drawn, label);
                match label {
                    0 | 1 => assert_eq!(found, if mirrored { 1 - label } else { label }),
                    _ => assert_eq!(found, label),
                }
                if label == 2 {
                    assert_eq!(picture, image);
                } else {
                    // The same draws whatever the label.
                    let unlabelled = pipeline.draw(2, 2, stream).unwrap();
                    assert_eq!(picture, Pipeline::replay(&image, &unlabelled).unwrap());
                }
                swapped += usize::from(found != label);
            }
        }
        // Of 400, half.
        assert!((150..250).contains(&swapped), "{swapped}");
    }

    #[test]
    fn upside_down_is_another_exchange() {
        let steps = |across, down| {
            let text = format!(
                r#"[{{"op":"horizontal_flip","flipped":{across}}},
                    {{"op":"random_apply","steps":[{{"op":"vertical_flip","flipped":{down}}}]}},
                    {{"op":"invert"}}]"#
            );
            serde_json::from_str::<Vec<Parameters>>(&text).unwrap()
        };
        for (across, down) in [(false, false), (true, false), (false, true), (true, true)] {
            assert_eq!(mirrored(&steps(across, down)), [across, down]);
        }
    }

    #[test]
    fn classes_that_are_not_there_are_named() {
        let error = pipeline().output_size(2, 2).unwrap_err().to_string();
        assert!(
            error.contains("except: expected the number of a class"),
            "{error}"
        );
        let error = pipeline()
            .with_classes(&classes()[..2])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "step 0 (label_aware): except: expected one of the data's 2 classes (left, right), found \"six\""
        );
        let inside = Pipeline {
            operations: vec![Operation::RandomApply(crate::RandomApply {
                probability: 0.5,
                operations: pipeline().with_classes(&classes()).unwrap().operations,
            })],
            normalize: Normalize {
                mean: vec![],
                std: vec![],
            },
            exact: false,
        };
        let error = inside.output_size(2, 2).unwrap_err().to_string();
        assert!(
            error.contains("label_aware: expected it among the pipeline's own steps"),
            "{error}"
        );
    }
}
