//! `probe.json`: what instruments measured of a run.

use serde::{Deserialize, Serialize};

use crate::number::{number, numbers};

/// The readings of some instruments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// One each.
    pub instruments: Vec<Instrument>,
}

impl Probe {
    /// Takes in what was measured later: of an instrument that is known already, the later.
    pub fn update(&mut self, later: Self) {
        for instrument in later.instruments {
            match self
                .instruments
                .iter_mut()
                .find(|known| known.name == instrument.name)
            {
                Some(known) => *known = instrument,
                None => self.instruments.push(instrument),
            }
        }
    }
}

/// What one instrument measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instrument {
    /// As `--only` names it.
    pub name: String,
    /// For people.
    pub title: String,
    /// What was measured, how, and what the intervals are.
    pub measure: String,
    /// What the readings mean, in a sentence.
    pub meaning: String,
    /// The numbers.
    pub readings: Vec<Reading>,
    /// The plots.
    pub figures: Vec<Figure>,
}

/// A number with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Of what.
    pub of: String,
    /// The number.
    #[serde(deserialize_with = "number")]
    pub value: f64,
    /// Where it lies with 95 % confidence; both ends are the value where it was counted.
    #[serde(deserialize_with = "numbers")]
    pub interval: [f64; 2],
    /// Follows the number, as in `%`; shares are 0..=1 and have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
}

/// A plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// For people.
    pub title: String,
    /// What the horizontal axis is, with its unit.
    pub x: String,
    /// What the vertical axis is, with its unit.
    pub y: String,
    /// The names of places 0, 1, … of the horizontal axis, such as layers; none where it is a number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<String>,
    /// Whether the horizontal axis is logarithmic.
    #[serde(default)]
    pub logarithmic: bool,
    /// The lines.
    pub curves: Vec<Curve>,
}

/// A line of a plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What it is of.
    pub name: String,
    /// From left to right.
    pub points: Vec<Point>,
}

/// A point with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Where.
    #[serde(deserialize_with = "number")]
    pub x: f64,
    /// How much.
    #[serde(deserialize_with = "number")]
    pub y: f64,
    /// With 95 % confidence.
    #[serde(deserialize_with = "numbers")]
    pub interval: [f64; 2],
}

/// `doctor.json`: what is wrong with a run, worst first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// What was found.
    pub findings: Vec<Finding>,
    /// What was looked at.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Whether there is anything worse than a note.
    pub fn alarms(&self) -> bool {
        let alarm = |finding: &Finding| finding.severity != Severity::Note;
        self.findings.iter().any(alarm)
    }
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The check that found it.
    pub check: String,
    /// What is wrong, in a few words.
    pub title: String,
    /// The numbers that show it.
    pub evidence: String,
    /// What most likely brought it about.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// How bad a finding is; the worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// What the run says of itself, or is used for, is wrong.
    Error,
    /// It costs something, or is likely to.
    Warning,
    /// Worth knowing.
    Note,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What must be so.
    pub holds: String,
    /// Why it could not be looked at, if it could not.
    #[serde(default)]
    pub skipped: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_can_be_read_again() {
        let point = Point {
            x: 1.0,
            y: f64::NAN,
            interval: [f64::NEG_INFINITY, 2.0],
        };
        let text = serde_json::to_string(&point).unwrap();
        let read: Point = serde_json::from_str(&text).unwrap();
        assert!(read.y.is_nan() && read.interval[0].is_nan() && read.interval[1] == 2.0);
    }

    #[test]
    fn the_worst_come_first() {
        assert!(Severity::Error < Severity::Warning && Severity::Warning < Severity::Note);
    }
}
