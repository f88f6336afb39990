//! What training with each transform alone tells: what must not be done to whom, since it turns an image into one of
//! another class; and what it does to the loss.

use std::collections::HashSet;
use std::ops::Range;

use evenkeel_augment::Transform;
use evenkeel_record::Estimate;
use evenkeel_statistics::{Discordant, Sample, holm};
use sha2::{Digest, Sha256};

use super::Sitting;
use super::policy::{Harm, Policy};
use super::space::{Space, single};
use super::trial::{Trained, Trial, diverged};
use crate::Error;
use crate::data::{Dataset, Split};
use crate::figures::shown;

/// The share of the images that are, or are taken for, of a class that must go wrong for a transform to be called harmful to it.
const HARM: f64 = 0.05;
const CONFIDENCE: f64 = 0.95;
/// The trainings that look for harm last this share of the recipe's.
const SHARE: f64 = 0.5;
/// The share of the images that they see transformed.
const PROBABILITY: f64 = 0.5;
/// What looks like harm must come again with other seeds, since trainings differ by chance too.
const SEEDS: u64 = 3;

/// What training with each transform alone told.
pub(super) struct Alone {
    /// Whom it harms.
    pub harms: Vec<Harm>,
    /// Of each transform of the space, the loss on the held-out images less that of training without it (the mean
    /// over seeds), as if all images were transformed.
    pub gains: Vec<(Transform, f64)>,
}

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
pub(super) fn alone(
    sitting: &mut Sitting<'_>,
    space: &Space,
    labels: &[u32],
) -> Result<Alone, Error> {
    let [least, most] = space.levels;
    let level = least + (most - least).div_ceil(2);
    let policy = |transform: Transform| Policy::of(vec![single(transform, PROBABILITY, level)]);
    let seed = sitting.settings.seed;
    let of = |sitting: &Sitting<'_>, transform: Option<Transform>, seed: u64| {
        let policy = transform.map(policy).unwrap_or_default();
        sitting.training(&policy, &[], &[], SHARE, seed)
    };
    // Those that have no transform first.
    let all_of = |sitting: &Sitting<'_>, transforms: &[Transform], seeds: Range<u64>| {
        let mut trials = Vec::new();
        for other in seeds {
            let seed = seed.wrapping_add(other);
            trials.push(of(sitting, None, seed)?);
            for &transform in transforms {
                trials.push(of(sitting, Some(transform), seed)?);
            }
        }
        Ok::<_, Error>(trials)
    };
    let most = sitting.settings.candidates;
    sitting.tell("safety", 0, most, None);
    // Where the losses count too.
    let seeds = match sitting.settings.validation {
        Some(_) => SEEDS,
        None => 1,
    };
    let trials = all_of(sitting, &space.transforms, 0..seeds)?;
    let told = trained(sitting, &trials)?;
    let of_seed: Vec<&[Trained]> = told.chunks(1 + space.transforms.len()).collect();
    let gain = |place: usize| {
        let differences = of_seed
            .iter()
            .map(|told| told[place].score.loss - told[0].score.loss);
        differences.sum::<f64>() / seeds as f64 / PROBABILITY
    };
    let gains = (1..).map(gain);
    let alone = Alone {
        harms: Vec::new(),
        gains: space.transforms.iter().copied().zip(gains).collect(),
    };
    let (plain, with) = of_seed[0].split_first().expect("the first has none");

    let mut pairs = Vec::new();
    for (&transform, with) in space.transforms.iter().zip(with) {
        for class in 0..sitting.classes {
            pairs.push((
                transform,
                class,
                discordant(&plain.predicted, &with.predicted, labels, class),
            ));
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
        return Ok(alone);
    }

    let mut transforms: Vec<Transform> = suspected.iter().map(|(t, ..)| *t).collect();
    transforms.dedup();
    let trials = all_of(sitting, &transforms, 1..SEEDS)?;
    let again = trained(sitting, &trials)?;
    let confirmed = suspected
        .into_iter()
        .filter_map(|(transform, class, first)| {
            let place = 1 + transforms.iter().position(|t| *t == transform)?;
            let others = again
                .chunks(1 + transforms.len())
                .map(|told| discordant(&told[0].predicted, &told[place].predicted, labels, class));
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
    Ok(Alone {
        harms: confirmed.collect(),
        ..alone
    })
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

fn trained(sitting: &mut Sitting<'_>, trials: &[Trial]) -> Result<Vec<Trained>, Error> {
    let outcomes = sitting.outcomes(trials)?;
    let trained = outcomes
        .into_iter()
        .map(|outcome| outcome.trained()?.map_err(|how| diverged(&how)));
    trained.collect()
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
