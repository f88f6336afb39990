//! Covariate shift: how far each layer's activations on test data are from those on training data.

use evenkeel_nn::Pass;

use super::instrument::{Estimate, by_place, over_layers};
use super::layers::{channel_means, observe};
use super::score::mean_and_variance;
use super::subject::{Batch, Subject};
use super::{Measured, Told};
use crate::Error;

const EXAMPLES: usize = 2048;
/// Parts of the examples, of which each gives a value.
const GROUPS: usize = 10;

/// The numbers of each example.
type Rows = Vec<Vec<f64>>;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let of = |split| -> Result<Vec<(String, Rows)>, Error> {
        let batches = subject.batches(&subject.clean(split, EXAMPLES))?;
        Ok(activations(subject, &batches))
    };
    let (train, test) = (of(&subject.data.train)?, of(&subject.data.test)?);
    let mut layers = Vec::new();
    let (mut shifts, mut variances) = (Vec::new(), Vec::new());
    for ((name, train), (_, test)) in train.iter().zip(&test) {
        let (Some(shift), Some(variance)) = (shift(train, test), variance_ratio(train, test))
        else {
            return Ok(Told::Unfit("there are too few examples".into()));
        };
        layers.push(name.clone());
        shifts.push(shift);
        variances.push(variance);
    }
    let readings =
        layers
            .iter()
            .zip(&shifts)
            .zip(&variances)
            .flat_map(|((layer, shift), variance)| {
                [
                    shift.reading(format!("{layer}: shift of the means"), "deviations"),
                    variance.reading(format!("{layer}: ratio of the variances"), ""),
                ]
            });
    let readings = readings.collect();
    let worst = shifts.iter().map(|shift| shift.value).fold(0.0, f64::max);
    Ok(Told::Measured(Measured {
        meaning: format!(
            "Test data move no layer's channels by more than {worst:.2} of their deviation on average{}",
            if worst < 0.1 {
                ": the net meets at test what it met in training."
            } else {
                "; where that is much at the input the data differ, where it grows with depth the net knows its \
                 training data by heart."
            }
        ),
        readings,
        figures: vec![
            over_layers(
                "Shift of the means",
                "deviations",
                &layers,
                vec![by_place("test against training", &shifts)],
            ),
            over_layers(
                "Ratio of the variances",
                "test / training",
                &layers,
                vec![by_place("test / training", &variances)],
            ),
        ],
    }))
}

/// The mean of each channel of each example, layer by layer, from the input to the logits.
fn activations(subject: &Subject, batches: &[Batch]) -> Vec<(String, Rows)> {
    let mut layers: Vec<(String, Rows)> = Vec::new();
    for batch in batches {
        let (logits, seen) = observe(Pass::test(), |pass| {
            subject.model.forward(batch.x.clone(), pass)
        });
        let mut shape = vec![batch.labels.len()];
        shape.extend(subject.data.kind.shape());
        let input = ("input".to_owned(), channel_means(&batch.x, &shape));
        let within = seen
            .iter()
            .map(|seen| (seen.name.clone(), channel_means(&seen.output, &seen.shape)));
        let logits = ("logits".to_owned(), channel_means(&logits, &logits.dims()));
        let all = std::iter::once(input).chain(within).chain([logits]);
        for (index, (name, rows)) in all.enumerate() {
            match layers.get_mut(index) {
                Some((_, known)) => known.extend(rows),
                None => layers.push((name, rows)),
            }
        }
    }
    layers
}

/// √(mean over channels of d²), d = (test mean − training mean)/deviation, less what chance gives: for
/// independent examples E\[d²\] = 1/n + 1/m where there is no shift. Channels that do not vary are left out.
/// Each group of test examples is compared with one of training examples, so that values are independent.
pub(crate) fn shift(train: &[Vec<f64>], test: &[Vec<f64>]) -> Option<Estimate> {
    let whole = moments(train)?;
    let pairs = groups(train)?.into_iter().zip(groups(test)?);
    let values = pairs.map(|(train, test)| {
        let chance = 1.0 / train.len() as f64 + 1.0 / test.len() as f64;
        let means = moments(train)?.into_iter().zip(moments(test)?);
        let channels = whole.iter().zip(means);
        let squares: Vec<f64> = channels
            .filter(|((_, variance), _)| *variance > 0.0)
            .map(|((_, variance), ((a, _), (b, _)))| (a - b).powi(2) / variance - chance)
            .collect();
        Some(super::score::mean(&squares))
    });
    let values: Option<Vec<f64>> = values.collect();
    Some(Estimate::mean(&values?).map(|square| square.max(0.0).sqrt()))
}

/// The geometric mean over channels of test variance / training variance, of groups as in [`shift`].
pub(crate) fn variance_ratio(train: &[Vec<f64>], test: &[Vec<f64>]) -> Option<Estimate> {
    let pairs = groups(train)?.into_iter().zip(groups(test)?);
    let values = pairs.map(|(train, test)| {
        // The logarithm of a variance of n values is low by about 1/(n − 1), as of normal ones.
        let low = |rows: &[Vec<f64>]| 1.0 / (rows.len() as f64 - 1.0);
        let bias = low(test) - low(train);
        let channels = moments(train)?.into_iter().zip(moments(test)?);
        let logs: Vec<f64> = channels
            .filter(|((_, a), (_, b))| *a > 0.0 && *b > 0.0)
            .map(|((_, a), (_, b))| (b / a).ln() + bias)
            .collect();
        Some(super::score::mean(&logs))
    });
    let values: Option<Vec<f64>> = values.collect();
    Some(Estimate::mean(&values?).map(f64::exp))
}

fn moments(rows: &[Vec<f64>]) -> Option<Vec<(f64, f64)>> {
    let channels = rows.first()?.len();
    (rows.len() > 1).then(|| {
        (0..channels)
            .map(|channel| {
                mean_and_variance(&rows.iter().map(|row| row[channel]).collect::<Vec<_>>())
            })
            .collect()
    })
}

fn groups(rows: &[Vec<f64>]) -> Option<Vec<&[Vec<f64>]>> {
    let size = rows.len() / GROUPS;
    (size > 2).then(|| rows.chunks_exact(size).take(GROUPS).collect())
}

#[cfg(test)]
mod tests {
    use evenkeel_random::Key;

    use super::*;

    fn rows(count: usize, seed: u64, mean: f64, deviation: f64) -> Vec<Vec<f64>> {
        let mut draws = Key::from_seed(seed).draws();
        (0..count)
            .map(|_| (0..5).map(|_| mean + deviation * draws.normal()).collect())
            .collect()
    }

    /// Within one and a half intervals: once in a hundred seeds, not.
    fn is_near(estimate: Estimate, truth: f64) -> bool {
        let [low, high] = estimate.interval;
        (estimate.value - truth).abs() < 0.75 * (high - low)
    }

    #[test]
    fn a_planted_shift_is_measured() {
        let train = rows(2000, 1, 3.0, 2.0);
        let none = shift(&train, &rows(1000, 2, 3.0, 2.0)).unwrap();
        assert!(none.value < 0.15, "{none:?}");
        // By one in units of a deviation of 2.
        let half = shift(&train, &rows(1000, 3, 4.0, 2.0)).unwrap();
        assert!(
            (half.value - 0.5).abs() < 0.06 && is_near(half, 0.5),
            "{half:?}"
        );
        let wider = variance_ratio(&train, &rows(1000, 4, 3.0, 3.0)).unwrap();
        assert!(
            (wider.value - 2.25).abs() < 0.25 && is_near(wider, 2.25),
            "{wider:?}"
        );
    }
}
