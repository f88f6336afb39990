//! The variance shift of dropout in front of batch norms: for activations of mean c and variance v and
//! inverted dropout that keeps with probability p, the variance under noise is (c² + v)/p − c².
//!
//! Source: Li, Chen, Hu, Yang, "Understanding the Disharmony between Dropout and Batch Normalization by
//! Variance Shift" (2019).

use evenkeel_nn::Pass;

use super::instrument::{Estimate, by_place, over_layers};
use super::layers::{Seen, channel_moments, observe};
use super::score::mean;
use super::subject::{Subject, Views};
use super::{Measured, Told};
use crate::Error;

const GROUP: usize = 64;
const GROUPS: usize = 6;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    if subject.recipe.model.dropout() == 0.0 {
        return Ok(Told::Unfit("the net has no noise layers".into()));
    }
    let batches = subject.batches(&Views {
        batch_size: GROUP.min(subject.data.train.len()),
        drop_last: true,
        most: GROUPS,
        ..subject.clean(&subject.data.train, 0)
    })?;
    let mut names: Vec<String> = Vec::new();
    let mut values: Vec<Vec<f64>> = Vec::new();
    for (index, batch) in (0..).zip(&batches) {
        let see = |pass| observe(pass, |pass| subject.model.forward(batch.x.clone(), pass)).1;
        let quiet = see(Pass::test());
        let noisy = see(Pass::monte_carlo(subject.recipe.seed, index));
        let norms = quiet
            .iter()
            .zip(&noisy)
            .filter(|(seen, _)| seen.kind == "batch_norm");
        let norms: Vec<_> = norms.collect();
        names = norms.iter().map(|(seen, _)| seen.name.clone()).collect();
        values.resize(names.len(), Vec::new());
        for ((quiet, noisy), values) in norms.iter().zip(&mut values) {
            values.push(log_ratio(quiet, noisy));
        }
    }
    if names.is_empty() {
        return Ok(Told::Unfit("the net has no batch norms".into()));
    }
    let ratios: Vec<Estimate> = values
        .iter()
        .map(|values| Estimate::mean(values).map(f64::exp))
        .collect();
    let worst = ratios
        .iter()
        .map(|ratio| ratio.value.ln().abs())
        .fold(0.0, f64::max)
        .exp();
    Ok(Told::Measured(Measured {
        meaning: format!(
            "Under noise a norm sees up to {worst:.2} times the variance that it sees at test{}",
            if worst < 1.08 {
                ": no dropout stands in front of a batch norm."
            } else {
                "; its running statistics are those under noise."
            }
        ),
        readings: ratios
            .iter()
            .zip(&names)
            .map(|(ratio, name)| ratio.reading(name.clone(), ""))
            .collect(),
        figures: vec![over_layers(
            "Variance under noise",
            "noise drawn / off",
            &names,
            vec![by_place("at the norm's input", &ratios)],
        )],
    }))
}

/// The mean over channels of ln(variance under noise / without) at the input of a layer.
fn log_ratio(quiet: &Seen, noisy: &Seen) -> f64 {
    let pairs = channel_moments(&quiet.input, &quiet.shape).into_iter();
    let pairs = pairs.zip(channel_moments(&noisy.input, &noisy.shape));
    let logs = pairs.map(|((_, quiet), (_, noisy))| (noisy / quiet).ln());
    mean(&logs.filter(|log| log.is_finite()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tensor};
    use evenkeel_nn::{BatchNormConfig, DropoutConfig};

    use super::*;

    #[test]
    fn dropout_before_a_norm_shifts_by_the_papers_formula() {
        let device = Device::flex();
        let x = Tensor::<2>::random([20_000, 3], Distribution::Normal(1.5, 2.0), &device);
        let norm = BatchNormConfig::new(3).init(&device);
        let dropout = DropoutConfig::new(0.4).init();
        let see = |pass| {
            observe(pass, |pass| {
                norm.forward(dropout.forward(x.clone(), pass), pass)
            })
            .1
        };
        let (quiet, noisy) = (see(Pass::test()), see(Pass::monte_carlo(1, 0)));
        let found = log_ratio(&quiet[1], &noisy[1]).exp();
        let (mean, variance, keep) = (1.5_f64, 4.0, 0.6);
        let expected = ((mean.powi(2) + variance) / keep - mean.powi(2)) / variance;
        assert!((found - expected).abs() < 0.04, "{found} and {expected}");
    }
}
