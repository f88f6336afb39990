//! A comparison as a page: the table, the forest plot, the learning curves.

use std::fmt::Write;

use evenkeel_record::{Arm, Comparison, EpochMean, Estimate, Pairs, p_in_words};

use crate::canvas::Role;
use crate::forest;
use crate::html::{document, escape, percent};
use crate::plot::{Plot, Series};

/// The whole file.
pub fn render(comparison: &Comparison) -> String {
    let mut body = String::new();
    let runs: usize = comparison.arms.iter().map(|arm| arm.seeds.len()).sum();
    let _ = write!(
        body,
        "<header><h1>{}</h1><p>{} arms, {runs} runs · {}</p></header>",
        escape(&comparison.title),
        comparison.arms.len(),
        escape(&comparison.source),
    );
    sections(&mut body, comparison);
    document(&format!("Evenkeel: {}", comparison.title), &body)
}

/// All but the page's head.
pub fn sections(body: &mut String, comparison: &Comparison) {
    failures(body, comparison);
    table(body, comparison);
    body.push_str(&forest::render(comparison));
    curves(body, comparison);
    settings(body, comparison);
}

fn on(comparison: &Comparison) -> &'static str {
    if comparison.held_out {
        "held-out"
    } else {
        "test"
    }
}

fn failures(body: &mut String, comparison: &Comparison) {
    for arm in comparison
        .arms
        .iter()
        .filter(|arm| !arm.failures.is_empty())
    {
        let _ = write!(
            body,
            "<p class=\"note\" role=\"status\"><b>{}</b>: {} of {} runs failed. {}</p>",
            escape(&arm.name),
            arm.failures.len(),
            arm.failures.len() + arm.seeds.len(),
            escape(&arm.failures.join(" "))
        );
    }
}

fn table(body: &mut String, comparison: &Comparison) {
    let how = match comparison.pairs {
        Pairs::Seeds => {
            "Means over the runs of an arm, with Student's 95\u{a0}% intervals. Differences are to the first arm, over \
             pairs of runs of one seed; p is of the paired t test, corrected for the number of arms by Holm."
        }
        Pairs::Examples => {
            "One run of each arm. Differences are between predictions for one example, p is of McNemar's exact test, \
             corrected by Holm. They tell of these models, not of what other seeds would give."
        }
    };
    let _ = write!(
        body,
        "<h2>Results</h2><p>{how}</p><div class=\"card scroll\"><table class=\"figures\"><thead><tr><th \
         scope=\"col\">arm</th><th scope=\"col\">runs</th><th scope=\"col\">{} accuracy</th><th scope=\"col\">95\u{a0}% \
         interval</th><th scope=\"col\">difference, points</th><th scope=\"col\">95\u{a0}% interval</th><th \
         scope=\"col\">p, corrected</th><th scope=\"col\">train accuracy</th><th scope=\"col\">gap, points</th><th \
         scope=\"col\">seconds</th></tr></thead><tbody>",
        on(comparison)
    );
    for arm in &comparison.arms {
        let difference = arm.difference.as_ref();
        let accuracy = difference.map(|difference| difference.accuracy);
        let corrected = difference.map(|difference| difference.corrected);
        let _ = write!(
            body,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&arm.name),
            arm.seeds.len(),
            percent(arm.test_accuracy.value),
            range(Some(arm.test_accuracy), false),
            accuracy.map_or_else(
                || "baseline".into(),
                |accuracy| signed(100.0 * accuracy.value)
            ),
            range(accuracy, true),
            corrected.map_or_else(String::new, |p| p.map_or_else(|| "–".into(), p_in_words)),
            percent(arm.train_accuracy.value),
            two(100.0 * arm.gap.value),
            two(arm.seconds.value),
        );
    }
    body.push_str("</tbody></table></div>");
}

fn two(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.2}")
    } else {
        "–".into()
    }
}

/// With a sign that is as wide as a digit.
pub fn signed(value: f64) -> String {
    if value.is_finite() {
        format!("{value:+.2}").replace('-', "−")
    } else {
        "–".into()
    }
}

fn range(estimate: Option<Estimate>, with_sign: bool) -> String {
    let Some(interval) = estimate.and_then(|estimate| estimate.interval) else {
        return String::new();
    };
    let (low, high) = (100.0 * interval.low, 100.0 * interval.high);
    match with_sign {
        true => format!("{} to {}", signed(low), signed(high)),
        false => format!("{low:.2} to {high:.2}"),
    }
}

fn curves(body: &mut String, comparison: &Comparison) {
    let on = on(comparison);
    let curve = |value: fn(&EpochMean) -> f64| {
        let series = comparison
            .arms
            .iter()
            .enumerate()
            .map(|(index, arm): (usize, &Arm)| {
                let points = arm
                    .curve
                    .iter()
                    .map(|epoch| (epoch.epoch as f64, value(epoch)));
                (index, &arm.name, points.collect::<Vec<_>>())
            });
        series
            .filter(|(.., points)| !points.is_empty())
            .collect::<Vec<_>>()
    };
    let _ = write!(
        body,
        "<h2>Learning curves</h2><p>The mean over the runs of an arm at the end of each epoch. Train is measured while \
         training, on augmented examples and under noise.</p><div class=\"plots\">"
    );
    for (title, value) in [
        (
            format!("Accuracy on {on} data"),
            (|epoch: &EpochMean| epoch.test_accuracy) as fn(&_) -> f64,
        ),
        ("Accuracy in training".to_owned(), |epoch| {
            epoch.train_accuracy
        }),
    ] {
        let series = curve(value)
            .into_iter()
            .map(|(index, name, points)| Series {
                name,
                role: Role::arm(index),
                points,
            });
        let plot = Plot {
            title: &title,
            x: "epoch",
            unit: (100.0, " %"),
            series: series.collect(),
            gap: false,
        };
        body.push_str(&plot.render());
    }
    body.push_str("</div>");
}

fn settings(body: &mut String, comparison: &Comparison) {
    body.push_str(
        "<h2>What each arm changes</h2><p>In the recipe of the first arm.</p><div class=\"card scroll\"><table \
         class=\"figures\"><thead><tr><th scope=\"col\">arm</th><th scope=\"col\" class=\"words\">settings</th><th \
         scope=\"col\">seeds</th></tr></thead><tbody>",
    );
    for arm in &comparison.arms {
        let settings = match arm.settings.is_empty() {
            true => "nothing".to_owned(),
            false => {
                let codes = arm
                    .settings
                    .iter()
                    .map(|setting| format!("<code>{}</code>", escape(setting)));
                codes.collect::<Vec<_>>().join("<br>")
            }
        };
        let seeds: Vec<String> = arm.seeds.iter().map(u64::to_string).collect();
        let _ = write!(
            body,
            "<tr><th scope=\"row\">{}</th><td class=\"words\">{settings}</td><td>{}</td></tr>",
            escape(&arm.name),
            seeds.join(", ")
        );
    }
    body.push_str("</tbody></table></div>");
    if let Some(machine) = &comparison.machine {
        let _ = write!(
            body,
            "<p class=\"quiet\">Times by the clock of runs with {} threads each, on {} ({} {}, {} cores), device \
             {}.</p>",
            machine.threads,
            escape(&machine.cpu),
            escape(&machine.os),
            escape(&machine.arch),
            machine.cores,
            escape(&machine.device)
        );
    }
    body.push_str("<footer>Made by Evenkeel. Train with noise; test with its average.</footer>");
}
