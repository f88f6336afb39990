//! Instruments: what a trained net, its data and its training are like, each a number with an interval.
//!
//! They look at the layers through the pass's observer, the one way in. Each states in
//! [`Instrument::measure`] what it measures, and says in a sentence what the readings mean. Intervals hold
//! with 95 % confidence over what is named there: examples, channels, batches or random parts.

mod activations;
mod augmentations;
mod batch_size;
mod dependence;
mod gap;
mod gradient;
mod instrument;
mod internal_shift;
mod landscape;
pub(crate) mod layers;
mod modes;
mod noise_shift;
pub(crate) mod norm_statistics;
mod rate_range;
mod redundancy;
mod running;
pub(crate) mod score;
mod shift;
mod short;
mod start_scale;
pub(crate) mod subject;

pub use subject::Subject;

use burn::tensor::Device;
use evenkeel_record::{Figure, Instrument, Probe, Reading, RunFolder};

use crate::{Error, provenance};

/// What an instrument found.
enum Told {
    Measured(Measured),
    /// There is nothing to measure in this run, and why.
    Unfit(String),
}

struct Measured {
    meaning: String,
    readings: Vec<Reading>,
    figures: Vec<Figure>,
}

/// An instrument that runs can be probed with.
pub struct Known {
    /// As `--only` names it.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What it measures, and how.
    pub measure: &'static str,
    apply: fn(&Subject) -> Result<Told, Error>,
}

/// All instruments.
pub const KNOWN: [Known; 14] = [
    Known {
        name: "covariate-shift",
        title: "Covariate shift between training and test data",
        measure: "Root mean square over a layer's channels of (test mean − training mean)/deviation, of each \
                  example's mean over positions, less what chance gives; and the geometric mean of the variances' \
                  ratio. In test mode; intervals over ten parts of the examples.",
        apply: shift::measure,
    },
    Known {
        name: "dependence",
        title: "Dependence between layers",
        measure: "Linear centred kernel alignment (unbiased) of neighbouring layers' outputs on test examples; \
                  intervals over groups of 64 examples.",
        apply: dependence::measure,
    },
    Known {
        name: "internal-shift",
        title: "Internal covariate shift",
        measure: "‖g′ − g‖/‖g‖ of each layer's weight gradient, g′ after the layers before it moved by one step of \
                  gradient descent at the recipe's rate, on the same batch; and their cosine. Compared are nets \
                  trained anew from the recipe's seed for up to 48 steps with each norm; intervals over places of \
                  that training, 8 steps apart.",
        apply: internal_shift::measure,
    },
    Known {
        name: "landscape",
        title: "The loss along the gradient",
        measure: "At distances of ½ to 4 learning rates along the gradient: largest − smallest loss, largest change \
                  of the gradient in units of it, and by distance (effective smoothness). Compared are nets trained \
                  anew from the recipe's seed for up to 48 steps with each norm; intervals over places of that \
                  training, 6 steps apart.",
        apply: landscape::measure,
    },
    Known {
        name: "activations",
        title: "Activations before and after norms",
        measure: "On 512 training images in test mode: channels that are zero for all (dead), values above zero \
                  (active); of sigmoid and tanh values where the slope is at least ¾ (linear) or at most ¹⁄₁₀ \
                  (saturated) of its largest; means and variances of channels in front of and behind each layer, \
                  and its learned |γ| and β. Intervals over channels.",
        apply: activations::measure,
    },
    Known {
        name: "redundancy",
        title: "Which half: redundancy",
        measure: "Test accuracy of 12 random parts of the net for each share of channels kept, each hidden layer \
                  thinned and scaled by 1/share; intervals over the parts, of the whole net over examples.",
        apply: redundancy::measure,
    },
    Known {
        name: "expectation-gap",
        title: "Expectation gap",
        measure: "Root mean square of (mean over 24 training passes − test output), without what chance gives, in \
                  deviations of the test output, layer by layer; intervals over batches of the training's size.",
        apply: gap::measure,
    },
    Known {
        name: "noise-shift",
        title: "Variance shift of dropout before batch norm",
        measure: "Geometric mean over channels of the variance at each batch norm's input under noise over that \
                  without; intervals over groups of 64 examples.",
        apply: noise_shift::measure,
    },
    Known {
        name: "running-statistics",
        title: "Running against recomputed statistics",
        measure: "Mean over channels of |running mean − batches' mean| in deviations, and geometric mean of running \
                  over batches' variance; batches as in training (augmented, under noise) and of clean images. \
                  Intervals over channels.",
        apply: running::measure,
    },
    Known {
        name: "modes",
        title: "Training mode against test mode",
        measure: "Accuracy with running statistics and without noise (test mode), with the statistics of batches of \
                  the training's size, with noise, with both; intervals by Wilson.",
        apply: modes::measure,
    },
    Known {
        name: "batch-size",
        title: "Sensitivity to batch size",
        measure: "Test accuracy and loss when batch norms use the statistics of the test batch, by its size; \
                  intervals over examples.",
        apply: batch_size::measure,
    },
    Known {
        name: "augmentations",
        title: "Augmentations by class",
        measure: "Change of the test accuracy under each operation, applied to every image, class by class; \
                  intervals of paired proportions.",
        apply: augmentations::measure,
    },
    Known {
        name: "learning-rates",
        title: "Range of learning rates",
        measure: "Mean loss of the last 10 of up to 48 steps at constant rates, for nets trained anew from the \
                  recipe's seed with its norm and without; a rate learns if that is surely below the first loss. Intervals over \
                  the last 10 steps.",
        apply: rate_range::measure,
    },
    Known {
        name: "start-scale",
        title: "Sensitivity to the initial weights' scale",
        measure: "Mean loss of the last 10 of up to 48 steps with all initial matrices multiplied by a factor, for \
                  nets trained anew from the recipe's seed with its norm and without. Intervals over the last 10 \
                  steps.",
        apply: start_scale::measure,
    },
];

/// Probes a finished run with the instruments named, or with all.
///
/// # Errors
/// If one is not known, the run is not finished, or its model or data cannot be read or are others than it
/// began with.
pub fn probe(
    folder: &RunFolder,
    only: &[String],
    workers: usize,
    device: &Device,
    on_instrument: &mut dyn FnMut(&Known),
) -> Result<Probe, Error> {
    for name in only {
        if !KNOWN.iter().any(|known| known.name == name) {
            let names = KNOWN.map(|known| known.name).join(", ");
            return Err(Error::Unfit(format!(
                "instrument {name}: expected one of {names}"
            )));
        }
    }
    let subject = Subject::open(folder, workers, device)?;
    provenance::expect_same_test(&subject.run, &subject.data)?;
    provenance::expect_same_train(&subject.run, &subject.data)?;
    let mut probe = Probe::default();
    for known in &KNOWN {
        if !(only.is_empty() || only.iter().any(|name| name == known.name)) {
            continue;
        }
        on_instrument(known);
        let (meaning, readings, figures) = match (known.apply)(&subject)? {
            Told::Measured(Measured {
                meaning,
                readings,
                figures,
            }) => (meaning, readings, figures),
            Told::Unfit(why) => (format!("Not measured: {why}."), Vec::new(), Vec::new()),
        };
        probe.instruments.push(Instrument {
            name: known.name.into(),
            title: known.title.into(),
            measure: known.measure.into(),
            meaning,
            readings,
            figures,
        });
    }
    Ok(probe)
}

#[cfg(test)]
mod known_answers;
#[cfg(test)]
mod tests;
