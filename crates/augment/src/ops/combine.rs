//! Operations of operations: with a probability, one of several, some of several, in random order.
//!
//! What they draw are the [`Steps`] that were chosen. How deep and how many operations can be nested
//! is bounded.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Draw, Operation, Steps, check};
use crate::size::{Size, Sizes};

/// All of the operations, in order, with some probability; else none.
///
/// Dialect: torchvision's `RandomApply(transforms, p)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomApply {
    /// The probability.
    #[serde(default = "half")]
    pub probability: f64,
    /// In order.
    pub operations: Vec<Operation>,
}

/// One of several lists of operations, chosen by weight.
///
/// Dialect: torchvision's `RandomChoice(transforms, p)`, albumentations' `OneOf`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneOf {
    /// What is chosen from.
    pub choices: Vec<Choice>,
}

/// A list of operations that [`OneOf`] may choose; an empty one leaves the image as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Its probability is this by the sum of all weights.
    #[serde(default = "one")]
    pub weight: f64,
    /// In order.
    pub operations: Vec<Operation>,
}

/// Several of the operations, none twice, in the order in which they are listed. Every choice of as
/// many is equally likely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SomeOf {
    /// The fewest and the most; each number between is equally likely.
    pub count: [usize; 2],
    /// What is chosen from.
    pub operations: Vec<Operation>,
}

/// All of the operations, every order equally likely. None of them may change the image's size.
///
/// Dialect: torchvision's `RandomOrder`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomOrder {
    /// In any order.
    pub operations: Vec<Operation>,
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}

/// Checks an operation inside another.
fn check_nested(index: usize, operation: &Operation, sizes: Sizes) -> Result<Sizes, String> {
    let output = operation.check(sizes);
    output.map_err(|problem| format!("operations[{index}] ({}): {problem}", operation.name()))
}

pub(super) fn check_in_order(operations: &[Operation], sizes: Sizes) -> Result<Sizes, String> {
    let mut operations = operations.iter().enumerate();
    operations.try_fold(sizes, |sizes, (index, operation)| {
        check_nested(index, operation, sizes)
    })
}

/// Draws each operation's parameters for what the ones before it leave.
pub(super) fn draw_in_order<'a>(
    operations: impl IntoIterator<Item = &'a Operation>,
    mut size: Size,
    draws: &mut Draws,
) -> Steps {
    let steps = operations.into_iter().map(|operation| {
        let parameters = operation.draw(size, draws);
        // What an operation draws fits; an image that it did not fit would keep its size.
        size = parameters.check(size).unwrap_or(size);
        parameters
    });
    Steps {
        steps: steps.collect(),
    }
}

impl Draw for RandomApply {
    type Parameters = Steps;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::probability("probability", self.probability)?;
        let applied = check_in_order(&self.operations, sizes)?;
        Ok(match self.probability {
            0.0 => sizes,
            1.0 => applied,
            _ => sizes.or(applied),
        })
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> Steps {
        let applied = draws.chance(self.probability);
        let operations = if applied { &self.operations[..] } else { &[] };
        draw_in_order(operations, size, draws)
    }

    fn nested(&self) -> Vec<&[Operation]> {
        vec![&self.operations]
    }
}

impl Draw for OneOf {
    type Parameters = Steps;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        let mut output: Option<Sizes> = None;
        for (index, Choice { weight, operations }) in self.choices.iter().enumerate() {
            let found = check::number("weight", *weight, 0.0..=1e9)
                .and_then(|()| check_in_order(operations, sizes))
                .map_err(|problem| format!("choices[{index}]: {problem}"))?;
            if *weight > 0.0 {
                output = Some(output.map_or(found, |output| output.or(found)));
            }
        }
        output.ok_or_else(|| {
            let found = self.choices.len();
            format!("choices: expected one with a weight above 0, found none of {found}")
        })
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> Steps {
        let total: f64 = self.choices.iter().map(|choice| choice.weight).sum();
        let mut place = draws.uniform() * total;
        let chosen = self.choices.iter().find(|choice| {
            let here = place < choice.weight;
            place -= choice.weight;
            here
        });
        // Rounding may step past the end.
        let last = || self.choices.iter().rfind(|choice| choice.weight > 0.0);
        let operations = chosen.or_else(last).map(|choice| &choice.operations[..]);
        draw_in_order(operations.unwrap_or_default(), size, draws)
    }

    fn nested(&self) -> Vec<&[Operation]> {
        let choices = self.choices.iter();
        choices.map(|choice| &choice.operations[..]).collect()
    }
}

impl Draw for SomeOf {
    type Parameters = Steps;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        let [least, most] = self.count;
        let all = self.operations.len();
        if least > most || most > all {
            return Err(format!(
                "count: expected at most the {all} operations, the fewest first, found \
                 [{least}, {most}]"
            ));
        }
        let mut operations = self.operations.iter().enumerate();
        operations.try_fold(sizes, |sizes, (index, operation)| {
            let applied = check_nested(index, operation, sizes)?;
            Ok(if least == all {
                applied
            } else {
                sizes.or(applied)
            })
        })
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> Steps {
        let [least, most] = self.count;
        // Nesting is bounded, so these fit 32 bits.
        let count = least + draws.below((most - least + 1) as u32) as usize;
        let mut chosen: Vec<usize> = (0..self.operations.len()).collect();
        draws.shuffle(&mut chosen);
        chosen.truncate(count);
        chosen.sort_unstable();
        let operations = chosen.iter().map(|&index| &self.operations[index]);
        draw_in_order(operations, size, draws)
    }

    fn nested(&self) -> Vec<&[Operation]> {
        vec![&self.operations]
    }
}

impl Draw for RandomOrder {
    type Parameters = Steps;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        for (index, operation) in self.operations.iter().enumerate() {
            let output = check_nested(index, operation, sizes)?;
            if output != sizes {
                return Err(format!(
                    "operations[{index}] ({}): expected one that keeps the size {sizes}, found one \
                     that makes it {output}",
                    operation.name()
                ));
            }
        }
        Ok(sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> Steps {
        let mut operations: Vec<&Operation> = self.operations.iter().collect();
        draws.shuffle(&mut operations);
        draw_in_order(operations, size, draws)
    }

    fn nested(&self) -> Vec<&[Operation]> {
        vec![&self.operations]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Invert, Parameters, RandomCrop};
    use evenkeel_random::Key;
    use std::collections::HashMap;

    fn crop(side: usize) -> Operation {
        Operation::RandomCrop(RandomCrop {
            height: side,
            width: side,
            padding: 0,
            mode: Default::default(),
        })
    }

    /// How often each list of crops' widths is drawn.
    fn counts(operation: &impl Draw<Parameters = Steps>) -> HashMap<Vec<usize>, f64> {
        let mut draws = Key::from_seed(11).draws();
        let mut counts = HashMap::new();
        for _ in 0..60_000 {
            let Steps { steps } = operation.draw(Size::new(9, 9), &mut draws);
            let widths = steps.iter().map(|step| match step {
                Parameters::RandomCrop(window) => window.width,
                other => panic!("expected a crop, found {other:?}"),
            });
            *counts.entry(widths.collect()).or_default() += 1.0;
        }
        counts
    }

    fn assert_shares(operation: &impl Draw<Parameters = Steps>, expected: &[(&[usize], f64)]) {
        let counts = counts(operation);
        assert_eq!(counts.len(), expected.len(), "{counts:?}");
        let chi: f64 = expected
            .iter()
            .map(|(widths, share)| (counts[*widths] - 6e4 * share).powi(2) / (6e4 * share))
            .sum();
        // Of at most 5 degrees of freedom, 20.5 is exceeded once in a thousand; the seed is fixed.
        assert!(chi < 20.5, "{counts:?}");
    }

    #[test]
    fn choices_are_as_likely_as_they_should_be() {
        let choice = |weight, side| Choice {
            weight,
            operations: vec![crop(side), crop(1)],
        };
        let one_of = OneOf {
            choices: vec![
                choice(1.0, 5),
                choice(0.0, 4),
                choice(3.0, 3),
                choice(2.0, 2),
            ],
        };
        let sixths = |n: f64| n / 6.0;
        let expected: [(&[usize], f64); 3] = [
            (&[5, 1], sixths(1.0)),
            (&[3, 1], sixths(3.0)),
            (&[2, 1], sixths(2.0)),
        ];
        assert_shares(&one_of, &expected);

        let some_of = SomeOf {
            count: [1, 2],
            operations: vec![crop(7), crop(5), crop(3)],
        };
        let sixth = 1.0 / 6.0;
        let expected: [(&[usize], f64); 6] = [
            (&[7], sixth),
            (&[5], sixth),
            (&[3], sixth),
            (&[7, 5], sixth),
            (&[7, 3], sixth),
            (&[5, 3], sixth),
        ];
        assert_shares(&some_of, &expected);

        let random_apply = RandomApply {
            probability: 0.3,
            operations: vec![crop(4), crop(2)],
        };
        assert_shares(&random_apply, &[(&[], 0.7), (&[4, 2], 0.3)]);

        let random_order = RandomOrder {
            operations: vec![crop(9), crop(9), Operation::Invert(Invert {})],
        };
        let mut draws = Key::from_seed(12).draws();
        let mut places = [0.0; 3];
        for _ in 0..30_000 {
            let Steps { steps } = random_order.draw(Size::new(9, 9), &mut draws);
            let inverts = |step: &Parameters| matches!(step, Parameters::Invert(_));
            places[steps.iter().position(inverts).unwrap()] += 1.0;
        }
        let chi: f64 = places.iter().map(|n: &f64| (n - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 13.8, "{places:?}"); // 2 degrees of freedom
    }

    #[test]
    fn sizes_that_may_come_out_are_told() {
        let from = Sizes::fixed(Size::new(9, 8));
        let least_and_most = |operation: &dyn Fn(Sizes) -> Result<Sizes, String>| {
            let Sizes { least, most } = operation(from).unwrap();
            [least.width, least.height, most.width, most.height]
        };
        let some_of = |count| SomeOf {
            count,
            operations: vec![crop(7), crop(5)],
        };
        assert_eq!(least_and_most(&|s| some_of([2, 2]).check(s)), [5, 5, 5, 5]);
        assert_eq!(least_and_most(&|s| some_of([0, 1]).check(s)), [5, 5, 9, 8]);
        let random_apply = |probability| RandomApply {
            probability,
            operations: vec![crop(7), crop(5)],
        };
        assert_eq!(
            least_and_most(&|s| random_apply(0.5).check(s)),
            [5, 5, 9, 8]
        );
        assert_eq!(
            least_and_most(&|s| random_apply(1.0).check(s)),
            [5, 5, 5, 5]
        );
        // A crop must fit whatever may come before it.
        let error = SomeOf {
            count: [1, 1],
            operations: vec![crop(5), crop(7)],
        }
        .check(from)
        .unwrap_err();
        assert!(
            error.starts_with("operations[1] (random_crop): width: expected 1 to 5"),
            "{error}"
        );
        let error = RandomOrder {
            operations: vec![Operation::Invert(Invert {}), crop(5)],
        }
        .check(from)
        .unwrap_err();
        assert!(
            error.contains("operations[1]") && error.contains("makes it 5×5"),
            "{error}"
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let wrap = |operations| {
            Operation::RandomApply(RandomApply {
                probability: 1.0,
                operations,
            })
        };
        let deep =
            |levels| (1..levels).fold(Operation::Invert(Invert {}), |inner, _| wrap(vec![inner]));
        assert_eq!(deep(8).check_nesting(), Ok(()));
        assert!(
            deep(9)
                .check_nesting()
                .unwrap_err()
                .contains("at most 8 deep")
        );
        assert!(deep(5000).check_nesting().is_err());
        let wide = |count| wrap(vec![Operation::Invert(Invert {}); count]);
        assert_eq!(wide(999).check_nesting(), Ok(()));
        assert!(
            wide(1000)
                .check_nesting()
                .unwrap_err()
                .contains("at most 1000")
        );
    }

    #[test]
    fn files_that_nest_deeply_are_refused() {
        let nested = |levels: usize, list: &str| {
            let open = format!(r#"{{"op":"random_apply","{list}":["#).repeat(levels);
            format!(r#"{open}{{"op":"invert"}}{}"#, "]}".repeat(levels))
        };
        let operation: Operation = serde_json::from_str(&nested(40, "operations")).unwrap();
        assert!(operation.check_nesting().is_err());
        let parameters: Parameters = serde_json::from_str(&nested(40, "steps")).unwrap();
        assert!(parameters.check_nesting().is_err());
        for levels in [70, 10_000] {
            let operation = serde_json::from_str::<Operation>(&nested(levels, "operations"));
            assert!(
                operation
                    .unwrap_err()
                    .to_string()
                    .contains("recursion limit")
            );
            let parameters = serde_json::from_str::<Parameters>(&nested(levels, "steps"));
            assert!(
                parameters
                    .unwrap_err()
                    .to_string()
                    .contains("recursion limit")
            );
        }
        // What an operation may draw is not refused when it is replayed.
        let most: Operation = serde_json::from_str(&nested(6, "operations")).unwrap();
        let policy = r#"{"op":"aug_mix"}"#;
        let text = serde_json::to_string(&most).unwrap();
        let most: Operation =
            serde_json::from_str(&text.replace(r#"{"op":"invert"}"#, policy)).unwrap();
        assert_eq!(most.check_nesting(), Ok(()));
        for seed in 0..50 {
            let drawn = most.draw(Size::new(9, 9), &mut Key::from_seed(seed).draws());
            assert_eq!(drawn.check_nesting(), Ok(()));
        }
    }
}
