//! The whole page, for runs of every kind.

use evenkeel_record::{
    DataSummary, Evaluation, Line, Machine, Mistake, Picture, Preparation, Results, Run, RunFolder,
    SheetRow, Status, Versions,
};
use evenkeel_report::{render, write};
use std::path::Path;

fn run(classes: &[&str], status: Status) -> Run {
    let results = Results {
        train_loss: 0.2,
        train_accuracy: 0.95,
        test_loss: 0.3,
        test_accuracy: 0.9,
        best_epoch: 2,
        best_test_accuracy: 0.91,
        epochs: 3,
        steps: 30,
        seconds: 61.0,
        images_per_s: 1234.0,
        peak_memory_bytes: Some(200_000_000),
    };
    Run {
        format: 1,
        status,
        failure: (status == Status::Failed).then(|| "the loss is NaN <b>".into()),
        versions: Versions {
            evenkeel: "0.1.0".into(),
            burn: "0.22.1".into(),
        },
        recipe: "seed = 0\n[model]\nkind = \"convnet\"\n".into(),
        data: DataSummary {
            source: "idx:/some/<where>".into(),
            classes: classes.iter().map(|name| (*name).into()).collect(),
            train_examples: 1000,
            test_examples: 100,
            held_out: false,
            shape: vec![1, 2, 2],
            columns: vec![],
            train_checksum: None,
            test_checksum: None,
            unreadable: Vec::new(),
        },
        preparation: Preparation {
            mean: vec![0.5],
            deviation: vec![0.5],
        },
        machine: Machine::here(2, "cpu"),
        seed: 0,
        started: "2026-01-01T00:00:00Z".into(),
        parameters: 12_345,
        decay: vec!["L2 0.1: 10 values decayed, 2 not".into()],
        results: (status == Status::Finished).then_some(results),
    }
}

fn here() -> &'static Path {
    Path::new("runs/a & b")
}

fn metrics(epochs: u64) -> Vec<Line> {
    let step = |step| Line::Step {
        epoch: 1 + step / 10,
        step: step + 1,
        loss: 2.0 / (step + 1) as f64,
        learning_rate: 0.1,
        gradient_norm: None,
    };
    let epoch = |epoch: u64| Line::Epoch {
        epoch,
        step: 10 * epoch,
        train_loss: 1.0 / epoch as f64,
        train_accuracy: 1.0 - 0.3 / epoch as f64,
        test_loss: 1.1 / epoch as f64,
        test_accuracy: 1.0 - 0.4 / epoch as f64,
        learning_rate: 0.1,
        seconds: 1.0,
        images_per_s: 1000.0,
    };
    (0..10 * epochs)
        .map(step)
        .chain((1..=epochs).map(epoch))
        .collect()
}

fn evaluation(classes: usize) -> Evaluation {
    let picture = Picture::new(2, 2, 1, vec![0, 80, 160, 255]).unwrap();
    let row = |truth: usize| {
        (0..classes)
            .map(|p| if p == truth { 9 } else { 1 })
            .collect()
    };
    Evaluation {
        confusion: (0..classes).map(row).collect(),
        quality: None,
        mistakes: vec![Mistake {
            picture: Some(picture.clone()),
            index: 7,
            truth: 0,
            predicted: 1,
            confidence: 0.99,
        }],
        sheet: vec![SheetRow {
            label: 0,
            original: picture.clone(),
            views: vec![picture; 3],
        }],
    }
}

/// Every element is closed, in order.
fn assert_balanced(page: &str) {
    const VOID: [&str; 3] = ["meta", "img", "br"];
    let mut open = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/', '\n'])
            .next()
            .unwrap();
        if tag.starts_with('!') || tag.ends_with('/') || VOID.contains(&name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closing {name}");
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} left open");
}

/// The margin left of a plot holds this many characters of a tick's label.
const LABEL: usize = 8;

fn assert_labels_fit(page: &str) {
    let ticks = page.split("text-anchor=\"end\">").skip(1);
    for tick in ticks {
        let label = tick.split('<').next().unwrap();
        assert!(label.chars().count() <= LABEL, "{label}");
    }
}

#[test]
fn runs_of_every_kind_have_a_page() {
    let many: Vec<String> = (0..100).map(|i| format!("class {i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for classes in [&["a", "b"][..], &many] {
        for status in [
            Status::Finished,
            Status::Running,
            Status::Interrupted,
            Status::Failed,
        ] {
            for epochs in [0, 1, 12] {
                let finished = status == Status::Finished;
                let shown = finished.then(|| evaluation(classes.len()));
                let page = render(
                    here(),
                    &run(classes, status),
                    &metrics(epochs),
                    shown.as_ref(),
                );
                assert_balanced(&page);
                assert_labels_fit(&page);
                assert_eq!(page.contains("role=\"status\""), !finished);
                assert_eq!(page.contains("90.00\u{a0}%"), finished);
                let resumable = matches!(status, Status::Running | Status::Interrupted);
                let command = "evenkeel train --resume runs/a &amp; b</code>";
                assert_eq!(page.contains(command), resumable);
            }
        }
    }
}

#[test]
fn names_from_strangers_are_text() {
    let hostile = "<script>alert(1)</script>";
    let page = render(
        here(),
        &run(&[hostile, "\"><img src=x>"], Status::Failed),
        &metrics(2),
        Some(&evaluation(2)),
    );
    assert!(!page.contains("<script") && !page.contains("<img src=x") && !page.contains("NaN <b>"));
    assert!(page.contains("&lt;script&gt;"));
    assert_balanced(&page);
}

#[test]
fn nothing_is_fetched() {
    let page = render(
        here(),
        &run(&["a", "b"], Status::Finished),
        &metrics(3),
        Some(&evaluation(2)),
    );
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("url("));
    assert!(page.contains("default-src 'none'") && page.contains("data:image/png;base64,"));
}

#[test]
fn a_table_has_mistakes_without_pictures() {
    let mut shown = evaluation(2);
    shown.sheet.clear();
    shown.mistakes[0].picture = None;
    let page = render(
        here(),
        &run(&["a", "b"], Status::Finished),
        &metrics(3),
        Some(&shown),
    );
    assert!(!page.contains("What the net was shown") && page.contains("at\u{a0}99.00\u{a0}%"));
    assert_balanced(&page);
}

#[test]
fn writes_into_the_folder_and_names_what_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let folder = RunFolder::new(place.path());
    let error = write(&folder).unwrap_err().to_string();
    assert!(error.contains("run.json"), "{error}");
    folder
        .write_run(&run(&["a", "b"], Status::Running))
        .unwrap();
    let path = write(&folder).unwrap();
    assert!(
        std::fs::read_to_string(path)
            .unwrap()
            .contains("12\u{202f}345")
    );
}
