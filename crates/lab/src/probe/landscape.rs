//! The loss along the gradient, with and without each norm: variation, predictiveness, smoothness.

use evenkeel_nn::Pass;

use super::gradient::{distance, gradient, moved, norm};
use super::instrument::{Estimate, curve, over};
use super::short::{norm_name, norms, reached, train};
use super::subject::Subject;
use super::{Measured, Told};
use crate::Error;

/// Steps between two places of the training where the landscape is looked at.
const EVERY: u64 = 6;
/// Distances along the gradient, in learning rates.
const FACTORS: [f64; 5] = [0.5, 1.0, 1.5, 2.0, 4.0];

/// What a step of some size would meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Landscape {
    /// The largest loss less the smallest.
    pub variation: f64,
    /// The largest ‖g(w − d·g) − g(w)‖, in ‖g(w)‖: small if the gradient predicts those nearby.
    pub predictiveness: f64,
    /// The largest ‖g(w − d·g) − g(w)‖/(d·‖g(w)‖): the effective Lipschitz constant of the gradient.
    pub smoothness: f64,
}

/// Along the gradient, by `at`, which gives loss and gradient at w − d·g(w) for a distance d.
///
/// Source: Santurkar, Tsipras, Ilyas, Mądry, "How Does Batch Normalization Help Optimization?" (2018), where
/// predictiveness is ‖g(w − d·g) − g(w)‖ itself.
pub(crate) fn landscape(
    distances: &[f64],
    mut at: impl FnMut(f64) -> (f64, Vec<f64>),
) -> Landscape {
    let (loss, start) = at(0.0);
    let size = norm(&start);
    let (mut low, mut high) = (loss, loss);
    let (mut predictiveness, mut smoothness) = (0.0_f64, 0.0_f64);
    for &along in distances {
        let (loss, there) = at(along);
        (low, high) = (low.min(loss), high.max(loss));
        let change = distance(&there, &start);
        predictiveness = predictiveness.max(change / size);
        smoothness = smoothness.max(change / (along * size));
    }
    Landscape {
        variation: high - low,
        predictiveness,
        smoothness,
    }
}

/// One of its numbers.
type Figure = fn(&Landscape) -> f64;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let mut readings = Vec::new();
    let mut curves: [Vec<_>; 3] = Default::default();
    let mut smoothnesses = Vec::new();
    for kind in norms(subject) {
        let mut recipe = subject.recipe.clone();
        recipe.model = recipe.model.with_norm(kind);
        let mut found: Vec<(f64, Landscape)> = Vec::new();
        let mut failed = None;
        let losses = train(subject, &recipe, |done, session, training| {
            if done % EVERY != 0 || failed.is_some() {
                return;
            }
            let epoch_steps = session.epoch_steps();
            let place = (done % epoch_steps) as usize;
            let batch = match session.loader.epoch(done / epoch_steps, place).next() {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => {
                    failed = Some(error);
                    return;
                }
                None => return,
            };
            let rate = session.recipe.optimizer.learning_rate();
            let pass = || Pass::train(session.recipe.seed, done).keep_statistics();
            let smoothing = session.recipe.train.label_smoothing;
            let start = gradient(&training.model, &batch, &pass(), smoothing);
            let here = landscape(&FACTORS.map(|factor| factor * rate), |along| {
                let model = moved(&training.model, &start.parts, along);
                let there = gradient(&model, &batch, &pass(), smoothing);
                (there.loss, there.flat())
            });
            found.push((done as f64, here));
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let name = norm_name(kind);
        let figures: [(&str, Figure); 3] = [
            ("loss variation", |l| l.variation),
            ("gradient predictiveness", |l| l.predictiveness),
            ("effective smoothness", |l| l.smoothness),
        ];
        for ((what, value), curves) in figures.into_iter().zip(&mut curves) {
            let values: Vec<f64> = found
                .iter()
                .map(|(_, here)| value(here))
                .filter(|v| v.is_finite())
                .collect();
            let estimate = Estimate::mean(&values);
            readings.push(estimate.reading(format!("{name}: {what}"), ""));
            if what == "effective smoothness" {
                smoothnesses.push(format!("{} {:.2}", reached(&name, &losses), estimate.value));
            }
            curves.push(curve(
                &name,
                found
                    .iter()
                    .map(|(step, here)| (*step, Estimate::exact(value(here)))),
            ));
        }
    }
    let [variation, predictiveness, smoothness] = curves;
    Ok(Told::Measured(Measured {
        meaning: format!(
            "Effective smoothness, the change of the gradient along itself by distance, is on average: {}. Smaller \
             numbers let larger steps be taken, if the loss falls at all.",
            smoothnesses.join(", ")
        ),
        readings,
        figures: vec![
            over(
                "Loss variation along the gradient",
                "step",
                "largest − smallest loss",
                false,
                variation,
            ),
            over(
                "Gradient predictiveness",
                "step",
                "change of the gradient / gradient",
                false,
                predictiveness,
            ),
            over(
                "Effective smoothness",
                "step",
                "change of the gradient / distance",
                false,
                smoothness,
            ),
        ],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parabola_has_its_curvature() {
        // L = ½(3x² + y²) at (1, 2): g = (3, 2), and g(w − d·g) = g − d·(9, 2).
        let at = |along: f64| {
            let (x, y) = (1.0 - 3.0 * along, 2.0 - 2.0 * along);
            (0.5 * (3.0 * x * x + y * y), vec![3.0 * x, y])
        };
        let found = landscape(&[0.1, 0.2], at);
        let size = 13_f64.sqrt();
        assert!(
            (found.smoothness - 85_f64.sqrt() / size).abs() < 1e-9,
            "{found:?}"
        );
        assert!(
            (found.predictiveness - 0.2 * 85_f64.sqrt() / size).abs() < 1e-9,
            "{found:?}"
        );
        assert!(
            (found.variation - (at(0.0).0 - at(0.2).0)).abs() < 1e-9,
            "{found:?}"
        );
    }
}
