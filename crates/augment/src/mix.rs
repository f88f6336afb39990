//! Mixing the examples of a batch in pairs, and their targets with them.
//!
//! Example i is mixed with example partner(i), where the partners are a permutation of the batch,
//! uniform over all. Targets are shares of the classes. As for operations on images, drawing and
//! applying are separate.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::image::check_size;

/// x_i ← λ·x_i + (1 − λ)·x_partner(i), and targets alike, with one λ from Beta(α, α) for the batch.
///
/// Dialect: the authors' code; torchvision's `MixUp` pairs each example with the one before it
/// instead. Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixup {
    /// α: near 0 hardly anything is mixed, at 1 every λ is equally likely.
    #[serde(default = "mixup_alpha")]
    pub alpha: f64,
}

/// A rectangle of x_i is replaced by that of x_partner(i); targets are mixed by area.
///
/// With one λ from Beta(α, α) for the batch, the rectangle's sides are twice ⌊½·√(1 − λ)⌋ of the
/// image's, its centre is a uniform pixel, and what lies outside is clipped; λ becomes the share of the
/// image that is left. Dialect: the authors' code, as torchvision's `CutMix`, which pairs each example
/// with the one before it instead. Source: Yun et al., "CutMix: Regularization Strategy to Train Strong
/// Classifiers with Localizable Features" (2019).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutMix {
    /// α: near 0 hardly anything is replaced, or all; at 1 every λ is equally likely.
    #[serde(default = "cut_mix_alpha")]
    pub alpha: f64,
}

/// What is done to a whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum BatchOperation {
    /// See [`Mixup`].
    Mixup(Mixup),
    /// See [`CutMix`].
    CutMix(CutMix),
}

/// What a loader does to its batches: with some probability one of the operations, each equally likely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixing {
    /// At least one.
    pub operations: Vec<BatchOperation>,
    /// The probability that a batch is mixed at all.
    #[serde(default = "always")]
    pub probability: f64,
}

fn always() -> f64 {
    1.0
}

impl Mixing {
    /// Checks the settings and that they fit batches of this shape.
    ///
    /// # Errors
    /// If there is no operation, the probability is none, or an operation does not fit.
    pub fn check(&self, shape: BatchShape) -> Result<(), Error> {
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(Error::Mix(format!(
                "probability: expected 0 to 1, found {}",
                self.probability
            )));
        }
        if self.operations.is_empty() {
            return Err(Error::Mix(
                "operations: expected at least one, such as { op = \"mixup\" }, found none".into(),
            ));
        }
        self.operations
            .iter()
            .try_for_each(|operation| operation.check(shape))
    }

    /// Draws for a batch of this shape; `None` where it stays as it is.
    ///
    /// # Errors
    /// As [`Mixing::check`].
    pub fn draw(
        &self,
        shape: BatchShape,
        draws: &mut Draws,
    ) -> Result<Option<BatchParameters>, Error> {
        self.check(shape)?;
        if !draws.chance(self.probability) {
            return Ok(None);
        }
        let which = draws.below(self.operations.len() as u32) as usize;
        self.operations[which].draw(shape, draws).map(Some)
    }
}

/// What a [`BatchOperation`] drew for one batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum BatchParameters {
    /// Of a [`Mixup`].
    Mixup(MixedExamples),
    /// Of a [`CutMix`].
    CutMix(MixedRectangle),
}

/// How the examples of a batch are mixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedExamples {
    /// λ.
    pub lambda: f64,
    /// Whom each example is mixed with.
    pub partners: Vec<usize>,
}

/// Which part of the examples of a batch is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedRectangle {
    /// The rectangle's left column.
    pub left: usize,
    /// Its top row.
    pub top: usize,
    /// Its columns.
    pub width: usize,
    /// Its rows.
    pub height: usize,
    /// Whose pixels each example gets.
    pub partners: Vec<usize>,
}

/// The layout of a batch: examples one after another, each with its channels one after another; and
/// targets one after another, each a share a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Examples.
    pub examples: usize,
    /// Channels an example.
    pub channels: usize,
    /// Rows a channel.
    pub height: usize,
    /// Columns a channel.
    pub width: usize,
    /// Shares a target.
    pub classes: usize,
}

fn mixup_alpha() -> f64 {
    0.2
}

fn cut_mix_alpha() -> f64 {
    1.0
}

/// The targets of these labels: 1 for the label's class and 0 for the others.
///
/// # Errors
/// If a label is not below the number of classes.
pub fn one_hot(labels: &[u32], classes: usize) -> Result<Vec<f32>, Error> {
    let mut targets = vec![0.0; labels.len() * classes];
    for (index, &label) in labels.iter().enumerate() {
        if label as usize >= classes {
            return Err(Error::Mix(format!(
                "labels: expected numbers below {classes}, found {label} at {index}"
            )));
        }
        targets[index * classes + label as usize] = 1.0;
    }
    Ok(targets)
}

impl BatchOperation {
    /// Checks the settings and that they fit batches of this shape.
    ///
    /// # Errors
    /// If α is out of range or the shape is not one of images.
    pub fn check(&self, shape: BatchShape) -> Result<(), Error> {
        let (Self::Mixup(Mixup { alpha }) | Self::CutMix(CutMix { alpha })) = *self;
        if !(1e-6..=1e6).contains(&alpha) {
            return Err(Error::Mix(format!(
                "alpha: expected 0.000001 to 1000000, found {alpha}"
            )));
        }
        shape.check()
    }

    /// Draws the parameters for a batch of this shape.
    ///
    /// # Errors
    /// As [`BatchOperation::check`].
    pub fn draw(&self, shape: BatchShape, draws: &mut Draws) -> Result<BatchParameters, Error> {
        self.check(shape)?;
        let mut partners: Vec<usize> = (0..shape.examples).collect();
        draws.shuffle(&mut partners);
        Ok(match *self {
            Self::Mixup(Mixup { alpha }) => BatchParameters::Mixup(MixedExamples {
                lambda: draws.beta(alpha, alpha),
                partners,
            }),
            Self::CutMix(CutMix { alpha }) => {
                let share = (1.0 - draws.beta(alpha, alpha)).sqrt();
                let mut side = |length: usize| {
                    let half = (0.5 * share * length as f64) as usize;
                    let centre = draws.below(length as u32) as usize; // sides fit 32 bits
                    let start = centre.saturating_sub(half);
                    (start, (centre + half).min(length) - start)
                };
                let ((left, width), (top, height)) = (side(shape.width), side(shape.height));
                BatchParameters::CutMix(MixedRectangle {
                    left,
                    top,
                    width,
                    height,
                    partners,
                })
            }
        })
    }
}

impl BatchParameters {
    /// Mixes a batch in place. `scratch` is memory to work in, of one example, kept between batches.
    ///
    /// # Errors
    /// If the slices are not of this shape, or parameters, which may come from a file, do not fit it.
    pub fn apply(
        &self,
        shape: BatchShape,
        features: &mut [f32],
        targets: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> Result<(), Error> {
        self.check(shape, features.len(), targets.len())?;
        match self {
            Self::Mixup(MixedExamples { lambda, partners }) => {
                let lambda = *lambda as f32;
                let blend = |own: &mut [f32], other: &[f32]| blend(own, other, lambda);
                in_pairs(partners, shape.features(), features, scratch, blend);
                in_pairs(partners, shape.classes, targets, scratch, blend);
            }
            Self::CutMix(rectangle) => {
                let partners = &rectangle.partners;
                let columns = rectangle.left..rectangle.left + rectangle.width;
                let rows = rectangle.top..rectangle.top + rectangle.height;
                let paste = |own: &mut [f32], other: &[f32]| {
                    for channel in 0..shape.channels {
                        for row in rows.clone() {
                            let start = (channel * shape.height + row) * shape.width;
                            let part = start + columns.start..start + columns.end;
                            own[part.clone()].copy_from_slice(&other[part]);
                        }
                    }
                };
                in_pairs(partners, shape.features(), features, scratch, paste);
                let area = (rectangle.width * rectangle.height) as f64;
                let lambda = (1.0 - area / (shape.width * shape.height) as f64) as f32;
                let blend = |own: &mut [f32], other: &[f32]| blend(own, other, lambda);
                in_pairs(partners, shape.classes, targets, scratch, blend);
            }
        }
        Ok(())
    }

    fn check(&self, shape: BatchShape, features: usize, targets: usize) -> Result<(), Error> {
        shape.check()?;
        for (name, found, one) in [
            ("features", features, shape.features()),
            ("targets", targets, shape.classes),
        ] {
            let expected = one.checked_mul(shape.examples);
            if expected != Some(found) {
                let examples = shape.examples;
                return Err(Error::Mix(format!(
                    "{name}: expected {examples} times {one} numbers, found {found}"
                )));
            }
        }
        let partners = match self {
            Self::Mixup(MixedExamples { lambda, partners }) => {
                if !(0.0..=1.0).contains(lambda) {
                    return Err(Error::Mix(format!(
                        "lambda: expected 0 to 1, found {lambda}"
                    )));
                }
                partners
            }
            Self::CutMix(rectangle) => {
                for (name, start, length, side) in [
                    ("left", rectangle.left, rectangle.width, shape.width),
                    ("top", rectangle.top, rectangle.height, shape.height),
                ] {
                    if length > side || start > side - length {
                        return Err(Error::Mix(format!(
                            "{name}: expected at most {side} pixels inside the image, found \
                             {length} from {start} on"
                        )));
                    }
                }
                &rectangle.partners
            }
        };
        let mut seen = vec![false; shape.examples];
        let new = |&partner: &usize| {
            seen.get_mut(partner)
                .is_some_and(|seen| !std::mem::replace(seen, true))
        };
        if partners.len() == shape.examples && partners.iter().all(new) {
            Ok(())
        } else {
            Err(Error::Mix(format!(
                "partners: expected each of the {} examples once",
                shape.examples
            )))
        }
    }
}

impl BatchShape {
    fn check(&self) -> Result<(), Error> {
        check_size(self.width, self.height).map_err(Error::Mix)?;
        for (name, found) in [("channels", self.channels), ("examples", self.examples)] {
            if !(1..=1 << 24).contains(&found) {
                return Err(Error::Mix(format!(
                    "{name}: expected 1 to {}, found {found}",
                    1 << 24
                )));
            }
        }
        Ok(())
    }

    /// Numbers an example; `check` bounds them.
    fn features(&self) -> usize {
        self.channels * self.height * self.width
    }
}

/// own ← λ·own + (1 − λ)·other.
fn blend(own: &mut [f32], other: &[f32], lambda: f32) {
    for (own, other) in own.iter_mut().zip(other) {
        *own = lambda * *own + (1.0 - lambda) * other;
    }
}

/// Calls `mix(own, partner's)` for every example, with the partner's numbers as they were before any
/// mixing. Following the permutation's cycles, only the first example of each must be kept aside.
fn in_pairs(
    partners: &[usize],
    length: usize,
    numbers: &mut [f32],
    first: &mut Vec<f32>,
    mix: impl Fn(&mut [f32], &[f32]),
) {
    let mut done = vec![false; partners.len()];
    for start in 0..partners.len() {
        if done[start] || partners[start] == start {
            continue;
        }
        first.clear();
        first.extend_from_slice(&numbers[start * length..][..length]);
        let mut own = start;
        while !done[own] {
            done[own] = true;
            let partner = partners[own];
            if partner == start {
                mix(&mut numbers[own * length..][..length], first);
            } else {
                let (low, high) = numbers.split_at_mut(own.max(partner) * length);
                let low = &mut low[own.min(partner) * length..][..length];
                let high = &mut high[..length];
                if own < partner {
                    mix(low, high);
                } else {
                    mix(high, low);
                }
            }
            own = partner;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_random::Key;
    use proptest::prelude::*;

    const SHAPE: BatchShape = BatchShape {
        examples: 7,
        channels: 2,
        height: 3,
        width: 5,
        classes: 4,
    };

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut draws = Key::from_seed(seed).draws();
        (0..count).map(|_| draws.uniform() as f32).collect()
    }

    proptest! {
        /// Against the definition on a copy.
        #[test]
        fn batches_are_mixed_by_definition(
            seed in any::<u64>(),
            examples in 1..9_usize,
            alpha in 0.05..3.0_f64,
            cut in any::<bool>(),
        ) {
            let shape = BatchShape { examples, ..SHAPE };
            let operation = if cut {
                BatchOperation::CutMix(CutMix { alpha })
            } else {
                BatchOperation::Mixup(Mixup { alpha })
            };
            let drawn = operation.draw(shape, &mut Key::from_seed(seed).draws()).unwrap();
            let text = serde_json::to_string(&drawn).unwrap();
            prop_assert_eq!(&serde_json::from_str::<BatchParameters>(&text).unwrap(), &drawn);
            let x = numbers(examples * 30, seed);
            let t = numbers(examples * 4, seed + 1);
            let (mut features, mut targets) = (x.clone(), t.clone());
            drawn.apply(shape, &mut features, &mut targets, &mut vec![9.0; 3]).unwrap();
            for i in 0..examples {
                let (partner, lambda) = match &drawn {
                    BatchParameters::Mixup(mixed) => (mixed.partners[i], mixed.lambda),
                    BatchParameters::CutMix(mixed) => {
                        let area = (mixed.width * mixed.height) as f64;
                        (mixed.partners[i], 1.0 - area / 15.0)
                    }
                };
                let mix = |a: f32, b: f32| lambda as f32 * a + (1.0 - lambda as f32) * b;
                for k in 0..30 {
                    let (own, other) = (x[i * 30 + k], x[partner * 30 + k]);
                    let expected = match &drawn {
                        BatchParameters::Mixup(_) => mix(own, other),
                        BatchParameters::CutMix(mixed) => {
                            let (column, row) = (k % 5, k / 5 % 3);
                            let inside = (mixed.left..mixed.left + mixed.width).contains(&column)
                                && (mixed.top..mixed.top + mixed.height).contains(&row);
                            if inside { other } else { own }
                        }
                    };
                    prop_assert!((features[i * 30 + k] - expected).abs() < 1e-6);
                }
                for k in 0..4 {
                    let expected = mix(t[i * 4 + k], t[partner * 4 + k]);
                    prop_assert!((targets[i * 4 + k] - expected).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn shares_and_places_are_as_they_should_be() {
        let mut draws = Key::from_seed(1).draws();
        let mixup = BatchOperation::Mixup(Mixup { alpha: 0.5 });
        let mut lambdas = [0.0; 10];
        let mut partners = [0.0; 7];
        for _ in 0..20_000 {
            let BatchParameters::Mixup(mixed) = mixup.draw(SHAPE, &mut draws).unwrap() else {
                panic!("mixup draws its own");
            };
            // The distribution of Beta(½, ½) is 2/π·asin √λ.
            let share = 2.0 / std::f64::consts::PI * mixed.lambda.sqrt().asin();
            lambdas[((share * 10.0) as usize).min(9)] += 1.0;
            partners[mixed.partners[3]] += 1.0;
        }
        let chi = |counts: &[f64]| -> f64 {
            let expected = counts.iter().sum::<f64>() / counts.len() as f64;
            counts
                .iter()
                .map(|n| (n - expected).powi(2) / expected)
                .sum()
        };
        assert!(chi(&lambdas) < 27.9, "{lambdas:?}"); // 9 degrees of freedom, once in a thousand
        assert!(chi(&partners) < 22.5, "{partners:?}"); // 6

        let cut = BatchOperation::CutMix(CutMix { alpha: 1.0 });
        let large = BatchShape {
            width: 1000,
            height: 1000,
            ..SHAPE
        };
        let mut centres = [0.0; 10];
        let mut halves = 0.0;
        for _ in 0..20_000 {
            let BatchParameters::CutMix(mixed) = cut.draw(large, &mut draws).unwrap() else {
                panic!("CutMix draws its own");
            };
            // Where nothing is clipped, the middle is the centre that was drawn.
            if mixed.left > 0 && mixed.left + mixed.width < 1000 {
                halves += f64::from(u8::from(mixed.left + mixed.width / 2 >= 500));
                centres[(mixed.width / 100).min(9)] += 1.0;
            }
        }
        let inside: f64 = centres.iter().sum();
        assert!(
            (halves - inside / 2.0).abs() < 2.0 * inside.sqrt(),
            "{halves} of {inside}"
        );
        // P(1 − λ < s²) = s² for a side below s, and 1 − s of the centres are not clipped.
        for (i, count) in centres.iter().enumerate().take(9) {
            let (low, high) = (i as f64 / 10.0, (i + 1) as f64 / 10.0);
            let part = |s: f64| s * s - 2.0 / 3.0 * s * s * s;
            let expected = 2e4 * (part(high) - part(low));
            let difference: f64 = count - expected;
            assert!(
                difference.abs() < 4.5 * expected.sqrt() + 20.0,
                "{i}: {count} {expected}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |result: Result<(), Error>, problem: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        };
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            refused(
                BatchOperation::Mixup(Mixup { alpha }).check(SHAPE),
                "alpha: expected",
            );
        }
        let mixup = BatchOperation::Mixup(Mixup { alpha: 1.0 });
        refused(mixup.check(BatchShape { width: 0, ..SHAPE }), "sides");
        refused(
            mixup.check(BatchShape {
                channels: usize::MAX,
                ..SHAPE
            }),
            "channels",
        );
        refused(
            mixup.check(BatchShape {
                examples: 0,
                ..SHAPE
            }),
            "examples",
        );

        let apply = |text: &str, features: usize, targets: usize| {
            let parameters: BatchParameters = serde_json::from_str(text).unwrap();
            let shape = BatchShape {
                examples: 2,
                ..SHAPE
            };
            let (mut features, mut targets) = (vec![0.0; features], vec![0.0; targets]);
            parameters.apply(shape, &mut features, &mut targets, &mut vec![])
        };
        let mixed = |lambda, partners| {
            format!(r#"{{"op":"mixup","lambda":{lambda},"partners":{partners}}}"#)
        };
        assert!(apply(&mixed("0.5", "[1,0]"), 60, 8).is_ok());
        refused(
            apply(&mixed("0.5", "[1,0]"), 59, 8),
            "features: expected 2 times 30",
        );
        refused(
            apply(&mixed("0.5", "[1,0]"), 60, 9),
            "targets: expected 2 times 4",
        );
        refused(
            apply(&mixed("1.5", "[1,0]"), 60, 8),
            "lambda: expected 0 to 1",
        );
        for partners in ["[1]", "[1,1]", "[0,2]", "[0,1,2]"] {
            refused(
                apply(&mixed("0.5", partners), 60, 8),
                "partners: expected each",
            );
        }
        let cut = r#"{"op":"cut_mix","left":3,"top":0,"width":3,"height":1,"partners":[1,0]}"#;
        refused(apply(cut, 60, 8), "left: expected at most 5");
        let extra = r#"{"op":"mixup","lambda":1,"partners":[],"extra":1}"#;
        assert!(serde_json::from_str::<BatchParameters>(extra).is_err());
        assert!(serde_json::from_str::<BatchOperation>(r#"{"op":"mixup","a":1}"#).is_err());
    }

    #[test]
    fn targets_are_one_hot() {
        assert_eq!(one_hot(&[1, 0], 3).unwrap(), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
        let error = one_hot(&[0, 3], 3).unwrap_err().to_string();
        assert!(error.contains("below 3, found 3 at 1"), "{error}");
    }
}
