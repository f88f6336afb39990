//! Train-mode against test-mode accuracy.

use evenkeel_nn::Pass;

use super::instrument::{Estimate, by_place, over_layers};
use super::score::Scores;
use super::subject::{Subject, Views};
use super::{Measured, Told};
use crate::Error;

const EXAMPLES: usize = 4096;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let seed = subject.recipe.seed;
    let mut modes = vec!["test mode".to_owned()];
    let norm = subject.recipe.model.norm().is_batch();
    let noise = subject.recipe.model.draws_noise();
    if norm {
        modes.push("statistics of the batch".into());
    }
    if noise {
        modes.push("noise drawn".into());
    }
    if norm && noise {
        modes.push("training mode".into());
    }
    let pass = |mode: &str, step: u64| match mode {
        "test mode" => Pass::test(),
        "statistics of the batch" => subject.fresh_pass(step).without_noise(),
        "noise drawn" => Pass::monte_carlo(seed, step),
        _ => subject.fresh_pass(step),
    };
    let mut readings = Vec::new();
    let mut curves = Vec::new();
    let mut lost = 0.0_f64;
    for (name, split) in [
        ("training data", &subject.data.train),
        ("test data", &subject.data.test),
    ] {
        let batch_size = subject.recipe.train.batch_size.min(split.len());
        let views = Views {
            batch_size,
            drop_last: true,
            most: EXAMPLES.div_ceil(batch_size),
            ..subject.clean(split, 0)
        };
        let batches = subject.batches(&views)?;
        let scores: Vec<Scores> = modes
            .iter()
            .map(|mode| subject.score(&batches, |step| pass(mode, step)))
            .collect();
        let accuracies: Vec<Estimate> = scores.iter().map(accuracy).collect();
        for (mode, accuracy) in modes.iter().zip(&accuracies) {
            readings.push(accuracy.reading(format!("{name}, {mode}"), ""));
            lost = lost.max(accuracy.value - accuracies[0].value);
        }
        curves.push(by_place(name, &accuracies));
    }
    Ok(Told::Measured(Measured {
        meaning: if lost < 0.01 {
            "No mode does better than the test mode: training and test agree.".into()
        } else {
            format!(
                "Another mode does better than the test mode by {:.1} points: running statistics or the scale of \
                 noise may be wrong (see running-statistics).",
                100.0 * lost
            )
        },
        readings,
        figures: vec![over_layers("Accuracy by mode", "accuracy", &modes, curves)],
    }))
}

/// With Wilson's interval.
pub(crate) fn accuracy(scores: &Scores) -> Estimate {
    Estimate {
        value: scores.accuracy(),
        interval: scores.accuracy_interval(),
    }
}

/// With Student's interval over the examples.
pub(crate) fn loss(scores: &Scores) -> Estimate {
    Estimate {
        value: scores.loss(),
        interval: scores.loss_interval(),
    }
}
