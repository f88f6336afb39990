//! The whole page, for runs of every kind.

use evenkeel_record::{
    Arm, AverageOf, Averaging, Comparison, CurvePoint, DataSummary, Difference, Disagreement,
    EpochMean, Estimate, Evaluation, Line, Machine, Mistake, Pairs, Picture, Preparation, Quality,
    ReliabilityBin, Results, Run, RunFolder, SheetRow, Status, Versions,
};
use evenkeel_report::{render, render_comparison, write};
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
        quality: (classes < 50).then(quality),
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

fn estimate(value: f64, reach: f64) -> Estimate {
    let interval = evenkeel_statistics::Interval {
        low: value - reach,
        high: value + reach,
    };
    Estimate::new(value, Some(interval))
}

fn quality() -> Quality {
    let bin = |index: u64| ReliabilityBin {
        low: index as f64 / 5.0,
        high: (index + 1) as f64 / 5.0,
        examples: 10 * index,
        confidence: (index as f64 + 0.5) / 5.0,
        accuracy: match index {
            0 => Estimate::new(0.0, None),
            _ => estimate(index as f64 / 5.0, 0.05),
        },
    };
    Quality {
        examples: 100,
        accuracy: estimate(0.9, 0.01),
        loss: estimate(0.3, 0.01),
        brier: estimate(0.15, 0.01),
        calibration_error: estimate(0.04, 0.01),
        bins: (0..5).map(bin).collect(),
    }
}

fn averaging(name: &str, fixed: u64, broken: u64) -> Averaging {
    let changes = evenkeel_statistics::Discordant {
        fixed,
        broken,
        examples: 100,
    };
    Averaging {
        name: name.into(),
        average: AverageOf::Probabilities,
        views: vec!["2 views of 28×28".into()],
        seed: None,
        forwards: 2,
        single: quality(),
        averaged: quality(),
        changes,
        difference: Estimate::new(changes.difference(), Some(changes.interval(0.95))),
        p_value: changes.p_value(),
        single_ms: 0.1,
        averaged_ms: 0.2,
        curve: (1..=2)
            .map(|forwards| CurvePoint {
                forwards,
                accuracy: 0.8 + forwards as f64 / 100.0,
            })
            .collect(),
        disagreement: Some(Disagreement {
            right: Estimate::new(0.1, None),
            wrong: Estimate::new(0.3, None),
        }),
    }
}

fn arm(name: &str, difference: Option<Difference>) -> Arm {
    let none = Estimate::new(f64::NAN, None);
    Arm {
        name: name.into(),
        settings: vec!["model.norm=\"<none>\"".into()],
        seeds: vec![0, 1],
        accuracies: vec![0.9, 0.91],
        test_accuracy: estimate(0.905, 0.06),
        train_accuracy: estimate(0.95, 0.01),
        gap: estimate(0.045, 0.01),
        test_loss: none,
        seconds: none,
        difference,
        curve: (1..=3)
            .map(|epoch| EpochMean {
                epoch,
                train_accuracy: 0.5 + epoch as f64 / 10.0,
                test_accuracy: 0.6,
            })
            .collect(),
        failures: Vec::new(),
    }
}

fn comparison(arms: Vec<Arm>) -> Comparison {
    Comparison {
        title: "default: norms".into(),
        source: "fashion-mnist-10k".into(),
        held_out: false,
        pairs: Pairs::Seeds,
        machine: Some(Machine::here(1, "cpu")),
        arms,
    }
}

#[test]
fn comparisons_have_a_table_a_forest_plot_and_curves() {
    let difference = |value: f64, p: Option<f64>| Difference {
        accuracy: estimate(value, 0.004),
        pairs: 2,
        p_value: p,
        corrected: p,
    };
    let hostile = "<script>alert(1)</script>";
    let mut failed = arm(hostile, None);
    failed.failures = vec!["seed 2: <b>diverged".into()];
    let arms = vec![
        arm("recipe", None),
        arm("no norm", Some(difference(-0.0212, Some(1e-5)))),
        arm("layer norm", Some(difference(0.001, None))),
        failed,
    ];
    let page = render_comparison(&comparison(arms.clone()));
    assert_balanced(&page);
    assert!(!page.contains("<script") && !page.contains("<b>diverged"));
    for expected in [
        "−2.12",
        "−2.52 to −1.72",
        "1e-5",
        "recipe",
        "Difference of accuracy: no norm −2.12 (−2.52 to −1.72); layer norm +0.10",
        "Accuracy on test data",
        "1 of 3 runs failed",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    assert_texts_fit(&page);
    // A forest of one row and more, curves with more arms than colours, and nothing at all.
    for count in [1, 2, 12] {
        let arms = (0..count).map(|index| match index {
            0 => arm("recipe", None),
            _ => arm(&format!("arm {index}"), Some(difference(0.0, Some(1.0)))),
        });
        let page = render_comparison(&comparison(arms.collect()));
        assert_balanced(&page);
        assert_eq!(page.contains("class=\"stroke zero\""), count > 1);
    }
    let mut empty = arm("recipe", None);
    empty.curve.clear();
    empty.test_accuracy = Estimate::new(f64::NAN, None);
    let page = render_comparison(&comparison(vec![empty]));
    assert_balanced(&page);
    assert!(page.contains("nothing to draw yet") && !page.contains("NaN"));
}

#[test]
fn averages_have_a_section_and_harm_is_told() {
    let averages = [averaging("flip", 2, 30), averaging("<ten>", 3, 2)];
    let page = render(
        here(),
        &run(&["a", "b"], Status::Finished),
        &metrics(3),
        Some(&evaluation(2)),
        &averages,
    );
    assert_balanced(&page);
    assert_texts_fit(&page);
    assert!(page.contains("Calibration") && page.contains("expected calibration error"));
    assert!(page.contains("<p class=\"note\"><b>flip</b>") && page.contains("lowers the accuracy"));
    assert!(page.contains("<p class=\"quiet\"><b>&lt;ten&gt;</b>"));
    assert!(!page.contains("NaN"));
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

/// No text reaches beyond its picture, at the width that a character has on average.
fn assert_texts_fit(page: &str) {
    const CHARACTER: f64 = 75.0;
    let mut seen = 0;
    for picture in page.split("<svg viewBox=\"0 0 ").skip(1) {
        let width: f64 = picture.split(' ').next().unwrap().parse().unwrap();
        let picture = picture.split("</svg>").next().unwrap();
        for text in picture.split("<text ").skip(1) {
            let (attributes, text) = text.split_once('>').unwrap();
            let attribute = |name: &str| {
                let (_, value) = attributes.split_once(&format!("{name}=\""))?;
                value.split('"').next()
            };
            let text = text.split('<').next().unwrap().trim();
            let aslant = if attribute("transform").is_some() {
                0.848
            } else {
                1.0
            };
            let length = aslant * CHARACTER * text.chars().count() as f64;
            let x: f64 = attribute("x").unwrap().parse().unwrap();
            let left = match attribute("text-anchor").unwrap() {
                "start" => x,
                "middle" => x - length / 2.0,
                _ => x - length,
            };
            assert!(
                left >= 0.0 && left + length <= width,
                "{text}: {left} to {}",
                left + length
            );
            seen += 1;
        }
    }
    assert!(seen > 0 || page.contains("nothing to draw"));
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
                    &[],
                );
                assert_balanced(&page);
                assert_texts_fit(&page);
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
        &[],
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
        &[],
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
        &[],
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
