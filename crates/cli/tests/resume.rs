//! A run that is killed or interrupted at any moment goes on to the very same bytes.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{RECIPE, evenkeel, run, write_images};
use evenkeel_random::Key;

fn prepare(recipe: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_images(&folder.path().join("images"), 320, 64);
    fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    folder
}

/// [`RECIPE`] with some of its text replaced.
fn recipe(replaced: &[(&str, &str)]) -> String {
    replaced.iter().fold(RECIPE.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replace(old, new)
    })
}

/// Starts training into `out`, or resumes it.
fn start(folder: &Path, out: &str, resume: bool, workers: u32) -> std::process::Child {
    let mut command = evenkeel(folder);
    command
        .arg("train")
        .args(["--workers", &workers.to_string()]);
    if resume {
        command.args(["--resume", out]);
    } else {
        command.args(["recipe.toml", "--out", out]);
    }
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn signal(child: &std::process::Child, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "kill -s {name}");
}

/// From the first logged step on, the signal handlers are in place.
fn wait_for_a_step(folder: &Path, out: &str) {
    let begun = Instant::now();
    let metrics = folder.join(out).join("metrics.jsonl");
    while fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "no step in a minute"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn steps(folder: &Path, out: &str) -> usize {
    let metrics = fs::read_to_string(folder.join(out).join("metrics.jsonl")).unwrap();
    metrics
        .lines()
        .filter(|line| line.contains("\"step\","))
        .count()
}

#[test]
fn killed_at_twenty_random_moments() {
    killed(RECIPE, 77);
}

#[test]
fn killed_with_one_checkpoint_an_epoch() {
    killed(&recipe(&[("checkpoint_every = 7", "")]), 78);
}

#[test]
fn killed_with_adamw_dropout_and_averaged_weights() {
    let optimizer = "kind = \"sgd\"\nlearning_rate = 0.05";
    let adamw = "kind = \"adamw\"\nlearning_rate = 0.003";
    let recipe = recipe(&[
        (optimizer, adamw),
        ("kind = \"l2\"", "kind = \"decoupled\""),
        ("checkpoint_every = 7", "checkpoint_every = 13"),
    ]);
    for part in ["dropout = 0.2", "weight_average = 0.95"] {
        assert!(recipe.contains(part));
    }
    killed(&recipe, 79);
}

/// Kills the command at 20 moments of a training, and again while it goes on.
fn killed(recipe: &str, seed: u64) {
    let folder = prepare(recipe);
    let folder = folder.path();
    let started = Instant::now();
    assert!(start(folder, "whole", false, 0).wait().unwrap().success());
    let length = started.elapsed();
    let whole = fs::read(folder.join("whole/model.safetensors")).unwrap();
    let mut draws = Key::from_seed(seed).draws();
    let mut unfinished = 0;
    for round in 0..20 {
        let out = format!("killed-{round}");
        let mut child = start(folder, &out, false, draws.below(3));
        std::thread::sleep(length.mul_f64(draws.uniform()));
        signal(&child, "KILL");
        child.wait().unwrap();
        if !folder.join(&out).join("run.json").exists() {
            // Killed before there was a run: nothing to resume, and nothing in the way.
            assert!(start(folder, &out, false, 1).wait().unwrap().success());
        } else {
            unfinished += usize::from(!folder.join(&out).join("model.safetensors").exists());
            // Once more, in the middle of going on.
            let mut child = start(folder, &out, true, draws.below(3));
            std::thread::sleep(length.mul_f64(0.5 * draws.uniform()));
            signal(&child, "KILL");
            child.wait().unwrap();
            assert!(
                start(folder, &out, true, draws.below(3))
                    .wait()
                    .unwrap()
                    .success()
            );
        }
        let model = fs::read(folder.join(&out).join("model.safetensors")).unwrap();
        assert!(model == whole, "round {round}: the weights differ");
        assert_eq!(
            steps(folder, &out),
            steps(folder, "whole"),
            "round {round}: metrics differ"
        );
    }
    assert!(
        unfinished >= 5,
        "only {unfinished} of 20 kills hit a training"
    );
}

#[test]
fn interrupted_by_signals() {
    let folder = prepare(RECIPE);
    let folder = folder.path();
    assert!(start(folder, "whole", false, 2).wait().unwrap().success());
    for (out, name) in [("int", "INT"), ("term", "TERM")] {
        let mut child = start(folder, out, false, 1);
        wait_for_a_step(folder, out);
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let record = fs::read_to_string(folder.join(out).join("run.json")).unwrap();
        assert!(record.contains("\"interrupted\""));
        assert!(folder.join(out).join("report.html").exists());
        assert!(start(folder, out, true, 0).wait().unwrap().success());
        let model = |out: &str| fs::read(folder.join(out).join("model.safetensors")).unwrap();
        assert!(model(out) == model("whole"));
    }
}

#[test]
fn two_processes_do_not_train_one_run() {
    let folder = prepare(&recipe(&[("epochs = 6", "epochs = 600")]));
    let folder = folder.path();
    let mut first = start(folder, "run", false, 0);
    wait_for_a_step(folder, "run");
    let (code, _, told) = run(folder, &["train", "--resume", "run"]);
    assert!(
        code == 1 && told.contains("another process is training this run"),
        "{told}"
    );
    signal(&first, "KILL");
    first.wait().unwrap();
    // The system has released the lock of the killed one.
    fs::remove_file(folder.join("run/metrics.jsonl")).unwrap();
    let mut second = start(folder, "run", true, 0);
    wait_for_a_step(folder, "run");
    signal(&second, "TERM");
    assert_eq!(second.wait().unwrap().code(), Some(130));
}

#[test]
fn a_finished_run_has_nothing_to_resume() {
    let folder = prepare(RECIPE);
    let folder = folder.path();
    assert!(start(folder, "done", false, 1).wait().unwrap().success());
    let (code, _, told) = run(folder, &["train", "--resume", "done"]);
    assert_eq!(code, 0);
    assert!(told.contains("finished"), "{told}");
    // As a kill between the model and the report leaves it.
    let report = folder.join("done/report.html");
    let page = fs::read(&report).unwrap();
    fs::remove_file(&report).unwrap();
    let (code, out, told) = run(folder, &["train", "--resume", "done", "--json"]);
    assert_eq!(code, 0);
    assert!(told.contains("report was missing"), "{told}");
    assert!(out.contains("\"test_accuracy\":"), "{out}");
    assert!(fs::read(&report).unwrap() == page);
    let (code, _, told) = run(folder, &["train", "recipe.toml", "--out", "done"]);
    assert_eq!(code, 1);
    assert!(
        told.contains("there is a run in this folder already"),
        "{told}"
    );
}
