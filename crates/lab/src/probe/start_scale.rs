//! Sensitivity to the scale of the initial weights, with and without norms.

use super::instrument::{Estimate, curve, over};
use super::rate_range::last;
use super::short::{STEPS, norm_name, train, with_and_without};
use super::subject::Subject;
use super::{Measured, Told};
use crate::Error;

const FACTORS: [f64; 7] = [0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0];

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let mut readings = Vec::new();
    let mut curves = Vec::new();
    let mut spreads = Vec::new();
    for kind in with_and_without(subject) {
        let mut recipe = subject.recipe.clone();
        recipe.model = recipe.model.with_norm(kind);
        let name = norm_name(kind);
        let mut points = Vec::new();
        for factor in FACTORS {
            recipe.train.start_scale = subject.recipe.train.start_scale * factor;
            let losses = train(subject, &recipe, |_, _, _| {})?;
            if let Some(loss) = last(&losses, STEPS) {
                readings.push(loss.reading(format!("{name}, weights × {factor}: loss"), ""));
                points.push((factor, loss));
            }
        }
        let values = || points.iter().map(|(_, loss)| loss.value);
        let spread =
            values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min);
        readings
            .push(Estimate::exact(spread).reading(format!("{name}: largest − smallest loss"), ""));
        let lowest = values().fold(f64::INFINITY, f64::min);
        spreads.push(format!("{name} {spread:.2} above {lowest:.2}"));
        curves.push(curve(&name, points.into_iter()));
    }
    Ok(Told::Measured(Measured {
        meaning: format!(
            "Over initial weights from {} to {} times the usual, the loss after {STEPS} steps differs by: {}.",
            FACTORS[0],
            FACTORS[FACTORS.len() - 1],
            spreads.join(", ")
        ),
        readings,
        figures: vec![over(
            "Loss after a short training",
            "initial weights × ",
            "training loss",
            true,
            curves,
        )],
    }))
}
