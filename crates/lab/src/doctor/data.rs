//! Whether the data are what a training takes them for.

use std::collections::HashSet;

use burn::tensor::Tensor;
use evenkeel_record::Severity;

use super::{Outcome, finding};
use crate::Error;
use crate::data::{Kind, Split, rows};
use crate::probe::Subject;
use crate::probe::score::mean_and_variance;
use crate::probe::subject::Batch;

const EXAMPLES: usize = 2048;

pub(super) fn check_leakage(subject: &Subject) -> Result<Outcome, Error> {
    let (train, test) = (rows(&subject.data.train), rows(&subject.data.test));
    let known: HashSet<&[u8]> = train.iter().map(AsRef::as_ref).collect();
    let leaked = test
        .iter()
        .filter(|row| known.contains(row.as_ref()))
        .count();
    let share = leaked as f64 / test.len().max(1) as f64;
    Ok((leaked > 0)
        .then(|| {
            finding(
                // A few twins are in most collections and change no figure that is shown.
                if share > 0.01 {
                    Severity::Error
                } else {
                    Severity::Note
                },
                "leakage",
                "test examples are in the training data",
                format!(
                    "{leaked} of {} test examples ({:.2} %)",
                    test.len(),
                    100.0 * share
                ),
                "the data were divided after they were copied or augmented",
                "take them out of one of the two: evenkeel data check lists what it finds",
            )
        })
        .into())
}

/// Some examples as rows of numbers, with labels.
struct Rows {
    x: Tensor<2>,
    labels: Vec<u32>,
}

pub(super) fn joined(batches: Vec<Batch>) -> Option<(Tensor<2>, Vec<u32>)> {
    let labels = batches
        .iter()
        .flat_map(|batch| batch.labels.clone())
        .collect();
    let x: Vec<_> = batches.into_iter().map(|batch| batch.x).collect();
    (!x.is_empty()).then(|| (Tensor::cat(x, 0), labels))
}

fn some(subject: &Subject, split: &Split, count: usize) -> Result<Option<Rows>, Error> {
    let batches = subject.batches(&subject.clean(split, count))?;
    Ok(joined(batches).map(|(x, labels)| Rows { x, labels }))
}

/// The label of the nearest of `known` to each row of `x`; never itself, if they are the same rows.
pub(super) fn nearest(x: &Tensor<2>, known: &Tensor<2>, labels: &[u32], same: bool) -> Vec<u32> {
    let squares = |x: &Tensor<2>| x.clone().square().sum_dim(1);
    let products = x.clone().matmul(known.clone().transpose());
    let distances = squares(known).transpose() - products.mul_scalar(2.0);
    let distances = distances.into_data();
    let distances: Vec<f32> = distances.iter::<f32>().collect();
    let rows = distances.chunks_exact(labels.len()).enumerate();
    rows.map(|(i, row)| {
        let others = row.iter().enumerate().filter(|(j, _)| !(same && i == *j));
        let best = others.min_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(j, _)| labels[j])
    })
    .collect()
}

pub(super) fn check_labels(subject: &Subject) -> Result<Outcome, Error> {
    let classes = subject.data.classes.len();
    let (Some(train), Some(test)) = (
        some(subject, &subject.data.train, EXAMPLES)?,
        some(subject, &subject.data.test, 1024)?,
    ) else {
        return Outcome::skipped("there are no examples");
    };
    if train.labels.len() < 60 || test.labels.len() < 40 {
        return Outcome::skipped("there are too few examples");
    }
    // Agreement by chance: of two labels drawn from the two distributions.
    let shares = |labels: &[u32]| {
        let mut shares = vec![0.0; classes];
        for &label in labels {
            shares[label as usize] += 1.0 / labels.len() as f64;
        }
        shares
    };
    let of_train = shares(&train.labels);
    let above_chance = |rows: &Rows, same: bool| {
        let near = nearest(&rows.x, &train.x, &train.labels, same);
        let agree = near
            .iter()
            .zip(&rows.labels)
            .filter(|(a, b)| a == b)
            .count() as f64;
        let count = rows.labels.len() as f64;
        let chance: f64 = of_train
            .iter()
            .zip(shares(&rows.labels))
            .map(|(a, b)| a * b)
            .sum();
        let deviation = (chance * (1.0 - chance) / count).sqrt().max(1e-9);
        (agree / count, chance, (agree / count - chance) / deviation)
    };
    let within = above_chance(&train, true);
    let across = above_chance(&test, false);
    let told = |(agree, chance, z): (f64, f64, f64)| {
        format!(
            "{:.1} % (chance {:.1} %, {z:.1} deviations)",
            100.0 * agree,
            100.0 * chance
        )
    };
    let found = if within.2 < 4.0 {
        Some(finding(
            Severity::Error,
            "labels",
            "training labels do not follow from the examples",
            format!(
                "a training example's nearest neighbour has its label in {}",
                told(within)
            ),
            "labels were shuffled, or joined with the wrong examples",
            "join labels and examples anew, by name rather than by place",
        ))
    } else if across.2 < 4.0 || within.0 - across.0 > 0.35 {
        Some(finding(
            Severity::Error,
            "labels",
            "test labels are not those of the training data",
            format!(
                "the nearest training example has a test example's label in {}, another training example's in {}",
                told(across),
                told(within)
            ),
            "labels of the test data were shuffled, or name the classes in another order",
            "use one list of classes for both, and join labels and examples by name",
        ))
    } else {
        None
    };
    Ok(found.into())
}

pub(super) fn check_preparation(subject: &Subject) -> Result<Outcome, Error> {
    let recorded = &subject.run.preparation;
    let measured = crate::data::preparation(&subject.data);
    if recorded.mean.len() != measured.mean.len() {
        return Outcome::skipped("the record has statistics of another number of channels");
    }
    let off = |i: usize| {
        let mean = (recorded.mean[i] - measured.mean[i]).abs() / measured.deviation[i];
        let deviation = (recorded.deviation[i] / measured.deviation[i]).ln().abs();
        f64::from(mean.max(deviation))
    };
    let worst = (0..measured.mean.len()).max_by(|a, b| off(*a).total_cmp(&off(*b)));
    let Some(worst) = worst.filter(|i| off(*i) > 0.02 || off(*i).is_nan()) else {
        return Ok(None.into());
    };
    let plain = recorded.mean.iter().all(|mean| *mean == 0.0);
    Ok(Some(finding(
        Severity::Warning,
        "preparation",
        if plain {
            "examples are not normalized"
        } else {
            "examples are normalized by the statistics of other data"
        },
        format!(
            "channel {worst}: recorded mean {} and deviation {}, those of the training data are {} and {}",
            recorded.mean[worst],
            recorded.deviation[worst],
            measured.mean[worst],
            measured.deviation[worst]
        ),
        "the constants are missing, or are of another data set or scale",
        "normalize by the mean and deviation of the training data, in training and at test",
    ))
    .into())
}

/// What of an example is compared: level, contrast and sharpness of an image, the columns of a table.
fn features(row: &[f64], kind: &Kind) -> Vec<f64> {
    let &Kind::Images {
        height,
        width,
        channels,
    } = kind
    else {
        return row.to_vec();
    };
    let mut features = Vec::with_capacity(3 * channels);
    for plane in row.chunks_exact(height * width) {
        let (level, variance) = mean_and_variance(plane);
        let mut steps = 0.0;
        for y in 0..height {
            for x in 0..width {
                let here = plane[y * width + x];
                if x + 1 < width {
                    steps += (plane[y * width + x + 1] - here).powi(2);
                }
                if y + 1 < height {
                    steps += (plane[(y + 1) * width + x] - here).powi(2);
                }
            }
        }
        let sharpness = steps / (height * width) as f64 / variance.max(1e-12);
        features.extend([level, variance.sqrt(), sharpness.max(1e-12).ln()]);
    }
    features
}

fn feature_names(kind: &Kind) -> Vec<String> {
    match kind {
        Kind::Images { channels, .. } => (0..*channels)
            .flat_map(|channel| {
                ["level", "contrast", "sharpness"]
                    .map(|name| format!("{name} of channel {channel}"))
            })
            .collect(),
        Kind::Table { columns } => columns.clone(),
    }
}

pub(super) fn check_shift(subject: &Subject) -> Result<Outcome, Error> {
    let kind = &subject.data.kind;
    let classes = subject.data.classes.len();
    let of = |split| -> Result<Vec<Vec<Vec<f64>>>, Error> {
        let mut by_class = vec![Vec::new(); classes];
        for batch in subject.batches(&subject.clean(split, EXAMPLES))? {
            let [_, width] = batch.x.dims();
            let values = batch.x.into_data();
            let values: Vec<f64> = values.iter::<f64>().collect();
            for (row, label) in values.chunks_exact(width).zip(&batch.labels) {
                by_class[*label as usize].push(features(row, kind));
            }
        }
        Ok(by_class)
    };
    let (train, test) = (of(&subject.data.train)?, of(&subject.data.test)?);
    let names = feature_names(kind);
    let mut worst: Option<(String, f64, f64)> = None;
    for (feature, name) in names.iter().enumerate() {
        // Within classes, so that another mixture of classes is no shift; weighted by what is known.
        let (mut sum, mut weights) = (0.0, 0.0);
        for (train, test) in train.iter().zip(&test) {
            let column =
                |rows: &[Vec<f64>]| rows.iter().map(|row| row[feature]).collect::<Vec<_>>();
            let (a, b) = (column(train), column(test));
            if a.len() < 4 || b.len() < 4 {
                continue;
            }
            let ((mean_a, var_a), (mean_b, var_b)) = (mean_and_variance(&a), mean_and_variance(&b));
            let deviation = ((var_a + var_b) / 2.0).sqrt();
            if deviation > 0.0 {
                let weight = 1.0 / (1.0 / a.len() as f64 + 1.0 / b.len() as f64);
                sum += weight * (mean_b - mean_a) / deviation;
                weights += weight;
            }
        }
        if weights > 0.0 {
            // The variance of each class's standardized difference is 1/n₁ + 1/n₂.
            let (shift, z) = (sum / weights, sum / weights.sqrt());
            if worst
                .as_ref()
                .is_none_or(|(_, most, _)| shift.abs() > most.abs())
            {
                worst = Some((name.clone(), shift, z));
            }
        }
    }
    let found = worst.filter(|(_, shift, z)| shift.abs() > 0.3 && z.abs() > 5.0);
    Ok(found
        .map(|(name, shift, z)| {
            finding(
                Severity::Warning,
                "data shift",
                "test examples look unlike training examples of the same class",
                format!("{name}: shifted by {shift:.2} of its deviation within a class ({z:.1} standard errors)"),
                "another camera or source, another resize filter, or other normalization constants at test",
                "prepare training and test examples by the same program; where they come from different places, \
                 see Pass::mix_statistics",
            )
        })
        .into())
}
