//! Building what an instrument tells.

use evenkeel_record::{Curve, Figure, Point, Reading};

/// A number and where it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub value: f64,
    pub interval: [f64; 2],
}

impl Estimate {
    /// Something that was counted.
    pub fn exact(value: f64) -> Self {
        Self {
            value,
            interval: [value; 2],
        }
    }

    /// The mean of independent values, with Student's interval.
    pub fn mean(values: &[f64]) -> Self {
        Self {
            value: super::score::mean(values),
            interval: super::score::interval_of_mean(values),
        }
    }

    /// Through a function that rises.
    pub fn map(self, function: impl Fn(f64) -> f64) -> Self {
        Self {
            value: function(self.value),
            interval: self.interval.map(function),
        }
    }

    pub fn reading(self, of: impl Into<String>, unit: &str) -> Reading {
        Reading {
            of: of.into(),
            value: self.value,
            interval: self.interval,
            unit: unit.into(),
        }
    }

    pub fn point(self, x: f64) -> Point {
        Point {
            x,
            y: self.value,
            interval: self.interval,
        }
    }
}

/// A curve over places 0, 1, ….
pub(crate) fn by_place(name: &str, estimates: &[Estimate]) -> Curve {
    curve(
        name,
        (0..estimates.len())
            .map(|place| place as f64)
            .zip(estimates.iter().copied()),
    )
}

pub(crate) fn curve(name: &str, estimates: impl Iterator<Item = (f64, Estimate)>) -> Curve {
    Curve {
        name: name.into(),
        points: estimates.map(|(x, estimate)| estimate.point(x)).collect(),
    }
}

/// A figure over layers.
pub(crate) fn over_layers(title: &str, y: &str, layers: &[String], curves: Vec<Curve>) -> Figure {
    Figure {
        title: title.into(),
        x: "layer".into(),
        y: y.into(),
        places: layers.to_vec(),
        logarithmic: false,
        curves,
    }
}

/// A figure over a number.
pub(crate) fn over(title: &str, x: &str, y: &str, logarithmic: bool, curves: Vec<Curve>) -> Figure {
    Figure {
        title: title.into(),
        x: x.into(),
        y: y.into(),
        places: Vec::new(),
        logarithmic,
        curves,
    }
}
