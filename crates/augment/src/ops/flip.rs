//! Flips: left becomes right, top becomes bottom.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Apply, Draw, check};
use crate::Image;
use crate::size::{Size, Sizes};

/// y(i, j) = x(i, width − 1 − j), with some probability. Not for images where left and right mean
/// something, such as digits and letters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HorizontalFlip {
    /// The probability of flipping.
    #[serde(default = "half")]
    pub probability: f64,
}

/// y(i, j) = x(height − 1 − i, j), with some probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerticalFlip {
    /// The probability of flipping.
    #[serde(default = "half")]
    pub probability: f64,
}

fn half() -> f64 {
    0.5
}

/// Whether an image is flipped, left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flipped {
    /// Yes or no.
    pub flipped: bool,
}

/// Whether an image is turned upside down, as in a level mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlippedVertically {
    /// Yes or no.
    pub flipped: bool,
}

impl Draw for HorizontalFlip {
    type Parameters = Flipped;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::probability("probability", self.probability).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> Flipped {
        Flipped {
            flipped: draws.chance(self.probability),
        }
    }

    fn is_fixed(&self) -> bool {
        self.probability == 0.0 || self.probability == 1.0
    }
}

impl Apply for Flipped {
    fn check(&self, size: Size) -> Result<Size, String> {
        Ok(size)
    }

    fn apply(&self, image: &mut Image, _: &mut Vec<u8>) {
        if !self.flipped {
            return;
        }
        let channels = image.channels();
        for row in image.rows_mut() {
            if channels == 1 {
                row.reverse();
                continue;
            }
            // Reversing the bytes reverses the pixels and each pixel's channels; undo the latter.
            row.reverse();
            row.chunks_exact_mut(channels).for_each(<[u8]>::reverse);
        }
    }
}

impl Draw for VerticalFlip {
    type Parameters = FlippedVertically;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::probability("probability", self.probability).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> FlippedVertically {
        FlippedVertically {
            flipped: draws.chance(self.probability),
        }
    }

    fn is_fixed(&self) -> bool {
        self.probability == 0.0 || self.probability == 1.0
    }
}

impl Apply for FlippedVertically {
    fn check(&self, size: Size) -> Result<Size, String> {
        Ok(size)
    }

    fn apply(&self, image: &mut Image, _: &mut Vec<u8>) {
        if !self.flipped {
            return;
        }
        let stride = image.width() * image.channels();
        let mut rows = image.pixels_mut().chunks_exact_mut(stride);
        while let (Some(above), Some(below)) = (rows.next(), rows.next_back()) {
            above.swap_with_slice(below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_random::Key;

    #[test]
    fn matches_the_definition_and_undoes_itself() {
        for (width, height, channels) in [(1, 1, 1), (5, 3, 1), (4, 2, 3), (3, 1, 2), (2, 2, 4)] {
            let pixels = (0..width * height * channels)
                .map(|i| (i * 37 % 256) as u8)
                .collect();
            let image = Image::new(width, height, channels, pixels).unwrap();
            let mut flipped = image.clone();
            Flipped { flipped: true }.apply(&mut flipped, &mut vec![]);
            for y in 0..height {
                for x in 0..width {
                    assert_eq!(flipped.pixel(x, y), image.pixel(width - 1 - x, y));
                }
            }
            Flipped { flipped: true }.apply(&mut flipped, &mut vec![]);
            assert_eq!(flipped, image);

            let upside_down = FlippedVertically { flipped: true };
            upside_down.apply(&mut flipped, &mut vec![]);
            for y in 0..height {
                for x in 0..width {
                    assert_eq!(flipped.pixel(x, y), image.pixel(x, height - 1 - y));
                }
            }
            upside_down.apply(&mut flipped, &mut vec![]);
            assert_eq!(flipped, image);
        }
    }

    #[test]
    fn flips_as_often_as_it_should() {
        let flip = HorizontalFlip { probability: 0.3 };
        let mut draws = Key::from_seed(5).draws();
        let count = (0..100_000)
            .filter(|_| flip.draw(Size::new(1, 1), &mut draws).flipped)
            .count();
        // Four standard deviations of a binomial are 580; the seed is fixed.
        assert!(count.abs_diff(30_000) < 580, "{count}");
        let flip = VerticalFlip { probability: 0.3 };
        let count = (0..100_000)
            .filter(|_| flip.draw(Size::new(1, 1), &mut draws).flipped)
            .count();
        assert!(count.abs_diff(30_000) < 580, "{count}");
    }
}
