//! The expectation gap: how far each layer's test output is from the mean over training passes.

use evenkeel_nn::{Pass, expectation_gap};

use super::instrument::{Estimate, by_place, over_layers};
use super::layers::observe;
use super::subject::{Subject, Views};
use super::{Measured, Told};
use crate::Error;

/// Training passes that are averaged over.
const DRAWS: u64 = 24;
/// Batches, of which each gives a value.
const BATCHES: usize = 4;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let split = &subject.data.train;
    let batch_size = subject.recipe.train.batch_size.min(split.len());
    let batches = subject.batches(&Views {
        batch_size,
        drop_last: true,
        most: BATCHES,
        ..subject.clean(split, 0)
    })?;
    let mut names: Vec<String> = Vec::new();
    let mut values: Vec<Vec<f64>> = Vec::new();
    for batch in &batches {
        let (_, seen) = observe(Pass::test(), |pass| {
            subject.model.forward(batch.x.clone(), pass)
        });
        names = seen.into_iter().map(|seen| seen.name).collect();
        names.push("logits".into());
        values.resize(names.len(), Vec::new());
        for (layer, values) in values.iter_mut().enumerate() {
            let gap = expectation_gap(DRAWS, subject.recipe.seed, |pass| {
                let (logits, mut seen) = observe(pass.clone(), |pass| {
                    subject.model.forward(batch.x.clone(), pass)
                });
                if layer < seen.len() {
                    seen.swap_remove(layer).output
                } else {
                    logits
                }
            });
            if gap.relative.is_finite() {
                values.push(gap.relative);
            }
        }
    }
    let gaps: Vec<Estimate> = values.iter().map(|values| Estimate::mean(values)).collect();
    let model = gaps.last().map_or(f64::NAN, |gap| gap.value);
    Ok(Told::Measured(Measured {
        meaning: format!(
            "The logits at test differ from their mean over training passes by {:.1} % of their deviation: what \
             testing with one pass instead of the noise's average costs.",
            100.0 * model
        ),
        readings: gaps
            .iter()
            .zip(&names)
            .map(|(gap, name)| gap.reading(name.clone(), "deviations"))
            .collect(),
        figures: vec![over_layers(
            "Expectation gap",
            "deviations of the output",
            &names,
            vec![by_place("mean over training passes − test", &gaps)],
        )],
    }))
}
