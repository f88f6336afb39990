//! All instruments and the doctor on whole runs of tiny nets.

use std::fs;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use evenkeel_record::{Diagnosis, RunFolder};
use tempfile::TempDir;

use super::*;
use crate::doctor::examine;
use crate::{FitOptions, Recipe, fit, weights};

const RECIPE: &str = r#"
[data]
source = "csv:table.csv?label=kind"
[model]
kind = "mlp"
hidden = [12, 8]
[train]
epochs = 6
batch_size = 32
[optimizer]
kind = "sgd"
learning_rate = 0.05
[schedule]
kind = "one_cycle"
"#;

/// A finished run on a table of two classes.
pub(super) fn run(settings: &[&str]) -> (TempDir, RunFolder) {
    let place = tempfile::tempdir().unwrap();
    let table = place.path().join("table.csv");
    let row = |i: usize| {
        let (x, y) = (i * 37 % 101, i * 53 % 97);
        format!("{x},{y},{}\n", ["a", "b"][usize::from(x > y)])
    };
    fs::write(
        &table,
        "x,y,kind\n".to_owned() + &(0..900).map(row).collect::<String>(),
    )
    .unwrap();
    let settings = settings.iter().map(|setting| (*setting).to_owned());
    let source = format!("data.source=csv:{}?label=kind&test=0.4", table.display());
    let settings: Vec<String> = std::iter::once(source).chain(settings).collect();
    let recipe = Recipe::parse(RECIPE, "test", &settings).unwrap();
    let folder = RunFolder::new(place.path().join("run"));
    let stop = AtomicBool::new(false);
    let options = FitOptions {
        workers: 0,
        threads: 1,
        device: Device::flex(),
        device_name: "cpu",
        stop: &stop,
    };
    fit(&recipe, &folder, &options, &mut |_| {}).unwrap();
    (place, folder)
}

fn probed(folder: &RunFolder, only: &[&str]) -> Probe {
    let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
    probe(folder, &only, 0, &Device::flex(), &mut |_| {}).unwrap()
}

fn value(probe: &Probe, of: &str) -> f64 {
    let mut readings = probe
        .instruments
        .iter()
        .flat_map(|instrument| &instrument.readings);
    readings
        .find(|reading| reading.of == of)
        .unwrap_or_else(|| panic!("no reading of {of}"))
        .value
}

#[test]
fn every_instrument_measures_a_run() {
    let (_place, folder) = run(&["model.dropout=0.2"]);
    let probe = probed(&folder, &[]);
    assert_eq!(probe.instruments.len(), KNOWN.len());
    for instrument in &probe.instruments {
        let unfit = instrument.meaning.starts_with("Not measured");
        assert_eq!(
            unfit,
            instrument.name == "augmentations",
            "{}: {}",
            instrument.name,
            instrument.meaning
        );
        assert_eq!(unfit, instrument.readings.is_empty());
        assert_eq!(unfit, instrument.figures.is_empty());
        for reading in &instrument.readings {
            let [low, high] = reading.interval;
            assert!(
                reading.value.is_finite() && low <= reading.value && reading.value <= high,
                "{}: {reading:?}",
                instrument.name
            );
        }
    }
    folder.write_probe(&probe).unwrap();
    assert!(folder.read_probe().unwrap().is_some());
    let error =
        super::probe(&folder, &["shift".into()], 0, &Device::flex(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("covariate-shift"), "{error}");
}

#[test]
fn modes_and_batches_are_those_of_a_sound_net() {
    let (_place, folder) = run(&[]);
    let probe = probed(
        &folder,
        &["modes", "batch-size", "redundancy", "running-statistics"],
    );
    let recorded = folder.read_run().unwrap().results.unwrap().test_accuracy;
    assert!((value(&probe, "running statistics") - recorded).abs() < 1e-9);
    // A normalized pair has a sign and nothing else.
    assert!(value(&probe, "batches of 2") < value(&probe, "batches of 256") - 0.05);
    assert!((value(&probe, "100 % of the channels kept") - recorded).abs() < 1e-9);
    assert!(value(&probe, "blocks.0.norm, as trained: distance of the means") < 0.2);
}

/// The norms of a run, written anew.
fn change_norms(folder: &RunFolder, change: impl Fn(&evenkeel_nn::BatchNorm)) {
    let subject = Subject::open(folder, 0, &Device::flex()).unwrap();
    let mut model = subject.model;
    evenkeel_nn::Norms::visit_norms(&mut model, &mut |_, norm| change(norm.as_batch().unwrap()));
    fs::write(folder.model(), weights::to_safetensors(&model).unwrap()).unwrap();
}

#[test]
fn a_planted_shift_of_running_statistics_is_measured() {
    let (_place, folder) = run(&[]);
    // Means moved by half a deviation, variances doubled.
    change_norms(&folder, |norm| {
        let device = Device::flex();
        let variance = norm.running_var.get(&device);
        norm.running_mean
            .set(norm.running_mean.get(&device) + variance.clone().sqrt() * 0.5);
        norm.running_var.set(variance * 2.0);
    });
    let probe = probed(&folder, &["running-statistics"]);
    let distance = value(&probe, "blocks.0.norm, as trained: distance of the means");
    let ratio = value(&probe, "blocks.0.norm, as trained: ratio of the variances");
    assert!((distance - 0.5).abs() < 0.12, "{distance}");
    assert!((ratio - 2.0).abs() < 0.3, "{ratio}");
}

fn examined(folder: &RunFolder) -> Diagnosis {
    examine(folder, 0, &Device::flex()).unwrap()
}

#[test]
fn the_doctor_finds_nothing_in_a_sound_run_and_what_is_planted() {
    let (_place, folder) = run(&[]);
    let sound = examined(&folder);
    assert!(!sound.alarms(), "{:?}", sound.findings);
    assert!(
        sound
            .checks
            .iter()
            .any(|check| check.name == "replay" && check.skipped.is_none())
    );
    let mut recorded = folder.read_run().unwrap();
    let results = recorded.results.as_mut().unwrap();
    results.test_accuracy -= 0.05;
    folder.write_run(&recorded).unwrap();
    let found = examined(&folder);
    assert_eq!(
        found.findings[0].check, "evaluation",
        "{:?}",
        found.findings
    );
    change_norms(&folder, |norm| {
        let device = Device::flex();
        norm.running_mean.set(norm.running_mean.get(&device) * 0.0);
        norm.running_var
            .set(norm.running_var.get(&device) * 0.0 + 1.0);
    });
    let found = examined(&folder);
    let titles: Vec<_> = found
        .findings
        .iter()
        .map(|finding| &*finding.title)
        .collect();
    assert!(
        titles.contains(&"running statistics were never updated"),
        "{titles:?}"
    );
}

#[test]
fn a_log_that_does_not_follow_from_the_recipe_is_found() {
    let (_place, folder) = run(&[]);
    let text = fs::read_to_string(folder.metrics()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut line: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
    line["loss"] = (line["loss"].as_f64().unwrap() + 0.001).into();
    lines[2] = line.to_string();
    fs::write(folder.metrics(), lines.join("\n") + "\n").unwrap();
    let found = examined(&folder);
    let replay = found
        .findings
        .iter()
        .find(|finding| finding.check == "replay")
        .unwrap();
    assert!(
        replay.evidence.starts_with("step 3:"),
        "{}",
        replay.evidence
    );
}
