//! The forest plot: each arm's difference to the baseline with its interval, in a row each.

use std::fmt::Write;

use evenkeel_record::{Arm, Comparison, Difference};

use crate::comparison::signed;
use crate::html::escape;
use crate::scale::{Scale, label};

const WIDTH: f64 = 480.0;
const SIDE: f64 = 20.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 44.0;
const ROW: f64 = 42.0;
/// From a row's top to its name, and to its line.
const NAME: f64 = 14.0;
const LINE: f64 = 26.0;

/// The section; nothing where there are no differences.
pub fn render(comparison: &Comparison) -> String {
    let rows: Vec<(&Arm, &Difference)> = comparison
        .arms
        .iter()
        .filter_map(|arm| Some((arm, arm.difference.as_ref()?)))
        .collect();
    let Some(baseline) = comparison.arms.first().filter(|_| !rows.is_empty()) else {
        return String::new();
    };
    let ends = rows.iter().flat_map(|(_, difference)| {
        let interval = difference.accuracy.interval;
        let ends = interval.map(|interval| [interval.low, interval.high]);
        ends.into_iter()
            .flatten()
            .chain([difference.accuracy.value])
    });
    let x = Scale::fit(ends.map(|end| 100.0 * end).chain([0.0]), SIDE, WIDTH - SIDE);
    let bottom = TOP + ROW * rows.len() as f64;
    let height = bottom + BOTTOM;
    let summary: Vec<String> = rows.iter().map(told).collect();
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<h2>Differences</h2><p>Accuracy minus that of {}: the mean, and the 95\u{a0}% interval. An interval across the \
         line says that chance could have done it.</p><div class=\"plots\"><figure class=\"card\"><figcaption>Difference \
         of accuracy, in points</figcaption><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Difference \
         of accuracy: {}\">",
        escape(&baseline.name),
        escape(&summary.join("; "))
    );
    axis(&mut svg, x, bottom, height);
    for (index, row) in rows.iter().enumerate() {
        draw(&mut svg, x, TOP + ROW * index as f64, row);
    }
    svg.push_str("</svg></figure></div>");
    svg
}

fn told((arm, difference): &(&Arm, &Difference)) -> String {
    let interval = difference
        .accuracy
        .interval
        .map_or_else(String::new, |interval| {
            format!(
                " ({} to {})",
                signed(100.0 * interval.low),
                signed(100.0 * interval.high)
            )
        });
    format!(
        "{} {}{interval}",
        arm.name,
        signed(100.0 * difference.accuracy.value)
    )
}

fn axis(svg: &mut String, x: Scale, bottom: f64, height: f64) {
    let ticks = x.ticks(6);
    let step = ticks.get(1).map_or(1.0, |second| second - ticks[0]);
    for tick in ticks {
        let at = x.at(tick);
        let text = label(tick, step);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            text.replace('-', "−")
        );
    }
    let zero = x.at(0.0);
    let _ = write!(
        svg,
        "<line class=\"zero\" x1=\"{zero:.1}\" x2=\"{zero:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" class=\"axis\">points of accuracy, more is better</text>",
        WIDTH - SIDE,
        height - 6.0
    );
}

fn draw(svg: &mut String, x: Scale, top: f64, row: &(&Arm, &Difference)) {
    let (arm, difference) = row;
    let value = difference.accuracy.value;
    let _ = write!(
        svg,
        "<text class=\"name over\" x=\"{SIDE}\" y=\"{:.1}\">{}</text>",
        top + NAME,
        escape(&arm.name)
    );
    if !value.is_finite() {
        return;
    }
    let told = told(row);
    let figures = told.strip_prefix(arm.name.as_str()).unwrap_or(&told).trim();
    let (at, y) = (x.at(100.0 * value), top + LINE);
    let _ = write!(
        svg,
        "<text class=\"over\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        WIDTH - SIDE,
        top + NAME,
        escape(figures)
    );
    if let Some(interval) = difference.accuracy.interval {
        let (low, high) = (x.at(100.0 * interval.low), x.at(100.0 * interval.high));
        let _ = write!(
            svg,
            "<line class=\"line plain\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        );
    }
    let _ = write!(
        svg,
        "<circle class=\"dot plain\" cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"5\"/>"
    );
}
