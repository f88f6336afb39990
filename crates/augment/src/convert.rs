//! The last step: 8-bit pixels to normalized numbers, channels first.

use multiversion::multiversion;
use serde::{Deserialize, Serialize};

use crate::ops::Levels;
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
    /// (scale, offset) per channel of the line that all results lie on, rounded: faster computed than looked up.
    lines: Option<Vec<[f64; 2]>>,
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
            [1.0 / (255.0 * std), -f64::from(mean) / std]
        };
        let lines: Vec<_> = mean.iter().zip(std).map(line).collect();
        let same = lines.iter().zip(&tables).all(|(&line, table)| {
            let mut results = (0..=255).zip(table);
            results.all(|(level, result)| on(line, level).to_bits() == result.to_bits())
        });
        Ok(Tables {
            tables,
            lines: same.then_some(lines),
        })
    }
}

#[inline(always)]
fn on([scale, offset]: [f64; 2], level: u8) -> f32 {
    (f64::from(level) * scale + offset) as f32
}

impl Tables {
    /// Writes channels·height·width numbers, of the levels that the image's become first, if they do.
    pub(crate) fn write(&self, image: &Image, first: Option<&Levels>, output: &mut [f32]) {
        if let Some(levels) = first {
            let colours = if self.tables.len() < 3 { 1 } else { 3 };
            let mut tables = self.tables.clone();
            for (channel, table) in tables.iter_mut().enumerate().take(colours) {
                let numbers = self.tables[channel];
                *table = levels.of(channel).map(|level| numbers[usize::from(level)]);
            }
            look_up(&tables, image, output);
            return;
        }
        match self.lines.as_deref() {
            Some(&[line]) => compute(line, image.pixels(), output),
            Some(&[red, green, blue]) => compute_three([red, green, blue], image.pixels(), output),
            _ => look_up(&self.tables, image, output),
        }
    }
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
fn compute(line: [f64; 2], levels: &[u8], output: &mut [f32]) {
    for (output, &level) in output.iter_mut().zip(levels) {
        *output = on(line, level);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn compute_three(lines: [[f64; 2]; 3], levels: &[u8], output: &mut [f32]) {
    const TOGETHER: usize = 16;
    let plane = levels.len() / 3;
    let (red, rest) = output.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    let (blocks, rest) = levels.as_chunks::<{ 3 * TOGETHER }>();
    let [(reds, red), (greens, green), (blues, blue)] = [
        red.as_chunks_mut::<TOGETHER>(),
        green.as_chunks_mut::<TOGETHER>(),
        blue.as_chunks_mut::<TOGETHER>(),
    ];
    // A scale and an offset for each of the block's levels.
    let (mut scales, mut offsets) = ([0.0; 3 * TOGETHER], [0.0; 3 * TOGETHER]);
    for i in 0..3 * TOGETHER {
        [scales[i], offsets[i]] = lines[i % 3];
    }
    for (((block, red), green), blue) in blocks.iter().zip(reds).zip(greens).zip(blues) {
        let mut numbers = [0.0; 3 * TOGETHER];
        for i in 0..3 * TOGETHER {
            numbers[i] = on([scales[i], offsets[i]], block[i]);
        }
        for i in 0..TOGETHER {
            red[i] = numbers[3 * i];
            green[i] = numbers[3 * i + 1];
            blue[i] = numbers[3 * i + 2];
        }
    }
    let rest = rest.as_chunks::<3>().0;
    for (output, channel) in [red, green, blue].into_iter().zip(0..3) {
        for (output, colour) in output.iter_mut().zip(rest) {
            *output = on(lines[channel], colour[channel]);
        }
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
        let image = Image::new(2, 1, 2, vec![0, 255, 51, 102]).unwrap();
        let mut output = [0.0; 4];
        normalize
            .tables(2)
            .unwrap()
            .write(&image, None, &mut output);
        assert_eq!(output, [-1.0, -0.6, 0.375, 0.075]);
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
