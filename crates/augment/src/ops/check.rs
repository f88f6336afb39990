//! Checks of single settings. Each message names the field, what was expected and what was found.

use std::ops::RangeInclusive;

/// The greatest factor of a blend: far beyond what keeps anything of an image.
pub(super) const MOST_FACTOR: f64 = 100.0;

/// Checks a number.
pub(super) fn number(name: &str, value: f64, range: RangeInclusive<f64>) -> Result<(), String> {
    if range.contains(&value) {
        Ok(())
    } else {
        let (least, most) = range.into_inner();
        Err(format!("{name}: expected {least} to {most}, found {value}"))
    }
}

/// Checks a probability.
pub(super) fn probability(name: &str, value: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(format!(
            "{name}: expected a probability from 0 to 1, found {value}"
        ))
    }
}

/// Checks a count or a number of pixels.
pub(super) fn count(name: &str, value: usize, range: RangeInclusive<usize>) -> Result<(), String> {
    if range.contains(&value) {
        Ok(())
    } else {
        let (least, most) = range.into_inner();
        Err(format!("{name}: expected {least} to {most}, found {value}"))
    }
}

/// Checks the ends of a range to draw from.
pub(super) fn range(
    name: &str,
    [low, high]: [f64; 2],
    within: RangeInclusive<f64>,
) -> Result<(), String> {
    number(name, low, within.clone())?;
    number(name, high, within)?;
    if low <= high {
        Ok(())
    } else {
        Err(format!(
            "{name}: expected the lower end first, found [{low}, {high}]"
        ))
    }
}
