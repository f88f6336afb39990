//! Whether the net learned, all of it.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use evenkeel_nn::{Decay, Pass, Role, WeightDecay, initialize};
use evenkeel_record::{Finding, Line, Severity};
use evenkeel_statistics::wilson;

use super::{Outcome, finding};
use crate::Error;
use crate::model::Model;
use crate::probe::Subject;
use crate::probe::layers::{channel_moments, observe};

pub(super) fn check(subject: &Subject) -> Result<Outcome, Error> {
    let mut findings = Vec::new();
    findings.extend(untrained(subject)?);
    findings.extend(dead(subject)?);
    findings.extend(chance(subject)?);
    findings.extend(unsteady(subject));
    Ok(Outcome::Found(findings))
}

/// The values of each parameter, in the order of the model.
#[derive(Default)]
struct Values(Vec<Vec<f32>>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.val().into_data().iter::<f32>().collect());
    }
}

impl Values {
    fn of(model: &Model) -> Vec<Vec<f32>> {
        let mut values = Self::default();
        model.visit(&mut values);
        values.0
    }
}

/// Parameters that are bit for bit what they started with.
fn untrained(subject: &Subject) -> Result<Option<Finding>, Error> {
    let built = subject.recipe.model.build(
        &subject.data.kind,
        subject.data.classes.len(),
        &subject.device,
    );
    let start = initialize(built.map_err(Error::Unfit)?, subject.recipe.seed);
    let account = WeightDecay::new(Decay::None).account(&subject.model);
    let parameters = account
        .iter()
        .zip(Values::of(&start))
        .zip(Values::of(&subject.model));
    let parameters: Vec<_> = parameters
        .filter(|((entry, _), _)| entry.role != Role::Buffer)
        .collect();
    let same: Vec<&str> = parameters
        .iter()
        .filter(|((_, start), now)| start == now)
        .map(|((entry, _), _)| &*entry.path)
        .collect();
    if same.is_empty() {
        return Ok(None);
    }
    Ok(Some(finding(
        Severity::Error,
        "learning",
        "parameters were not trained",
        format!(
            "{} of {} are bit for bit what they started with: {}",
            same.len(),
            parameters.len(),
            same.join(", ")
        ),
        "they were frozen, not given to the optimizer, or get no gradient",
        "give every parameter to the optimizer, and see that the loss depends on it",
    )))
}

/// Channels that are zero whatever the example.
fn dead(subject: &Subject) -> Result<Option<Finding>, Error> {
    let batches = subject.batches(&subject.clean(&subject.data.train, 256))?;
    let Some(batch) = batches.first() else {
        return Ok(None);
    };
    let (_, seen) = observe(Pass::test(), |pass| {
        subject.model.forward(batch.x.clone(), pass)
    });
    let mut worst: Option<(String, usize, usize)> = None;
    for seen in &seen {
        let moments = channel_moments(&seen.output, &seen.shape);
        let dead = moments
            .iter()
            .filter(|(mean, variance)| *mean == 0.0 && *variance == 0.0);
        let (dead, all) = (dead.count(), moments.len());
        if worst.as_ref().is_none_or(|(_, d, a)| dead * a > d * all) {
            worst = Some((seen.name.clone(), dead, all));
        }
    }
    Ok(worst
        .filter(|(_, dead, all)| 2 * dead > *all)
        .map(|(name, dead, all)| {
            finding(
                Severity::Warning,
                "learning",
                "most units of a layer are dead",
                format!(
                    "{name}: {dead} of {all} channels are zero for all of {} examples",
                    batch.labels.len()
                ),
                "steps that were too large pushed them where the ReLU has no gradient",
                "lower the learning rate, warm it up, or add a norm",
            )
        }))
}

/// Accuracy against that of always naming the commonest class.
fn chance(subject: &Subject) -> Result<Option<Finding>, Error> {
    let accuracy = |split| -> Result<(u64, u64, f64), Error> {
        let batches = subject.batches(&subject.clean(split, 4096))?;
        let scores = subject.score(&batches, |_| Pass::test());
        let mut counts: HashMap<u32, u64> = HashMap::new();
        for &label in &scores.labels {
            *counts.entry(label).or_default() += 1;
        }
        let all = scores.labels.len() as u64;
        let commonest = counts.values().max().copied().unwrap_or(0);
        Ok((scores.hits(), all, commonest as f64 / all.max(1) as f64))
    };
    let (hits, all, chance) = accuracy(&subject.data.test)?;
    let (train_hits, train_all, train_chance) = accuracy(&subject.data.train)?;
    if all == 0 || train_all == 0 {
        return Ok(None);
    }
    let beyond = |hits, all, chance: f64| wilson(hits, all, 0.999).low > chance;
    if beyond(hits, all, chance) || wilson(hits, all, 0.95).low > chance {
        return Ok(None);
    }
    let learned = beyond(train_hits, train_all, train_chance);
    let share = |hits: u64, all: u64| 100.0 * hits as f64 / all as f64;
    let (title, cause, remedy) = if learned {
        (
            "the net knows the training data and nothing else",
            "labels that do not follow from the examples, or test examples of another kind",
            "look at examples and their labels (evenkeel data check, evenkeel preview)",
        )
    } else {
        (
            "the net learned nothing",
            "labels that do not follow from the examples, a learning rate far off, or a net that gets no signal",
            "see whether the net can learn 100 examples by heart; then look at labels and learning rate",
        )
    };
    Ok(Some(finding(
        Severity::Error,
        "learning",
        title,
        format!(
            "accuracy {:.1} % on {all} test examples, {:.1} % on {train_all} training examples; naming the \
             commonest class gives {:.1} %",
            share(hits, all),
            share(train_hits, train_all),
            100.0 * chance
        ),
        cause,
        remedy,
    )))
}

/// A training whose loss ends above where it has been.
fn unsteady(subject: &Subject) -> Option<Finding> {
    let epochs: Vec<f64> = subject
        .metrics
        .iter()
        .filter_map(|line| match line {
            Line::Epoch { train_loss, .. } => Some(*train_loss),
            Line::Step { .. } => None,
        })
        .collect();
    let best = epochs.iter().copied().reduce(f64::min)?;
    let last = *epochs.last()?;
    (last > 1.5 * best + 0.1).then(|| {
        finding(
            Severity::Warning,
            "learning",
            "the training loss rose again",
            format!("the best epoch's training loss is {best:.4}, the last one's {last:.4}"),
            "a learning rate that is too high",
            "lower optimizer.learning_rate, or clip the gradient (train.clip_norm = 1)",
        )
    })
}
