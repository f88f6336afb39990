//! Sharpness: a blend with the smoothed image.

use evenkeel_random::Draws;
use multiversion::multiversion;
use serde::{Deserialize, Serialize};

use super::check::{self, MOST_FACTOR};
use super::{Apply, Draw, point};
use crate::Image;
use crate::size::{Size, Sizes};
use crate::strip;

/// y = s + factor·(x − s), the fraction dropped, clipped, where s is the mean of the 3×3 pixels
/// around, the middle one counted five times: 0 is the smoothed image, 1 the image itself, above 1
/// sharper. The outermost pixels stay as they are.
///
/// Dialect: Pillow's `ImageEnhance.Sharpness`, which torchvision's `adjust_sharpness` calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sharpness {
    /// The least and the greatest factor; the draw is uniform.
    pub factor: [f64; 2],
}

/// By how much the sharpness of an image changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustSharpness {
    /// 0 is the smoothed image, 1 the image itself, more is sharper.
    pub factor: f64,
}

impl Draw for Sharpness {
    type Parameters = AdjustSharpness;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("factor", self.factor, 0.0..=MOST_FACTOR).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> AdjustSharpness {
        let [low, high] = self.factor;
        AdjustSharpness {
            factor: draws.between(low, high),
        }
    }
}

impl Apply for AdjustSharpness {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::number("factor", self.factor, 0.0..=MOST_FACTOR).map(|()| size)
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        let (width, height) = (image.width(), image.height());
        let factor = self.factor as f32;
        if factor == 1.0 || width < 3 || height < 3 {
            return;
        }
        image.rewrite(width, height, scratch, |image, pixels| {
            let (channels, stride) = (image.channels(), width * image.channels());
            pixels.copy_from_slice(image.pixels());
            let rows = pixels.chunks_exact_mut(stride).skip(1);
            for (row, window) in rows.zip(image.pixels().windows(3 * stride).step_by(stride)) {
                let (above, rest) = window.split_at(stride);
                let (middle, below) = rest.split_at(stride);
                sharpen([above, middle, below], channels, factor, row);
                if channels % 2 == 0 {
                    let opacity = middle.iter().skip(channels - 1).step_by(channels);
                    let levels = row.iter_mut().skip(channels - 1).step_by(channels);
                    levels.zip(opacity).for_each(|(level, &kept)| *level = kept);
                }
            }
        });
    }
}

/// All of a row but its first and last pixel.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn sharpen(rows: [&[u8]; 3], channels: usize, factor: f32, output: &mut [u8]) {
    let count = output.len() - 2 * channels;
    let output = &mut output[channels..][..count];
    let [above, middle, below] = rows.map(|row| {
        let [left, right] = [&row[..count], &row[2 * channels..][..count]];
        [left, &row[channels..][..count], right]
    });
    for i in 0..count {
        let mut sum = 4 * u16::from(middle[1][i]);
        for row in [above, middle, below] {
            sum += u16::from(row[0][i]) + u16::from(row[1][i]) + u16::from(row[2][i]);
        }
        let smooth = (sum + 6) / 13; // rounded: 13 is odd, so there are no halves
        let level = f32::from(middle[1][i]);
        output[i] = strip::level(point::blend_lane(f32::from(smooth), level, factor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_definition_pixel_by_pixel() {
        for (width, height, channels) in [
            (1, 1, 3),
            (2, 5, 1),
            (3, 3, 1),
            (7, 4, 2),
            (5, 6, 3),
            (4, 5, 4),
        ] {
            let bytes = width * height * channels;
            let pixels = (0..bytes).map(|i| (i * i * 37 % 256) as u8).collect();
            let image = Image::new(width, height, channels, pixels).unwrap();
            for factor in [0.0, 0.4, 1.0, 1.9] {
                let mut sharp = image.clone();
                AdjustSharpness { factor }.apply(&mut sharp, &mut Vec::new());
                for (x, y) in (0..width).flat_map(|x| (0..height).map(move |y| (x, y))) {
                    for channel in 0..channels {
                        let level = image.pixel(x, y)[channel];
                        let border = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
                        let expected = if border || (channels % 2 == 0 && channel + 1 == channels) {
                            level
                        } else {
                            let around =
                                (y - 1..=y + 1).flat_map(|y| (x - 1..=x + 1).map(move |x| (x, y)));
                            let sum: f64 = around
                                .map(|(x, y)| f64::from(image.pixel(x, y)[channel]))
                                .sum();
                            let smooth = ((sum + 4.0 * f64::from(level)) / 13.0).round();
                            (smooth + f64::from(factor as f32) * (f64::from(level) - smooth)) as u8
                        };
                        assert!(
                            sharp.pixel(x, y)[channel].abs_diff(expected) <= u8::from(factor > 1.0)
                        );
                    }
                }
            }
        }
    }
}
