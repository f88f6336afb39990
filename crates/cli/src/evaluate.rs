//! `evenkeel eval`.

use std::process::ExitCode;

use evenkeel_lab::average::{AverageOptions, Evaluated, TestViews, average_run};
use evenkeel_lab::data::Source;
use evenkeel_lab::evaluate::Measured;
use evenkeel_lab::fit::recipe_of;
use evenkeel_record::{
    AverageOf, Averaging, Estimate, Quality, Run, RunFolder, Verdict, p_in_words, write_atomic,
};
use serde_json::json;

use crate::args::{Average, EvalArgs};
use crate::device::{device, threads};
use crate::exit::{DONE, Failure};
use crate::say::{say, tell};

pub fn run(args: &EvalArgs) -> Result<ExitCode, Failure> {
    let (device, _) = device(args.machine.device)?;
    threads(&args.machine)?;
    let source = args.data.as_deref().map(str::parse::<Source>).transpose();
    let source = source.map_err(Failure::usage)?;
    let options = AverageOptions {
        views: args.tta.clone(),
        draws: args.mc,
        noise: args.mc_noise,
        average: match args.average {
            Average::Probabilities => AverageOf::Probabilities,
            Average::Logits => AverageOf::Logits,
        },
        seed: args.seed,
    };
    let folder = RunFolder::new(&args.run);
    let workers = args.machine.workers.into();
    let evaluated = average_run(&folder, source.as_ref(), &options, workers, &device)?;
    let run = folder.read_run()?;
    if args.tta == TestViews::Flip && !recipe_of(&run, &folder)?.augment.flips() {
        tell("note: this net was not trained with flips");
    }
    if args.data.is_none() {
        for unreadable in &run.data.unreadable {
            tell(&format!("note: unreadable: {unreadable}"));
        }
    }
    let Evaluated {
        measured,
        averaging,
        ..
    } = &evaluated;
    if let Some(path) = &args.predictions {
        write_atomic(path, predictions(measured, &run.data.classes).as_bytes())?;
    }
    if let Some(averaging) = averaging
        && averaging.verdict() == Verdict::Worse
    {
        tell(&format!("note: {}", averaging.told()));
    }
    if args.json {
        say(&json(&folder, &options, &evaluated).to_string())?;
    } else {
        print(&run, &evaluated)?;
    }
    // What was measured on other data is not of this run.
    if let (Some(averaging), None) = (averaging, &args.data) {
        record(&folder, averaging);
    }
    Ok(DONE)
}

/// Adds an average to the run's report. The run may be somebody else's, or on a disk that cannot be written to:
/// the measurement stands without.
fn record(folder: &RunFolder, averaging: &Averaging) {
    let written = folder
        .write_averaging(averaging)
        .and_then(|()| evenkeel_report::write(folder));
    match written {
        Ok(path) => tell(&format!("added to {}", path.display())),
        Err(error) => tell(&format!("note: not added to the run's report: {error}")),
    }
}

fn json(folder: &RunFolder, options: &AverageOptions, evaluated: &Evaluated) -> serde_json::Value {
    let Evaluated {
        measured,
        quality,
        averaging,
    } = evaluated;
    json!({
        "run": folder.path().display().to_string(),
        "accuracy": measured.accuracy,
        "loss": measured.loss,
        "examples": quality.examples,
        "tta": options.views.to_string(),
        "mc": options.draws,
        "mc_noise": options.noise.to_string(),
        "average": options.average,
        "quality": quality,
        "averaging": averaging,
        "confusion": measured.confusion,
    })
}

fn print(run: &Run, evaluated: &Evaluated) -> Result<(), Failure> {
    let Evaluated {
        measured,
        quality,
        averaging,
    } = evaluated;
    say(&format!(
        "accuracy {:.2} %{}, loss {:.4} on {} examples",
        100.0 * quality.accuracy.value,
        range(quality.accuracy, 100.0, 2),
        measured.loss,
        quality.examples
    ))?;
    say(&calibration(quality))?;
    if let Some(averaging) = averaging {
        print_averaging(averaging)?;
    }
    let classes = &run.data.classes;
    let width = classes.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0);
    for (class, (name, row)) in classes.iter().zip(&measured.confusion).enumerate() {
        let total: u64 = row.iter().sum();
        if total > 0 {
            let recall = 100.0 * row[class] as f64 / total as f64;
            say(&format!("  {name:width$}  {recall:5.1} % of {total}"))?;
        }
    }
    Ok(())
}

fn print_averaging(averaging: &Averaging) -> Result<(), Failure> {
    let Averaging {
        name,
        views,
        forwards,
        single,
        changes,
        p_value,
        single_ms,
        averaged_ms,
        disagreement,
        ..
    } = averaging;
    let views = match views.is_empty() {
        true => String::new(),
        false => format!(" ({})", views.join(", ")),
    };
    say(&format!(
        "average over {name}{views}: {forwards} forwards an example"
    ))?;
    say(&format!(
        "  one view: accuracy {:.2} %{}, loss {:.4}",
        100.0 * single.accuracy.value,
        range(single.accuracy, 100.0, 2),
        single.loss.value
    ))?;
    say(&format!("  {}", averaging.told()))?;
    say(&format!(
        "  fixed {}, broke {} of {} examples (McNemar's exact test: p = {})",
        changes.fixed,
        changes.broken,
        changes.examples,
        p_in_words(*p_value)
    ))?;
    say(&format!(
        "  {averaged_ms:.3} ms an example, {single_ms:.3} ms for one view"
    ))?;
    if let Some(disagreement) = disagreement {
        say(&format!(
            "  forwards disagree by {:.4} nats where the average is right, {:.4} where it is wrong",
            disagreement.right.value, disagreement.wrong.value
        ))?;
    }
    Ok(())
}

fn calibration(quality: &Quality) -> String {
    format!(
        "calibration error {:.2} %{} in {} bins of equal width, Brier score {:.4}{}",
        100.0 * quality.calibration_error.value,
        range(quality.calibration_error, 100.0, 2),
        quality.bins.len(),
        quality.brier.value,
        range(quality.brier, 1.0, 4),
    )
}

/// The interval in brackets, if there is one.
fn range(estimate: Estimate, factor: f64, decimals: usize) -> String {
    estimate.interval.map_or_else(String::new, |interval| {
        format!(
            " ({:.decimals$} to {:.decimals$})",
            factor * interval.low,
            factor * interval.high
        )
    })
}

/// The header, then index, label and probabilities of each example.
fn predictions(measured: &Measured, classes: &[String]) -> String {
    let quoted = classes
        .iter()
        .map(|class| format!("\"{}\"", class.replace('"', "\"\"")));
    let mut text = format!("index,label,{}\n", quoted.collect::<Vec<_>>().join(","));
    let rows = measured
        .probabilities
        .chunks_exact(classes.len().max(1))
        .zip(&measured.labels);
    for (index, (row, label)) in rows.enumerate() {
        let numbers: Vec<String> = row.iter().map(f64::to_string).collect();
        text.push_str(&format!("{index},{label},{}\n", numbers.join(",")));
    }
    text
}
