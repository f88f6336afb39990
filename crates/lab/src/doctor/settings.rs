//! Whether the recipe leaves norms and averages what they need.

use evenkeel_nn::{Decay, Role};
use evenkeel_record::{Line, Severity};

use super::{Outcome, finding};
use crate::Error;
use crate::probe::Subject;

/// With fewer values, a variance is off by a third and more (its relative deviation is √(2/(n − 1))).
const FEW_VALUES: usize = 16;
/// The share of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

pub(super) fn check(subject: &Subject) -> Result<Outcome, Error> {
    let recipe = &subject.recipe;
    let mut findings = Vec::new();
    let mut add = |severity, title: &str, evidence: String, cause: &str, remedy: &str| {
        findings.push(finding(
            severity, "settings", title, evidence, cause, remedy,
        ));
    };
    if recipe.model.norm().is_batch() {
        let positions = recipe.model.positions_of_last_norm(&subject.data.kind);
        let values = recipe.train.batch_size * positions;
        if values < FEW_VALUES || recipe.train.batch_size < 4 {
            add(
                Severity::Warning,
                "batch norms have too few values",
                format!(
                    "train.batch_size = {} leaves the last norm {values} values a channel, of {} examples; a \
                     variance of so many is off by {:.0} %",
                    recipe.train.batch_size,
                    recipe.train.batch_size,
                    100.0 * (2.0 / (values.max(2) - 1) as f64).sqrt()
                ),
                "small batches: training and test normalize by different statistics",
                "use batches of 16 or more, or model.norm = { group = 8 } or \"layer\"",
            );
        }
        let steps = subject.steps();
        let left = (1.0 - MOMENTUM).powf(steps as f64);
        if left > 0.05 && !recipe.train.averages_weights() {
            add(
                Severity::Warning,
                "too few steps for running statistics",
                format!(
                    "after {steps} steps {:.0} % of their start is left in them",
                    100.0 * left
                ),
                "too few steps for the norms' momentum",
                "train for 30 steps at least, or recompute the statistics (Pass::recalibrate())",
            );
        }
    }
    let decayed: Vec<String> = recipe
        .decay
        .roles
        .iter()
        .filter(|role| **role != Role::Weight)
        .map(ToString::to_string)
        .collect();
    if !decayed.is_empty() && recipe.decay.penalty != Decay::None {
        add(
            Severity::Warning,
            "weight decay on more than weights",
            format!(
                "decay.roles includes {}: {}",
                decayed.join(" and "),
                recipe.decay.penalty
            ),
            "norm scales and biases are decayed, which regularizes nothing that the next layer cannot undo",
            "decay.roles = [\"weight\"]",
        );
    }
    if let Some((step, found, expected)) = odd_count(subject) {
        add(
            Severity::Warning,
            "the log is not that of this training",
            format!("{step}: found {found}, expected {expected}"),
            "lines of another training, or a training that stopped early",
            "train again, or resume the run",
        );
    }
    Ok(Outcome::Found(findings))
}

/// Steps that were logged against those of the recipe.
fn odd_count(subject: &Subject) -> Option<(&'static str, u64, u64)> {
    let recipe = &subject.recipe;
    let steps = subject.run.data.train_examples as u64 / recipe.train.batch_size as u64;
    let steps = steps * recipe.train.epochs;
    let results = subject.run.results.as_ref()?;
    if results.steps != steps {
        return Some(("recorded steps", results.steps, steps));
    }
    let logged = subject
        .metrics
        .iter()
        .filter(|line| matches!(line, Line::Step { .. }))
        .count() as u64;
    (logged != steps).then_some(("logged steps", logged, steps))
}
