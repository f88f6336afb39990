//! Gaussian blur.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Apply, Draw, check, gaussian};
use crate::Image;
use crate::size::{Size, Sizes};

/// Each channel convolved with a Gaussian over a square of pixels, rounded; the image is mirrored at
/// its border.
///
/// Dialect: torchvision's `GaussianBlur(kernel_size, sigma)`. Images smaller than half the kernel, an
/// error there, are mirrored several times. (Pillow's filter of that name approximates the Gaussian by
/// means over boxes.)
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianBlur {
    /// The side of the square, an odd number.
    pub kernel_size: usize,
    /// The least and the greatest σ, in pixels; the draw is uniform.
    #[serde(default = "usual_sigma")]
    pub sigma: [f64; 2],
}

/// How much an image is blurred.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blurred {
    /// The side of the square, an odd number.
    pub kernel_size: usize,
    /// σ.
    pub sigma: f64,
}

fn usual_sigma() -> [f64; 2] {
    [0.1, 2.0]
}

const LEAST_SIGMA: f64 = 1e-3;
const MOST_SIGMA: f64 = 1e3;

fn check_kernel_size(kernel_size: usize) -> Result<(), String> {
    check::count("kernel_size", kernel_size, 1..=255)?;
    if kernel_size % 2 == 1 {
        Ok(())
    } else {
        Err(format!(
            "kernel_size: expected an odd number, found {kernel_size}"
        ))
    }
}

impl Draw for GaussianBlur {
    type Parameters = Blurred;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check_kernel_size(self.kernel_size)?;
        check::range("sigma", self.sigma, LEAST_SIGMA..=MOST_SIGMA).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> Blurred {
        let [low, high] = self.sigma;
        Blurred {
            kernel_size: self.kernel_size,
            sigma: draws.between(low, high),
        }
    }
}

impl Apply for Blurred {
    fn check(&self, size: Size) -> Result<Size, String> {
        check_kernel_size(self.kernel_size)?;
        check::number("sigma", self.sigma, LEAST_SIGMA..=MOST_SIGMA).map(|()| size)
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        let kernel = gaussian::kernel(self.sigma, self.kernel_size / 2);
        let (width, height) = (image.width(), image.height());
        image.rewrite(width, height, scratch, |image, pixels| {
            let stride = width * image.channels();
            gaussian::convolve(
                &kernel,
                Size { width, height },
                image.channels(),
                |y, weight, sums| {
                    let row = &image.pixels()[y * stride..][..stride];
                    for (sum, &level) in sums.iter_mut().zip(row) {
                        *sum += weight * f32::from(level);
                    }
                },
                |y, values| {
                    let row = &mut pixels[y * stride..][..stride];
                    for (level, value) in row.iter_mut().zip(values) {
                        *level = value.round_ties_even() as u8;
                    }
                },
            );
        });
    }
}
