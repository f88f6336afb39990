//! Whether training ran under the noise that the recipe says, new each time.

use std::collections::HashMap;

use evenkeel_nn::Pass;
use evenkeel_record::{Line, Severity};
use evenkeel_statistics::Sample;

use super::{Outcome, finding};
use crate::Error;
use crate::probe::Subject;
use crate::probe::layers::observe;
use crate::probe::score::{mean, mean_and_variance};
use crate::probe::subject::Views;

const EXAMPLES: usize = 8192;

fn most_batches(subject: &Subject) -> usize {
    (EXAMPLES / subject.recipe.train.batch_size).max(1)
}

pub(super) fn check_conditions(subject: &Subject) -> Result<Outcome, Error> {
    let epochs = subject.recipe.train.epochs;
    let of_epoch = |wanted: u64| -> Vec<f64> {
        let losses = subject.metrics.iter().filter_map(|line| match line {
            Line::Step { epoch, loss, .. } if *epoch == wanted => Some(*loss),
            _ => None,
        });
        losses.collect()
    };
    let (last, before) = (of_epoch(epochs), of_epoch(epochs.saturating_sub(1)));
    if last.is_empty() || before.is_empty() {
        return Outcome::skipped("fewer than two epochs were logged");
    }
    if subject.recipe.train.averages_weights() {
        return Outcome::skipped(
            "the saved weights are averages, not those that were trained with",
        );
    }
    let logged = mean(&last);
    // The loss of a batch is that of the weights before its step; after the last step it has changed by
    // as much as in the epoch before, at most.
    let drift = (logged - mean(&before)).abs();
    let batches = subject.batches(&subject.as_trained(epochs, most_batches(subject)))?;
    let now: Vec<f64> = batches
        .iter()
        .enumerate()
        .map(|(index, batch)| {
            let pass = subject.fresh_pass(index as u64);
            subject
                .score(std::slice::from_ref(batch), |_| pass.clone())
                .loss()
        })
        .collect();
    let error = |losses: &[f64]| (mean_and_variance(losses).1 / losses.len() as f64).sqrt();
    let error = error(&last).hypot(error(&now));
    let difference = mean(&now) - logged;
    let scale = logged.min(mean(&now));
    let limit = (0.3 * scale).max(5.0 * error).max(1.5 * drift).max(0.08);
    if difference.abs() <= limit {
        return Ok(None.into());
    }
    let (title, cause) = if difference > 0.0 {
        (
            "the net does worse under the recipe's noise than it did in training",
            "training saw less noise than the recipe says (a mask that drops nothing, augmentation that is \
             always the same), or examples that were prepared in another way",
        )
    } else {
        (
            "the net does better under the recipe's noise than it did in training",
            "training saw more noise than the recipe says, other targets (mixed images with one label), or \
             noise scaled in another way",
        )
    };
    Ok(Some(finding(
        Severity::Error,
        "training conditions",
        title,
        format!(
            "mean logged loss of the last epoch {logged:.4}; measured now on new views and masks {:.4} \
             (standard error of the difference {error:.4}, change in the last epoch {drift:.4})",
            mean(&now)
        ),
        cause,
        "compare what the training feeds the net with the recipe: evenkeel preview shows the views",
    ))
    .into())
}

/// A net that sees a view once forgets it; one that sees it in each epoch learns it by heart.
pub(super) fn check_repetition(subject: &Subject) -> Result<Outcome, Error> {
    if subject.recipe.augment.operations.is_empty() {
        return Outcome::skipped("training images are not augmented");
    }
    let epochs = subject.recipe.train.epochs;
    if epochs < 2 {
        return Outcome::skipped("there was one epoch");
    }
    // The first examples: what an operation draws is a function of an example's index.
    let some: Vec<usize> = (0..subject.data.train.len().min(EXAMPLES)).collect();
    let some = subject.data.train.subset(&some);
    let losses = |epoch: u64| -> Result<HashMap<usize, f64>, Error> {
        let batches = subject.batches(&Views {
            split: &some,
            drop_last: false,
            ..subject.as_trained(epoch, usize::MAX)
        })?;
        let scores = subject.score(&batches, |_| Pass::test());
        let samples = batches.iter().flat_map(|batch| batch.samples.clone());
        Ok(samples.zip(scores.losses).collect())
    };
    let first = losses(0)?;
    // The mean over some new views, so that the comparison is not between two random ones.
    let mut news = Vec::new();
    for later in 1..=3 {
        news.push(losses(epochs + later)?);
    }
    let differences: Vec<f64> = first
        .iter()
        .filter_map(|(sample, first)| {
            let new: Option<Vec<f64>> = news.iter().map(|new| new.get(sample).copied()).collect();
            Some(mean(&new?) - first)
        })
        .collect();
    let of_new = mean(
        &news
            .iter()
            .flat_map(HashMap::values)
            .copied()
            .collect::<Vec<_>>(),
    );
    let Some(sample) = Sample::of(&differences) else {
        return Outcome::skipped("losses are not finite");
    };
    let error = sample.standard_error().unwrap_or(f64::INFINITY);
    let repeated = sample.mean > 4.5 * error && sample.mean > 0.1 * of_new;
    Ok(repeated
        .then(|| {
            finding(
                Severity::Error,
                "fresh noise",
                "the net knows its first views by heart",
                format!(
                    "loss on the first epoch's views is lower by {:.4} (standard error {error:.4}) than on \
                     new views of the same {} images, {of_new:.4}",
                    sample.mean, sample.count
                ),
                "the same views were shown in every epoch: the random numbers start anew with each",
                "make augmentation a function of the epoch too",
            )
        })
        .into())
}

/// Noise layers are looked at where they are: what went in, what came out, twice.
pub(super) fn check_layers(subject: &Subject) -> Result<Outcome, Error> {
    let prob = subject.recipe.model.dropout();
    if prob == 0.0 || prob == 1.0 {
        return Outcome::skipped("the net has no noise layers");
    }
    let batches = subject.batches(&subject.clean(&subject.data.train, 256))?;
    let Some(batch) = batches.first() else {
        return Outcome::skipped("there are no training examples");
    };
    let see = |pass| observe(pass, |pass| subject.model.forward(batch.x.clone(), pass)).1;
    let first = see(subject.fresh_pass(0));
    let second = see(subject.fresh_pass(1));
    let mut findings = Vec::new();
    for (first, second) in first
        .iter()
        .zip(&second)
        .filter(|(seen, _)| seen.kind == "dropout")
    {
        let kept = |seen: &crate::probe::layers::Seen| -> Vec<(usize, f64)> {
            let (input, output) = (seen.input.to_data(), seen.output.to_data());
            let pairs = input.iter::<f64>().zip(output.iter::<f64>()).enumerate();
            let live = pairs.filter(|(_, (x, _))| *x != 0.0);
            live.map(|(index, (x, y))| (index, y / x)).collect()
        };
        let (a, b) = (kept(first), kept(second));
        let count = a.len();
        let dropped = a.iter().filter(|(_, factor)| *factor == 0.0).count();
        let share = dropped as f64 / count.max(1) as f64;
        let error = (prob * (1.0 - prob) / count.max(1) as f64).sqrt();
        let scale: Vec<f64> = a.iter().map(|(_, factor)| *factor).collect();
        let (scale, variance) = mean_and_variance(&scale);
        let scale_error = (variance / count.max(1) as f64).sqrt().max(1e-3);
        let again: HashMap<usize, f64> = b.into_iter().collect();
        let same = a.iter().filter(|(index, factor)| {
            again
                .get(index)
                .is_some_and(|other| (*factor == 0.0) == (*other == 0.0))
        });
        let same = same.count() as f64 / count.max(1) as f64;
        let mut add = |title: &str, evidence: String, cause: &str| {
            findings.push(finding(
                Severity::Error,
                "noise layers",
                title,
                evidence,
                cause,
                "mend the layer: keep where rand < keep-probability, divide by it, draw anew each step",
            ));
        };
        if count < 200 {
            continue;
        }
        if (share - prob).abs() > 5.0 * error {
            add(
                "a noise layer does not drop what it says",
                format!(
                    "{} dropped {share:.4} of {count} values, expected {prob} ± {error:.4}",
                    first.name
                ),
                "the mask's test compares the wrong numbers, such as rand < p/p, which is always so",
            );
        } else if (scale - 1.0).abs() > 5.0 * scale_error {
            add(
                "a noise layer does not keep the mean",
                format!(
                    "{} multiplies by {scale:.4} ± {scale_error:.4} on average, expected 1",
                    first.name
                ),
                "kept values are not divided by the keep-probability",
            );
        } else if same > 0.999 {
            add(
                "a noise layer draws the same mask in different steps",
                format!(
                    "{}: {:.1} % of {count} values are treated alike in two steps",
                    first.name,
                    100.0 * same
                ),
                "the mask's key does not depend on the step",
            );
        }
    }
    Ok(Outcome::Found(findings))
}
