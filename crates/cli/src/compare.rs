//! `evenkeel compare`, and the table that `ablate` prints too.

use std::process::ExitCode;

use evenkeel_lab::compare_runs;
use evenkeel_record::{
    Arm, Comparison, Difference, Estimate, Pairs, RunFolder, p_in_words, write_atomic,
};

use crate::args::CompareArgs;
use crate::device::{device, threads};
use crate::exit::{DONE, Failure};
use crate::say::{say, tell};

pub fn run(args: &CompareArgs) -> Result<ExitCode, Failure> {
    let (device, _) = device(args.machine.device)?;
    threads(&args.machine)?;
    let folders: Vec<RunFolder> = args.runs.iter().map(RunFolder::new).collect();
    let comparison = compare_runs(&folders, args.machine.workers.into(), &device)?;
    if let Some(path) = &args.csv {
        write_atomic(path, comparison.to_csv().as_bytes())?;
    }
    if let Some(path) = &args.out {
        evenkeel_report::write_comparison(&comparison, path)?;
        tell(&format!("report: {}", path.display()));
    }
    print(&comparison, args.json)?;
    Ok(DONE)
}

/// As one JSON object, or as a table.
pub fn print(comparison: &Comparison, json: bool) -> Result<(), Failure> {
    if json {
        return say(&serde_json::to_string(comparison).map_err(Failure::run)?);
    }
    let rows: Vec<[String; COLUMNS]> = comparison.arms.iter().map(row).collect();
    let on = if comparison.held_out {
        "held-out"
    } else {
        "test"
    };
    let accuracy = format!("{on} accuracy, %");
    let header = [
        "arm",
        "runs",
        &accuracy,
        "95 % interval",
        "difference, points",
        "95 % interval",
        "p",
        "corrected",
        "gap, points",
        "seconds",
    ];
    let widths: Vec<usize> = (0..COLUMNS)
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells
                .chain([header[column].chars().count()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |cells: &[&str]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
        padded.collect::<Vec<_>>().join("  ")
    };
    say(&line(&header))?;
    for row in &rows {
        say(&line(&row.each_ref().map(String::as_str)))?;
    }
    say(match comparison.pairs {
        Pairs::Seeds => {
            "differences are to the first arm, over runs of one seed (paired t test); p is corrected \
                         by Holm"
        }
        Pairs::Examples => {
            "one run of each: differences are between predictions for one example (McNemar's exact \
                            test), and tell of these models, not of what other seeds would give"
        }
    })?;
    for (index, arm) in comparison.arms.iter().enumerate() {
        if index > 0 && arm.difference.is_none() && !arm.seeds.is_empty() {
            tell(&format!(
                "note: {} has no seed in common with {}: no difference is told",
                arm.name, comparison.arms[0].name
            ));
        }
        for failure in &arm.failures {
            tell(&format!("note: {} failed: {failure}", arm.name));
        }
    }
    Ok(())
}

const COLUMNS: usize = 10;

fn row(arm: &Arm) -> [String; COLUMNS] {
    let accuracy = arm.difference.map(|difference| difference.accuracy);
    let p = |of: fn(&Difference) -> Option<f64>| match &arm.difference {
        Some(difference) => of(difference).map_or_else(|| "–".into(), p_in_words),
        None => String::new(),
    };
    [
        arm.name.clone(),
        match arm.failures.len() {
            0 => arm.seeds.len().to_string(),
            failed => format!("{} + {failed} failed", arm.seeds.len()),
        },
        number(arm.test_accuracy, 100.0, ""),
        range(Some(arm.test_accuracy), ""),
        accuracy.map_or_else(String::new, |accuracy| number(accuracy, 100.0, "+")),
        range(accuracy, "+"),
        p(|difference| difference.p_value),
        p(|difference| difference.corrected),
        number(arm.gap, 100.0, ""),
        number(arm.seconds, 1.0, ""),
    ]
}

fn number(estimate: Estimate, factor: f64, sign: &str) -> String {
    let value = factor * estimate.value;
    match (estimate.value.is_finite(), sign) {
        (false, _) => "–".into(),
        (_, "+") => format!("{value:+.2}"),
        _ => format!("{value:.2}"),
    }
}

fn range(estimate: Option<Estimate>, sign: &str) -> String {
    let interval = estimate.and_then(|estimate| estimate.interval);
    interval.map_or_else(String::new, |interval| {
        let (low, high) = (100.0 * interval.low, 100.0 * interval.high);
        match sign {
            "+" => format!("{low:+.2} to {high:+.2}"),
            _ => format!("{low:.2} to {high:.2}"),
        }
    })
}
