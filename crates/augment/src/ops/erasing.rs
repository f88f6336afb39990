//! Random erasing: a rectangle of the image is erased.

use evenkeel_random::{Draws, Key};
use serde::{Deserialize, Serialize};

use super::resized_crop::{MOST_RATIO, place, window};
use super::{Apply, Draw, check};
use crate::Image;
use crate::size::{Size, Sizes};

/// Erases a rectangle whose area is a uniform share of the image's and whose proportions, height by
/// width, are uniform in their logarithm, at a uniform place. Ten times at most a rectangle is drawn;
/// if none is smaller than the image both ways, nothing is erased.
///
/// Dialect: torchvision's `RandomErasing` (the paper tries a hundred times and draws proportions
/// uniformly). There `value` comes after normalization; here `fill` is in the image's own 8 bits,
/// before it. Source: Zhong et al., "Random Erasing Data Augmentation" (2020).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomErasing {
    /// The probability of erasing at all.
    #[serde(default = "half")]
    pub probability: f64,
    /// The least and the greatest share of the image's area.
    #[serde(default = "usual_scale")]
    pub scale: [f64; 2],
    /// The least and the greatest height by width.
    #[serde(default = "usual_ratio")]
    pub ratio: [f64; 2],
    /// What erased pixels become.
    #[serde(default)]
    pub fill: Fill,
}

/// What erased pixels become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// This value in every channel.
    Constant(u8),
    /// Uniform levels, independent for every pixel and channel, as in the paper.
    Random,
}

impl Default for Fill {
    fn default() -> Self {
        Self::Constant(0)
    }
}

/// The rectangle erased from one image; of no width and height, if none is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedRectangle {
    /// Its left column.
    pub left: usize,
    /// Its top row.
    pub top: usize,
    /// Its columns.
    pub width: usize,
    /// Its rows.
    pub height: usize,
    /// What erased pixels become.
    pub fill: Fill,
    /// What random levels are made of.
    pub key: [u32; 2],
}

fn half() -> f64 {
    0.5
}

fn usual_scale() -> [f64; 2] {
    [0.02, 0.33]
}

fn usual_ratio() -> [f64; 2] {
    [0.3, 3.3]
}

const TRIES: usize = 10;

impl Draw for RandomErasing {
    type Parameters = ErasedRectangle;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::probability("probability", self.probability)?;
        check::range("scale", self.scale, 1e-6..=1.0)?;
        check::range("ratio", self.ratio, 1.0 / MOST_RATIO..=MOST_RATIO).map(|()| sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> ErasedRectangle {
        let mut erased = ErasedRectangle {
            left: 0,
            top: 0,
            width: 0,
            height: 0,
            fill: self.fill,
            key: [draws.word(), draws.word()],
        };
        if !draws.chance(self.probability) {
            return erased;
        }
        let area = (size.width * size.height) as f64;
        let [low, high] = self.ratio;
        for _ in 0..TRIES {
            let share = draws.between(self.scale[0], self.scale[1]);
            let ratio = draws.between(low.ln(), high.ln()).exp();
            let (height, width) = window(share * area, ratio);
            if height < size.height && width < size.width {
                erased.top = place(size.height, height, draws);
                erased.left = place(size.width, width, draws);
                (erased.width, erased.height) = (width, height);
                break;
            }
        }
        erased
    }
}

impl Apply for ErasedRectangle {
    fn check(&self, size: Size) -> Result<Size, String> {
        for (name, start, length, side) in [
            ("left", self.left, self.width, size.width),
            ("top", self.top, self.height, size.height),
        ] {
            if length > side || start > side - length {
                return Err(format!(
                    "{name}: expected at most {side} pixels inside the image, found {length} from \
                     {start} on"
                ));
            }
        }
        Ok(size)
    }

    fn apply(&self, image: &mut Image, _: &mut Vec<u8>) {
        let channels = image.channels();
        let columns = self.left * channels..(self.left + self.width) * channels;
        let mut draws = Key::from_words(self.key).draws();
        for row in image.rows_mut().skip(self.top).take(self.height) {
            let row = &mut row[columns.clone()];
            match self.fill {
                Fill::Constant(value) => row.fill(value),
                Fill::Random => {
                    for four in row.chunks_mut(4) {
                        four.copy_from_slice(&draws.word().to_le_bytes()[..four.len()]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_proportions_and_places_are_uniform() {
        let erasing = RandomErasing {
            probability: 0.8,
            scale: [0.1, 0.3],
            ratio: [0.5, 2.0],
            fill: Fill::Random,
        };
        let mut draws = Key::from_seed(6).draws();
        let (mut counts, mut none) = ([[0.0; 10]; 4], 0.0);
        for _ in 0..25_000 {
            let erased = erasing.draw(Size::new(1000, 1000), &mut draws);
            if erased.width == 0 {
                none += 1.0;
                continue;
            }
            let (width, height) = (erased.width as f64, erased.height as f64);
            let shares = [
                (width * height / 1e6 - 0.1) / 0.2,
                ((height / width).log2() + 1.0) / 2.0,
                erased.left as f64 / (1001.0 - width),
                erased.top as f64 / (1001.0 - height),
            ];
            for (counts, share) in counts.iter_mut().zip(shares) {
                counts[((share * 10.0).max(0.0) as usize).min(9)] += 1.0;
            }
        }
        assert!((none - 5e3_f64).abs() < 253.0, "{none}"); // four standard deviations
        let expected = (25_000.0 - none) / 10.0;
        for counts in counts {
            let chi = |n: &f64| (n - expected).powi(2) / expected;
            let chi: f64 = counts.iter().map(chi).sum();
            assert!(chi < 27.9, "{counts:?}"); // 9 degrees of freedom, once in a thousand
        }
    }

    #[test]
    fn exactly_the_rectangle_is_erased() {
        let plain = Image::new(7, 5, 3, vec![1; 105]).unwrap();
        for fill in [Fill::Constant(9), Fill::Random] {
            let mut image = plain.clone();
            let erased = ErasedRectangle {
                left: 2,
                top: 1,
                width: 4,
                height: 3,
                fill,
                key: [5, 6],
            };
            erased.apply(&mut image, &mut Vec::new());
            let (mut inside, mut levels) = (0, std::collections::HashSet::<u8>::new());
            for (x, y) in (0..7).flat_map(|x| (0..5).map(move |y| (x, y))) {
                if (2..6).contains(&x) && (1..4).contains(&y) {
                    inside += 1;
                    levels.extend(image.pixel(x, y));
                } else {
                    assert_eq!(image.pixel(x, y), [1; 3]);
                }
            }
            assert_eq!(inside, 12);
            match fill {
                Fill::Constant(value) => assert_eq!(Vec::from_iter(levels), [value]),
                Fill::Random => assert!(levels.len() > 25, "{levels:?}"),
            }
        }
    }
}
