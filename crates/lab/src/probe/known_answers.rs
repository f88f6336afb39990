//! Instruments on nets, data and trainings whose readings can be computed without them.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use evenkeel_nn::{Norm, NormKind, Pass};
use evenkeel_record::{Line, Preparation};
use tempfile::TempDir;

use super::score::{Scores, mean};
use super::tests::run;
use super::*;
use crate::FitOptions;
use crate::data::{Images, Kind, Split, Table};
use crate::model::{Model, ModelRecipe};
use crate::session::Session;

/// A run of the tests, opened.
fn opened(settings: &[&str]) -> (TempDir, Subject) {
    let (place, folder) = run(settings);
    let subject = Subject::open(&folder, 0, &Device::flex()).unwrap();
    (place, subject)
}

fn readings(subject: &Subject, name: &str) -> Measured {
    let known = KNOWN.iter().find(|known| known.name == name).unwrap();
    match (known.apply)(subject).unwrap() {
        Told::Measured(measured) => measured,
        Told::Unfit(why) => panic!("{name}: {why}"),
    }
}

#[track_caller]
fn expect(measured: &Measured, of: &str, expected: f64, tolerance: f64) {
    let reading = measured.readings.iter().find(|reading| reading.of == of);
    let value = reading
        .unwrap_or_else(|| panic!("no reading of {of}"))
        .value;
    assert!(
        (value - expected).abs() <= tolerance,
        "{of}: {value}, expected {expected} ± {tolerance}"
    );
}

fn set<const D: usize>(param: &mut Param<Tensor<D>>, values: &[f32]) {
    *param = param
        .clone()
        .map(|old| Tensor::from_data(TensorData::new(values.to_vec(), old.dims()), &old.device()));
}

/// `count` numbers evenly over −1..1, whose variance is ⅓; of the second class where above 0.
fn numbers(count: usize) -> Split {
    let values = (0..count).map(|i| 2.0 * (i as f32 + 0.5) / count as f32 - 1.0);
    let labels = values.clone().map(|x| u32::from(x > 0.0)).collect();
    Split::Table(Table {
        columns: 2,
        values: values.flat_map(|x| [x, 0.0]).collect(),
        labels,
    })
}

const VARIANCE: f32 = 1.0 / 3.0;

/// A net that tells whether x is above a threshold: two hidden units see x and −x, one logit is the one, the
/// other the other. The norms' running means are `means`; γ and β are `scale` and `shift`.
fn threshold(subject: &mut Subject, means: [f32; 2], scale: f32, shift: f32) {
    let count = 4096;
    (subject.data.train, subject.data.test) = (numbers(count), numbers(count));
    subject.run.preparation = Preparation {
        mean: vec![0.0; 2],
        deviation: vec![1.0; 2],
    };
    let Model::Mlp(net) = &mut subject.model else {
        panic!("a dense net")
    };
    set(&mut net.blocks[0].linear.weight, &[1.0, -1.0, 0.0, 0.0]);
    set(&mut net.head.weight, &[0.0, 1.0, 1.0, 0.0]);
    set(net.head.bias.as_mut().unwrap(), &[0.0, 0.0]);
    let Some(Norm::Batch(norm)) = &mut net.blocks[0].norm else {
        panic!("a batch norm")
    };
    set(norm.weight.as_mut().unwrap(), &[scale; 2]);
    set(norm.bias.as_mut().unwrap(), &[shift; 2]);
    let device = Device::flex();
    norm.running_mean.set(Tensor::from_floats(means, &device));
    norm.running_var
        .set(Tensor::from_floats([VARIANCE; 2], &device));
}

/// With a running mean a quarter off, an eighth of the examples is on the wrong side in test mode. Where a unit that is
/// on is dropped, logits are equal and the first class is told.
#[test]
fn modes_have_the_accuracies_that_follow_from_them() {
    let (_place, mut subject) = opened(&[
        "model.hidden=[2]",
        "model.dropout=0.5",
        "train.batch_size=64",
    ]);
    threshold(&mut subject, [0.25, -0.25], 1.0, 0.0);
    let measured = readings(&subject, "modes");
    for data in ["training data", "test data"] {
        expect(&measured, &format!("{data}, test mode"), 0.875, 1e-9);
        // Between 0 and a batch's mean, which is normal with deviation √(⅓/64): half of its mean absolute value.
        let wrong = 0.5 * (2.0 / std::f64::consts::PI / 3.0 / 64.0).sqrt();
        expect(
            &measured,
            &format!("{data}, statistics of the batch"),
            1.0 - wrong,
            0.01,
        );
        // Half are of the first class, and right; of the second ⅜ are on its side, where every other is dropped.
        expect(
            &measured,
            &format!("{data}, noise drawn"),
            0.5 + 0.375 / 2.0,
            0.02,
        );
        // Of each class wrong/2 are on the other's side. Of the first, half of those are dropped, and right.
        let (first, second) = (0.5 - wrong / 4.0, (0.5 - wrong / 2.0) / 2.0);
        expect(
            &measured,
            &format!("{data}, training mode"),
            first + second,
            0.02,
        );
    }
}

/// Of a normalized pair one is 1 and one −1: both are right if one is of each class, else one of them.
#[test]
fn batches_of_two_tell_a_pair_apart() {
    let (_place, mut subject) = opened(&["model.hidden=[2]"]);
    threshold(&mut subject, [0.25, -0.25], 1.0, 0.0);
    let measured = readings(&subject, "batch-size");
    expect(&measured, "batches of 2", 0.75, 0.03);
    let wrong = 0.5 * (2.0 / std::f64::consts::PI / 3.0 / 512.0).sqrt();
    expect(&measured, "batches of 512", 1.0 - wrong, 0.01);
    // Of 2048 examples by chance.
    expect(&measured, "running statistics", 0.875, 0.03);
    // Cross-entropies of logits (0, 1) and (1, 0).
    let (right, false_) = ((1.0 + (-1_f64).exp()).ln(), (1.0 + 1_f64.exp()).ln());
    let losses = &measured.figures[1].curves[0].points[0];
    assert_eq!(losses.x, 2.0);
    let expected = 0.75 * right + 0.25 * false_;
    assert!((losses.y - expected).abs() < 0.03, "{losses:?}");
}

/// Means that run half a deviation ahead leave every output half of its deviation behind.
#[test]
fn the_expectation_gap_of_shifted_statistics_is_the_shift() {
    let (_place, mut subject) = opened(&["model.hidden=[2]", "train.batch_size=512"]);
    let half = 0.5 * VARIANCE.sqrt();
    // No ReLU is at work: outputs are 30 ± 3·√3.
    threshold(&mut subject, [half, half], 3.0, 30.0);
    let measured = readings(&subject, "expectation-gap");
    expect(&measured, "blocks.0 batch_norm", 0.5, 0.05);
    expect(&measured, "logits", 0.5, 0.05);
    threshold(&mut subject, [0.0, 0.0], 3.0, 30.0);
    let measured = readings(&subject, "expectation-gap");
    expect(&measured, "logits", 0.0, 0.1);
}

/// Of half the channels either the one that tells the classes apart is kept, or the one that is constant.
#[test]
fn a_half_without_what_matters_is_worth_nothing() {
    let (_place, mut subject) = opened(&["model.hidden=[2]"]);
    threshold(&mut subject, [0.0, 0.0], 1.0, 0.0);
    let Model::Mlp(net) = &mut subject.model else {
        panic!("a dense net")
    };
    // The second unit is always 0; the first is on for the second class, whose logit it is.
    set(&mut net.blocks[0].linear.weight, &[1.0, 0.0, 0.0, 0.0]);
    set(net.head.bias.as_mut().unwrap(), &[1e-6, 0.0]);
    let measured = readings(&subject, "redundancy");
    expect(&measured, "100 % of the channels kept", 1.0, 0.0);
    expect(&measured, "best of 12 halves", 1.0, 0.0);
    // All of the first class, of 512 examples by chance.
    expect(&measured, "worst of 12 halves", 0.5, 0.08);
}

#[test]
fn activations_are_those_of_the_layers_formula() {
    let (_place, mut subject) = opened(&["model.hidden=[2]"]);
    threshold(&mut subject, [0.25, -0.25], 2.0, 1.0);
    // As many as are looked at, moved by 3 so that their mean is not 0.
    let Split::Table(table) = numbers(512) else {
        unreachable!()
    };
    let values: Vec<f32> = table.values.iter().map(|x| x + 3.0).collect();
    subject.data.train = Split::Table(Table {
        values: values.into(),
        ..table.clone()
    });
    let Model::Mlp(net) = &mut subject.model else {
        panic!("a dense net")
    };
    set(&mut net.blocks[0].linear.weight, &[1.0, -2.0, 0.0, 0.0]);
    let Some(Norm::Batch(norm)) = &mut net.blocks[0].norm else {
        panic!("a batch norm")
    };
    set(norm.weight.as_mut().unwrap(), &[2.0, -0.5]);
    set(norm.bias.as_mut().unwrap(), &[1.0, -4.0]);
    let x: Vec<f64> = table
        .values
        .chunks_exact(2)
        .map(|row| f64::from(row[0]) + 3.0)
        .collect();
    let channels: [Vec<f64>; 2] = [(1.0, 0.25, 2.0, 1.0), (-2.0, -0.25, -0.5, -4.0)].map(
        |(weight, running, scale, shift)| {
            let deviation = (f64::from(VARIANCE) + 1e-5).sqrt();
            let y = |x: &f64| (scale * (weight * x - running) / deviation + shift).max(0.0);
            x.iter().map(y).collect()
        },
    );
    let variance = |values: &[f64]| {
        let centre = mean(values);
        mean(
            &values
                .iter()
                .map(|v| (v - centre).powi(2))
                .collect::<Vec<_>>(),
        )
    };
    let over = |of: &dyn Fn(&[f64]) -> f64| (of(&channels[0]) + of(&channels[1])) / 2.0;
    let measured = readings(&subject, "activations");
    let layer = "blocks.0 batch_norm";
    expect(
        &measured,
        &format!("{layer}: mean before"),
        (3.0 - 6.0) / 2.0,
        1e-4,
    );
    let of_x = variance(&x);
    expect(
        &measured,
        &format!("{layer}: variance before"),
        (of_x + 4.0 * of_x) / 2.0,
        1e-4,
    );
    expect(
        &measured,
        &format!("{layer}: mean after"),
        over(&mean),
        1e-4,
    );
    expect(
        &measured,
        &format!("{layer}: variance after"),
        over(&variance),
        1e-3,
    );
    let active = |y: &[f64]| y.iter().filter(|y| **y > 0.0).count() as f64 / 512.0;
    assert!(
        (0.1..0.9).contains(&active(&channels[1])),
        "the second is on at times"
    );
    expect(&measured, &format!("{layer}: active"), over(&active), 1e-9);
    expect(&measured, &format!("{layer}: dead"), 0.0, 0.0);
    expect(&measured, "blocks.0.norm: |γ|", 1.25, 1e-6);
    expect(&measured, "blocks.0.norm: β", -1.5, 1e-6);
}

/// Images whose left or right half is bright, and a net that compares the halves.
#[test]
fn augmentations_turn_what_they_must_and_nothing_else() {
    let (_place, mut subject) = opened(&[]);
    let (side, count) = (8, 300);
    let pixel = |example: usize, place: usize| {
        if (place % side < side / 2) == example.is_multiple_of(2) {
            200
        } else {
            50
        }
    };
    let split = Split::Images(Images {
        bytes: side * side,
        pixels: (0..count * side * side)
            .map(|i| pixel(i / (side * side), i % (side * side)))
            .collect(),
        labels: (0..count as u32).map(|example| example % 2).collect(),
    });
    (subject.data.train, subject.data.test) = (split.clone(), split);
    subject.data.kind = Kind::Images {
        height: side,
        width: side,
        channels: 1,
    };
    subject.run.preparation = Preparation {
        mean: vec![0.5],
        deviation: vec![0.25],
    };
    let recipe = ModelRecipe::Mlp {
        hidden: vec![2],
        norm: NormKind::None,
        activation: Default::default(),
        dropout: 0.0,
        drop_connect: 0.0,
    };
    let model = recipe.build(&subject.data.kind, 2, &Device::flex());
    let Ok(Model::Mlp(mut net)) = model.map(|model| evenkeel_nn::initialize(model, 0)) else {
        panic!("a dense net")
    };
    let left = |place: usize| if place % side < side / 2 { 1.0 } else { -1.0 };
    let weights: Vec<f32> = (0..side * side)
        .flat_map(|place| [left(place), -left(place)])
        .collect();
    set(&mut net.blocks[0].linear.weight, &weights);
    set(&mut net.head.weight, &[1.0, 0.0, 0.0, 1.0]);
    subject.model = Model::Mlp(net);
    let measured = readings(&subject, "augmentations");
    for class in [
        &subject.data.classes[0][..],
        &subject.data.classes[1],
        "all classes",
    ] {
        for (operation, expected) in [
            ("horizontal flip", -1.0),
            ("inversion", -1.0),
            ("vertical flip", 0.0),
            ("brightness × 0.5", 0.0),
            ("contrast × 1.5", 0.0),
            ("rotation by 15°", 0.0),
            ("noise of 10 levels", 0.0),
        ] {
            expect(
                &measured,
                &format!("{operation}, {class}: change of accuracy"),
                expected,
                0.0,
            );
        }
    }
}

/// The losses of the last 10 of the first 48 steps, as the metrics of a whole training have them.
fn logged(settings: &[&str]) -> f64 {
    let (_place, subject) = opened(settings);
    let losses: Vec<f64> = subject
        .metrics
        .iter()
        .filter_map(|line| match line {
            Line::Step { loss, .. } => Some(*loss),
            Line::Epoch { .. } => None,
        })
        .collect();
    mean(&losses[38..48])
}

/// A short training at a rate is the beginning of a whole one at that rate.
#[test]
fn short_trainings_at_a_rate_are_the_recipes_own() {
    const CONSTANT: &str = "schedule={kind=\"constant\"}";
    let (_place, subject) = opened(&[CONSTANT]);
    let measured = readings(&subject, "learning-rates");
    for (of, rate, norm) in [
        ("batch norm, rate 0.0500: loss", "0.05", "batch"),
        ("batch norm, rate 0.5000: loss", "0.5", "batch"),
        ("no norm, rate 0.0500: loss", "0.05", "none"),
        ("no norm, rate 0.0050: loss", "0.005", "none"),
    ] {
        let rate = format!("optimizer.learning_rate={rate}");
        let expected = logged(&[CONSTANT, &rate, &format!("model.norm={norm}")]);
        expect(&measured, of, expected, 1e-9);
    }
}

/// Without learning, a start of other scale is another scale of the logits: f times with norms, whose layers do not
/// mind it, and f³ times without, where each of three matrices is scaled.
#[test]
fn starts_of_another_scale_scale_the_logits() {
    let still = ["optimizer={kind=\"sgd\",learning_rate=1e-12}"];
    let (_place, subject) = opened(&still);
    let measured = readings(&subject, "start-scale");
    let stop = AtomicBool::new(false);
    let options = FitOptions {
        workers: 0,
        threads: 1,
        device: Device::flex(),
        device_name: "",
        stop: &stop,
    };
    for (name, norm, power) in [
        ("batch norm", NormKind::Batch, 1),
        ("no norm", NormKind::None, 3),
    ] {
        let mut recipe = subject.recipe.clone();
        recipe.model = recipe.model.with_norm(norm);
        let session =
            Session::with(&recipe, &options, subject.data.clone(), Instant::now()).unwrap();
        let model = session.fresh().unwrap().model;
        for factor in [0.5_f64, 2.0, 5.0] {
            let mut losses = Vec::new();
            for epoch in 0.. {
                for batch in session.loader.epoch(epoch, 0) {
                    let batch = batch.unwrap();
                    let x = TensorData::new(batch.features, [batch.labels.len(), 2]);
                    let x = Tensor::from_data(x, &Device::flex().autodiff());
                    let pass = Pass::train(0, losses.len() as u64).keep_statistics();
                    let logits = model.forward(x, &pass) * factor.powi(power);
                    let mut scores = Scores::default();
                    scores.add(logits, &batch.labels);
                    losses.push(scores.loss());
                }
                if losses.len() >= 48 {
                    break;
                }
            }
            let of = format!("{name}, weights × {factor}: loss");
            expect(&measured, &of, mean(&losses[38..48]), 2e-3);
        }
    }
}
