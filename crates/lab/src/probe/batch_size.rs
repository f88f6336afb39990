//! How statistics of batches of different sizes do, against running ones.

use super::instrument::{curve, over};
use super::modes::{accuracy, loss};
use super::subject::{Subject, Views};
use super::{Measured, Told};
use crate::Error;

const EXAMPLES: usize = 2048;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    if !subject.recipe.model.norm().is_batch() {
        return Ok(Told::Unfit(
            "the net has no batch norms, so batches do not matter".into(),
        ));
    }
    let test = &subject.data.test;
    let all = subject.batches(&subject.clean(test, EXAMPLES))?;
    let by_running = subject.score(&all, |_| evenkeel_nn::Pass::test());
    let mut accuracies = Vec::new();
    let mut losses = Vec::new();
    for batch_size in (1..=9)
        .map(|power| 1_usize << power)
        .take_while(|size| *size <= test.len())
    {
        let batches = subject.batches(&Views {
            batch_size,
            drop_last: true,
            most: EXAMPLES.div_ceil(batch_size),
            ..subject.clean(test, 0)
        })?;
        let scores = subject.score(&batches, |step| subject.fresh_pass(step).without_noise());
        accuracies.push((batch_size as f64, accuracy(&scores)));
        losses.push((batch_size as f64, loss(&scores)));
    }
    let running = accuracy(&by_running);
    let enough = accuracies
        .iter()
        .find(|(_, a)| a.value >= running.value - 0.01);
    let ends = [accuracies.first(), accuracies.last()];
    let flat: Vec<_> = ends
        .into_iter()
        .flatten()
        .map(|(size, _)| (*size, running))
        .collect();
    let mut readings = vec![running.reading("running statistics", "")];
    readings.extend(
        accuracies
            .iter()
            .map(|(size, accuracy)| accuracy.reading(format!("batches of {size}"), "")),
    );
    Ok(Told::Measured(Measured {
        meaning: match enough {
            Some((size, _)) => format!(
                "Statistics of {size} test examples are as good as the running ones, within a point."
            ),
            None => {
                "No batch size reaches the accuracy of running statistics, within a point.".into()
            }
        },
        readings,
        figures: vec![
            over(
                "Accuracy by batch size",
                "examples a batch",
                "test accuracy",
                true,
                vec![
                    curve("statistics of the batch", accuracies.into_iter()),
                    curve("running statistics", flat.into_iter()),
                ],
            ),
            over(
                "Loss by batch size",
                "examples a batch",
                "test loss",
                true,
                vec![curve("statistics of the batch", losses.into_iter())],
            ),
        ],
    }))
}
