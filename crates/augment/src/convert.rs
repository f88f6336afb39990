//! The last step: 8-bit pixels to normalized numbers, channels first.

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
pub(crate) struct Tables(Vec<[f32; 256]>);

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
        Ok(Tables(tables.collect::<Result<_, _>>()?))
    }
}

impl Tables {
    /// Writes channels·height·width numbers, of the levels that the image's become first, if they do.
    pub(crate) fn write(&self, image: &Image, first: Option<&Levels>, output: &mut [f32]) {
        match first {
            None => self.convert(image, output),
            Some(levels) => {
                let colours = if self.0.len() < 3 { 1 } else { 3 };
                let mut tables = self.clone();
                for (channel, table) in tables.0.iter_mut().enumerate().take(colours) {
                    let numbers = self.0[channel];
                    *table = levels.of(channel).map(|level| numbers[usize::from(level)]);
                }
                tables.convert(image, output);
            }
        }
    }

    fn convert(&self, image: &Image, output: &mut [f32]) {
        let plane = image.width() * image.height();
        let planes = output.chunks_exact_mut(plane);
        let channels = self.0.len();
        for ((channel, table), output) in self.0.iter().enumerate().zip(planes) {
            let levels = image.pixels()[channel..].iter().step_by(channels);
            for (output, &level) in output.iter_mut().zip(levels) {
                *output = table[usize::from(level)];
            }
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
