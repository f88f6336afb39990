//! The reliability diagram: accuracy against confidence.

use std::fmt::Write;

use evenkeel_record::{Estimate, Quality};

use crate::html::{grouped, percent};
use crate::scale::Scale;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 58.0;
/// Holds half of the last tick's label.
const RIGHT: f64 = 24.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 48.0;
/// The tallest bar of the counts, of the plot's height.
const BARS: f64 = 0.25;

/// The figure: a point a bin with its interval, the diagonal of perfect calibration, and how many examples each
/// bin holds.
pub fn render(quality: &Quality) -> String {
    let x = share_scale(LEFT, WIDTH - RIGHT);
    let y = share_scale(HEIGHT - BOTTOM, TOP);
    let mut svg = String::new();
    let error = with_range(quality.calibration_error);
    let _ = write!(
        svg,
        "<figure class=\"card\"><figcaption>Reliability<span class=\"legend\"><span class=\"key plain\"><i></i>accuracy \
         of a bin, 95\u{a0}% interval</span><span class=\"key train\"><i></i>perfect</span></span></figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Accuracy by confidence in {} bins; expected \
         calibration error {error}\">",
        quality.bins.len(),
    );
    axes(&mut svg, x, y);
    let most = quality
        .bins
        .iter()
        .map(|bin| bin.examples)
        .max()
        .unwrap_or(0);
    for bin in &quality.bins {
        let height = BARS * (bin.examples as f64 / most.max(1) as f64) * (HEIGHT - BOTTOM - TOP);
        let (left, right) = (x.at(bin.low) + 1.0, x.at(bin.high) - 1.0);
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{} \
             examples</title></rect>",
            HEIGHT - BOTTOM - height,
            right - left,
            grouped(bin.examples)
        );
    }
    let _ = write!(
        svg,
        "<line class=\"line train\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        x.at(0.0),
        y.at(0.0),
        x.at(1.0),
        y.at(1.0)
    );
    for bin in quality.bins.iter().filter(|bin| bin.examples > 0) {
        let (px, py) = (x.at(bin.confidence), y.at(bin.accuracy.value));
        if !px.is_finite() || !py.is_finite() {
            continue;
        }
        if let Some(interval) = bin.accuracy.interval {
            let _ = write!(
                svg,
                "<line class=\"line plain\" x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                y.at(interval.low),
                y.at(interval.high)
            );
        }
        let _ = write!(
            svg,
            "<circle class=\"dot plain\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"4\"/>"
        );
    }
    svg.push_str("</svg></figure>");
    svg
}

fn share_scale(start: f64, end: f64) -> Scale {
    Scale {
        low: 0.0,
        high: 1.0,
        start,
        end,
    }
}

fn axes(svg: &mut String, x: Scale, y: Scale) {
    for tick in [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] {
        let (at, across) = (y.at(tick), x.at(tick));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>\
             <text x=\"{across:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0} %</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            100.0 * tick,
            HEIGHT - BOTTOM + 18.0,
            100.0 * tick
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" class=\"axis\">probability of the predicted class; bars: \
         share of the examples</text>",
        WIDTH - RIGHT,
        HEIGHT - 8.0
    );
}

/// A share with its interval.
pub fn with_range(estimate: Estimate) -> String {
    let interval = estimate.interval.map_or_else(String::new, |interval| {
        format!(" ({} to {})", percent(interval.low), percent(interval.high))
    });
    format!("{}{interval}", percent(estimate.value))
}
