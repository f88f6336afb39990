//! From values to places on a plot, and the round numbers to label.

/// A linear map of `low..high` to `start..end`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub low: f64,
    pub high: f64,
    pub start: f64,
    pub end: f64,
}

impl Scale {
    /// Fits finite values, with some room; never empty.
    pub fn fit(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let room = if high > low {
            0.06 * (high - low)
        } else {
            0.5 * low.abs().max(1e-3)
        };
        Self {
            low: low - room,
            high: high + room,
            start,
            end,
        }
    }

    pub fn at(&self, value: f64) -> f64 {
        self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    /// Round numbers within the range, about `count` of them: steps of 1, 2 or 5 times a power of
    /// ten.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / count.max(1) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(10.0 * power);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last)
            .map(|multiple| multiple as f64 * step)
            .collect()
    }
}

/// A tick's label: as many decimals as its step needs.
pub fn label(tick: f64, step: f64) -> String {
    let decimals = (-step.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    if tick != 0.0 && (tick.abs() >= 1e5 || step < 1e-5) {
        return format!("{tick:.1e}");
    }
    format!("{tick:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ticks_are_inside_even_and_neither_few_nor_many(
            low in -1e4..1e4_f64,
            width in 1e-4..1e4_f64,
            count in 3..9_usize,
        ) {
            let scale = Scale { low, high: low + width, start: 0.0, end: 1.0 };
            let ticks = scale.ticks(count);
            prop_assert!(ticks.len() >= count / 3 && ticks.len() <= count + 1, "{ticks:?}");
            let slack = 1e-9 * (low.abs() + width);
            prop_assert!(ticks.iter().all(|t| *t >= low - slack && *t <= low + width + slack));
        }
    }

    #[test]
    fn fits_anything() {
        for values in [vec![], vec![f64::NAN], vec![3.0], vec![0.0], vec![1.0, 2.0]] {
            let scale = Scale::fit(values.clone().into_iter(), 0.0, 1.0);
            assert!(scale.low < scale.high, "{values:?}");
        }
    }

    #[test]
    fn labels_have_the_decimals_they_need() {
        assert_eq!(
            [label(0.25, 0.05), label(20.0, 10.0), label(0.001, 0.001)],
            ["0.25", "20", "0.001"]
        );
    }
}
