//! Trainings with policies: what all methods but density matching do.

use super::policy::{Harm, Policy};
use super::space::{SubPolicy, in_words};
use super::trial::Trial;
use super::{Found, Sitting, Tried};
use crate::Error;

/// Policies that are trained with at a time.
const ROUND: u64 = 8;
/// Their trainings last this share of the recipe's.
const SHARE: f64 = 1.0 / 3.0;
/// How many of the best policies make the winner: five, as in AutoAugment's paper.
const BEST: usize = 5;

/// A policy and the accuracy of its training.
pub(super) type Child = (Vec<SubPolicy>, f64);

/// Whoever proposes policies.
pub(super) trait Propose {
    /// So many, which are trained with at a time.
    fn propose(&mut self, count: u64) -> Vec<Vec<SubPolicy>>;

    /// What became of them.
    fn learn(&mut self, _round: &[Child]) {}
}

/// Rounds of short trainings with policies that are proposed. The winner has the sub-policies of the best ones.
pub(super) fn children(
    sitting: &mut Sitting<'_>,
    harms: &[Harm],
    stage: &'static str,
    proposer: &mut impl Propose,
) -> Result<Found, Error> {
    let most = sitting.settings.candidates;
    let seed = sitting.settings.seed;
    let plain = sitting.training(&Policy::default(), harms, &[], SHARE, seed)?;
    sitting.tell(stage, 0, most, None);
    let (plain, _) = accuracies(sitting, &[plain])?;
    let mut tried: Vec<Child> = Vec::new();
    let mut times = Vec::new();
    while (tried.len() as u64) < most {
        let policies = proposer.propose(ROUND.min(most - tried.len() as u64));
        let trial = |policy: &Vec<SubPolicy>| {
            sitting.training(&Policy::of(policy.clone()), harms, &[], SHARE, seed)
        };
        let trials: Vec<Trial> = policies.iter().map(trial).collect::<Result<_, _>>()?;
        if !sitting.may_begin(&trials) {
            break;
        }
        let (accuracies, seconds) = accuracies(sitting, &trials)?;
        times.extend(seconds);
        let round: Vec<Child> = policies.into_iter().zip(accuracies).collect();
        proposer.learn(&round);
        tried.extend(round);
        let best = tried
            .iter()
            .map(|(_, accuracy)| *accuracy)
            .fold(f64::NAN, f64::max);
        let best = format!(
            "accuracy {:.2} %, {:.2} % without",
            100.0 * best,
            100.0 * plain[0]
        );
        sitting.tell(stage, tried.len() as u64, most, Some(best));
    }
    let mut order: Vec<&Child> = tried.iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let chosen = order.iter().filter(|(_, accuracy)| *accuracy > plain[0]);
    let chosen = chosen.take(BEST).flat_map(|(policy, _)| policy.clone());
    Ok(Found {
        policy: Policy::of(chosen.collect()),
        tried: tried
            .iter()
            .map(|(policy, accuracy)| Tried {
                name: policy
                    .iter()
                    .map(|steps| in_words(steps))
                    .collect::<Vec<_>>()
                    .join("; "),
                policy: Policy::of(policy.clone()),
                settings: Vec::new(),
                score: *accuracy,
            })
            .collect(),
        plain: plain[0],
        lower_is_better: false,
        seconds: [mean(&times), mean(&times)],
        ..Found::default()
    })
}

/// Of trainings, on held-out examples, with their seconds; 0 of those that diverged.
pub(super) fn accuracies(
    sitting: &mut Sitting<'_>,
    trials: &[Trial],
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let mut times = Vec::new();
    let outcomes = sitting.outcomes(trials)?;
    let accuracies = outcomes.into_iter().map(|outcome| {
        let trained = outcome.trained()?.ok();
        times.extend(trained.as_ref().map(|trained| trained.seconds));
        Ok(trained.map_or(0.0, |trained| trained.score.accuracy))
    });
    let accuracies = accuracies.collect::<Result<_, Error>>()?;
    Ok((accuracies, times))
}

/// None of no values.
pub(super) fn mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}
