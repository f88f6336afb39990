//! What must not be done to whom: transforms that turn an image into one of another class.

use std::collections::HashSet;

use evenkeel_augment::Transform;
use evenkeel_record::Estimate;
use evenkeel_statistics::{Discordant, Sample, holm};
use sha2::{Digest, Sha256};

use super::Sitting;
use super::policy::{Harm, Policy};
use super::space::{Space, single};
use super::trial::{Trial, diverged};
use crate::Error;
use crate::data::{Dataset, Split};
use crate::figures::shown;

/// The share of the images that are, or are taken for, of a class that must go wrong for a transform to be called harmful to it.
const HARM: f64 = 0.05;
const CONFIDENCE: f64 = 0.95;
/// The trainings that look for harm last this share of the recipe's.
const SHARE: f64 = 0.5;
/// What looks like harm must come again with other seeds, since trainings differ by chance too.
const SEEDS: u64 = 3;

/// Trains with each transform, on half of the images, and without, and compares how each class does on plain
/// held-out images: a net that saw half of the left shoes as right ones can no longer tell them apart. That a net
/// does not know rotated images says nothing, and is what a policy is to mend.
///
/// How a class does is told by all images that are of it, or that either net takes for it: where two classes can no
/// longer be told apart, a net may call all of them by the name of one, which then loses nothing itself.
///
/// Beyond noise: McNemar's test of a class, corrected by Holm for all transforms and classes, says which to look at
/// with more seeds. Classes that are alike trade accuracy from training to training, so seeds are what counts then:
/// Student's interval over [`SEEDS`] of them must be below 0, and that over all of their images below −[`HARM`].
///
/// `labels` are those of the held-out images.
pub(super) fn harms(
    sitting: &mut Sitting<'_>,
    space: &Space,
    labels: &[u32],
) -> Result<Vec<Harm>, Error> {
    let [least, most] = space.levels;
    let level = least + (most - least).div_ceil(2);
    let policy = |transform: Transform| Policy::of(vec![single(transform, 0.5, level)]);
    let seed = sitting.settings.seed;
    let of = |sitting: &Sitting<'_>, transform: Option<Transform>, seed: u64| {
        let policy = transform.map(policy).unwrap_or_default();
        sitting.training(&policy, &[], &[], SHARE, seed)
    };
    let mut trials = vec![of(sitting, None, seed)?];
    for &transform in &space.transforms {
        trials.push(of(sitting, Some(transform), seed)?);
    }
    let most = sitting.settings.candidates;
    sitting.tell("safety", 0, most, None);
    let hits = predictions(sitting, &trials)?;
    let (plain, with) = hits.split_first().expect("the first is the recipe's");

    let mut pairs = Vec::new();
    for (&transform, with) in space.transforms.iter().zip(with) {
        for class in 0..sitting.classes {
            pairs.push((transform, class, discordant(plain, with, labels, class)));
        }
    }
    let p_values: Vec<Option<f64>> = pairs.iter().map(|(.., d)| Some(d.p_value())).collect();
    let suspected: Vec<(Transform, u32, Discordant)> = pairs
        .into_iter()
        .zip(holm(&p_values))
        .filter(|((.., d), p)| d.difference() < -HARM && p.is_some_and(|p| p < 1.0 - CONFIDENCE))
        .map(|(pair, _)| pair)
        .collect();
    if suspected.is_empty() {
        return Ok(Vec::new());
    }

    let mut transforms: Vec<Transform> = suspected.iter().map(|(t, ..)| *t).collect();
    transforms.dedup();
    let mut again = Vec::new();
    for other in 1..SEEDS {
        again.push(of(sitting, None, seed.wrapping_add(other))?);
        for &transform in &transforms {
            again.push(of(sitting, Some(transform), seed.wrapping_add(other))?);
        }
    }
    let hits = predictions(sitting, &again)?;
    let of_seed: Vec<&[Vec<u32>]> = hits.chunks(1 + transforms.len()).collect();
    let confirmed = suspected
        .into_iter()
        .filter_map(|(transform, class, first)| {
            let place = 1 + transforms.iter().position(|t| *t == transform)?;
            let others = of_seed
                .iter()
                .map(|hits| discordant(&hits[0], &hits[place], labels, class));
            let all: Vec<Discordant> = std::iter::once(first).chain(others).collect();
            let pooled = all.iter().fold(Discordant::default(), |sum, d| Discordant {
                fixed: sum.fixed + d.fixed,
                broken: sum.broken + d.broken,
                examples: sum.examples + d.examples,
            });
            let interval = pooled.interval(CONFIDENCE);
            let differences: Vec<f64> = all.iter().map(Discordant::difference).collect();
            let over_seeds =
                Sample::of(&differences).and_then(|sample| sample.interval(CONFIDENCE));
            let harmful = over_seeds.is_some_and(|i| i.high < 0.0) && interval.high < -HARM;
            harmful.then(|| Harm {
                transform,
                class,
                difference: Estimate::new(pooled.difference(), Some(interval)),
                examples: pooled.examples,
            })
        });
    Ok(confirmed.collect())
}

/// Transforms that harm half of the classes or more: they are left out of the space.
pub(super) fn altogether(harms: &[Harm], classes: usize) -> Vec<Transform> {
    let mut transforms: Vec<Transform> = harms.iter().map(|harm| harm.transform).collect();
    transforms.dedup();
    transforms.retain(|transform| {
        let harmed = harms.iter().filter(|harm| harm.transform == *transform);
        2 * harmed.count() >= classes
    });
    transforms
}

fn predictions(sitting: &mut Sitting<'_>, trials: &[Trial]) -> Result<Vec<Vec<u32>>, Error> {
    let outcomes = sitting.outcomes(trials)?;
    let predictions = outcomes.into_iter().map(|outcome| {
        let trained = outcome.trained()?.map_err(|how| diverged(&how))?;
        Ok(trained.predicted)
    });
    predictions.collect()
}

fn discordant(plain: &[u32], with: &[u32], labels: &[u32], class: u32) -> Discordant {
    let all = plain.iter().zip(with).zip(labels);
    let of_class = all.filter(|((plain, with), label)| [*plain, *with, *label].contains(&&class));
    Discordant::of(of_class.map(|((plain, with), label)| (plain == label, with == label)))
}

/// The search must not see the test data, under whatever name.
///
/// # Errors
/// If an image of the validation source is one of the test images.
pub(super) fn expect_no_test_image(
    data: &Dataset,
    validation: &Dataset,
    name: &str,
) -> Result<(), Error> {
    let digests = |split: &Split, dataset: &Dataset| -> Vec<Option<[u8; 32]>> {
        let image = |index| {
            let image = shown(split, &dataset.kind, index)?;
            Some(Sha256::digest(image.pixels()).into())
        };
        (0..split.len()).map(image).collect()
    };
    let test: HashSet<[u8; 32]> = digests(&data.test, data).into_iter().flatten().collect();
    let found = digests(&validation.train, validation)
        .into_iter()
        .position(|digest| digest.is_some_and(|digest| test.contains(&digest)));
    match found {
        None => Ok(()),
        Some(index) => Err(Error::Unfit(format!(
            "--validation {name}: its image {index} is one of the test images of {}. A search that sees test data \
             proves nothing: name other images",
            data.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_hurt_that_another_is_called_by() {
        // Two classes that can no longer be told apart are both called 0; class 2 is as it was.
        let labels = [0, 0, 1, 1, 2, 2];
        let plain = [0, 0, 1, 1, 2, 1];
        let with = [0, 0, 0, 0, 2, 1];
        let of = |class| discordant(&plain, &with, &labels, class);
        assert_eq!((of(0).fixed, of(0).broken, of(0).examples), (0, 2, 4));
        assert_eq!((of(1).fixed, of(1).broken, of(1).examples), (0, 2, 3));
        assert_eq!((of(2).fixed, of(2).broken, of(2).examples), (0, 0, 2));
    }
}
