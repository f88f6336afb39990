//! What comes of a search: the final comparison's arms, and what it says in the end.

use evenkeel_augment::{
    AutoAugmentPolicy, Dialect, Image, Interpolation, Operation, Pipeline, PolicyStep, RandAugment,
    Sample, Stream, Transform, TrivialAugment,
};
use evenkeel_record::{
    Arm as ComparedArm, Candidate, ClassHarm, Comparison, Estimate, FoundOperation,
    NamedDifference, Picture, Preparation, Search as Record,
};
use evenkeel_statistics::{Interval, Paired, Sample as Values};

use super::policy::{Harm, Policy, auto_augment, file, inserted};
use super::space::{MOST_LEVEL, single};
use super::{Found, Settings, Tried, safety};
use crate::ablate::Arm;
use crate::data::unnormalized;
use crate::figures::picture;
use crate::{Error, Recipe};

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// By its method.
    pub found: Found,
    /// What harms whom.
    pub harms: Vec<Harm>,
    /// The classes' names.
    pub classes: Vec<String>,
    /// Trials in all.
    pub trials: u64,
    /// Seconds, over all sittings.
    pub seconds: f64,
    /// What all training data are normalized by.
    pub preparation: Preparation,
    /// A training image.
    pub example: Option<Image>,
}

/// The name of the arm with the policy found.
const FOUND: &str = "found";
const NONE: &str = "no policy";
const TRIVIAL: &str = "TrivialAugment";
const CONFIDENCE: f64 = 0.95;

/// The arms of the final comparison: the recipe without a policy, TrivialAugment, RandAugment, the published
/// policies, and what was found, if anything was.
pub fn final_arms(settings: &Settings, finding: &Finding) -> Result<Vec<Arm>, Error> {
    let recipe = settings.recipe()?;
    let usual = [
        (
            TRIVIAL,
            Operation::TrivialAugment(TrivialAugment {
                magnitudes: Dialect::Torchvision,
                interpolation: Interpolation::Nearest,
                fill: 0,
            }),
        ),
        (
            "RandAugment",
            Operation::RandAugment(RandAugment::default()),
        ),
        (
            "AutoAugment CIFAR-10",
            auto_augment(AutoAugmentPolicy::Cifar10),
        ),
        (
            "AutoAugment ImageNet",
            auto_augment(AutoAugmentPolicy::Imagenet),
        ),
        ("AutoAugment SVHN", auto_augment(AutoAugmentPolicy::Svhn)),
    ];
    let mut arms = vec![Arm {
        name: NONE.into(),
        settings: Vec::new(),
    }];
    arms.extend(usual.map(|(name, operation)| Arm {
        name: name.into(),
        settings: vec![setting(&recipe, vec![operation])],
    }));
    if let Some(operations) = finding.operations() {
        let mut changes = finding.found.settings.clone();
        changes.push(setting(&recipe, operations));
        arms.push(Arm {
            name: FOUND.into(),
            settings: changes,
        });
    }
    Ok(arms)
}

/// The recipe's operations with these among them, as a setting.
fn setting(recipe: &Recipe, operations: Vec<Operation>) -> String {
    let operations = toml::Value::try_from(inserted(recipe, operations));
    let operations = operations.expect("operations have only string keys");
    format!("augment.operations={operations}")
}

impl Finding {
    /// The policy as operations, each class without what harms it; none if nothing was found.
    pub fn operations(&self) -> Option<Vec<Operation>> {
        let operations = self
            .found
            .policy
            .operations(&self.harms, self.classes.len() as u32);
        let nothing = operations.is_empty() && self.found.settings.is_empty();
        (!nothing).then_some(operations)
    }

    /// The policy as a pipeline file: TOML that says where it is from. None if nothing was found.
    ///
    /// # Errors
    /// If the settings have no recipe.
    pub fn pipeline(&self, settings: &Settings) -> Result<Option<String>, Error> {
        let Some(operations) = self.operations() else {
            return Ok(None);
        };
        let recipe = settings.recipe()?;
        let source = &recipe.data.source;
        let on = match &settings.validation {
            Some(validation) => format!(", scored on {validation}"),
            None => String::new(),
        };
        let mut comment = format!(
            "A policy for {source}, found by evenkeel {} ({}, seed {}, a budget of {} s of which {:.0} were used,\n\
             {} candidates{on}).\n\
             Train with it by `evenkeel train RECIPE --pipeline THIS`, look at it by `evenkeel preview`.",
            settings.version,
            settings.method,
            settings.seed,
            settings.budget_seconds,
            self.seconds,
            self.found.tried.len(),
        );
        if !self.found.settings.is_empty() {
            comment.push_str("\nIt was found together with these settings of the recipe:");
            for setting in &self.found.settings {
                comment.push_str(&format!("\n  --set '{setting}'"));
            }
        }
        let operations = inserted(&recipe, operations);
        Ok(Some(file(&comment, operations, &self.preparation)))
    }
}

/// The whole search for its report.
///
/// # Errors
/// If the settings have no recipe, or an operation of the policy does not fit the data.
pub fn conclude(
    settings: &Settings,
    finding: &Finding,
    comparison: Option<Comparison>,
) -> Result<Record, Error> {
    let source = settings.recipe()?.data.source;
    let altogether = safety::altogether(&finding.harms, finding.classes.len());
    let differences = comparison.as_ref().map_or_else(Vec::new, differences);
    let (recommended, verdict) = verdict(finding, comparison.as_ref(), &differences);
    let Found {
        tried,
        plain,
        lower_is_better,
        seconds: [scoring_seconds, training_seconds],
        ..
    } = &finding.found;
    Ok(Record {
        format: 1,
        source,
        validation: settings.validation.clone(),
        method: settings.method.to_string(),
        version: settings.version.clone(),
        seed: settings.seed,
        budget_seconds: settings.budget_seconds,
        seconds: finding.seconds,
        trials: finding.trials,
        candidates: tried
            .iter()
            .map(|tried| Candidate {
                name: tried.name.clone(),
                score: tried.score,
            })
            .collect(),
        plain: *plain,
        lower_is_better: *lower_is_better,
        scoring_seconds: *scoring_seconds,
        training_seconds: *training_seconds,
        operations: operations(&finding.found, finding.example.as_ref())?,
        settings: finding.found.settings.clone(),
        harms: finding
            .harms
            .iter()
            .map(|harm| ClassHarm {
                operation: harm.transform.name().into(),
                class: finding.classes[harm.class as usize].clone(),
                difference: harm.difference,
                examples: harm.examples,
                altogether: altogether.contains(&harm.transform),
            })
            .collect(),
        comparison,
        differences,
        recommended,
        verdict,
    })
}

/// What the policy does, most frequent first.
fn operations(found: &Found, image: Option<&Image>) -> Result<Vec<FoundOperation>, Error> {
    let mut all = Vec::new();
    for transform in Transform::ALL {
        let of = |step: &&PolicyStep| step.transform == transform;
        let share: f64 = found
            .policy
            .layers
            .iter()
            .map(|layer| {
                let steps = layer.iter().flatten().filter(of);
                steps.map(|step| step.probability).sum::<f64>() / layer.len() as f64
            })
            .sum();
        if share == 0.0 {
            continue;
        }
        let levels: Vec<f64> = found
            .policy
            .steps()
            .filter(of)
            .map(|step| f64::from(step.level))
            .collect();
        let level = levels.iter().sum::<f64>() / levels.len() as f64;
        let views = match image {
            Some(image) => views(image, transform, level.round() as u8)?,
            None => Vec::new(),
        };
        all.push(FoundOperation {
            name: transform.name().into(),
            share,
            strength: transform
                .has_levels()
                .then_some(level / f64::from(MOST_LEVEL)),
            gain: gain(&found.tried, transform),
            original: image.and_then(picture),
            views,
        });
    }
    all.sort_by(|a, b| b.share.total_cmp(&a.share));
    Ok(all)
}

/// With the image itself, a row of the page.
const VIEWS: u64 = 7;

fn views(image: &Image, transform: Transform, level: u8) -> Result<Vec<Picture>, Error> {
    let pipeline = Pipeline {
        operations: Policy::of(vec![single(transform, 1.0, level)]).operations(&[], 1),
        normalize: unnormalized(),
        exact: true,
    };
    let view = |epoch| {
        let stream = Stream::new(0, Sample { epoch, index: 0 });
        Ok(picture(&pipeline.augment(image, stream)?))
    };
    let views = (0..VIEWS).map(view).collect::<Result<Vec<_>, Error>>()?;
    Ok(views.into_iter().flatten().collect())
}

/// The mean score of the candidates with a transform less that of those without, with Welch's interval in its
/// normal approximation. The candidates are not drawn independently: a searcher comes back to what did well.
fn gain(tried: &[Tried], transform: Transform) -> Estimate {
    let (with, without): (Vec<&Tried>, Vec<&Tried>) = tried
        .iter()
        .partition(|tried| tried.policy.steps().any(|step| step.transform == transform));
    let of = |part: Vec<&Tried>| {
        let scores: Vec<f64> = part.iter().map(|tried| tried.score).collect();
        Values::of(&scores)
    };
    let (Some(with), Some(without)) = (of(with), of(without)) else {
        return Estimate::new(f64::NAN, None);
    };
    let difference = with.mean - without.mean;
    let error = with.standard_error().zip(without.standard_error());
    let interval = error.map(|(a, b)| {
        let reach = 1.96 * (a * a + b * b).sqrt();
        Interval {
            low: difference - reach,
            high: difference + reach,
        }
    });
    Estimate::new(difference, interval)
}

/// Of the policy found against each other arm, over the seeds that both have.
fn differences(comparison: &Comparison) -> Vec<NamedDifference> {
    let Some(found) = comparison.arms.iter().find(|arm| arm.name == FOUND) else {
        return Vec::new();
    };
    let others = comparison.arms.iter().filter(|arm| arm.name != FOUND);
    let difference = |other: &ComparedArm| {
        let pairs = other
            .seeds
            .iter()
            .zip(&other.accuracies)
            .filter_map(|(seed, accuracy)| {
                let place = found.seeds.iter().position(|known| known == seed)?;
                Some((*accuracy, found.accuracies[place]))
            });
        let (before, after): (Vec<f64>, Vec<f64>) = pairs.unzip();
        let paired = Paired::of(&before, &after)?;
        Some(NamedDifference {
            baseline: other.name.clone(),
            accuracy: Estimate::new(paired.mean(), paired.interval(CONFIDENCE)),
            p_value: paired.p_value(),
        })
    };
    others.filter_map(difference).collect()
}

/// What to use, and why.
fn verdict(
    finding: &Finding,
    comparison: Option<&Comparison>,
    differences: &[NamedDifference],
) -> (String, String) {
    let Some(comparison) = comparison else {
        return (
            NONE.into(),
            "The policy was not compared with the usual ones, so nothing speaks for it yet.".into(),
        );
    };
    let arm = |name: &str| comparison.arms.iter().find(|arm| arm.name == name);
    let beats = |name: &str| {
        let difference = differences.iter().find(|d| d.baseline == name)?;
        let interval = difference.accuracy.interval;
        Some((interval.is_some_and(|i| i.low > 0.0), difference))
    };
    let words = |difference: &NamedDifference| {
        let points = |value: f64| format!("{:+.2}", 100.0 * value).replace('-', "−");
        let interval = difference.accuracy.interval.map_or_else(
            || "no interval".to_owned(),
            |i| format!("95 % interval {} to {}", points(i.low), points(i.high)),
        );
        format!("{} points, {interval}", points(difference.accuracy.value))
    };
    // TrivialAugment needs no search, and no policy needs nothing: of equals, the simpler.
    let simple = match (arm(NONE), arm(TRIVIAL)) {
        (Some(none), Some(trivial)) => {
            let sure = trivial.difference.and_then(|d| d.accuracy.interval);
            let worse = none.test_accuracy.value >= trivial.test_accuracy.value;
            let surely_worse = sure.is_some_and(|interval| interval.high < 0.0);
            Some((worse, surely_worse))
        }
        _ => None,
    };
    let baseline = match simple {
        Some((true, true)) => {
            format!(" {TRIVIAL} itself is worse than {NONE} here beyond noise, so use {NONE}.")
        }
        Some((true, false)) => {
            format!(" {TRIVIAL} is not better than {NONE} here either, so {NONE} will do.")
        }
        _ => String::new(),
    };
    let simplest = match simple {
        Some((true, _)) => NONE,
        _ => TRIVIAL,
    };
    if finding.operations().is_none() {
        return (
            simplest.into(),
            format!(
                "The search found nothing that is better than no policy on held-out images. Use {TRIVIAL} if any.{baseline}"
            ),
        );
    }
    match (beats(TRIVIAL), beats(NONE)) {
        (Some((true, over_trivial)), Some((true, over_none))) => (
            FOUND.into(),
            format!(
                "The policy found beats {TRIVIAL} ({}) and {NONE} ({}). Use it.",
                words(over_trivial),
                words(over_none)
            ),
        ),
        (Some((true, over_trivial)), Some((false, over_none))) => (
            NONE.into(),
            format!(
                "The policy found beats {TRIVIAL} ({}), but not {NONE} beyond noise ({}): these data and this \
                 training are better off without any. Use {NONE}.",
                words(over_trivial),
                words(over_none)
            ),
        ),
        (Some((false, over_trivial)), _) => (
            simplest.into(),
            format!(
                "The policy found does not beat {TRIVIAL} beyond noise ({}). Use {TRIVIAL}, which needs no \
                 search.{baseline}",
                words(over_trivial)
            ),
        ),
        _ => (
            simplest.into(),
            format!("Too few runs are finished to say whether the policy found beats {TRIVIAL}."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_record::{Difference, Pairs};

    fn compared(name: &str, accuracies: &[f64], baseline: &[f64]) -> ComparedArm {
        let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
        let paired = Paired::of(baseline, accuracies).unwrap();
        ComparedArm {
            name: name.into(),
            settings: Vec::new(),
            seeds: (0..accuracies.len() as u64).collect(),
            accuracies: accuracies.to_vec(),
            test_accuracy: Estimate::new(mean, None),
            train_accuracy: Estimate::new(1.0, None),
            gap: Estimate::new(0.1, None),
            test_loss: Estimate::new(0.1, None),
            seconds: Estimate::new(1.0, None),
            difference: Some(Difference {
                accuracy: Estimate::new(paired.mean(), paired.interval(CONFIDENCE)),
                pairs: 3,
                p_value: None,
                corrected: None,
            }),
            curve: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn said(none: [f64; 3], trivial: [f64; 3], found: Option<[f64; 3]>) -> (String, String) {
        let mut arms = vec![
            compared(NONE, &none, &none),
            compared(TRIVIAL, &trivial, &none),
        ];
        arms.extend(found.map(|found| compared(FOUND, &found, &none)));
        let comparison = Comparison {
            title: "t".into(),
            source: "s".into(),
            held_out: false,
            pairs: Pairs::Seeds,
            machine: None,
            arms,
        };
        let step = PolicyStep {
            transform: Transform::Rotate,
            probability: 1.0,
            level: 1,
        };
        let finding = Finding {
            found: Found {
                policy: Policy::of(found.iter().map(|_| vec![step]).collect()),
                ..Found::default()
            },
            harms: Vec::new(),
            classes: vec!["a".into()],
            trials: 1,
            seconds: 1.0,
            preparation: Preparation {
                mean: vec![0.0],
                deviation: vec![1.0],
            },
            example: None,
        };
        verdict(&finding, Some(&comparison), &differences(&comparison))
    }

    #[test]
    fn the_verdict_follows_the_evidence() {
        let low = [0.800, 0.801, 0.802];
        let middle = [0.850, 0.852, 0.851];
        let high = [0.900, 0.901, 0.903];
        let noisy = [0.70, 0.99, 0.86];
        for (none, trivial, found, recommended, words) in [
            (
                low,
                middle,
                Some(high),
                FOUND,
                "beats TrivialAugment (+5.03 points",
            ),
            (
                low,
                middle,
                Some(noisy),
                TRIVIAL,
                "does not beat TrivialAugment beyond noise (−0.10 points",
            ),
            (
                low,
                high,
                Some(middle),
                TRIVIAL,
                "does not beat TrivialAugment",
            ),
            (
                high,
                low,
                Some(middle),
                NONE,
                "but not no policy beyond noise (−5.03 points",
            ),
            (
                high,
                middle,
                Some(low),
                NONE,
                "TrivialAugment itself is worse than no policy here beyond noise",
            ),
            (
                middle,
                noisy,
                Some(low),
                NONE,
                "is not better than no policy here either",
            ),
            (
                low,
                middle,
                None,
                TRIVIAL,
                "found nothing that is better than no policy",
            ),
        ] {
            let (name, text) = said(none, trivial, found);
            assert!(
                name == recommended && text.contains(words),
                "{name}: {text}"
            );
        }
    }

    #[test]
    fn gains_are_differences_of_means() {
        let tried = |transform, score| Tried {
            name: String::new(),
            policy: Policy::of(vec![vec![PolicyStep {
                transform,
                probability: 1.0,
                level: 1,
            }]]),
            settings: Vec::new(),
            score,
        };
        let all = [
            tried(Transform::Rotate, -0.2),
            tried(Transform::Rotate, -0.4),
            tried(Transform::Invert, 0.1),
            tried(Transform::Invert, 0.3),
        ];
        let estimate = gain(&all, Transform::Rotate);
        // Each mean has a standard error of 0.1.
        assert!((estimate.value + 0.5).abs() < 1e-12);
        let interval = estimate.interval.unwrap();
        assert!((interval.high - interval.low - 2.0 * 1.96 * 0.02_f64.sqrt()).abs() < 1e-9);
        assert!(gain(&all, Transform::ShearX).value.is_nan());
    }
}
