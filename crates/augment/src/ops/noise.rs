//! Gaussian noise.

use evenkeel_random::{Draws, Key};
use serde::{Deserialize, Serialize};

use super::{Apply, Draw, check, point};
use crate::Image;
use crate::size::{Size, Sizes};

/// y = x + σ·n, rounded and clipped, with n standard normal, independent for every pixel and colour
/// channel.
///
/// torchvision's `GaussianNoise` is the same on the scale 0..1: its σ is this one by 255.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianNoise {
    /// The least and the greatest σ, in levels of 255; the draw is uniform.
    pub sigma: [f64; 2],
}

/// The noise of an image: n is a function of the key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseAdded {
    /// σ.
    pub sigma: f64,
    /// What the noise is made of.
    pub key: [u32; 2],
}

const MOST_SIGMA: f64 = 255.0;

impl Draw for GaussianNoise {
    type Parameters = NoiseAdded;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("sigma", self.sigma, 0.0..=MOST_SIGMA).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> NoiseAdded {
        let [low, high] = self.sigma;
        NoiseAdded {
            sigma: draws.between(low, high),
            key: [draws.word(), draws.word()],
        }
    }
}

impl Apply for NoiseAdded {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::number("sigma", self.sigma, 0.0..=MOST_SIGMA).map(|()| size)
    }

    fn apply(&self, image: &mut Image, _: &mut Vec<u8>) {
        if self.sigma == 0.0 {
            return;
        }
        let mut draws = Key::from_words(self.key).draws();
        let channels = image.channels();
        let colours = point::color_channels(channels);
        let mut spare = None;
        let mut normal = || {
            spare.take().unwrap_or_else(|| {
                let [now, next] = draws.normals();
                spare = Some(next);
                now
            })
        };
        for pixel in image.pixels_mut().chunks_exact_mut(channels) {
            for level in &mut pixel[..colours] {
                *level = (f64::from(*level) + self.sigma * normal()).round() as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_its_deviation_and_leaves_opacity() {
        let mut image = Image::new(300, 200, 4, [120, 130, 140, 77].repeat(60_000)).unwrap();
        let noise = NoiseAdded {
            sigma: 12.0,
            key: [3, 4],
        };
        let plain = image.clone();
        noise.apply(&mut image, &mut Vec::new());
        for channel in 0..3 {
            let differences = image
                .pixels()
                .iter()
                .zip(plain.pixels())
                .skip(channel)
                .step_by(4);
            let differences = differences.map(|(&a, &b)| f64::from(a) - f64::from(b));
            let mean = differences.clone().sum::<f64>() / 6e4;
            let square = differences.map(|d| d * d).sum::<f64>() / 6e4;
            // Rounding adds a twelfth; deviations of the estimates are .05 and .8.
            assert!(mean.abs() < 0.2, "{mean}");
            assert!((square - (144.0 + 1.0 / 12.0)).abs() < 3.2, "{square}");
        }
        assert!(
            image
                .pixels()
                .iter()
                .skip(3)
                .step_by(4)
                .all(|&level| level == 77)
        );
    }
}
