//! The forest plot: each arm's difference to the baseline with its interval, in a row each.

use std::borrow::Cow;

use evenkeel_record::{Arm, Comparison, Difference, Estimate};
use plotters::element::{Circle, ErrorBar, PathElement, Text};
use plotters::prelude::Color;
use plotters::style::text_anchor::{HPos, VPos};

use crate::axis::Axis;
use crate::canvas::{
    Area, BOTTOM, Chart, Failure, Frame, Grid, Role, SIDE, TEXT, WIDTH, ends, picture,
};
use crate::comparison::signed;
use crate::figure;
use crate::html::escape;
use crate::number::label;

const TOP: u32 = 60;
/// A line of a name, and of what a row has besides: the interval and the space below.
const LINE: u32 = TEXT + 40;
const INTERVAL: u32 = 260;
/// How wide a character of a name is, and of the figures beside it.
const LETTER: u32 = 70;
const DIGIT: u32 = 73;
/// Of a name, whatever stands beside it.
const FEWEST: u32 = 12;
const DOT: u32 = 48;
/// The ends of intervals: short ones are within the dot.
const CAPS: u32 = 72;

struct Row<'a> {
    arm: &'a Arm,
    difference: &'a Difference,
    /// The name in lines.
    name: Vec<String>,
    figures: String,
}

impl<'a> Row<'a> {
    /// Nothing for the baseline. A name has as many lines as it needs beside the figures.
    fn of(arm: &'a Arm) -> Option<Self> {
        let difference = arm.difference.as_ref()?;
        let figures = told(difference);
        let room = (WIDTH - 2 * SIDE).saturating_sub(DIGIT * figures.chars().count() as u32);
        let most = (room / LETTER).max(FEWEST) as usize;
        let name = textwrap::wrap(&arm.name, most).into_iter();
        Some(Self {
            arm,
            difference,
            name: name.map(Cow::into_owned).collect(),
            figures,
        })
    }

    fn height(&self) -> u32 {
        LINE * self.name.len() as u32 + INTERVAL
    }
}

/// The difference with its interval, in points.
fn told(difference: &Difference) -> String {
    let Estimate { value, interval } = difference.accuracy;
    let interval = interval.map_or_else(String::new, |interval| {
        format!(
            " ({} to {})",
            signed(100.0 * interval.low),
            signed(100.0 * interval.high)
        )
    });
    format!("{}{interval}", signed(100.0 * value))
}

/// The section; nothing where there are no differences.
pub fn render(comparison: &Comparison) -> String {
    let rows: Vec<Row<'_>> = comparison.arms.iter().filter_map(Row::of).collect();
    let Some(baseline) = comparison.arms.first().filter(|_| !rows.is_empty()) else {
        return String::new();
    };
    let told = rows
        .iter()
        .map(|row| format!("{} {}", row.arm.name, row.figures));
    let alternative = format!(
        "Difference of accuracy: {}",
        told.collect::<Vec<_>>().join("; ")
    );
    let height = rows.iter().map(Row::height).sum::<u32>();
    let drawn = picture(TOP + height + BOTTOM, &alternative, |area| {
        draw(area, &rows, height)
    });
    format!(
        "<h2>Differences</h2><p>Accuracy minus that of {}: the mean, and the 95\u{a0}% interval. An interval across the \
         line says that chance could have done it.</p><div class=\"plots\">{}</div>",
        escape(&baseline.name),
        figure::card("Difference of accuracy, in points", &[], drawn)
    )
}

fn draw(area: &Area<'_>, rows: &[Row<'_>], height: u32) -> Result<(), Failure> {
    let values = rows.iter().flat_map(|row| {
        let accuracy = row.difference.accuracy;
        let ends = ends(accuracy).map(|(low, high)| [low, high]);
        ends.into_iter().flatten().chain([accuracy.value])
    });
    let x = Axis::fit(values.map(|value| 100.0 * value).chain([0.0])).ticks(7, label);
    let (left, right) = (x.low(), x.high());
    let frame = Frame {
        x,
        // Downwards from 0, in the picture's own unit.
        y: Axis::over(-f64::from(height)..0.0),
        name: "points of accuracy, more is better",
        grid: Grid::X,
        top: TOP,
        bottom: BOTTOM,
    };
    let mut chart = frame.draw(area)?;
    let zero = vec![(0.0, -f64::from(height)), (0.0, 0.0)];
    chart.draw_series([PathElement::new(zero, Role::Zero.line())])?;
    let mut top = 0;
    for row in rows {
        draw_row(&mut chart, (left, right), top, row)?;
        top += row.height();
    }
    Ok(())
}

fn draw_row(
    chart: &mut Chart<'_>,
    (left, right): (f64, f64),
    top: u32,
    row: &Row<'_>,
) -> Result<(), Failure> {
    let name = Role::Name.text(HPos::Left, VPos::Top);
    chart.draw_series((0..).zip(&row.name).map(|(index, line)| {
        let y = -f64::from(top + LINE * index);
        Text::new(line.clone(), (left, y), name.clone())
    }))?;
    let accuracy = row.difference.accuracy;
    if !accuracy.value.is_finite() {
        return Ok(());
    }
    let figures = Role::Beside.text(HPos::Right, VPos::Top);
    let at = (right, -f64::from(top));
    chart.draw_series([Text::new(row.figures.clone(), at, figures)])?;
    let y = -f64::from(top + LINE * row.name.len() as u32 + INTERVAL / 3);
    let value = 100.0 * accuracy.value;
    if let Some((low, high)) = ends(accuracy) {
        let [low, high] = [low, high].map(|end| 100.0 * end);
        let bar = ErrorBar::new_horizontal(y, low, value, high, Role::Plain.line(), CAPS);
        chart.draw_series([bar])?;
    }
    let dot = Circle::new((value, y), DOT, Role::Plain.color().filled());
    chart.draw_series([dot])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use evenkeel_record::Pairs;
    use evenkeel_statistics::Interval;

    use super::*;

    fn arm(name: &str, difference: Option<Estimate>) -> Arm {
        let none = Estimate::new(f64::NAN, None);
        Arm {
            name: name.into(),
            settings: Vec::new(),
            seeds: vec![0],
            accuracies: vec![0.9],
            test_accuracy: none,
            train_accuracy: none,
            gap: none,
            test_loss: none,
            seconds: none,
            difference: difference.map(|accuracy| Difference {
                accuracy,
                pairs: 1,
                p_value: None,
                corrected: None,
            }),
            curve: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn page(arms: Vec<Arm>) -> String {
        render(&Comparison {
            title: "t".into(),
            source: "s".into(),
            held_out: false,
            pairs: Pairs::Seeds,
            machine: None,
            arms,
        })
    }

    #[test]
    fn long_names_are_there_to_the_last_word() {
        let words: Vec<String> = (0..40).map(|word| format!("word{word}")).collect();
        let long = words.join(" ");
        let unbroken = "x".repeat(200);
        let value = Some(Estimate::new(0.01, None));
        let html = page(vec![
            arm("baseline", None),
            arm(&long, value),
            arm(&unbroken, value),
        ]);
        let texts: Vec<&str> = html
            .split("<text ")
            .skip(1)
            .filter_map(|text| text.split_once('>')?.1.split_once('<'))
            .map(|(text, _)| text.trim())
            .collect();
        let room = (WIDTH - 2 * SIDE - DIGIT * "+1.00".len() as u32) / LETTER;
        let longest = texts.iter().map(|text| text.len()).max();
        assert!(longest <= Some(room as usize), "{texts:?}");
        let names = texts.join(" ");
        assert!(words.iter().all(|word| names.contains(word)), "{names}");
        assert_eq!(names.matches('x').count(), 200);
    }

    #[test]
    fn any_difference_can_be_drawn() {
        let ends = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            0.0,
            1e-320,
        ];
        let mut arms = vec![arm("baseline", None)];
        for value in ends {
            for low in ends {
                let interval = Interval { low, high: 0.1 };
                arms.push(arm("a", Some(Estimate::new(value, Some(interval)))));
            }
        }
        let html = page(arms);
        let finite = ends.iter().filter(|end| end.is_finite()).count();
        let dots = html.matches("class=\"fill plain\"").count();
        assert_eq!(dots, finite * ends.len());
        assert!(html.contains("<svg") && !html.contains("NaN"));
    }
}
