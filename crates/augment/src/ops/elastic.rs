//! Elastic distortion: every pixel moves a little, and neighbours move alike.

use evenkeel_random::{Draws, Key};
use serde::{Deserialize, Serialize};

use super::warp::{Interpolation, warp};
use super::{Apply, Draw, check, gaussian};
use crate::Image;
use crate::size::{Size, Sizes};

/// Each output pixel comes from (x + α·(G_σ ∗ U)(x, y), y + α·(G_σ ∗ V)(x, y)), where U and V are
/// uniform in [−1, 1), independent for every pixel, and G_σ is a Gaussian cut off at 4σ.
///
/// α is in pixels; torchvision's `ElasticTransform` moves by half as much for the same number. Source:
/// Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied to Visual
/// Document Analysis" (2003).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// α: how far pixels move.
    pub alpha: f64,
    /// σ, in pixels: over what distance they move alike.
    pub sigma: f64,
    /// How the image is read between its pixels.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    #[serde(default)]
    pub fill: u8,
}

/// The distortion of an image: U and V are functions of the key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Displacement {
    /// α.
    pub alpha: f64,
    /// σ.
    pub sigma: f64,
    /// What U and V are made of.
    pub key: [u32; 2],
    /// How the image is read between its pixels.
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    pub fill: u8,
}

fn check_settings(alpha: f64, sigma: f64) -> Result<(), String> {
    check::number("alpha", alpha, 0.0..=1e5)?;
    check::number("sigma", sigma, 0.1..=100.0)
}

impl Draw for Elastic {
    type Parameters = Displacement;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check_settings(self.alpha, self.sigma).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> Displacement {
        let Self {
            alpha,
            sigma,
            interpolation,
            fill,
        } = *self;
        Displacement {
            alpha,
            sigma,
            key: [draws.word(), draws.word()],
            interpolation,
            fill,
        }
    }
}

impl Displacement {
    /// How far the pixels move along both sides.
    fn field(&self, size: Size) -> Vec<[f32; 2]> {
        let key = Key::from_words(self.key);
        let (u, v) = (key.at(0), key.at(1));
        // Element i of each is word i mod 4 of block ⌊i/4⌋.
        let signed = |word: u32| f64::from(word) * (2.0 / 4_294_967_296.0) - 1.0;
        let count = size.width * size.height;
        let blocks = (0..count.div_ceil(4) as u64).flat_map(|i| {
            let (u, v) = (u.block(i), v.block(i));
            std::array::from_fn::<_, 4, _>(|word| [u[word], v[word]].map(|w| signed(w) as f32))
        });
        let noise: Vec<[f32; 2]> = blocks.take(count).collect();
        let kernel = gaussian::kernel(self.sigma, (4.0 * self.sigma).ceil() as usize);
        let alpha = self.alpha as f32;
        let mut field = Vec::with_capacity(count);
        gaussian::convolve(
            &kernel,
            size,
            2,
            |y, weight, sums| {
                let row = noise[y * size.width..][..size.width].as_flattened();
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += weight * value;
                }
            },
            |_, values| {
                let ways = values.as_chunks::<2>().0;
                field.extend(ways.iter().map(|way| way.map(|value| alpha * value)));
            },
        );
        field
    }
}

impl Apply for Displacement {
    fn check(&self, size: Size) -> Result<Size, String> {
        check_settings(self.alpha, self.sigma).map(|()| size)
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        if self.alpha == 0.0 {
            return;
        }
        let width = image.width();
        let field = self.field(Size::new(width, image.height()));
        warp(image, self.interpolation, self.fill, scratch, |x, y| {
            let [right, down] = field[y * width + x].map(f64::from);
            (x as f64 + 0.5 + right, y as f64 + 0.5 + down)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_has_the_deviation_of_blurred_noise() {
        let displacement = Displacement {
            alpha: 30.0,
            sigma: 2.0,
            key: [1, 2],
            interpolation: Interpolation::Bilinear,
            fill: 0,
        };
        let field = displacement.field(Size::new(300, 200));
        // Var = α²·⅓·(Σ w²)², and Σ w² of a Gaussian is about 1/(2σ√π).
        let expected = 900.0 / 3.0 * (1.0 / (2.0 * 2.0 * std::f64::consts::PI.sqrt())).powi(2);
        for side in 0..2 {
            let values = field.iter().map(|way| f64::from(way[side]));
            let mean = values.clone().sum::<f64>() / 6e4;
            let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / 6e4;
            // Some 60,000/(4πσ²) of the values are independent.
            assert!(mean.abs() < 0.3, "{mean}");
            assert!(
                (variance / expected - 1.0).abs() < 0.15,
                "{variance} {expected}"
            );
        }
    }
}
