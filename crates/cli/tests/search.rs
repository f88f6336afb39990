//! Searches as users meet them: killed at any moment they go on to the same policy, and never look at test data.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{evenkeel, run, write_images};
use evenkeel_random::Key;

const RECIPE: &str = r#"
[data]
source = "idx:images"

[model]
kind = "convnet"
widths = [6]
pool_after = [0]
norm = "batch"

[augment]
operations = [{ op = "cutout", size = 2, probability = 0.5 }]

[train]
epochs = 4
batch_size = 32

[optimizer]
kind = "sgd"
learning_rate = 0.1

[schedule]
kind = "constant"
"#;

const SPACE: &str = r#"
transforms = ["translate_x", "brightness", "horizontal_flip"]
sub_policies = 2
"#;

fn prepare() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_images(&folder.path().join("images"), 320, 64);
    fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    fs::write(folder.path().join("space.toml"), SPACE).unwrap();
    folder
}

fn args<'a>(method: &'a str, candidates: &'a str, out: &'a str) -> Vec<&'a str> {
    vec![
        "search",
        "--recipe",
        "recipe.toml",
        "--space",
        "space.toml",
        "--method",
        method,
        "--candidates",
        candidates,
        "--folds",
        "2",
        "--images",
        "40",
        "--draws",
        "2",
        "--out",
        out,
        "--json",
    ]
}

/// What must not depend on kills, processes or test data: the policy without its comments, and every candidate.
fn found(out: &Path) -> (String, String) {
    let policy = fs::read_to_string(out.join("policy.toml")).unwrap_or_default();
    let lines = policy.lines().filter(|line| !line.starts_with('#'));
    let record = fs::read_to_string(out.join("search.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let scored = format!("{}{}", record["candidates"], record["harms"]);
    (lines.collect::<Vec<_>>().join("\n"), scored)
}

fn lines(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| {
        bytes.iter().filter(|byte| **byte == b'\n').count()
    })
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_policy() {
    let folder = prepare();
    let folder = folder.path();
    let (code, json, told) = run(folder, &args("density", "120", "whole"));
    assert_eq!(code, 0, "{told}");
    let expected = found(&folder.join("whole"));
    let json: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(json["candidates"], 120);
    assert_eq!(json["arms"].as_array().unwrap().len(), 7, "{json}");
    for file in [
        "report.html",
        "journal.jsonl",
        "search.json",
        "comparison/runs",
    ] {
        assert!(folder.join("whole").join(file).exists(), "{file}");
    }
    // It is usable at once.
    for command in [
        &[
            "train",
            "recipe.toml",
            "--pipeline",
            "whole/policy.toml",
            "--epochs",
            "1",
        ][..],
        &[
            "preview",
            "idx:images",
            "--pipeline",
            "whole/policy.toml",
            "--out",
            "sheet.png",
        ],
    ] {
        let (code, _, told) = run(folder, command);
        assert_eq!(code, 0, "{command:?}: {told}");
    }

    let out = folder.join("killed");
    let journal = out.join("journal.jsonl");
    let mut draws = Key::from_seed(7).draws();
    let whole = lines(&folder.join("whole/journal.jsonl"));
    let mut kills = 0;
    while lines(&journal) < whole {
        let mut command = evenkeel(folder);
        match journal.exists() {
            // With another number of processes each time.
            true => command.args(["search", "--resume", "killed", "--jobs"]),
            false => command.args(args("density", "120", "killed")).arg("--jobs"),
        };
        let jobs = (1 + draws.below(3)).to_string();
        let mut child = command
            .arg(jobs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let goal = (lines(&journal) + 1 + draws.below(2) as usize).min(whole);
        let begun = Instant::now();
        while lines(&journal) < goal {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "nothing happens"
            );
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            sleep(Duration::from_millis(2));
        }
        sleep(Duration::from_millis(draws.below(40).into()));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 0);
    // What a kill can leave of a line.
    let mut bytes = fs::read(&journal).unwrap();
    bytes.extend(b"{\"trial\":{\"recipe\":");
    fs::write(&journal, bytes).unwrap();
    let (code, _, told) = run(folder, &["search", "--resume", "killed", "--json"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(found(&out), expected);
    assert_eq!(lines(&journal), whole, "a trial was done twice");
}

#[test]
fn test_data_change_nothing() {
    let folder = prepare();
    let folder = folder.path();
    assert_eq!(run(folder, &args("density", "20", "before")).0, 0);
    let labels = folder.join("images/t10k-labels-idx1-ubyte");
    let mut bytes = fs::read(&labels).unwrap();
    for label in &mut bytes[8..] {
        *label = (*label + 1) % 3;
    }
    fs::write(&labels, bytes).unwrap();
    let (code, _, told) = run(folder, &args("density", "20", "after"));
    assert_eq!(code, 0, "{told}");
    assert_eq!(found(&folder.join("before")), found(&folder.join("after")));
}

#[test]
fn every_method_finds_something_to_compare() {
    let folder = prepare();
    let folder = folder.path();
    for (method, candidates, expected) in [
        ("controller", "10", 10),
        ("grid", "100", 12),
        ("halving", "9", 9 + 3 + 1),
        ("random", "3", 3),
    ] {
        let (code, json, told) = run(folder, &args(method, candidates, method));
        assert_eq!(code, 0, "{method}: {told}");
        let json: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
        assert_eq!(json["candidates"], expected, "{method}");
        assert!(!json["verdict"].as_str().unwrap().is_empty());
        let page = fs::read_to_string(folder.join(method).join("report.html")).unwrap();
        assert!(page.contains("Class safety"), "{method}");
    }
}

/// Bars on the left, bars on the right, and rows: a flip makes one of the first two the other.
fn write_sides(folder: &Path, train: u32, test: u32) {
    write_images(folder, train, test);
    for part in ["train", "t10k"] {
        let path = folder.join(format!("{part}-images-idx3-ubyte"));
        let labels = fs::read(folder.join(format!("{part}-labels-idx1-ubyte"))).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let mut draws = Key::from_seed(3).draws();
        for (image, label) in bytes[16..].chunks_mut(72).zip(&labels[8..]) {
            let at = draws.below(3) as usize;
            image
                .iter_mut()
                .for_each(|level| *level = draws.below(120) as u8);
            for i in 0..8 {
                match label {
                    0 => image[i * 8 + at] = 200,
                    1 => image[i * 8 + 7 - at] = 200,
                    _ => image[at * 8 + i] = 200,
                }
            }
        }
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_flip_that_swaps_classes_is_not_done_to_them() {
    let folder = prepare();
    let folder = folder.path();
    write_sides(&folder.join("images"), 640, 64);
    let mut args = args("density", "40", "sides");
    // A net that averages over places could not tell sides apart.
    args.extend([
        "--set",
        "model={ kind = \"mlp\", hidden = [32], norm = \"batch\" }",
    ]);
    args.extend(["--set", "train.epochs=24"]);
    let (code, json, told) = run(folder, &args);
    assert_eq!(code, 0, "{told}");
    let json: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    let mut harmed: Vec<&str> = json["harms"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|harm| harm["operation"] == "horizontal_flip")
        .map(|harm| harm["class"].as_str().unwrap())
        .collect();
    harmed.sort_unstable();
    assert_eq!(harmed, ["0", "1"], "{}", json["harms"]);
    // Two of three classes: it is left out altogether.
    let policy = fs::read_to_string(folder.join("sides/policy.toml")).unwrap_or_default();
    assert!(!policy.contains("horizontal_flip"), "{policy}");
}

#[test]
fn what_is_no_search_is_told() {
    let folder = prepare();
    let folder = folder.path();
    // A validation source of the test images under another name.
    write_images(&folder.join("other"), 320, 64);
    for (from, to) in [("t10k", "train"), ("train", "t10k")] {
        for what in ["images-idx3-ubyte", "labels-idx1-ubyte"] {
            fs::copy(
                folder.join(format!("images/{from}-{what}")),
                folder.join(format!("other/{to}-{what}")),
            )
            .unwrap();
        }
    }
    let base = args("density", "20", "none");
    for (more, problem) in [
        (
            &["--validation", "idx:other"][..],
            "is one of the test images of idx:",
        ),
        (
            &["--set", "data.validation=0.1"],
            "expected 0 in its recipe",
        ),
        (
            &["--set", "augment.operations=[{ op = \"trivial_augment\" }]"],
            "has a policy already (trivial_augment)",
        ),
        (
            &["--budget", "30"],
            "expected a time such as 90s, 30m or 2h, found 30",
        ),
        (&["--seeds", "2"], "--seeds 2: expected 3 to 1000"),
    ] {
        let (code, _, told) = run(folder, &[&base[..], more].concat());
        assert!(
            code == 2 && told.contains(problem),
            "{more:?}: {code} {told}"
        );
        let _ = fs::remove_dir_all(folder.join("none"));
    }
    let (code, _, told) = run(folder, &["search", "--resume", "nothing"]);
    assert!(
        code == 1 && told.contains("nothing/journal.jsonl"),
        "{told}"
    );
}
