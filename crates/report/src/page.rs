//! The page: what was reached, how training went, what the net saw, where it errs, how to repeat it.

use std::fmt::Write;
use std::path::Path;

use evenkeel_record::{
    Averaging, Diagnosis, Evaluation, Line, Mistake, Probe, Quality, Run, SheetRow, Status,
};

use crate::canvas::Role;
use crate::html::{document, duration, escape, grouped, percent};
use crate::picture::image;
use crate::plot::{Plot, Series, smoothed};
use crate::reliability::with_range;
use crate::{averages, confusion, findings, reliability};

/// The whole file of a run that nobody examined.
///
/// `folder` is the run's, for the command that goes on with it.
pub fn render(
    folder: &Path,
    run: &Run,
    metrics: &[Line],
    evaluation: Option<&Evaluation>,
    averages: &[Averaging],
) -> String {
    render_examined(folder, run, metrics, evaluation, averages, None, None)
}

/// The whole file, with what the doctor found and instruments measured.
pub fn render_examined(
    folder: &Path,
    run: &Run,
    metrics: &[Line],
    evaluation: Option<&Evaluation>,
    averages: &[Averaging],
    diagnosis: Option<&Diagnosis>,
    probe: Option<&Probe>,
) -> String {
    let mut body = String::new();
    header(&mut body, folder, run);
    headline(&mut body, run, metrics);
    body.push_str(&diagnosis.map_or_else(String::new, findings::diagnosis));
    plots(&mut body, run, metrics);
    if let Some(evaluation) = evaluation {
        sheet(&mut body, run, &evaluation.sheet);
        errors(&mut body, run, evaluation);
        if let Some(quality) = &evaluation.quality {
            calibration(&mut body, quality);
        }
    }
    body.push_str(&averages::render(averages));
    body.push_str(&probe.map_or_else(String::new, findings::probe));
    repeat(&mut body, run);
    document(&format!("Evenkeel: {}", run.data.source), &body)
}

fn class(run: &Run, index: usize) -> String {
    run.data
        .classes
        .get(index)
        .map_or_else(|| format!("class {index}"), |name| escape(name))
}

fn header(body: &mut String, folder: &Path, run: &Run) {
    let held = if run.data.held_out {
        "held-out"
    } else {
        "test"
    };
    let _ = write!(
        body,
        "<header><h1>{}</h1><p>{} training and {} {held} examples in {} classes · seed {} · started {}</p></header>",
        escape(&run.data.source),
        grouped(run.data.train_examples as u64),
        grouped(run.data.test_examples as u64),
        run.data.classes.len(),
        run.seed,
        escape(&run.started.replace('T', " ").replace('Z', " UTC")),
    );
    let command = format!(
        "<code>evenkeel train --resume {}</code>",
        escape(&folder.display().to_string())
    );
    let note = match run.status {
        Status::Finished => return,
        Status::Running => format!(
            "This run is not finished: it is training, or was killed. {command} goes on with it."
        ),
        Status::Interrupted => {
            format!("This run was interrupted. {command} goes on with it to the same weights.")
        }
        Status::Failed => format!(
            "This run failed: {}",
            escape(run.failure.as_deref().unwrap_or("no reason recorded"))
        ),
    };
    let _ = write!(body, "<p class=\"note\" role=\"status\">{note}</p>");
}

fn headline(body: &mut String, run: &Run, metrics: &[Line]) {
    let on = if run.data.held_out {
        "held-out"
    } else {
        "test"
    };
    let last = metrics.iter().rev().find_map(|line| match line {
        Line::Epoch { test_accuracy, .. } => Some(*test_accuracy),
        Line::Step { .. } => None,
    });
    let accuracy = run
        .results
        .as_ref()
        .map(|results| results.test_accuracy)
        .or(last);
    let _ = write!(
        body,
        "<section class=\"headline\"><div class=\"card hero\"><b>{}</b><span>{on} accuracy</span></div><dl class=\"card facts\">",
        accuracy.map_or_else(|| "–".into(), percent)
    );
    let mut fact = |name: &str, value: String| {
        let _ = write!(body, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    };
    if let Some(results) = &run.results {
        let gap = 100.0 * (results.train_accuracy - results.test_accuracy);
        fact("train accuracy", percent(results.train_accuracy));
        fact("generalization gap", format!("{gap:.2} points"));
        fact(&format!("{on} loss"), format!("{:.4}", results.test_loss));
        fact("train loss", format!("{:.4}", results.train_loss));
        fact("trained for", duration(results.seconds));
        fact(
            "throughput",
            format!("{} images/s", grouped(results.images_per_s.max(0.0) as u64)),
        );
        fact(
            "epochs",
            format!("{} ({} steps)", results.epochs, grouped(results.steps)),
        );
        if let Some(bytes) = results.peak_memory_bytes {
            fact("peak memory", format!("{} MB", grouped(bytes / 1_000_000)));
        }
    }
    fact("parameters", grouped(run.parameters));
    body.push_str("</dl></section>");
}

fn plots(body: &mut String, run: &Run, metrics: &[Line]) {
    let on = if run.data.held_out {
        "held-out"
    } else {
        "test"
    };
    let (mut train_loss, mut test_loss, mut train_accuracy, mut test_accuracy) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut throughput, mut steps, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for line in metrics {
        match *line {
            Line::Step {
                step,
                loss,
                learning_rate,
                ..
            } => {
                steps.push((step as f64, loss));
                rates.push((step as f64, learning_rate));
            }
            Line::Epoch {
                epoch,
                train_loss: on_train,
                train_accuracy: right_on_train,
                test_loss: on_test,
                test_accuracy: right_on_test,
                images_per_s,
                ..
            } => {
                let epoch = epoch as f64;
                train_loss.push((epoch, on_train));
                test_loss.push((epoch, on_test));
                train_accuracy.push((epoch, right_on_train));
                test_accuracy.push((epoch, right_on_test));
                throughput.push((epoch, images_per_s));
            }
        }
    }
    body.push_str(
        "<h2>How training went</h2><p>Train is measured while training, on augmented examples and \
         under noise; so it can be worse than the other, which is measured in test mode. Both losses \
         are plain cross-entropies, whatever label smoothing the net is trained with. Between them \
         lies the gap that regularization is to close.</p><div class=\"plots\">",
    );
    let gap = train_accuracy
        .iter()
        .zip(&test_accuracy)
        .map(|((epoch, train), (_, test)): (&(f64, f64), &(f64, f64))| (*epoch, train - test))
        .collect();
    let smooth = smoothed(&steps, 25);
    let pair = |train, test| {
        vec![
            Series {
                name: "train",
                role: Role::Train,
                points: train,
            },
            Series {
                name: on,
                role: Role::Test,
                points: test,
            },
        ]
    };
    let plain = |name, points| {
        vec![Series {
            name,
            role: Role::Plain,
            points,
        }]
    };
    let figures = [
        Plot {
            title: "Accuracy",
            x: "epoch",
            unit: (100.0, " %"),
            series: pair(train_accuracy, test_accuracy),
            gap: true,
        },
        Plot {
            title: "Loss, in nats",
            x: "epoch",
            unit: (1.0, ""),
            series: pair(train_loss, test_loss),
            gap: true,
        },
        Plot {
            title: "Loss of each step, in nats",
            x: "step",
            unit: (1.0, ""),
            series: vec![
                Series {
                    name: "each",
                    role: Role::Faint,
                    points: steps,
                },
                Series {
                    name: "mean of 25",
                    role: Role::Plain,
                    points: smooth,
                },
            ],
            gap: false,
        },
        Plot {
            title: "Learning rate",
            x: "step",
            unit: (1.0, ""),
            series: plain("learning rate", rates),
            gap: false,
        },
        Plot {
            title: "Generalization gap, in points",
            x: "epoch",
            unit: (100.0, ""),
            series: plain("train minus test accuracy", gap),
            gap: false,
        },
        Plot {
            title: "Training images a second",
            x: "epoch",
            unit: (1.0, ""),
            series: plain("images a second", throughput),
            gap: false,
        },
    ];
    for figure in &figures {
        body.push_str(&figure.render());
    }
    body.push_str("</div>");
}

fn sheet(body: &mut String, run: &Run, rows: &[SheetRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str("<h2>What the net was shown</h2><p>Training images (outlined) and the views of them in the first epochs.</p><div class=\"card sheet\">");
    for SheetRow {
        label,
        original,
        views,
    } in rows
    {
        let name = class(run, *label);
        let _ = write!(
            body,
            "<div class=\"row\"><span>{name}</span>{}",
            image(original, "original")
        );
        for (epoch, view) in views.iter().enumerate() {
            body.push_str(&image(view, &format!("view in epoch {}", epoch + 1)));
        }
        body.push_str("</div>");
    }
    body.push_str("</div>");
}

fn errors(body: &mut String, run: &Run, evaluation: &Evaluation) {
    let _ = write!(
        body,
        "<h2>Where it errs</h2><p>Counts of each true class by the class predicted. Blue is right, red is wrong.</p><div class=\"card\">{}</div>",
        confusion::render(&run.data.classes, &evaluation.confusion)
    );
    if evaluation.mistakes.is_empty() {
        return;
    }
    body.push_str("<h2>Most confident mistakes</h2><p>Some of them are the net's, some may be the label's.</p><div class=\"mistakes\">");
    for Mistake {
        picture,
        index,
        truth,
        predicted,
        confidence,
    } in &evaluation.mistakes
    {
        let (truth, predicted) = (class(run, *truth), class(run, *predicted));
        let shown = picture
            .as_ref()
            .map(|picture| image(picture, &format!("example {index}")));
        let _ = write!(
            body,
            "<div class=\"card mistake\">{}<b>{predicted}</b> at\u{a0}{}<br>labelled {truth} <span class=\"quiet\">#{index}</span></div>",
            shown.unwrap_or_default(),
            percent(*confidence),
        );
    }
    body.push_str("</div>");
}

fn calibration(body: &mut String, quality: &Quality) {
    let brier = quality.brier.interval.map_or_else(String::new, |interval| {
        format!(" ({:.4} to {:.4})", interval.low, interval.high)
    });
    let _ = write!(
        body,
        "<h2>Calibration</h2><p>Whether the net is right as often as it says: accuracy {}, expected calibration error \
         {} in {} bins of equal width, Brier score {:.4}{brier}, from 0 (perfect) to 2; 95\u{a0}% intervals. Above the \
         line the net is less sure than it could be, below it too sure.</p><div class=\"plots\">{}</div>",
        with_range(quality.accuracy),
        with_range(quality.calibration_error),
        quality.bins.len(),
        quality.brier.value,
        reliability::render(quality)
    );
}

fn repeat(body: &mut String, run: &Run) {
    let machine = &run.machine;
    let memory = machine.memory_bytes.map_or_else(String::new, |bytes| {
        format!(", {:.0} GB", bytes as f64 / 1e9)
    });
    let _ = write!(
        body,
        "<h2>How to repeat it</h2><div class=\"card\"><p style=\"margin:0\">Evenkeel {} on Burn {}, seed {}, {} threads of {} ({} {}, {} cores{memory}), device {}.</p>\
         <details open><summary>Recipe</summary><pre>{}</pre></details>\
         <details><summary>Weight decay, parameter by parameter</summary><pre>{}</pre></details></div>\
         <footer>Made by Evenkeel. Train with noise; test with its average.</footer>",
        escape(&run.versions.evenkeel),
        escape(&run.versions.burn),
        run.seed,
        machine.threads,
        escape(&machine.cpu),
        escape(&machine.os),
        escape(&machine.arch),
        machine.cores,
        escape(&machine.device),
        escape(&run.recipe),
        escape(&run.decay.join("\n")),
    );
}
