//! Changes of colours in a row, taken together: an image of three channels is gone over once, and once more for each
//! step that must know the whole image as the steps before it make it.
//!
//! Each step gives whole levels, clipped, so the result is that of the steps one by one.

mod differences;
mod lanes;
mod pass;
#[cfg(target_arch = "x86_64")]
mod vectors;

use differences::Differences;
use pass::{End, Step, pass};

use super::point::{self, Levels, Table};
use crate::Image;
use crate::convert::Numbers;

/// A change of each pixel's colour.
#[derive(Clone, Debug)]
pub(crate) enum Colour {
    Levels(Levels),
    /// A blend of the image's mean gray, rounded, with the pixel, by a factor.
    Contrast(f32),
    /// A blend of the pixel's gray with the pixel, by a factor.
    Saturation(f32),
    /// A table for each channel, made of how often each level occurs there.
    Counted(fn(&[u32; 256]) -> Table),
}

/// Some in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Colours {
    steps: Vec<Colour>,
}

impl Extend<Colour> for Colours {
    fn extend<T: IntoIterator<Item = Colour>>(&mut self, steps: T) {
        steps.into_iter().for_each(|step| self.push(step));
    }
}

impl Colours {
    /// Adds a step. Tables in a row become one.
    pub fn push(&mut self, step: Colour) {
        match (self.steps.last_mut(), step) {
            (Some(Colour::Levels(before)), Colour::Levels(levels)) => before.then(&levels),
            (_, step) => self.steps.push(step),
        }
    }

    /// Takes away the last step, if it is tables that are known.
    pub fn pop_table(&mut self) -> Option<Levels> {
        match self.steps.pop() {
            Some(Colour::Levels(levels)) if levels.as_blend().is_none() => Some(levels),
            step => {
                self.steps.extend(step);
                None
            }
        }
    }

    pub fn apply(&self, image: &mut Image) {
        if image.channels() == 3 {
            self.run(image, End::Pixels);
            return;
        }
        for step in &self.steps {
            match step {
                Colour::Levels(levels) => levels.apply(image),
                Colour::Contrast(factor) => {
                    Levels::blend(mean_gray(image), *factor).apply(image);
                }
                Colour::Saturation(factor) => point::recolor(image, |colour| {
                    let gray = point::gray(colour);
                    colour.map(|level| point::blend(gray, level, *factor))
                }),
                Colour::Counted(table) => {
                    let tables: Vec<_> = point::histograms(image).iter().map(table).collect();
                    point::map_each(image, &tables);
                }
            }
        }
    }

    /// Makes numbers of what becomes of an image of three channels; its pixels are spent.
    pub fn write(&self, image: &mut Image, numbers: Numbers<'_>) {
        self.run(image, End::Numbers(numbers));
    }

    fn run(&self, image: &mut Image, mut end: End<'_>) {
        let count = (image.width() * image.height()) as u64;
        let mut steps = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let step = match step {
                Colour::Levels(levels) => Step::Levels(levels.clone()),
                Colour::Saturation(factor) => Step::Saturation(Box::new(Differences::new(*factor))),
                Colour::Contrast(factor) => {
                    let mut sum = 0;
                    pass(image.pixels_mut(), &steps, &mut End::Sum(&mut sum));
                    steps.clear();
                    Step::Levels(Levels::blend(mean(sum, count), *factor))
                }
                Colour::Counted(table) => {
                    if !steps.is_empty() {
                        pass(image.pixels_mut(), &steps, &mut End::Pixels);
                        steps.clear();
                    }
                    let counts = point::histograms(image);
                    Step::Levels(Levels::each(
                        [0, 1, 2].map(|channel| table(&counts[channel])),
                    ))
                }
            };
            steps.push(step);
        }
        if !steps.is_empty() || matches!(end, End::Numbers(_)) {
            pass(image.pixels_mut(), &steps, &mut end);
        }
    }
}

/// The mean of the gray levels of an image that is not of three channels.
fn mean_gray(image: &Image) -> u8 {
    let sum: u64 = match image.channels() {
        channels @ (1 | 2) => {
            let levels = image.pixels().iter().step_by(channels);
            levels.map(|&level| u64::from(level)).sum()
        }
        channels => {
            let pixels = image.pixels().chunks_exact(channels);
            let grays = pixels.map(|pixel| point::gray([pixel[0], pixel[1], pixel[2]]));
            grays.map(u64::from).sum()
        }
    };
    mean(sum, (image.width() * image.height()) as u64)
}

/// Rounded to the nearest, a half upwards.
fn mean(sum: u64, count: u64) -> u8 {
    ((2 * sum + count) / (2 * count)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Normalize;
    use proptest::prelude::*;

    /// The definition: pixel by pixel, step by step.
    fn naive(image: &Image, steps: &[Colour]) -> Vec<Vec<u8>> {
        let channels = image.channels();
        let colours = point::color_channels(channels);
        let mut pixels: Vec<Vec<u8>> = image.pixels().chunks(channels).map(Vec::from).collect();
        let gray = |pixel: &[u8]| match colours {
            1 => pixel[0],
            _ => point::gray([pixel[0], pixel[1], pixel[2]]),
        };
        for step in steps {
            let count = pixels.len() as f64;
            let total: f64 = pixels.iter().map(|pixel| f64::from(gray(pixel))).sum();
            let mean = (total / count + 0.5).floor() as u8;
            let tables: Vec<Table> = (0..colours)
                .map(|channel| match step {
                    Colour::Levels(levels) => *levels.of(channel),
                    Colour::Contrast(factor) => {
                        point::table(|level| point::blend(mean, level, *factor))
                    }
                    Colour::Saturation(_) => point::table(|level| level),
                    Colour::Counted(table) => {
                        let mut counts = [0; 256];
                        for pixel in &pixels {
                            counts[usize::from(pixel[channel])] += 1;
                        }
                        table(&counts)
                    }
                })
                .collect();
            for pixel in &mut pixels {
                let own = gray(pixel);
                for (level, table) in pixel.iter_mut().zip(&tables) {
                    *level = table[usize::from(*level)];
                    if let Colour::Saturation(factor) = step {
                        *level = point::blend(own, *level, *factor);
                    }
                }
            }
        }
        pixels
    }

    /// Levels below how many others there are, in some sense: each count matters.
    fn ranks(counts: &[u32; 256]) -> Table {
        let mut sum = 0;
        counts.map(|count| {
            sum += count;
            (sum % 256) as u8
        })
    }

    fn any_step(channels: usize) -> impl Strategy<Value = Colour> {
        let factor = || 0.0..3.0_f32;
        let shifts = prop::array::uniform3(any::<u8>()).prop_map(move |shifts| {
            let tables = shifts.map(|shift| point::table(|level| level.wrapping_mul(37) ^ shift));
            Colour::Levels(match channels {
                1 | 2 => Levels::all(tables[0]),
                _ => Levels::each(tables),
            })
        });
        prop_oneof![
            (prop_oneof![Just(0), any::<u8>()], factor())
                .prop_map(|(a, f)| Colour::Levels(Levels::blend(a, f))),
            shifts,
            factor().prop_map(Colour::Contrast),
            factor().prop_map(Colour::Saturation),
            Just(Colour::Counted(ranks)),
        ]
    }

    fn any_case() -> impl Strategy<Value = (Image, Vec<Colour>)> {
        (1..5_usize).prop_flat_map(|channels| {
            // Up to some strips, whole and not.
            let image =
                (1..60_usize, 1..60_usize, any::<u64>()).prop_map(move |(width, height, seed)| {
                    let mut draws = evenkeel_random::Key::from_seed(seed).draws();
                    let count = width * height * channels;
                    let pixels = (0..count).map(|_| draws.below(256) as u8).collect();
                    Image::new(width, height, channels, pixels).expect("within the limits")
                });
            (image, prop::collection::vec(any_step(channels), 0..6))
        })
    }

    proptest! {
        #[test]
        fn pixels_and_numbers_are_those_of_the_definition((image, steps) in any_case()) {
            let expected = naive(&image, &steps);
            let mut colours = Colours::default();
            colours.extend(steps);
            let mut found = image.clone();
            colours.apply(&mut found);
            prop_assert_eq!(found.pixels(), expected.concat());

            let channels = image.channels();
            // On lines, and not: so small a deviation that lines do not hold to the last bit.
            for std in [1.0, 1e-3 / 255.0] {
                let normalize = Normalize { mean: vec![0.4; channels], std: vec![std; channels] };
                let mut numbers = vec![f32::NAN; image.pixels().len()];
                let tables = normalize.tables(channels).expect("valid");
                tables.write(&mut image.clone(), colours.clone(), &mut numbers);
                for (i, pixel) in expected.iter().enumerate() {
                    for (channel, &level) in pixel.iter().enumerate() {
                        let number = (f64::from(level) / 255.0 - f64::from(0.4_f32)) / f64::from(std);
                        let found = numbers[channel * expected.len() + i];
                        prop_assert_eq!(found.to_bits(), (number as f32).to_bits());
                    }
                }
            }
        }
    }
}
