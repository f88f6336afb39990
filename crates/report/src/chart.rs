//! A recorded figure: lines with intervals over layers, classes or numbers.

use evenkeel_record::{Figure, Point};
use plotters::element::{Circle, EmptyElement, ErrorBar, PathElement, Text};
use plotters::prelude::Color;
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, VPos};

use crate::axis::Axis;
use crate::canvas::{Area, BOTTOM, Chart, Failure, Frame, Grid, Role, TEXT, WIDTH, picture};
use crate::figure;
use crate::number::{label, number};

/// Without what is below the horizontal axis.
const HEIGHT: u32 = 2400;
/// Holds the vertical axis' name.
const TOP: u32 = 300;
const MOST_NAMES: usize = 24;
/// Names are written aslant: how far a character takes them to the left and down, and the room that there is left of
/// the vertical axis anyway.
const ASLANT: f64 = 72.0;
const DOWN: u32 = 38;
const LABELS: f64 = 380.0;
const COLORS: usize = 7;
const DOT: u32 = 30;
const CAPS: u32 = 44;

/// The figure with its caption and legend.
pub fn render(figure: &Figure) -> String {
    if shown(figure).next().is_none() {
        return figure::empty(&figure.title, "nothing to draw");
    }
    let height = HEIGHT + below(figure);
    let drawn = picture(height, &alternative(figure), |area| draw(area, figure));
    let legend: Vec<(Role, &str)> = figure
        .curves
        .iter()
        .enumerate()
        .filter(|_| figure.curves.len() > 1)
        .map(|(index, curve)| (role(index), curve.name.as_str()))
        .collect();
    figure::card(&figure.title, &legend, drawn)
}

fn shown(figure: &Figure) -> impl Iterator<Item = &Point> {
    let points = figure.curves.iter().flat_map(|curve| &curve.points);
    points.filter(|point| finite(point))
}

fn finite(point: &Point) -> bool {
    point.x.is_finite() && point.y.is_finite()
}

/// The room below the horizontal axis.
fn below(figure: &Figure) -> u32 {
    let names = figure
        .places
        .iter()
        .map(|name| shortened(name).chars().count() as u32);
    names
        .max()
        .map_or(BOTTOM, |longest| TEXT + 90 + DOWN * longest)
}

fn role(index: usize) -> Role {
    Role::arm(1 + index % COLORS)
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

fn draw(area: &Area<'_>, figure: &Figure) -> Result<(), Failure> {
    let every = figure.places.len().div_ceil(MOST_NAMES).max(1);
    let named = !figure.places.is_empty();
    let x = match figure.places.first() {
        Some(first) => {
            let reach = ASLANT * shortened(first).chars().count() as f64;
            let room = ((reach - LABELS) / f64::from(WIDTH)).clamp(0.06, 0.3);
            Axis::places(figure.places.len(), every, room)
        }
        None => horizontal(figure),
    };
    let y = vertical(figure);
    let bottom = y.low();
    let frame = Frame {
        x,
        y,
        name: if named { "" } else { &figure.x },
        grid: Grid::Y,
        top: TOP,
        bottom: below(figure),
    };
    let mut chart = frame.draw(area)?;
    area.draw_text(&figure.y, &Role::Text.text(HPos::Left, VPos::Top), (40, 40))?;
    let aslant = Role::Text
        .text(HPos::Right, VPos::Center)
        .transform(FontTransform::Rotate270);
    let places = figure.places.iter().enumerate().step_by(every);
    chart.draw_series(places.map(|(index, place)| {
        let below = (0, TEXT as i32);
        EmptyElement::at((index as f64, bottom))
            + Text::new(shortened(place), below, aslant.clone())
    }))?;
    for (index, curve) in figure.curves.iter().enumerate() {
        let points: Vec<&Point> = curve.points.iter().filter(|point| finite(point)).collect();
        line(&mut chart, &points, role(index))?;
    }
    Ok(())
}

fn horizontal(figure: &Figure) -> Axis {
    let values = || shown(figure).map(|point| point.x);
    match figure.logarithmic && values().all(|x| x > 0.0) {
        true => Axis::logarithmic(values()),
        false => Axis::fit(values()).ticks(7, label),
    }
}

fn vertical(figure: &Figure) -> Axis {
    let values = || shown(figure).map(|point| point.y);
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    // Intervals of a few values can be wide beyond all measure: as far as the values go twice over.
    let room = 1.0_f64
        .max(high - low)
        .min(2.0 * (high - low).max(0.05 * high.abs()).max(1e-9));
    let ends = shown(figure)
        .flat_map(|point| point.interval)
        .filter(|end| end.is_finite())
        .map(|end| end.max(low - room).min(high + room));
    // Where numbers of different size would flatten each other.
    match low > 0.0 && high / low > 100.0 {
        true => Axis::logarithmic(values().chain(ends.map(|end| end.max(low / 2.0)))),
        false => Axis::fit(values().chain(ends)).ticks(6, label),
    }
}

/// Names of layers in full would not fit below the axis.
fn shortened(name: &str) -> String {
    const MOST: usize = 18;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    let kept: String = name.chars().take(MOST - 1).collect();
    format!("{}…", kept.trim_end())
}

fn line(chart: &mut Chart<'_>, points: &[&Point], role: Role) -> Result<(), Failure> {
    let intervals = points.iter().filter_map(|point| {
        let [low, high] = point.interval;
        let pale = role.color().mix(0.5).stroke_width(16);
        (low != high && !low.is_nan() && !high.is_nan())
            .then(|| ErrorBar::new_vertical(point.x, low, point.y, high, pale, CAPS))
    });
    chart.draw_series(intervals)?;
    let places = || points.iter().map(|point| (point.x, point.y));
    if points.len() > 1 {
        let path: Vec<(f64, f64)> = places().collect();
        chart.draw_series([PathElement::new(path, role.line())])?;
    }
    chart.draw_series(places().map(|at| Circle::new(at, DOT, role.color().filled())))?;
    Ok(())
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
    fn names_are_text_and_places_are_few_or_many() {
        let hostile = "\"><script>";
        for count in [0, 1, 2, 25, 10_000] {
            let mut figure = figure(&[0.25, 3.0]);
            figure.curves[0].name = hostile.into();
            figure.curves.push(Curve {
                name: "empty".into(),
                points: Vec::new(),
            });
            (figure.x, figure.y) = (hostile.into(), hostile.into());
            figure.places = vec![hostile.into(); count];
            let html = render(&figure);
            assert!(!html.contains("<script"), "{html}");
            let aslant = html.matches("rotate(-32").count();
            assert!(aslant >= count.min(12) && aslant <= MOST_NAMES, "{aslant}");
        }
    }

    #[test]
    fn logarithmic_axes_have_round_ticks() {
        let mut figure = figure(&[1e-3, 10.0]);
        figure.places.clear();
        figure.logarithmic = true;
        figure.curves[0].points[0].x = 0.5;
        let html = render(&figure);
        for tick in ["\n0.5\n", "\n1\n", "\n0.001\n", "\n0.1\n"] {
            assert!(html.contains(tick), "{tick}: {html}");
        }
    }
}
