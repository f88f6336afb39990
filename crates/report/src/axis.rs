//! An axis: what it spans, and the round numbers that are written along it.

use std::ops::Range;

use plotters::coord::ranged1d::{
    BoldPoints, KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter,
};
use plotters::coord::types::RangedCoordf64;

use crate::number::label;

/// Larger values are drawn as this one, so that differences stay finite.
const LARGEST: f64 = 1e300;
/// Values that differ by less, relative to their size, are one value to look at.
const FLAT: f64 = 1e-9;

/// A linear or logarithmic axis. What lies beyond it is drawn at its end.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Of logarithms to base 10 where the axis is logarithmic.
    span: Range<f64>,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Spans finite values, with some room; never empty. Without ticks.
    pub fn fit(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            let value = value.clamp(-LARGEST, LARGEST);
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let size = low.abs().max(high.abs());
        let room = match high - low > FLAT * size.max(1e-100) {
            true => 0.06 * (high - low),
            false => 0.5 * size.max(1e-3),
        };
        Self::over(low - room..high + room)
    }

    /// Spans exactly `span`. Without ticks.
    pub fn over(span: Range<f64>) -> Self {
        Self {
            span,
            logarithmic: false,
            ticks: Vec::new(),
        }
    }

    /// Spans positive values in powers of ten, which are its ticks; within one or two of them 2 and 5 times each too.
    pub fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let mut axis = Self::fit(values.map(f64::log10));
        axis.logarithmic = true;
        let (low, high) = (axis.span.start, axis.span.end);
        let powers = low.ceil() as i32..=high.floor() as i32;
        let ticks: Vec<f64> = match powers.clone().count() {
            // No more than eight of them.
            3.. => powers
                .clone()
                .step_by(powers.count().div_ceil(8))
                .map(|power| 10_f64.powi(power))
                .collect(),
            _ => (low.floor() as i32..=high.floor() as i32)
                .flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(power)))
                .filter(|value| (low..=high).contains(&value.log10()))
                .collect(),
        };
        axis.ticks = ticks
            .into_iter()
            .map(|tick| match (1e-4..1e5).contains(&tick) {
                true => (tick, label(tick, tick)),
                false => (tick, format!("{tick:.0e}").replace('-', "−")),
            })
            .collect();
        axis
    }

    /// With at most `most` round numbers, labelled by `write(number, step)`.
    pub fn ticks(mut self, most: usize, write: impl Fn(f64, f64) -> String) -> Self {
        let ticks = self.round_numbers(most);
        let step = match ticks[..] {
            [first, second, ..] => second - first,
            _ => self.span.end - self.span.start,
        };
        self.ticks = ticks
            .into_iter()
            .map(|tick| (tick, write(tick, step)))
            .collect();
        self
    }

    /// With at most `most` whole numbers from 0 on, as epochs and steps are.
    pub fn whole(mut self, most: usize) -> Self {
        self.ticks = self
            .round_numbers(most)
            .into_iter()
            .filter(|tick| (tick - tick.round()).abs() < 1e-6 && *tick > -0.5)
            .map(|tick| (tick, label(tick, 1.0)))
            .collect();
        self
    }

    /// Spans the places 0 to `count` − 1, with `room` before the first, of the whole. Every so many have a tick,
    /// without a label.
    pub fn places(count: usize, every: usize, room: f64) -> Self {
        let last = count.saturating_sub(1) as f64;
        let whole = last / (1.0 - room - 0.04);
        let mut axis = match last > 0.0 {
            true => Self::over(-room * whole..last + 0.04 * whole),
            false => Self::over(-1.0..1.0),
        };
        let places = (0..count).step_by(every.max(1));
        axis.ticks = places.map(|place| (place as f64, String::new())).collect();
        axis
    }

    /// The library's round numbers within the span. It compares sums of steps with an absolute tolerance of 2⁻⁵²: that
    /// leaves numbers out where they are large, and finds none where they are tiny. So it gets the span in
    /// units that make it at most 0.01, and rounding errors much smaller than that.
    fn round_numbers(&self, most: usize) -> Vec<f64> {
        let (low, high) = (self.span.start, self.span.end);
        let unit = 10_f64.powf(low.abs().max(high.abs()).log10().floor() + 3.0);
        RangedCoordf64::from(low / unit..high / unit)
            .key_points(BoldPoints(most))
            .into_iter()
            .map(|tick| tick * unit)
            .collect()
    }

    /// The lower end.
    pub fn low(&self) -> f64 {
        self.value(self.span.start)
    }

    /// The upper end.
    pub fn high(&self) -> f64 {
        self.value(self.span.end)
    }

    fn value(&self, place: f64) -> f64 {
        match self.logarithmic {
            true => 10_f64.powf(place),
            false => place,
        }
    }

    /// How many characters the longest label has.
    pub fn longest(&self) -> usize {
        let lengths = self.ticks.iter().map(|(_, label)| label.chars().count());
        lengths.max().unwrap_or(0)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let place = match self.logarithmic {
            true => value.max(f64::MIN_POSITIVE).log10(),
            false => *value,
        };
        let inside = place.clamp(self.span.start, self.span.end);
        RangedCoordf64::from(self.span.clone()).map(&inside, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.ticks.iter().map(|(tick, _)| *tick).collect(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.low()..self.high()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == value);
        tick.map_or_else(String::new, |(_, label)| label.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticks(axis: &Axis) -> Vec<f64> {
        axis.ticks.iter().map(|(tick, _)| *tick).collect()
    }

    proptest! {
        #[test]
        fn ticks_are_inside_even_and_neither_few_nor_many(
            low in -1e4..1e4_f64,
            width in 1e-4..1e4_f64,
            most in 3..9_usize,
        ) {
            let axis = Axis::over(low..low + width).ticks(most, label);
            let ticks = ticks(&axis);
            prop_assert!(ticks.len() >= most / 3 && ticks.len() <= most + 1, "{ticks:?}");
            let slack = 1e-9 * (low.abs() + width);
            prop_assert!(ticks.iter().all(|t| *t >= low - slack && *t <= low + width + slack));
        }

        #[test]
        fn any_values_can_be_fitted_and_drawn(
            values in prop::collection::vec(any::<f64>(), 0..5),
            scale in prop::num::f64::ANY,
        ) {
            let near: Vec<f64> = values.iter().map(|value| scale + 1e-12 * value).collect();
            for values in [&values, &near] {
                for axis in [
                    Axis::fit(values.iter().copied()).ticks(5, label),
                    Axis::fit(values.iter().copied()).whole(8),
                    Axis::logarithmic(values.iter().copied().filter(|value| *value > 0.0)),
                ] {
                    prop_assert!(axis.span.start < axis.span.end);
                    prop_assert!(axis.ticks.len() < 16, "{axis:?}");
                    for value in values {
                        let place = axis.map(value, (1000, 0));
                        prop_assert!(value.is_nan() || (0..=1000).contains(&place), "{place} of {axis:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn fits_anything() {
        for values in [vec![], vec![f64::NAN], vec![3.0], vec![0.0], vec![1.0, 2.0]] {
            let axis = Axis::fit(values.clone().into_iter());
            assert!(axis.low() < axis.high(), "{values:?}");
        }
    }

    #[test]
    fn labels_belong_to_their_ticks() {
        let axis = Axis::over(0.0..1.0).ticks(6, label);
        let told = ticks(&axis)
            .iter()
            .map(|tick| axis.format_ext(tick))
            .collect::<Vec<_>>();
        assert_eq!(told, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let axis = Axis::logarithmic([1e-6, 1e7].into_iter());
        let told: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(told, ["1e−6", "0.0001", "0.01", "1", "100", "10000", "1e6"]);
        let axis = Axis::logarithmic([0.01, 10.0].into_iter());
        assert_eq!(ticks(&axis), [0.01, 0.1, 1.0, 10.0]);
        // The library alone has no number here.
        let axis = Axis::over(8318.064638620688..8383.443753772).ticks(3, label);
        assert_eq!(axis.ticks, [(8350.0, "8350".to_owned())]);
        let axis = Axis::fit([1.0].into_iter()).whole(8);
        assert_eq!(ticks(&axis), [1.0]);
    }
}
