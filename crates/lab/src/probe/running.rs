//! Running against recomputed statistics, norm by norm.

use evenkeel_nn::Pass;

use super::instrument::{Estimate, by_place, over_layers};
use super::norm_statistics::{Channel, norm_statistics};
use super::subject::Subject;
use super::{Measured, Told};
use crate::Error;

const EXAMPLES: usize = 4096;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let averaged = subject.recipe.train.averages_weights();
    let most = (EXAMPLES / subject.recipe.train.batch_size).clamp(4, 256);
    let under_noise = subject.batches(&subject.as_trained(subject.recipe.train.epochs, most))?;
    let clean = subject.batches(&subject.clean(&subject.data.train, EXAMPLES))?;
    let in_training = norm_statistics(&subject.model, &under_noise, |step| {
        subject.fresh_pass(step)
    });
    let at_test = norm_statistics(&subject.model, &clean, |_| Pass::recalibrate());
    if in_training.is_empty() {
        return Ok(Told::Unfit("the net has no batch norms".into()));
    }
    let names: Vec<String> = in_training.iter().map(|norm| norm.path.clone()).collect();
    let mut readings = Vec::new();
    let (mut means, mut variances) = (Vec::new(), Vec::new());
    for (condition, norms) in [("as trained", &in_training), ("clean images", &at_test)] {
        let shifts: Vec<Estimate> = norms
            .iter()
            .map(|norm| Estimate::mean(&norm.of_channels(|channel| channel.shift().abs())))
            .collect();
        let ratios: Vec<Estimate> = norms
            .iter()
            .map(|norm| Estimate::mean(&norm.of_channels(Channel::log_ratio)).map(f64::exp))
            .collect();
        for ((name, shift), ratio) in names.iter().zip(&shifts).zip(&ratios) {
            readings.push(shift.reading(
                format!("{name}, {condition}: distance of the means"),
                "deviations",
            ));
            readings
                .push(ratio.reading(format!("{name}, {condition}: ratio of the variances"), ""));
        }
        means.push(by_place(condition, &shifts));
        variances.push(by_place(condition, &ratios));
    }
    let reference = if averaged { &at_test } else { &in_training };
    let worst = reference
        .iter()
        .map(|norm| norm.shift().max(norm.log_ratio().abs()))
        .fold(0.0, f64::max);
    Ok(Told::Measured(Measured {
        meaning: format!(
            "Running statistics are {} those of the training's batches (largest distance {worst:.2}); between \
             the two lines lies what noise and augmentation change.",
            if worst < 0.15 { "near" } else { "far from" }
        ),
        readings,
        figures: vec![
            over_layers("Running means", "distance in deviations", &names, means),
            over_layers(
                "Running variances",
                "running / recomputed",
                &names,
                variances,
            ),
        ],
    }))
}
