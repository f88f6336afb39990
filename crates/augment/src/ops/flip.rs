//! Horizontal flip: left becomes right.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::check_probability;
use crate::Image;

/// y(i, j) = x(i, width − 1 − j), with some probability. Not for images where left and right mean
/// something, such as digits and letters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HorizontalFlip {
    /// The probability of flipping.
    #[serde(default = "half")]
    pub probability: f64,
}

fn half() -> f64 {
    0.5
}

/// Whether an image is flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flipped {
    /// Yes or no.
    pub flipped: bool,
}

impl HorizontalFlip {
    pub(super) fn check(&self) -> Result<(), String> {
        check_probability("probability", self.probability)
    }

    pub(super) fn draw(&self, draws: &mut Draws) -> Flipped {
        Flipped {
            flipped: draws.chance(self.probability),
        }
    }
}

impl Flipped {
    pub(super) fn apply(self, image: &mut Image) {
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
            Flipped { flipped: true }.apply(&mut flipped);
            for y in 0..height {
                for x in 0..width {
                    assert_eq!(flipped.pixel(x, y), image.pixel(width - 1 - x, y));
                }
            }
            Flipped { flipped: true }.apply(&mut flipped);
            assert_eq!(flipped, image);
        }
    }

    #[test]
    fn flips_as_often_as_it_should() {
        let flip = HorizontalFlip { probability: 0.3 };
        let mut draws = Key::from_seed(5).draws();
        let count = (0..100_000)
            .filter(|_| flip.draw(&mut draws).flipped)
            .count();
        // Four standard deviations of a binomial are 580; the seed is fixed.
        assert!(count.abs_diff(30_000) < 580, "{count}");
    }
}
