//! What the doctor found, and what instruments measured, as sections of a run's page.

use std::fmt::Write;

use evenkeel_record::{Diagnosis, Finding, Instrument, Probe, Severity};

use crate::chart;
use crate::html::escape;
use crate::number::number;

/// Findings, worst first, or that there are none.
pub fn diagnosis(diagnosis: &Diagnosis) -> String {
    let checked = diagnosis
        .checks
        .iter()
        .filter(|check| check.skipped.is_none())
        .count();
    let mut html = format!(
        "<h2>The doctor</h2><p>{} in {checked} checks of what holds for every sound run.</p>",
        match diagnosis.findings.len() {
            0 => "Nothing was found".to_owned(),
            1 => "One finding".to_owned(),
            many => format!("{many} findings"),
        }
    );
    for finding in &diagnosis.findings {
        html.push_str(&card(finding));
    }
    html.push_str(
        "<div class=\"card\"><details><summary>What was looked at</summary><ul class=\"checks\">",
    );
    for check in &diagnosis.checks {
        let skipped = check.skipped.as_ref().map_or_else(String::new, |why| {
            format!(
                " <span class=\"quiet\">Not checked: {}.</span>",
                escape(why)
            )
        });
        let _ = write!(
            html,
            "<li><b>{}</b>: {}.{skipped}</li>",
            escape(&check.name),
            escape(&check.holds)
        );
    }
    html.push_str("</ul></details></div>");
    html
}

fn card(finding: &Finding) -> String {
    let (class, severity) = match finding.severity {
        Severity::Error => ("error", "Error"),
        Severity::Warning => ("warning", "Warning"),
        Severity::Note => ("remark", "Note"),
    };
    format!(
        "<article class=\"card finding {class}\"><h3><span>{severity}</span> {}</h3><dl><dt>Evidence</dt><dd>{}</dd>\
         <dt>Likely cause</dt><dd>{}</dd><dt>Remedy</dt><dd>{}</dd></dl></article>",
        escape(&finding.title),
        escape(&finding.evidence),
        escape(&finding.cause),
        escape(&finding.remedy)
    )
}

/// Each instrument: what it means, its plots, and all of its numbers.
pub fn probe(probe: &Probe) -> String {
    if probe.instruments.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<h2>Instruments</h2><p>Each number with its 95\u{a0}% interval; what was measured, and over what the interval \
         is, stands below each.</p>",
    );
    for instrument in &probe.instruments {
        html.push_str(&section(instrument));
    }
    html
}

fn section(instrument: &Instrument) -> String {
    let mut html = format!(
        "<section class=\"instrument\"><h3>{}</h3><p>{}</p>",
        escape(&instrument.title),
        escape(&instrument.meaning)
    );
    if !instrument.figures.is_empty() {
        let figures: String = instrument.figures.iter().map(chart::render).collect();
        let _ = write!(html, "<div class=\"plots\">{figures}</div>");
    }
    let _ = write!(
        html,
        "<details><summary>How it is measured, and {} numbers</summary><p class=\"quiet\">{}</p>",
        instrument.readings.len(),
        escape(&instrument.measure)
    );
    if !instrument.readings.is_empty() {
        html.push_str(
            "<div class=\"scroll\"><table class=\"figures\"><thead><tr><th>of</th><th>value</th><th>95\u{a0}% interval</th>\
             </tr></thead><tbody>",
        );
        for reading in &instrument.readings {
            let [low, high] = reading.interval;
            let interval = if low == high {
                "counted".to_owned()
            } else {
                format!("{} to {}", number(low), number(high))
            };
            let _ = write!(
                html,
                "<tr><th>{}</th><td>{} {}</td><td>{interval}</td></tr>",
                escape(&reading.of),
                number(reading.value),
                escape(&reading.unit)
            );
        }
        html.push_str("</tbody></table></div>");
    }
    html.push_str("</details></section>");
    html
}
