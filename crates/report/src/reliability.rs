//! The reliability diagram: accuracy against confidence.

use evenkeel_record::{Estimate, Quality, ReliabilityBin};
use plotters::element::{Circle, ErrorBar, PathElement, Rectangle};
use plotters::prelude::Color;

use crate::axis::Axis;
use crate::canvas::{BOTTOM, Chart, Failure, Frame, Grid, Role, ends, picture};
use crate::figure;
use crate::html::{grouped, percent};

const HEIGHT: u32 = 3200;
const TOP: u32 = 100;
/// The tallest bar of the counts, of the plot's height.
const BARS: f64 = 0.25;
const DOT: u32 = 40;
/// The ends of intervals: short ones are within the dot.
const CAPS: u32 = 60;

/// The figure: a point a bin with its interval, the diagonal of perfect calibration, and how many examples each
/// bin holds.
pub fn render(quality: &Quality) -> String {
    let bins = filled(quality).map(|bin| {
        format!(
            "{:.0} to {:.0} %: {} right of {}",
            100.0 * bin.low,
            100.0 * bin.high,
            percent(bin.accuracy.value),
            grouped(bin.examples)
        )
    });
    let alternative = format!(
        "Accuracy by confidence in {} bins; expected calibration error {}; {}",
        quality.bins.len(),
        with_range(quality.calibration_error),
        bins.collect::<Vec<_>>().join(", ")
    );
    let drawn = picture(HEIGHT, &alternative, |area| {
        let shares = || Axis::over(0.0..1.0).ticks(6, |tick, _| format!("{:.0} %", 100.0 * tick));
        let frame = Frame {
            x: shares(),
            y: shares(),
            name: "probability of the predicted class",
            grid: Grid::Y,
            top: TOP,
            bottom: BOTTOM,
        };
        draw(&mut frame.draw(area)?, quality)
    });
    let legend = [
        (Role::Plain, "accuracy of a bin, 95\u{a0}% interval"),
        (Role::Train, "perfect"),
        (Role::Bar, "share of the examples"),
    ];
    figure::card("Reliability", &legend, drawn)
}

fn filled(quality: &Quality) -> impl Iterator<Item = &ReliabilityBin> {
    quality.bins.iter().filter(|bin| bin.examples > 0)
}

fn draw(chart: &mut Chart<'_>, quality: &Quality) -> Result<(), Failure> {
    let most = filled(quality).map(|bin| bin.examples).max().unwrap_or(1);
    chart.draw_series(filled(quality).map(|bin| {
        let height = BARS * bin.examples as f64 / most as f64;
        let corners = [(bin.low, height), (bin.high, 0.0)];
        let mut bar = Rectangle::new(corners, Role::Bar.color().mix(0.22).filled());
        bar.set_margin(0, 0, 10, 10);
        bar
    }))?;
    let perfect = vec![(0.0, 0.0), (1.0, 1.0)];
    chart.draw_series([PathElement::new(perfect, Role::Train.line())])?;
    let points = || {
        filled(quality)
            .filter(|bin| bin.confidence.is_finite() && bin.accuracy.value.is_finite())
            .map(|bin| (bin.confidence, bin.accuracy))
    };
    chart.draw_series(points().filter_map(|(confidence, accuracy)| {
        let (low, high) = ends(accuracy)?;
        let (value, style) = (accuracy.value, Role::Plain.line());
        Some(ErrorBar::new_vertical(
            confidence, low, value, high, style, CAPS,
        ))
    }))?;
    chart.draw_series(points().map(|(confidence, accuracy)| {
        Circle::new(
            (confidence, accuracy.value),
            DOT,
            Role::Plain.color().filled(),
        )
    }))?;
    Ok(())
}

/// A share with its interval.
pub fn with_range(estimate: Estimate) -> String {
    let interval = estimate.interval.map_or_else(String::new, |interval| {
        format!(" ({} to {})", percent(interval.low), percent(interval.high))
    });
    format!("{}{interval}", percent(estimate.value))
}

#[cfg(test)]
mod tests {
    use evenkeel_statistics::Interval;

    use super::*;

    #[test]
    fn bins_without_examples_or_numbers_are_left_out() {
        let bin = |examples, confidence, value, low| ReliabilityBin {
            low: 0.5,
            high: 1.0,
            examples,
            confidence,
            accuracy: Estimate::new(value, Some(Interval { low, high: 1.0 })),
        };
        let none = Estimate::new(f64::NAN, None);
        let quality = Quality {
            examples: 3,
            accuracy: none,
            loss: none,
            brier: none,
            calibration_error: none,
            bins: vec![
                bin(0, f64::NAN, f64::NAN, 0.0),
                bin(1, f64::INFINITY, 0.5, 0.0),
                bin(1, 0.7, 0.9, f64::NAN),
                bin(u64::MAX, 0.9, 0.9, f64::NEG_INFINITY),
            ],
        };
        let html = render(&quality);
        assert_eq!(html.matches("class=\"fill plain\"").count(), 2, "{html}");
        assert_eq!(html.matches("<rect").count(), 3);
        assert!(!html.contains("NaN"));
        let empty = Quality {
            bins: Vec::new(),
            ..quality
        };
        assert!(render(&empty).contains("stroke train"));
    }
}
