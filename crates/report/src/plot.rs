//! Line plots.

use plotters::element::{Circle, PathElement, Polygon};
use plotters::prelude::Color;

use crate::axis::Axis;
use crate::canvas::{BOTTOM, Chart, Failure, Frame, Grid, Role, picture};
use crate::figure;
use crate::number::label;

/// One line of a plot.
pub struct Series<'a> {
    pub name: &'a str,
    pub role: Role,
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

const HEIGHT: u32 = 2700;
const TOP: u32 = 100;
/// More points on a line cannot be seen.
const MOST_POINTS: usize = 600;
/// Fewer points are epochs: each is marked, so that one alone is seen too.
const MOST_MARKED: usize = 60;

impl Plot<'_> {
    /// The figure with its caption and legend; a line that says so where there is nothing to draw.
    pub fn render(&self) -> String {
        let points = || {
            let all = self.series.iter().flat_map(|series| &series.points);
            all.filter(|point| finite(point))
        };
        if points().next().is_none() {
            return figure::empty(self.title, "nothing to draw yet");
        }
        let ends = self.series.iter().filter_map(|series| {
            let (_, last) = series.points.iter().rev().find(|point| finite(point))?;
            Some(format!(
                "{} ends at {}",
                series.name,
                self.value(*last, 1e-3)
            ))
        });
        let alternative = format!("{}: {}", self.title, ends.collect::<Vec<_>>().join(", "));
        let drawn = picture(HEIGHT, &alternative, |area| {
            let frame = Frame {
                x: Axis::fit(points().map(|(x, _)| *x)).whole(7),
                y: Axis::fit(points().map(|(_, y)| *y))
                    .ticks(6, |tick, step| self.value(tick, step)),
                name: self.x,
                grid: Grid::Y,
                top: TOP,
                bottom: BOTTOM,
            };
            let mut chart = frame.draw(area)?;
            if self.gap
                && let [first, second, ..] = &self.series[..]
            {
                shade(&mut chart, &first.points, &second.points)?;
            }
            self.series
                .iter()
                .try_for_each(|series| line(&mut chart, series))
        });
        let legend: Vec<(Role, &str)> = self
            .series
            .iter()
            .filter(|_| self.series.len() > 1)
            .map(|series| (series.role, series.name))
            .collect();
        figure::card(self.title, &legend, drawn)
    }

    fn value(&self, y: f64, step: f64) -> String {
        let (factor, unit) = self.unit;
        format!("{}{unit}", label(y * factor, step * factor))
    }
}

fn finite((x, y): &(f64, f64)) -> bool {
    x.is_finite() && y.is_finite()
}

fn line(chart: &mut Chart<'_>, series: &Series<'_>) -> Result<(), Failure> {
    let points: Vec<(f64, f64)> = series.points.iter().copied().filter(finite).collect();
    let kept = thinned(&points);
    if kept.len() > 1 {
        chart.draw_series([PathElement::new(kept, series.role.line())])?;
    }
    if points.len() <= MOST_MARKED && series.role != Role::Faint {
        let dots = points.into_iter();
        chart.draw_series(dots.map(|at| Circle::new(at, 28, series.role.color().filled())))?;
    }
    Ok(())
}

/// As many as can be seen, with the first and the last.
fn thinned<T: Copy>(points: &[T]) -> Vec<T> {
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept = points.iter().enumerate();
    kept.filter(|(i, _)| i % every == 0 || *i == last)
        .map(|(_, point)| *point)
        .collect()
}

/// The space between two lines over the same x values.
fn shade(chart: &mut Chart<'_>, a: &[(f64, f64)], b: &[(f64, f64)]) -> Result<(), Failure> {
    let pairs: Vec<_> = a
        .iter()
        .copied()
        .zip(b.iter().copied())
        .filter(|(a, b)| a.0 == b.0 && finite(a) && finite(b))
        .collect();
    if pairs.len() < 2 {
        return Ok(());
    }
    let (mut border, mut back): (Vec<_>, Vec<_>) = thinned(&pairs).into_iter().unzip();
    back.reverse();
    border.append(&mut back);
    chart.draw_series([Polygon::new(border, Role::Gap.color().mix(0.13))])?;
    Ok(())
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

    fn drawn(points: Vec<(f64, f64)>) -> String {
        let series = |name, role, points: &[(f64, f64)]| Series {
            name,
            role,
            points: points.to_vec(),
        };
        let plot = Plot {
            title: "\"><script>",
            x: "<x>",
            unit: (1.0, " <unit>"),
            series: vec![
                series("<b>\"one", Role::Train, &points),
                series("two", Role::Arm(7), &points),
            ],
            gap: true,
        };
        plot.render()
    }

    #[test]
    fn nothing_draws_nothing() {
        for points in [
            vec![],
            vec![(1.0, f64::NAN)],
            vec![(f64::INFINITY, 1.0)],
            vec![(f64::NAN, f64::NEG_INFINITY)],
        ] {
            let html = drawn(points);
            assert!(
                html.contains("nothing to draw") && !html.contains("<svg"),
                "{html}"
            );
        }
    }

    #[test]
    fn whatever_is_finite_is_drawn() {
        for (points, circles) in [
            (vec![(1.0, 0.5)], 1),
            (vec![(1.0, 0.5), (2.0, f64::NAN), (3.0, 0.5)], 2),
            (vec![(0.0, f64::MAX), (1.0, f64::MIN), (2.0, 1e-320)], 3),
            (vec![(1e300, 1e20), (-1e300, 1e20 + 16384.0)], 2),
            (vec![(5.0, 0.0), (5.0, 0.0)], 2),
        ] {
            let html = drawn(points.clone());
            assert_eq!(html.matches("<circle").count(), 2 * circles, "{points:?}");
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        }
    }

    #[test]
    fn names_are_text() {
        let html = drawn(vec![(1.0, 1.0), (2.0, 2.0)]);
        assert!(!html.contains("<script") && !html.contains("<b>") && !html.contains("<unit"));
        assert!(
            html.contains("&lt;b&gt;&quot;one ends at 2.000 &lt;unit&gt;"),
            "{html}"
        );
    }

    #[test]
    fn long_lines_are_thinned_and_keep_their_ends() {
        let points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), f64::from(i))).collect();
        let html = drawn(points);
        let paths = html.split(" points=\"").skip(1);
        let paths: Vec<Vec<&str>> = paths
            .map(|path| {
                path.split('"')
                    .next()
                    .unwrap_or("")
                    .split_whitespace()
                    .collect()
            })
            .collect();
        // Without the axes and their ticks.
        let paths: Vec<_> = paths.into_iter().filter(|path| path.len() > 2).collect();
        let [gap, train, arm] = &paths[..] else {
            panic!("{} lines and areas", paths.len());
        };
        assert!((300..=601).contains(&train.len()), "{}", train.len());
        assert_eq!((train, gap.len()), (arm, 2 * train.len()));
        let all = thinned(&(0..100_000).collect::<Vec<_>>());
        assert_eq!((all.first(), all.last()), (Some(&0), Some(&99_999)));
    }
}
