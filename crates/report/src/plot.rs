//! Line plots as SVG.

use std::fmt::Write;

use crate::html::escape;
use crate::scale::{Scale, label};

/// One line of a plot.
pub struct Series<'a> {
    pub name: &'a str,
    /// Chooses the color and dash: `train`, `test`, `plain`, `faint`.
    pub class: &'a str,
    pub points: Vec<(f64, f64)>,
}

/// A plot of some lines over a common x axis.
pub struct Plot<'a> {
    pub title: &'a str,
    pub x: &'a str,
    /// Multiplies y labels and follows them, as in 100 and "%".
    pub unit: (f64, &'a str),
    pub series: Vec<Series<'a>>,
    /// Shades the space between the first two lines.
    pub gap: bool,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 42.0;
/// A point this close to the line's end is drawn without its neighbours: more cannot be seen.
const MOST_POINTS: usize = 600;

impl Plot<'_> {
    /// The figure with its caption and legend; a line that says so where there is nothing to draw.
    pub fn render(&self) -> String {
        let title = escape(self.title);
        let points = || self.series.iter().flat_map(|series| &series.points);
        if points().filter(|(_, y)| y.is_finite()).count() == 0 {
            return format!(
                "<figure class=\"card\"><figcaption>{title}</figcaption><p class=\"quiet\">nothing to draw yet</p></figure>"
            );
        }
        let x = Scale::fit(points().map(|(x, _)| *x), LEFT + 6.0, WIDTH - RIGHT - 6.0);
        let y = Scale::fit(points().map(|(_, y)| *y), HEIGHT - BOTTOM, TOP);
        let mut svg = String::new();
        let summary = self.series.iter().filter_map(|series| {
            let (_, last) = series.points.iter().rev().find(|(_, y)| y.is_finite())?;
            Some(format!(
                "{} ends at {}",
                series.name,
                self.value(*last, 1e-3)
            ))
        });
        let summary = escape(&summary.collect::<Vec<_>>().join(", "));
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}: {summary}\">"
        );
        self.axes(&mut svg, x, y);
        if self.gap
            && let [first, second, ..] = &self.series[..]
        {
            shade(&mut svg, x, y, &first.points, &second.points);
        }
        for series in &self.series {
            line(&mut svg, x, y, series);
        }
        svg.push_str("</svg>");
        let legend: String = self
            .series
            .iter()
            .filter(|_| self.series.len() > 1)
            .map(|series| {
                format!(
                    "<span class=\"key {}\"><i></i>{}</span>",
                    series.class,
                    escape(series.name)
                )
            })
            .collect();
        format!(
            "<figure class=\"card\"><figcaption>{title}<span class=\"legend\">{legend}</span></figcaption>{svg}</figure>"
        )
    }

    fn value(&self, y: f64, step: f64) -> String {
        let (factor, unit) = self.unit;
        format!("{}{unit}", label(y * factor, step * factor))
    }

    fn axes(&self, svg: &mut String, x: Scale, y: Scale) {
        let ticks = y.ticks(5);
        let step = ticks.get(1).map_or(1.0, |second| second - ticks[0]);
        for tick in &ticks {
            let at = y.at(*tick);
            let (right, text) = (WIDTH - RIGHT, self.value(*tick, step));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        // Epochs and steps are whole.
        let ticks: Vec<f64> = x
            .ticks(8)
            .into_iter()
            .filter(|t| t.fract().abs() < 1e-9 && *t >= 0.0)
            .collect();
        for tick in ticks {
            let (at, bottom) = (x.at(tick), HEIGHT - BOTTOM + 18.0);
            let _ = write!(
                svg,
                "<text x=\"{at:.1}\" y=\"{bottom:.1}\" text-anchor=\"middle\">{tick:.0}</text>"
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" class=\"axis\">{}</text>",
            WIDTH - RIGHT,
            HEIGHT - 6.0,
            escape(self.x)
        );
    }
}

fn line(svg: &mut String, x: Scale, y: Scale, series: &Series<'_>) {
    let finite: Vec<_> = series
        .points
        .iter()
        .filter(|(_, y)| y.is_finite())
        .collect();
    let every = finite.len().div_ceil(MOST_POINTS).max(1);
    let last = finite.len().saturating_sub(1);
    let kept = finite
        .iter()
        .enumerate()
        .filter(|(i, _)| i % every == 0 || *i == last);
    let path: Vec<String> = kept
        .map(|(_, (px, py))| format!("{:.1},{:.1}", x.at(*px), y.at(*py)))
        .collect();
    let class = escape(series.class);
    if path.len() > 1 {
        let _ = write!(
            svg,
            "<polyline class=\"line {class}\" points=\"{}\"/>",
            path.join(" ")
        );
    }
    // Few points are epochs: each is marked, so that one alone is seen too.
    if finite.len() <= 60 && class != "faint" {
        for (px, py) in finite {
            let _ = write!(
                svg,
                "<circle class=\"dot {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"/>",
                x.at(*px),
                y.at(*py)
            );
        }
    }
}

/// The space between two lines over the same x values.
fn shade(svg: &mut String, x: Scale, y: Scale, a: &[(f64, f64)], b: &[(f64, f64)]) {
    let pairs = a
        .iter()
        .zip(b)
        .filter(|((ax, ay), (bx, by))| ax == bx && ay.is_finite() && by.is_finite());
    let place = |(px, py): &(f64, f64)| format!("{:.1},{:.1}", x.at(*px), y.at(*py));
    let (there, mut back): (Vec<_>, Vec<_>) = pairs.map(|(a, b)| (place(a), place(b))).unzip();
    if there.len() > 1 {
        back.reverse();
        let _ = write!(
            svg,
            "<polygon class=\"gap\" points=\"{} {}\"/>",
            there.join(" "),
            back.join(" ")
        );
    }
}

/// The mean of the last `window` points, for losses that jump from step to step.
pub fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let mut smooth = Vec::with_capacity(points.len());
    for (i, (x, _)) in points.iter().enumerate() {
        let recent = &points[(i + 1).saturating_sub(window)..=i];
        let finite: Vec<f64> = recent
            .iter()
            .map(|(_, y)| *y)
            .filter(|y| y.is_finite())
            .collect();
        if !finite.is_empty() {
            smooth.push((*x, finite.iter().sum::<f64>() / finite.len() as f64));
        }
    }
    smooth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_a_trailing_mean() {
        let points = [(1.0, 1.0), (2.0, 3.0), (3.0, f64::NAN), (4.0, 5.0)];
        assert_eq!(
            smoothed(&points, 2),
            [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 5.0)]
        );
    }

    #[test]
    fn nothing_draws_nothing() {
        let series = vec![Series {
            name: "a",
            class: "train",
            points: vec![(1.0, f64::NAN)],
        }];
        let plot = Plot {
            title: "t",
            x: "x",
            unit: (1.0, ""),
            series,
            gap: false,
        };
        assert!(plot.render().contains("nothing to draw"));
    }
}
