//! The first steps of a recipe's training, with another norm, rate or start: what instruments compare.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use evenkeel_nn::NormKind;

use super::subject::Subject;
use crate::Error;
use crate::checkpoint::Training;
use crate::fit::FitOptions;
use crate::recipe::Recipe;
use crate::session::Session;
use crate::step::step;

/// Steps of a short training, at most.
pub(crate) const STEPS: u64 = 48;

/// A norm as a curve's name.
pub(crate) fn norm_name(norm: NormKind) -> String {
    match norm {
        NormKind::Batch => "batch norm".into(),
        NormKind::BatchUnscaled => "batch norm without γ and β".into(),
        NormKind::BatchL1 => "ℓ1 batch norm".into(),
        NormKind::BatchMax => "ℓ∞ batch norm".into(),
        NormKind::Group(groups) => format!("group norm, {groups} groups"),
        NormKind::Layer => "layer norm".into(),
        NormKind::Instance => "instance norm".into(),
        NormKind::None => "no norm".into(),
    }
}

/// A net's name, and what its short training reached.
pub(crate) fn reached(name: &str, losses: &[f64]) -> String {
    let last = losses.last().copied().unwrap_or(f64::NAN);
    format!("{name} (last loss {last:.2})")
}

/// The recipe's norm, then others that its net can have, none last.
pub(crate) fn norms(subject: &Subject) -> Vec<NormKind> {
    let own = subject.recipe.model.norm();
    let others = [
        NormKind::Batch,
        NormKind::Group(4),
        NormKind::Layer,
        NormKind::None,
    ];
    let others = others
        .into_iter()
        .filter(|norm| *norm != own)
        .filter(|norm| {
            let model = subject.recipe.model.clone().with_norm(*norm);
            let fits = model.check_statistics(&subject.data.kind, subject.recipe.train.batch_size);
            model.validate().is_ok() && fits.is_ok()
        });
    std::iter::once(own).chain(others).collect()
}

/// The recipe's norm, or batch norm where it has none, and none.
pub(crate) fn with_and_without(subject: &Subject) -> Vec<NormKind> {
    let mut all = norms(subject);
    let none = all.iter().position(|norm| *norm == NormKind::None);
    let without = none.map(|index| all.remove(index));
    all.into_iter().take(1).chain(without).collect()
}

/// Trains `recipe` (the subject's, changed) for some steps; `each` is called before each step with the training as it stands and told of the loss after. Ends early where the loss is no
/// longer finite.
///
/// # Errors
/// If the recipe does not fit its data.
pub(crate) fn train(
    subject: &Subject,
    recipe: &Recipe,
    mut each: impl FnMut(u64, &Session<'_>, &Training),
) -> Result<Vec<f64>, Error> {
    let stop = AtomicBool::new(false);
    let options = FitOptions {
        workers: subject.workers,
        threads: 1,
        device: subject.device.clone(),
        device_name: "",
        stop: &stop,
    };
    let session = Session::with(recipe, &options, subject.data.clone(), Instant::now())?;
    let mut training = session.fresh()?;
    let steps = STEPS.min(session.steps());
    let mut losses = Vec::new();
    for epoch in 0.. {
        for batch in session.loader.epoch(epoch, 0) {
            let done = training.progress.step;
            if done == steps {
                return Ok(losses);
            }
            each(done, &session, &training);
            match step(&session, &mut training, batch?) {
                Ok(stepped) => losses.push(stepped.loss),
                Err(_) => return Ok(losses),
            }
        }
    }
    Ok(losses)
}
