//! Ablations and comparisons as users meet them: killed at any moment, they go on with what is missing.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{RECIPE, evenkeel, run, write_images};
use evenkeel_random::Key;

const ARGS: [&str; 9] = [
    "ablate",
    "recipe.toml",
    "--arm",
    "no noise: model.dropout=0; augment.operations=[]",
    "--arm",
    "layer: model.norm=layer",
    "--seeds",
    "2",
    "--json",
];

fn prepare() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_images(&folder.path().join("images"), 320, 64);
    fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    folder
}

fn args<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&ARGS[..], &["--out", out], more].concat()
}

/// Accuracies, differences and corrections of all arms: what must not depend on how often it was killed.
fn figures(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    let arms = value["arms"].as_array().unwrap().iter().map(|arm| {
        format!(
            "{} {} {} {}",
            arm["name"], arm["seeds"], arm["accuracies"], arm["difference"]
        )
    });
    arms.collect::<Vec<_>>().join("\n")
}

/// Bytes of all metrics that an ablation has logged.
fn logged(out: &Path) -> u64 {
    let runs = fs::read_dir(out.join("runs")).into_iter().flatten();
    let size = |run: std::io::Result<fs::DirEntry>| {
        let metrics = run.ok()?.path().join("metrics.jsonl");
        Some(fs::metadata(metrics).ok()?.len())
    };
    runs.filter_map(size).sum()
}

/// How many processes have this folder's files in its command.
fn trainings(out: &Path) -> usize {
    let output = Command::new("ps")
        .args(["-eo", "stat,args"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let place = out.display().to_string();
    let alive = |line: &&str| line.contains("--stop-with-input") && !line.starts_with('Z');
    text.lines()
        .filter(alive)
        .filter(|line| line.contains(&place))
        .count()
}

#[test]
fn killed_at_any_moment_it_goes_on_with_what_is_missing() {
    let folder = prepare();
    let folder = folder.path();
    let (code, whole, told) = run(folder, &args("whole", &["--jobs", "1"]));
    assert_eq!(code, 0, "{told}");
    let expected = figures(&whole);
    assert_eq!(expected.lines().count(), 3, "{expected}");
    for file in ["comparison.json", "comparison.csv", "report.html"] {
        assert!(folder.join("whole").join(file).is_file(), "{file}");
    }
    let csv = fs::read_to_string(folder.join("whole/comparison.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4, "{csv}");

    let mut draws = Key::from_seed(5).draws();
    // An absolute path, which the children's commands show.
    let out = folder.join("killed");
    let name = out.to_str().unwrap();
    for round in 0..6 {
        let before = logged(&out);
        let mut child = evenkeel(folder)
            .args(args(name, &["--jobs", "2"]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A step more than before, and a moment: in the middle of a training, wherever that is.
        let begun = Instant::now();
        while logged(&out) <= before {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "no step in a minute"
            );
            sleep(Duration::from_millis(2));
        }
        sleep(Duration::from_millis(u64::from(draws.below(40))));
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            !out.join("comparison.json").exists(),
            "the ablation ended before kill {round}"
        );
    }
    // Nobody is left training when their parent is gone.
    let begun = Instant::now();
    while trainings(&out) > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "trainings outlive their ablation"
        );
        sleep(Duration::from_millis(20));
    }
    let (code, text, told) = run(folder, &args(name, &["--jobs", "2"]));
    assert_eq!(code, 0, "{told}");
    assert_eq!(figures(&text), expected);
    // And once more: nothing is left to do.
    let (code, text, told) = run(folder, &args(name, &[]));
    assert!(
        code == 0 && told.contains("6 runs") && told.contains("0 to do"),
        "{told}"
    );
    assert_eq!(figures(&text), expected);
}

#[test]
fn a_signal_stops_all_with_checkpoints() {
    let folder = prepare();
    let folder = folder.path();
    let mut child = evenkeel(folder)
        .args(args("out", &["--jobs", "2", "--set", "train.epochs=2000"]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let metrics = folder.join("out/runs/recipe-seed-5/metrics.jsonl");
    while fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "no step in a minute"
        );
        sleep(Duration::from_millis(5));
    }
    let status = Command::new("kill")
        .args(["-s", "TERM", &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let record = fs::read_to_string(folder.join("out/runs/recipe-seed-5/run.json")).unwrap();
    assert!(record.contains("\"interrupted\""));
    // Another recipe is not mixed with what is there.
    let (code, _, told) = run(folder, &args("out", &[]));
    assert!(code == 2 && told.contains("of another recipe"), "{told}");
}

#[test]
fn failures_are_results_and_wrong_arms_are_told() {
    let folder = prepare();
    let folder = folder.path();
    let base = [
        "ablate",
        "recipe.toml",
        "--seeds",
        "2",
        "--set",
        "train.epochs=1",
    ];
    let args = |more: &[&'static str]| [&base[..], more].concat();
    let (code, out, told) = run(
        folder,
        &args(&[
            "--arm",
            "explodes: optimizer.learning_rate=1e38; train.clip_norm=0",
            "--out",
            "bad",
        ]),
    );
    assert_eq!(code, 0, "{told}");
    assert!(
        out.contains("0 + 2 failed") && told.contains("explodes failed"),
        "{out} {told}"
    );
    for (more, expected) in [
        (&["--arms", "norm"][..], "norms, regularizers"),
        (&["--arm", "nothing"], "expected NAME"),
        (&["--arm", "a: train.epoch=1"], "did you mean"),
        (&["--arm", "same: seed=5"], "found 1"),
        (&[], "--arms"),
    ] {
        let (code, _, told) = run(folder, &args(more));
        assert!(
            code == 2 && told.contains(expected),
            "{more:?}: {code} {told}"
        );
    }
    let (code, out, told) = run(
        folder,
        &args(&["--arms", "one-out", "--out", "one-out", "--threads", "1"]),
    );
    assert_eq!(code, 0, "{told}");
    for arm in [
        "recipe",
        "without norm",
        "without weight average",
        "without cutout",
    ] {
        assert!(out.contains(arm), "{arm}: {out}");
    }
}

#[test]
fn runs_are_compared_by_seeds_or_by_examples() {
    let folder = prepare();
    let folder = folder.path();
    let train = |out: &str, more: &[&str]| {
        let args = [
            &["train", "recipe.toml", "--epochs", "1", "--out", out],
            more,
        ]
        .concat();
        let (code, _, told) = run(folder, &args);
        assert_eq!(code, 0, "{told}");
    };
    let plain = ["--set", "model.norm=none"];
    for seed in ["1", "2"] {
        train(&format!("a{seed}"), &["--seed", seed]);
        train(
            &format!("b{seed}"),
            &[&["--seed", seed], &plain[..]].concat(),
        );
    }
    let (code, out, told) = run(
        folder,
        &[
            "compare",
            "a1",
            "a2",
            "b1",
            "b2",
            "--out",
            "page.html",
            "--csv",
            "table.csv",
        ],
    );
    assert!(code == 0 && out.contains("paired t test"), "{out} {told}");
    assert!(
        fs::read_to_string(folder.join("page.html"))
            .unwrap()
            .contains("a1")
    );
    assert!(
        fs::read_to_string(folder.join("table.csv"))
            .unwrap()
            .contains("model.norm=\"\"none\"\"")
    );
    let (code, out, told) = run(folder, &["compare", "a1", "b1", "--json"]);
    assert!(
        code == 0 && out.contains("\"pairs\":\"examples\""),
        "{out} {told}"
    );
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let accuracy = |arm: usize| {
        value["arms"][arm]["test_accuracy"]["value"]
            .as_f64()
            .unwrap()
    };
    let difference = value["arms"][1]["difference"]["accuracy"]["value"]
        .as_f64()
        .unwrap();
    assert!((accuracy(1) - accuracy(0) - difference).abs() < 1e-9);
    for (args, expected) in [
        (
            &["compare", "a1", "a2"][..],
            "differ in nothing but the seed",
        ),
        (&["compare", "a1", "a1"], "name each once"),
    ] {
        let (code, _, told) = run(folder, args);
        assert!(code == 2 && told.contains(expected), "{told}");
    }
    let (code, _, _) = run(folder, &["compare", "a1", "nowhere"]);
    assert_eq!(code, 1);
}
