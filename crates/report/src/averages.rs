//! What averages at test did: a table of them, and accuracy against the number of forwards.

use std::fmt::Write;

use evenkeel_record::{AverageOf, Averaging, Verdict, p_in_words};

use crate::canvas::Role;
use crate::html::{escape, grouped, percent};
use crate::plot::{Plot, Series};

/// The section; nothing where there are no averages.
pub fn render(averages: &[Averaging]) -> String {
    if averages.is_empty() {
        return String::new();
    }
    let mut body = String::from(
        "<h2>Averages at test</h2><p>Predictions averaged over views of each image, or over draws of the noise, \
         against one view in test mode. Fixed and broken count examples that only one of the two gets right; p is of \
         McNemar's exact test on them.</p><div class=\"card scroll\"><table class=\"figures\"><thead><tr><th \
         scope=\"col\">average</th><th scope=\"col\">forwards</th><th scope=\"col\">accuracy</th><th \
         scope=\"col\">one view</th><th scope=\"col\">difference, points</th><th scope=\"col\">fixed</th><th \
         scope=\"col\">broken</th><th scope=\"col\">p</th><th scope=\"col\">loss</th><th scope=\"col\">calibration \
         error</th><th scope=\"col\">ms an example</th></tr></thead><tbody>",
    );
    for average in averages {
        row(&mut body, average);
    }
    body.push_str("</tbody></table></div>");
    for average in averages {
        let kind = match average.verdict() {
            Verdict::Worse => "note",
            Verdict::Better | Verdict::NotTold => "quiet",
        };
        let views = match average.views.is_empty() {
            true => String::new(),
            false => format!(" ({})", escape(&average.views.join(", "))),
        };
        let _ = write!(
            body,
            "<p class=\"{kind}\"><b>{}</b>{views}: {}{}</p>",
            name(average),
            escape(&average.told()),
            disagreement(average)
        );
    }
    body.push_str("<div class=\"plots\">");
    for average in averages.iter().filter(|average| average.curve.len() > 1) {
        body.push_str(&curve(average));
    }
    body.push_str("</div>");
    body
}

fn name(average: &Averaging) -> String {
    let of = match average.average {
        AverageOf::Probabilities => "",
        AverageOf::Logits => ", of logits",
    };
    escape(&format!("{}{of}", average.name))
}

fn row(body: &mut String, average: &Averaging) {
    let difference = &average.difference;
    let range = difference.interval.map_or_else(String::new, |interval| {
        format!(
            " ({:+.2} to {:+.2})",
            100.0 * interval.low,
            100.0 * interval.high
        )
    });
    let _ = write!(
        body,
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{:+.2}{range}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.4}</td><td>{}</td><td>{:.3}</td></tr>",
        name(average),
        average.forwards,
        percent(average.averaged.accuracy.value),
        percent(average.single.accuracy.value),
        100.0 * difference.value,
        grouped(average.changes.fixed),
        grouped(average.changes.broken),
        p_in_words(average.p_value),
        average.averaged.loss.value,
        percent(average.averaged.calibration_error.value),
        average.averaged_ms,
    );
}

fn disagreement(average: &Averaging) -> String {
    let Some(disagreement) = &average.disagreement else {
        return String::new();
    };
    let [right, wrong] = [disagreement.right.value, disagreement.wrong.value];
    if !right.is_finite() || !wrong.is_finite() {
        return String::new();
    }
    format!(
        " Its forwards disagree by {right:.3} nats where it is right, {wrong:.3} where it is wrong."
    )
}

fn curve(average: &Averaging) -> String {
    let points: Vec<(f64, f64)> = average
        .curve
        .iter()
        .map(|point| (point.forwards as f64, point.accuracy))
        .collect();
    let ends = [points.first(), points.last()];
    let single = ends
        .into_iter()
        .flatten()
        .map(|(forwards, _)| (*forwards, average.single.accuracy.value));
    let title = format!(
        "Accuracy of the average of the first forwards: {}",
        average.name
    );
    Plot {
        title: &title,
        x: "forwards an example",
        unit: (100.0, " %"),
        series: vec![
            Series {
                name: "average",
                role: Role::Plain,
                points: points.clone(),
            },
            Series {
                name: "one view",
                role: Role::Train,
                points: single.collect(),
            },
        ],
        gap: false,
    }
    .render()
}
