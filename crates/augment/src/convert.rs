//! The last step: 8-bit pixels to normalized numbers, channels first.

use multiversion::multiversion;
use serde::{Deserialize, Serialize};

use crate::ops::Colours;
use crate::strip::Planes;
use crate::{Error, Image};

/// y\[c, i, j\] = (x\[i, j, c\]/255 − mean\[c\])/std\[c\].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// Per channel, on the scale 0..1.
    pub mean: Vec<f32>,
    /// Per channel, on the scale 0..1.
    pub std: Vec<f32>,
}

/// A [`Normalize`] as one table of 256 results a channel.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    tables: Vec<[f32; 256]>,
    /// Those that give all results to the bit, if there are any: they are faster computed than looked up.
    lines: Option<Vec<Line>>,
}

impl Normalize {
    pub(crate) fn tables(&self, channels: usize) -> Result<Tables, Error> {
        let Self { mean, std } = self;
        for (name, values) in [("mean", mean), ("std", std)] {
            if values.len() != channels {
                return Err(Error::Normalize(format!(
                    "{name}: expected a value for each of {channels} channels, found {}",
                    values.len()
                )));
            }
        }
        if let Some(mean) = mean.iter().find(|value| !value.is_finite()) {
            return Err(Error::Normalize(format!(
                "mean: expected finite values, found {mean}"
            )));
        }
        if let Some(std) = std
            .iter()
            .find(|value| !value.is_finite() || **value <= 0.0)
        {
            return Err(Error::Normalize(format!(
                "std: expected values above 0, found {std}"
            )));
        }
        let table = |(&mean, &std): (&f32, &f32)| {
            let table: [f32; 256] = std::array::from_fn(|level| {
                ((level as f64 / 255.0 - f64::from(mean)) / f64::from(std)) as f32
            });
            if table.iter().all(|value| value.is_finite()) {
                Ok(table)
            } else {
                Err(Error::Normalize(format!(
                    "std: {std} with mean {mean} gives infinite values; expected a larger one"
                )))
            }
        };
        let tables = mean.iter().zip(std).map(table);
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        let line = |(&mean, &std): (&f32, &f32)| {
            let std = f64::from(std);
            Line::new(1.0 / (255.0 * std), -f64::from(mean) / std)
        };
        let lines: Vec<_> = mean.iter().zip(std).map(line).collect();
        let same = lines.iter().zip(&tables).all(|(&line, table)| {
            let mut results = (0..=255_u8).zip(table);
            results.all(|(level, result)| line.at(f32::from(level)).to_bits() == result.to_bits())
        });
        Ok(Tables {
            tables,
            lines: same.then_some(lines),
        })
    }
}

/// A line on which a channel's results lie, in `f32` but with no roundings that show: scale and offset have an upper
/// part on one grid, so that level·scale + offset is exact there, and the rest is added last.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    scale: [f32; 2],
    offset: [f32; 2],
}

impl Line {
    fn new(scale: f64, offset: f64) -> Self {
        // The line's two terms are at most 2²³ on the grid, so their sum has 24 bits at most.
        let most = (255.0 * scale).max(offset.abs());
        let grid = (most.log2().ceil() - 23.0).exp2();
        let parts = |number: f64| {
            let upper = (number / grid).round() * grid;
            [upper, number - upper].map(|part| part as f32)
        };
        Self {
            scale: parts(scale),
            offset: parts(offset),
        }
    }

    #[inline(always)]
    fn at(self, level: f32) -> f32 {
        let [upper, rest] = [0, 1].map(|part| level * self.scale[part] + self.offset[part]);
        upper + rest
    }
}

/// Where the numbers of an image of three channels go, and how they are made.
pub(crate) struct Numbers<'a> {
    tables: &'a [[f32; 256]],
    /// They give the same.
    lines: Option<&'a [Line; 3]>,
    output: &'a mut [f32],
}

impl Numbers<'_> {
    /// Writes those of the first `count` pixels of a strip that begins with pixel `first`.
    #[inline(always)]
    pub fn write(&mut self, planes: &Planes, first: usize, count: usize) {
        let all = self.output.len() / 3;
        for channel in 0..3 {
            let output = &mut self.output[channel * all + first..][..count];
            let plane = &planes.0[channel];
            if let Some(lines) = self.lines {
                let line = lines[channel];
                for i in 0..count {
                    output[i] = line.at(f32::from(plane[i]));
                }
            } else {
                let table = &self.tables[channel];
                for i in 0..count {
                    output[i] = table[usize::from(plane[i])];
                }
            }
        }
    }
}

impl Tables {
    /// Writes channels·height·width numbers of what becomes of the image's colours first. Its pixels are spent.
    pub(crate) fn write(&self, image: &mut Image, mut first: Colours, output: &mut [f32]) {
        let lines = self.lines.as_deref();
        if self.tables.len() == 3 {
            let numbers = Numbers {
                tables: &self.tables,
                lines: lines.and_then(|lines| lines.try_into().ok()),
                output,
            };
            first.write(image, numbers);
            return;
        }
        let last = first.pop_table();
        first.apply(image);
        match (last, lines) {
            (None, Some(&[line])) => compute(line, image.pixels(), output),
            (None, _) => look_up(&self.tables, image, output),
            (Some(levels), _) => {
                let colours = if self.tables.len() < 3 { 1 } else { 3 };
                let mut tables = self.tables.clone();
                for (channel, table) in tables.iter_mut().enumerate().take(colours) {
                    *table = behind(table, levels.of(channel));
                }
                look_up(&tables, image, output);
            }
        }
    }
}

/// A table of numbers behind one of levels.
fn behind(numbers: &[f32; 256], levels: &[u8; 256]) -> [f32; 256] {
    levels.map(|level| numbers[usize::from(level)])
}

fn look_up(tables: &[[f32; 256]], image: &Image, output: &mut [f32]) {
    let plane = image.width() * image.height();
    let planes = output.chunks_exact_mut(plane);
    for ((channel, table), output) in tables.iter().enumerate().zip(planes) {
        let levels = image.pixels()[channel..].iter().step_by(tables.len());
        for (output, &level) in output.iter_mut().zip(levels) {
            *output = table[usize::from(level)];
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn compute(line: Line, levels: &[u8], output: &mut [f32]) {
    for (output, &level) in output.iter_mut().zip(levels) {
        *output = line.at(f32::from(level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_formula() {
        let normalize = Normalize {
            mean: vec![0.5, 0.25],
            std: vec![0.5, 2.0],
        };
        let mut image = Image::new(2, 1, 2, vec![0, 255, 51, 102]).unwrap();
        let mut output = [0.0; 4];
        normalize
            .tables(2)
            .unwrap()
            .write(&mut image, Colours::default(), &mut output);
        assert_eq!(output, [-1.0, -0.6, 0.375, 0.075]);
    }

    /// Numbers computed on lines are those of the tables; and it is lines that the usual settings are computed on.
    #[test]
    fn lines_give_what_tables_hold() {
        let imagenet = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let cifar = ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]);
        let levels = ([0.0; 3], [1.0 / 255.0; 3]);
        for (mean, std) in [imagenet, cifar, levels, ([0.5; 3], [0.5; 3])] {
            let normalize = Normalize {
                mean: mean.into(),
                std: std.into(),
            };
            let tables = normalize.tables(3).unwrap();
            assert!(tables.lines.is_some(), "{normalize:?}");
            // More than a strip, and not a whole number of them.
            let pixels = (0..3 * 23 * 31).map(|i| (i * 7 % 256) as u8).collect();
            let mut image = Image::new(23, 31, 3, pixels).unwrap();
            let (mut found, mut expected) = (vec![0.0; 3 * 23 * 31], vec![1.0; 3 * 23 * 31]);
            look_up(&tables.tables, &image, &mut expected);
            tables.write(&mut image, Colours::default(), &mut found);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn bad_settings_are_named() {
        let normalize = |mean: f32, std: f32| Normalize {
            mean: vec![mean],
            std: vec![std],
        };
        for (settings, problem) in [
            (normalize(0.0, 0.0), "std: expected values above 0"),
            (normalize(f32::NAN, 1.0), "mean: expected finite"),
            (normalize(0.0, 1e-40), "gives infinite values"),
        ] {
            assert!(
                settings
                    .tables(1)
                    .unwrap_err()
                    .to_string()
                    .contains(problem)
            );
        }
        assert!(
            normalize(0.0, 1.0)
                .tables(3)
                .unwrap_err()
                .to_string()
                .contains("3 channels")
        );
    }
}
