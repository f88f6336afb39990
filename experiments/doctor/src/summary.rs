//! Rates and their intervals from the lines of results.

use std::collections::BTreeSet;
use std::fmt::Write;

use evenkeel_statistics::wilson;
use serde_json::Value;

/// The lines of a file of results; none if there is none yet.
pub fn read(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of results"))
        .collect()
}

/// Detection and false alarms, with all checks and with the evidence of the saved files alone.
pub fn table(lines: &[Value]) -> String {
    let mut text = String::from(
        "| runs | raised | of | rate, % | 95 % interval | without replay, % |\n|---|---|---|---|---|---|\n",
    );
    for kind in ["listed fault", "unlisted fault", "sound"] {
        let of_kind: Vec<_> = lines.iter().filter(|line| line["kind"] == kind).collect();
        if !of_kind.is_empty() {
            row(&mut text, kind, &of_kind);
        }
    }
    text.push_str("\n| fault | found by, in the first seed |\n|---|---|\n");
    let names: BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line["name"].as_str())
        .collect();
    for name in names {
        let of_name: Vec<_> = lines.iter().filter(|line| line["name"] == name).collect();
        let raised = of_name.iter().filter(|line| raised(line, false)).count();
        let checks: Vec<_> = of_name
            .iter()
            .find_map(|line| {
                line["alarms"]
                    .as_array()
                    .filter(|alarms| !alarms.is_empty())
            })
            .into_iter()
            .flatten()
            .filter_map(|alarm| alarm["title"].as_str())
            .collect();
        let _ = writeln!(
            text,
            "| {name} ({}; {raised} of {}) | {} |",
            of_name[0]["kind"].as_str().unwrap_or_default(),
            of_name.len(),
            checks.join("; ")
        );
    }
    text
}

fn row(text: &mut String, kind: &str, lines: &[&Value]) {
    let count = |without: bool| lines.iter().filter(|line| raised(line, without)).count() as u64;
    let all = lines.len() as u64;
    let interval = wilson(count(false), all, 0.95);
    let _ = writeln!(
        text,
        "| {kind} | {} | {all} | {:.1} | {:.1} to {:.1} | {:.1} |",
        count(false),
        100.0 * count(false) as f64 / all as f64,
        100.0 * interval.low,
        100.0 * interval.high,
        100.0 * count(true) as f64 / all as f64,
    );
}

fn raised(line: &Value, without_replay: bool) -> bool {
    let alarms = line["alarms"].as_array().map_or(&[][..], Vec::as_slice);
    alarms
        .iter()
        .any(|alarm| !without_replay || alarm["check"] != "replay")
}
