//! Whole trainings of tiny nets: how they end, what they leave, what they refuse.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use evenkeel_record::{RunFolder, Status};
use tempfile::TempDir;

use super::*;
use crate::data::Split;
use crate::evaluate::evaluate_run;
use crate::{FitOptions, Recipe, fit, resume};

const BASE: &str = r#"
[data]
source = "csv:table.csv?label=kind"
[model]
kind = "mlp"
hidden = [6, 5]
[train]
epochs = 2
batch_size = 64
[optimizer]
kind = "sgd"
learning_rate = 0.1
[schedule]
kind = "constant"
"#;

/// A table of two classes and a folder for a run.
struct Place {
    place: TempDir,
    folder: RunFolder,
}

impl Place {
    fn new(rows: usize) -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(place.path().join("run"));
        let place = Self { place, folder };
        fs::write(place.table(), rows_of(rows)).unwrap();
        place
    }

    fn table(&self) -> PathBuf {
        self.place.path().join("table.csv")
    }

    fn recipe(&self, settings: &[&str]) -> Recipe {
        let source = format!("data.source=csv:{}?label=kind", self.table().display());
        let settings = settings.iter().map(|setting| (*setting).to_owned());
        let settings: Vec<String> = [source].into_iter().chain(settings).collect();
        Recipe::parse(BASE, "base", &settings).unwrap()
    }

    fn fit(&self, settings: &[&str]) -> Result<Outcome, Error> {
        let stop = AtomicBool::new(false);
        fit(
            &self.recipe(settings),
            &self.folder,
            &options(&stop),
            &mut |_| {},
        )
    }

    /// Trains a step and stops.
    fn interrupt(&self, settings: &[&str]) {
        let stop = AtomicBool::new(true);
        let recipe = self.recipe(settings);
        let outcome = fit(&recipe, &self.folder, &options(&stop), &mut |_| {});
        assert!(matches!(outcome, Ok(Outcome::Interrupted { step: 1, .. })));
    }

    fn resume(&self) -> Result<Outcome, Error> {
        let stop = AtomicBool::new(false);
        resume(&self.folder, &options(&stop), &mut |_| {})
    }

    /// The states in `checkpoint/`.
    fn states(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.checkpoint()).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("step-")).collect();
        names.sort();
        names
    }
}

fn rows_of(rows: usize) -> String {
    let row = |i: usize| {
        let (x, y) = (i * 37 % 101, i * 53 % 97);
        format!("{x},{y},{}\n", ["a", "b"][usize::from(x > y)])
    };
    "x,y,kind\n".to_owned() + &(0..rows).map(row).collect::<String>()
}

fn options(stop: &AtomicBool) -> FitOptions<'_> {
    FitOptions {
        workers: 0,
        threads: 1,
        device: Device::flex(),
        device_name: "cpu",
        stop,
    }
}

fn told(outcome: Result<Outcome, Error>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn weights_ruined_by_the_last_update_are_no_result() {
    for settings in [
        &["optimizer.learning_rate=1e38"][..],
        &["optimizer.learning_rate=1e38", "train.weight_average=0.9"],
    ] {
        let place = Place::new(100);
        let last = [settings, &["train.batch_size=80", "train.epochs=1"]].concat();
        let outcome = place.fit(&last);
        assert!(matches!(outcome, Err(Error::Diverged { step: 1, .. })));
        let told = told(outcome);
        assert!(
            told.starts_with("step 1 of 1: ") && told.contains("no checkpoint"),
            "{told}"
        );
        let run = place.folder.read_run().unwrap();
        assert_eq!((run.status, run.failure), (Status::Failed, Some(told)));
        assert!(run.results.is_none() && place.states().is_empty());
        assert!(!place.folder.model().exists() && !place.folder.best_model().exists());
    }
}

/// The rate rises from next to nothing to far too much: the first update is good.
const CLIFF: [&str; 6] = [
    "optimizer.learning_rate=1e38",
    "schedule={ kind = \"one_cycle\", warmup = 0.9, start = 1e-39 }",
    "train.batch_size=80",
    "train.epochs=9",
    "train.checkpoint_every=1",
    "model.norm=none",
];

#[test]
fn the_last_good_checkpoint_outlives_the_update_that_ruins_the_weights() {
    let place = Place::new(100);
    let outcome = place.fit(&CLIFF);
    let Err(Error::Diverged {
        kept: Some(kept), ..
    }) = &outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(place.states(), ["step-000000000001"]);
    assert_eq!(*kept, place.folder.checkpoint().join("step-000000000001"));
    assert!(told(outcome).contains("step-000000000001"));

    let recipe = place.recipe(&CLIFF);
    let stop = AtomicBool::new(false);
    let options = options(&stop);
    let session = Session::open(&recipe, &options).unwrap();
    let checkpoints = Checkpoints::new(place.folder.checkpoint());
    let training = checkpoints.load(session.fresh().unwrap()).unwrap();
    assert_eq!(training.progress.step, 1);
    let record = weights::to_record(&training.model).unwrap();
    assert_eq!(weights::not_finite(&record).unwrap(), None);
    let best = weights::from_safetensors(training.model, &place.folder.best_model()).unwrap();
    let record = weights::to_record(&best).unwrap();
    assert_eq!(weights::not_finite(&record).unwrap(), None);
}

#[test]
fn a_checkpoint_whose_weights_give_no_loss_does_not_replace_a_good_one() {
    let place = Place::new(100);
    // Two steps an epoch. The second update leaves weights that are finite, but not their loss.
    let settings = [
        &CLIFF[..],
        &["optimizer.learning_rate=1e31"],
        &["train.batch_size=20"],
    ];
    let outcome = place.fit(&settings.concat());
    let Err(Error::Diverged { what, step, .. }) = &outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (what.as_str(), *step),
        ("the loss is NaN", 3),
        "{outcome:?}"
    );
    assert_eq!(place.states(), ["step-000000000001"]);
}

#[test]
fn a_new_run_takes_nothing_from_another() {
    let place = Place::new(100);
    place.interrupt(&[]);
    fs::remove_file(place.folder.run_json()).unwrap();
    let told = told(place.fit(&[]));
    assert!(told.contains("another run"), "{told}");
}

#[test]
fn a_run_goes_on_only_on_its_data() {
    let place = Place::new(200);
    place.interrupt(&[]);
    let good = fs::read_to_string(place.table()).unwrap();
    let halves = good.replace("\n0,0,", "\n0.5,0,");
    let labels = good.replacen(",a\n", ",b\n", 1);
    for (table, expected) in [
        (
            rows_of(150),
            "number of training examples was 160 and is 120",
        ),
        (good.replace("x,y,", "x,z,"), "columns was [\"x\", \"y\"]"),
        (good.replace(",a\n", ",c\n"), "classes was [\"a\", \"b\"]"),
        (halves, "checksum was"),
        (labels, "was"),
    ] {
        assert_ne!(table, good);
        fs::write(place.table(), table).unwrap();
        let outcome = place.resume();
        assert!(
            matches!(outcome, Err(Error::OtherData { .. })),
            "{outcome:?}"
        );
        let told = told(outcome);
        assert!(
            told.contains("table.csv") && told.contains(expected),
            "{told}"
        );
    }
    fs::write(place.table(), good).unwrap();
    // A run of a version that recorded no checksums.
    let text = fs::read_to_string(place.folder.run_json()).unwrap();
    let mut run: serde_json::Value = serde_json::from_str(&text).unwrap();
    let data = run["data"].as_object_mut().unwrap();
    assert!(data.remove("train_checksum").unwrap().is_string());
    assert!(data.remove("test_checksum").unwrap().is_string());
    fs::write(place.folder.run_json(), run.to_string()).unwrap();
    assert!(matches!(place.resume(), Ok(Outcome::Finished(_))));
}

#[test]
fn a_norm_that_would_see_one_value_is_refused() {
    let place = Place::new(100);
    let alone = place.fit(&["train.batch_size=1"]);
    assert!(matches!(alone, Err(Error::Unfit(_))));
    assert!(told(alone).contains("train.batch_size is 1"));
    let pooled = [
        "data.source=fashion-mnist-10k",
        "data.validation=0.9",
        "train.batch_size=1",
        "model={ kind = \"convnet\", widths = [1, 1, 1, 1, 1], pool_after = [0, 1, 2, 3] }",
    ];
    let pooled = place.fit(&pooled);
    assert!(matches!(pooled, Err(Error::Unfit(_))), "{pooled:?}");
    let without = ["train.batch_size=1", "model.norm=none", "train.epochs=1"];
    assert!(matches!(place.fit(&without), Ok(Outcome::Finished(_))));
}

#[test]
fn statistics_are_recomputed_over_any_number_of_examples() {
    // 257 to train on: one more than the batches that statistics are recomputed over.
    let place = Place::new(321);
    let outcome = place.fit(&["train.weight_average=0.9"]).unwrap();
    let Outcome::Finished(run) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(run.data.train_examples, 257);
}

#[test]
fn losses_in_the_metrics_are_without_smoothing() {
    let first = |smoothing: &str| {
        let place = Place::new(100);
        place.fit(&[smoothing]).unwrap();
        let metrics = place.folder.read_metrics().unwrap();
        let Line::Step { loss, .. } = metrics[0] else {
            panic!("{metrics:?}")
        };
        loss
    };
    // Before the first update the nets are the same.
    let (plain, smoothed) = (
        first("train.label_smoothing=0"),
        first("train.label_smoothing=0.5"),
    );
    assert_eq!(plain, smoothed);
}

#[test]
fn times_are_by_the_clock() {
    let place = Place::new(200);
    let stop = AtomicBool::new(false);
    let pause = Duration::from_millis(25);
    let started = Instant::now();
    let outcome = fit(
        &place.recipe(&["train.batch_size=40"]),
        &place.folder,
        &options(&stop),
        // Whatever comes between two steps counts, as waiting for a batch does.
        &mut |_| std::thread::sleep(pause),
    );
    let elapsed = started.elapsed().as_secs_f64();
    let Ok(Outcome::Finished(run)) = outcome else {
        panic!("{outcome:?}")
    };
    let results = run.results.unwrap();
    // 2 epochs of 4 steps: 3 pauses within each epoch, 11 pauses in all.
    let seconds: f64 = place
        .folder
        .read_metrics()
        .unwrap()
        .iter()
        .filter_map(|line| match line {
            Line::Epoch { seconds, .. } => Some(*seconds),
            Line::Step { .. } => None,
        })
        .sum();
    let pause = pause.as_secs_f64();
    assert!(
        seconds >= 6.0 * pause && seconds < results.seconds,
        "{seconds}"
    );
    assert!((320.0 / results.images_per_s - seconds).abs() < 1e-6);
    assert!(
        results.seconds >= 11.0 * pause && results.seconds <= elapsed,
        "{results:?}"
    );
}

#[test]
fn one_process_at_a_time() {
    let place = Place::new(100);
    place.interrupt(&[]);
    let held = place.folder.lock().unwrap();
    assert!(told(place.resume()).contains("another process is training this run"));
    drop(held);
    assert!(matches!(place.resume(), Ok(Outcome::Finished(_))));
}

fn evaluated(folder: &RunFolder) -> Result<Measured, Error> {
    evaluate_run(folder, None, 0, &Device::flex())
}

#[test]
fn an_unfinished_run_cannot_be_evaluated() {
    let failed = Place::new(100);
    let reason = told(failed.fit(&["optimizer.learning_rate=1e38"]));
    let error = evaluated(&failed.folder).unwrap_err().to_string();
    assert!(
        error.contains("this run failed") && error.ends_with(&reason),
        "{error}"
    );

    let place = Place::new(100);
    place.interrupt(&[]);
    let told = evaluated(&place.folder).unwrap_err().to_string();
    let command = format!("train --resume {}", place.folder.path().display());
    assert!(
        told.contains("not finished") && told.contains(&command),
        "{told}"
    );
}

#[test]
fn a_run_is_measured_on_the_test_data_that_it_began_with() {
    let place = Place::new(100);
    let Ok(Outcome::Finished(run)) = place.fit(&[]) else {
        panic!("not finished")
    };
    let measured = evaluated(&place.folder).unwrap();
    assert_eq!(measured.accuracy, run.results.unwrap().test_accuracy);
    let good = fs::read_to_string(place.table()).unwrap();
    for (table, expected) in [
        (rows_of(90), "number of test examples was 20 and is 18"),
        (good.replace("0,", "0.5,"), "test examples' checksum was"),
    ] {
        fs::write(place.table(), table).unwrap();
        let error = evaluated(&place.folder).unwrap_err();
        assert!(matches!(error, Error::OtherData { .. }), "{error:?}");
        let told = error.to_string();
        assert!(
            told.contains(expected) && told.contains("by --data"),
            "{told}"
        );
    }
}

#[test]
fn shares_that_leave_nothing_are_the_recipes_fault() {
    let place = Place::new(100);
    let outcome = place.fit(&["data.validation=0.999"]);
    assert!(matches!(outcome, Err(Error::Unfit(_))), "{outcome:?}");
    assert!(told(outcome).contains("data.validation = 0.999"));
    let outcome = place.fit(&["data.train_examples=99"]);
    assert!(matches!(outcome, Err(Error::Unfit(_))), "{outcome:?}");
    let told = told(outcome);
    assert!(
        told.contains("data.train_examples = 99, expected 1 to the 80"),
        "{told}"
    );
}

#[test]
fn a_part_of_the_training_data_is_trained_on_resumed_and_measured() {
    let settings = ["data.train_examples=70", "data.validation=0.25"];
    let place = Place::new(400);
    // 320 of the table are to train on, 80 of which are held out, but for the rounding in each class.
    let Ok(Outcome::Finished(run)) = place.fit(&settings) else {
        panic!("a finished run")
    };
    assert_eq!((run.data.train_examples, run.data.test_examples), (70, 81));
    // One batch of 64 an epoch.
    assert_eq!(run.results.as_ref().unwrap().steps, 2);
    let evaluated = evaluate_run(&place.folder, None, 0, &Device::flex()).unwrap();
    let recorded = run.results.unwrap().test_accuracy;
    assert_eq!(evaluated.accuracy, recorded);
    let resumed = Place::new(400);
    resumed.interrupt(&settings);
    assert!(matches!(resumed.resume(), Ok(Outcome::Finished(_))));
    let weights = |place: &Place| fs::read(place.folder.model()).unwrap();
    assert_eq!(weights(&resumed), weights(&place));
    // Another seed trains on others.
    let data = |seed: &str| place.recipe(&[settings[0], seed]).open_data().unwrap();
    let (one, two) = (data("seed=1"), data("seed=2"));
    let values = |data: &crate::data::Dataset| match &data.train {
        Split::Table(table) => table.values.to_vec(),
        _ => panic!("a table"),
    };
    assert_ne!(values(&one), values(&two));
}

#[test]
fn the_start_is_scaled() {
    let place = Place::new(100);
    let start = |settings: &[&str]| {
        let recipe = place.recipe(settings);
        let stop = AtomicBool::new(false);
        let options = options(&stop);
        let session = Session::open(&recipe, &options).unwrap();
        let Model::Mlp(net) = session.fresh().unwrap().model else {
            panic!("a dense net")
        };
        let weight = net.blocks[0].linear.weight.val().into_data();
        let bias = net.head.bias.unwrap().val().into_data();
        (
            weight.iter::<f32>().collect::<Vec<_>>(),
            bias.iter::<f32>().collect::<Vec<_>>(),
        )
    };
    let (plain, twice) = (start(&[]), start(&["train.start_scale=2.0"]));
    assert!(plain.0.iter().zip(&twice.0).all(|(a, b)| 2.0 * a == *b));
    assert_eq!(plain.1, twice.1);
}

/// The statistics of averaged weights, recomputed here step by step in f64: of each batch's own
/// normalized activations, pooled over all examples.
#[test]
fn averaged_weights_get_the_statistics_of_their_own_activations() {
    // 480 to train on, which are two batches of the recomputation.
    let place = Place::new(600);
    let recipe = place.recipe(&["train.weight_average=0.9"]);
    let stop = AtomicBool::new(false);
    let options = options(&stop);
    let session = Session::open(&recipe, &options).unwrap();
    let training = session.fresh().unwrap();
    let _lock = place.folder.create().unwrap();
    let mut sitting = Sitting::new(&session, &place.folder, training).unwrap();
    for batch in session.loader.epoch(0, 0) {
        sitting.step(batch.unwrap()).unwrap();
    }
    let Model::Mlp(net) = sitting.training.evaluated(&sitting.train).unwrap() else {
        panic!("a dense net")
    };
    let Split::Table(table) = &session.data.train else {
        panic!("a table")
    };
    let standardized = table.values.chunks_exact(2).map(|row| {
        let value =
            |j: usize| (row[j] - session.preparation.mean[j]) / session.preparation.deviation[j];
        vec![f64::from(value(0)), f64::from(value(1))]
    });
    let examples: Vec<Vec<f64>> = standardized.collect();
    let mut batches: Vec<Vec<Vec<f64>>> = examples.chunks(256).map(<[_]>::to_vec).collect();
    assert_eq!(batches.len(), 2);
    let values = |tensor: Tensor<1>| -> Vec<f64> { tensor.into_data().iter::<f64>().collect() };
    for block in &net.blocks {
        let [inputs, outputs] = block.linear.weight.dims();
        let weight = values(block.linear.weight.val().reshape([inputs * outputs]));
        let norm = block
            .norm
            .as_ref()
            .and_then(evenkeel_nn::Norm::as_batch)
            .unwrap();
        let scale = values(norm.weight.as_ref().unwrap().val());
        let shift = values(norm.bias.as_ref().unwrap().val());
        let (mut sums, mut squares, mut count) = (vec![0.0; outputs], vec![0.0; outputs], 0.0);
        for batch in &mut batches {
            for row in batch.iter_mut() {
                *row = (0..outputs)
                    .map(|j| (0..inputs).map(|i| row[i] * weight[i * outputs + j]).sum())
                    .collect();
            }
            count += batch.len() as f64;
            for j in 0..outputs {
                let n = batch.len() as f64;
                let mean = batch.iter().map(|row| row[j]).sum::<f64>() / n;
                let variance = batch.iter().map(|row| (row[j] - mean).powi(2)).sum::<f64>() / n;
                sums[j] += n * mean;
                squares[j] += n * (variance + mean * mean);
                for row in batch.iter_mut() {
                    let normal = (row[j] - mean) / (variance + 1e-5).sqrt();
                    row[j] = (scale[j] * normal + shift[j]).max(0.0);
                }
            }
        }
        let device = Device::flex();
        let (means, variances) = (
            values(norm.running_mean.get(&device)),
            values(norm.running_var.get(&device)),
        );
        for j in 0..outputs {
            let mean = sums[j] / count;
            let variance = (squares[j] / count - mean * mean) * count / (count - 1.0);
            assert!((means[j] - mean).abs() < 1e-4, "{} and {mean}", means[j]);
            assert!(
                (variances[j] / variance - 1.0).abs() < 1e-3,
                "{} and {variance}",
                variances[j]
            );
        }
    }
}

#[test]
fn an_average_over_epochs_resumes_to_the_same_bits() {
    let settings = ["train.swa_after=0.5", "train.epochs=4"];
    let (whole, parts) = (Place::new(200), Place::new(200));
    whole.fit(&settings).unwrap();
    parts.interrupt(&settings);
    parts.resume().unwrap();
    let model = |place: &Place| fs::read(place.folder.model()).unwrap();
    assert!(model(&whole) == model(&parts));
    // It is no single epoch's weights.
    let last = Place::new(200);
    last.fit(&["train.epochs=4"]).unwrap();
    assert!(model(&whole) != model(&last));
    let both = ["train.swa_after=0.5", "train.weight_average=0.9"].map(String::from);
    let error = Recipe::parse(BASE, "base", &both).unwrap_err().to_string();
    assert!(error.contains("train.swa_after"), "{error}");
}

#[test]
fn mixed_batches_train_and_resume_to_the_same_bits() {
    let settings = [
        r#"augment.mix={operations=[{op="mixup",alpha=1.0}],probability=0.8}"#,
        "train.label_smoothing=0.1",
    ];
    let model = |place: &Place| fs::read(place.folder.model()).unwrap();
    let whole = Place::new(400);
    whole.fit(&settings).unwrap();
    let broken = Place::new(400);
    broken.interrupt(&settings);
    broken.resume().unwrap();
    assert!(
        model(&broken) == model(&whole),
        "other weights after a resume"
    );
    let plain = Place::new(400);
    plain.fit(&settings[1..]).unwrap();
    assert!(model(&plain) != model(&whole), "nothing was mixed");

    let refused = Place::new(400);
    let error = refused
        .fit(&[r#"augment.mix={operations=[{op="cut_mix"}]}"#])
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("augment.mix: cut_mix is for images"),
        "{error}"
    );
}
