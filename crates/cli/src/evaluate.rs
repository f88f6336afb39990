//! `evenkeel eval`.

use std::process::ExitCode;

use evenkeel_lab::evaluate::{Measured, evaluate_run};
use evenkeel_lab::fit::recipe_of;
use evenkeel_lab::{Views, data::Source};
use evenkeel_record::{RunFolder, write_atomic};
use serde_json::json;

use crate::args::{EvalArgs, Tta};
use crate::device::{device, threads};
use crate::exit::{DONE, Failure};
use crate::say::{say, tell};

pub fn run(args: &EvalArgs) -> Result<ExitCode, Failure> {
    let (device, _) = device(args.machine.device)?;
    threads(&args.machine)?;
    let source = args.data.as_deref().map(str::parse::<Source>).transpose();
    let source = source.map_err(Failure::usage)?;
    let views = match args.tta {
        Tta::None => Views::None,
        Tta::Flip => Views::Flip,
    };
    let folder = RunFolder::new(&args.run);
    let workers = args.machine.workers.into();
    let measured = evaluate_run(&folder, source.as_ref(), views, workers, &device)?;
    let run = folder.read_run()?;
    if views == Views::Flip && !recipe_of(&run, &folder)?.augment.flips() {
        tell(
            "note: this net was not trained with flips; their average can lower its accuracy \
             (compare --tta none)",
        );
    }
    if args.data.is_none() {
        for unreadable in &run.data.unreadable {
            tell(&format!("note: unreadable: {unreadable}"));
        }
    }
    if let Some(path) = &args.predictions {
        write_atomic(path, predictions(&measured, &run.data.classes).as_bytes())?;
    }
    let examples: u64 = measured.confusion.iter().flatten().sum();
    if args.json {
        let json = json!({
            "run": folder.path().display().to_string(),
            "accuracy": measured.accuracy,
            "loss": measured.loss,
            "examples": examples,
            "tta": views,
            "confusion": measured.confusion,
        });
        say(&json.to_string())?;
    } else {
        say(&format!(
            "accuracy {:.2} %, loss {:.4} on {examples} examples",
            100.0 * measured.accuracy,
            measured.loss
        ))?;
        let width = run
            .data
            .classes
            .iter()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0);
        for (class, (name, row)) in run.data.classes.iter().zip(&measured.confusion).enumerate() {
            let total: u64 = row.iter().sum();
            if total > 0 {
                let recall = 100.0 * row[class] as f64 / total as f64;
                say(&format!("  {name:width$}  {recall:5.1} % of {total}"))?;
            }
        }
    }
    Ok(DONE)
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
