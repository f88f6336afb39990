//! A recorded figure as SVG: lines with intervals over layers, classes or numbers.

use std::fmt::Write;

use evenkeel_record::{Figure, Point};

use crate::html::escape;
use crate::scale::{Scale, label};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 46.0;
/// For names of places, which are written aslant.
const NAMES: f64 = 92.0;
const MOST_NAMES: usize = 24;
const COLORS: usize = 7;

/// The figure with its caption and legend.
pub fn render(figure: &Figure) -> String {
    let title = escape(&figure.title);
    let points = || figure.curves.iter().flat_map(|curve| &curve.points);
    let shown = |point: &&Point| point.x.is_finite() && point.y.is_finite();
    if points().filter(shown).count() == 0 {
        return format!(
            "<figure class=\"card\"><figcaption>{title}</figcaption><p class=\"quiet\">nothing to draw</p></figure>"
        );
    }
    let axes = Axes::fit(figure);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{}\">",
        axes.height,
        escape(&alternative(figure))
    );
    axes.draw(&mut svg, figure);
    for (index, curve) in figure.curves.iter().enumerate() {
        let points: Vec<&Point> = curve.points.iter().filter(shown).collect();
        draw(&mut svg, &axes, &points, color(index));
    }
    svg.push_str("</svg>");
    let legend: String = figure
        .curves
        .iter()
        .enumerate()
        .filter(|_| figure.curves.len() > 1)
        .map(|(index, curve)| {
            format!(
                "<span class=\"key arm{}\"><i></i>{}</span>",
                color(index),
                escape(&curve.name)
            )
        })
        .collect();
    format!(
        "<figure class=\"card\"><figcaption>{title}<span class=\"legend\">{legend}</span></figcaption>{svg}</figure>"
    )
}

fn color(index: usize) -> usize {
    1 + index % COLORS
}

/// What the figure shows, in words.
fn alternative(figure: &Figure) -> String {
    let curves = figure.curves.iter().filter_map(|curve| {
        let finite = || curve.points.iter().filter(|point| point.y.is_finite());
        let low = finite().min_by(|a, b| a.y.total_cmp(&b.y))?;
        let high = finite().max_by(|a, b| a.y.total_cmp(&b.y))?;
        let at = |point: &Point| match figure.places.get(point.x as usize) {
            Some(place) => place.clone(),
            None => format!("{} {}", figure.x, number(point.x)),
        };
        Some(format!(
            "{} is lowest at {} ({}) and highest at {} ({})",
            curve.name,
            at(low),
            number(low.y),
            at(high),
            number(high.y)
        ))
    });
    format!(
        "{}, {}: {}",
        figure.title,
        figure.y,
        curves.collect::<Vec<_>>().join("; ")
    )
}

/// A number for people, with three digits that count.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let text = match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        size => {
            let decimals = (2.0 - size.log10().floor()).clamp(0.0, 4.0) as usize;
            let text = format!("{value:.decimals$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
    };
    text.replace('-', "−")
}

/// Where values are on the page.
struct Axes {
    x: Scale,
    y: Scale,
    logarithmic_x: bool,
    logarithmic_y: bool,
    bottom: f64,
    height: f64,
}

impl Axes {
    fn fit(figure: &Figure) -> Self {
        let points = || figure.curves.iter().flat_map(|curve| &curve.points);
        let values = || points().map(|point| point.y).filter(|y| y.is_finite());
        let low = values().fold(f64::INFINITY, f64::min);
        let high = values().fold(f64::NEG_INFINITY, f64::max);
        // Where numbers of different size would flatten each other.
        let logarithmic_y = low > 0.0 && high / low > 100.0;
        let logarithmic_x = figure.logarithmic && points().all(|point| point.x > 0.0);
        let named = !figure.places.is_empty();
        let bottom = HEIGHT - BOTTOM;
        let height = if named {
            HEIGHT - BOTTOM + NAMES
        } else {
            HEIGHT
        };
        // Intervals of a few values can be wide beyond all measure: as far as the values go twice over.
        let room = 1.0_f64
            .max(high - low)
            .min(2.0 * (high - low).max(0.05 * high.abs()).max(1e-9));
        let ends = points().flat_map(|point| point.interval);
        let ends = ends
            .filter(|end| end.is_finite())
            .map(|end| end.clamp(low - room, high + room));
        let on_y = |value: f64| {
            if logarithmic_y {
                value.max(low / 2.0).log10()
            } else {
                value
            }
        };
        let on_x = |value: f64| if logarithmic_x { value.log10() } else { value };
        Self {
            x: Scale::fit(
                points().map(|point| on_x(point.x)),
                // The first name ends at the first place.
                LEFT + if named { 46.0 } else { 10.0 },
                WIDTH - RIGHT - 10.0,
            ),
            y: Scale::fit(values().chain(ends).map(on_y), bottom, TOP),
            logarithmic_x,
            logarithmic_y,
            bottom,
            height,
        }
    }

    fn x(&self, value: f64) -> f64 {
        self.x.at(if self.logarithmic_x {
            value.log10()
        } else {
            value
        })
    }

    fn y(&self, value: f64) -> f64 {
        let value = if self.logarithmic_y {
            value.max(f64::MIN_POSITIVE).log10()
        } else {
            value
        };
        self.y.at(value).clamp(TOP, self.bottom)
    }

    fn draw(&self, svg: &mut String, figure: &Figure) {
        for (at, text) in ticks(&self.y, self.logarithmic_y, 5) {
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0
            );
        }
        let _ = write!(
            svg,
            "<text class=\"axis\" x=\"4\" y=\"12\">{}</text>",
            escape(&figure.y)
        );
        if figure.places.is_empty() {
            for (at, text) in ticks(&self.x, self.logarithmic_x, 8) {
                let _ = write!(
                    svg,
                    "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                    self.bottom + 18.0
                );
            }
            let _ = write!(
                svg,
                "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                self.height - 6.0,
                escape(&figure.x)
            );
            return;
        }
        let every = figure.places.len().div_ceil(MOST_NAMES);
        for (index, place) in figure.places.iter().enumerate().step_by(every) {
            let (x, y) = (self.x(index as f64), self.bottom + 14.0);
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\" transform=\"rotate(-32 {x:.1} {y:.1})\">{}</text>",
                escape(&shortened(place))
            );
        }
    }
}

/// Names of layers in full would not fit below the axis.
fn shortened(name: &str) -> String {
    const MOST: usize = 20;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    let kept: String = name.chars().take(MOST - 1).collect();
    format!("{}…", kept.trim_end())
}

/// Places and labels of round numbers; of powers of ten where the scale is of logarithms.
fn ticks(scale: &Scale, logarithmic: bool, count: usize) -> Vec<(f64, String)> {
    if !logarithmic {
        let ticks = scale.ticks(count);
        let step = ticks.get(1).map_or(1.0, |second| second - ticks[0]);
        return ticks
            .iter()
            .map(|tick| (scale.at(*tick), label(*tick, step).replace('-', "−")))
            .collect();
    }
    let powers: Vec<i32> = (scale.low.ceil() as i32..=scale.high.floor() as i32).collect();
    let mut values: Vec<f64> = powers.iter().map(|power| 10_f64.powi(*power)).collect();
    // Within one or two powers, 2 and 5 times each as well.
    if powers.len() < 3 {
        let first = scale.low.floor() as i32;
        let all = (first..=scale.high.floor() as i32)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|f| f * 10_f64.powi(power)));
        values = all
            .filter(|value| (scale.low..=scale.high).contains(&value.log10()))
            .collect();
    }
    values
        .into_iter()
        .map(|value| (scale.at(value.log10()), number(value)))
        .collect()
}

fn draw(svg: &mut String, axes: &Axes, points: &[&Point], color: usize) {
    for point in points {
        let [low, high] = point.interval;
        if low == high || low.is_nan() || high.is_nan() {
            continue;
        }
        let x = axes.x(point.x);
        let _ = write!(
            svg,
            "<line class=\"line interval arm{color}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            axes.y(low),
            axes.y(high)
        );
    }
    let path: Vec<String> = points
        .iter()
        .map(|point| format!("{:.1},{:.1}", axes.x(point.x), axes.y(point.y)))
        .collect();
    if path.len() > 1 {
        let _ = write!(
            svg,
            "<polyline class=\"line arm{color}\" points=\"{}\"/>",
            path.join(" ")
        );
    }
    for point in points {
        let _ = write!(
            svg,
            "<circle class=\"dot arm{color}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
            axes.x(point.x),
            axes.y(point.y)
        );
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_record::Curve;

    use super::*;

    fn figure(values: &[f64]) -> Figure {
        let points = values.iter().enumerate().map(|(x, y)| Point {
            x: x as f64,
            y: *y,
            interval: [y - 0.5, f64::INFINITY],
        });
        Figure {
            title: "A <figure>".into(),
            x: "layer".into(),
            y: "deviations".into(),
            places: vec!["first".into(), "second".into()],
            logarithmic: false,
            curves: vec![Curve {
                name: "one".into(),
                points: points.collect(),
            }],
        }
    }

    #[test]
    fn a_figure_says_what_it_shows() {
        let html = render(&figure(&[0.25, 3.0]));
        assert!(
            html.contains("one is lowest at first (0.25) and highest at second (3)"),
            "{html}"
        );
        assert!(
            html.contains("A &lt;figure&gt;") && !html.contains("<figure>\""),
            "{html}"
        );
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
    }

    #[test]
    fn nothing_and_the_extreme_can_be_drawn() {
        assert!(render(&figure(&[f64::NAN])).contains("nothing to draw"));
        let html = render(&figure(&[1e-9, 1e9]));
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
    }

    #[test]
    fn numbers_have_three_digits() {
        let told = [0.0, 0.012345, 1.5, 123.4, 12345.0, 1e-7, -2.0].map(number);
        assert_eq!(told, ["0", "0.0123", "1.5", "123", "12345", "1.0e−7", "−2"]);
    }
}
