//! The learning rates that a net learns at, with and without norms.

use crate::schedule::Schedule;

use super::instrument::{Estimate, curve, over};
use super::short::{STEPS, norm_name, train, with_and_without};
use super::subject::Subject;
use super::{Measured, Told};
use crate::Error;
use crate::recipe::OptimizerRecipe;

/// Times the recipe's rate.
const FACTORS: [f64; 8] = [0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
/// Last steps whose loss is told.
pub(crate) const LAST: usize = 10;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let mut readings = Vec::new();
    let mut curves = Vec::new();
    let mut told = Vec::new();
    for kind in with_and_without(subject) {
        let mut points = Vec::new();
        let mut learned = Vec::new();
        for factor in FACTORS {
            let mut recipe = subject.recipe.clone();
            recipe.model = recipe.model.with_norm(kind);
            recipe.schedule = Schedule::Constant;
            let (OptimizerRecipe::Sgd { learning_rate, .. }
            | OptimizerRecipe::Adamw { learning_rate, .. }) = &mut recipe.optimizer;
            *learning_rate *= factor;
            let rate = *learning_rate;
            let losses = train(subject, &recipe, |_, _, _| {})?;
            let loss = last(&losses, STEPS);
            if let (Some(loss), Some(first)) = (loss, losses.first())
                && loss.interval[1] < *first
            {
                learned.push(rate);
            }
            if let Some(loss) = loss {
                points.push((rate, loss));
                readings
                    .push(loss.reading(format!("{}, rate {rate:.4}: loss", norm_name(kind)), ""));
            }
        }
        let name = norm_name(kind);
        if let (Some(low), Some(high)) = (learned.first(), learned.last()) {
            told.push(format!("{name} {low:.3} to {high:.3}"));
            readings.push(
                Estimate::exact(high / low)
                    .reading(format!("{name}: largest / smallest rate that learns"), ""),
            );
        } else {
            told.push(format!("{name} at none of them"));
        }
        curves.push(curve(&name, points.into_iter()));
    }
    Ok(Told::Measured(Measured {
        meaning: format!(
            "The loss falls within {STEPS} steps at rates of: {}.",
            told.join("; ")
        ),
        readings,
        figures: vec![over(
            "Loss after a short training",
            "learning rate",
            "training loss",
            true,
            curves,
        )],
    }))
}

/// The mean of the last losses; none where the training did not come to its end, or ended in no number.
pub(crate) fn last(losses: &[f64], steps: u64) -> Option<Estimate> {
    let complete = losses.len() as u64 >= steps.min(STEPS) || losses.len() >= LAST;
    let last = &losses[losses.len().saturating_sub(LAST)..];
    (complete && last.iter().all(|loss| loss.is_finite())).then(|| Estimate::mean(last))
}
