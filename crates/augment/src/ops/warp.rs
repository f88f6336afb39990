//! Resampling along a map: every output pixel fetches the input at coordinates of its own. Rotating,
//! shearing, moving, perspective and elastic distortion are all this.

use multiversion::multiversion;
use serde::{Deserialize, Serialize};

use crate::Image;

/// How the image is read between its pixels.
///
/// Coordinates are of an image's plane, in which pixel (i, j) covers [i, i + 1)×[j, j + 1) and has its
/// centre at (i + ½, j + ½). A point outside the image is filled; inside, neighbours beyond the border
/// are the border's pixels.
///
/// Dialect: Pillow's `Image.transform`: what interpolation gives loses its fraction, and the cubic is
/// Keys' with a = −1 (that of a resize has −½). Coordinates are `f64`; Pillow's are too, but for the
/// nearest pixel of an affine map, where they have 16 fractional bits and err by up to a hundredth of
/// a pixel in an image of some hundred pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The pixel that holds the point.
    Nearest,
    /// Linear between the centres of 2×2 pixels.
    #[default]
    Bilinear,
    /// Cubic between the centres of 4×4 pixels.
    Bicubic,
}

/// Makes output pixel (x, y) what the image is at `source(x, y)`, or `fill` outside.
pub(super) fn warp(
    image: &mut Image,
    interpolation: Interpolation,
    fill: u8,
    scratch: &mut Vec<u8>,
    source: impl Fn(usize, usize) -> (f64, f64),
) {
    let (width, height) = (image.width(), image.height());
    image.rewrite(width, height, scratch, |image, pixels| {
        let reader = Reader {
            image,
            interpolation,
            fill,
        };
        match image.channels() {
            1 => reader.write::<1>(pixels, source),
            2 => reader.write::<2>(pixels, source),
            3 => reader.write::<3>(pixels, source),
            _ => reader.write::<4>(pixels, source),
        }
    });
}

struct Reader<'a> {
    image: &'a Image,
    interpolation: Interpolation,
    fill: u8,
}

impl Reader<'_> {
    fn write<const CHANNELS: usize>(
        &self,
        pixels: &mut [u8],
        source: impl Fn(usize, usize) -> (f64, f64),
    ) {
        let input = self.image.pixels().as_chunks::<CHANNELS>().0;
        let (width, height) = (self.image.width(), self.image.height());
        let pixels = pixels.as_chunks_mut::<CHANNELS>().0;
        match self.interpolation {
            Interpolation::Nearest => nearest(
                input,
                [width, height],
                &[self.fill; CHANNELS],
                &source,
                pixels,
            ),
            Interpolation::Bilinear => {
                self.read(pixels, source, |u, v| bilinear(input, width, height, u, v))
            }
            Interpolation::Bicubic => {
                self.read(pixels, source, |u, v| bicubic(input, width, height, u, v))
            }
        }
    }

    fn read<const CHANNELS: usize>(
        &self,
        pixels: &mut [[u8; CHANNELS]],
        source: impl Fn(usize, usize) -> (f64, f64),
        at: impl Fn(f64, f64) -> [u8; CHANNELS],
    ) {
        let (width, height) = (self.image.width(), self.image.height());
        let (right, bottom) = (width as f64, height as f64);
        for (y, row) in pixels.chunks_exact_mut(width).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                let (u, v) = source(x, y);
                // Of a coordinate that is no number, no comparison holds.
                *pixel = if u >= 0.0 && u < right && v >= 0.0 && v < bottom {
                    at(u, v)
                } else {
                    [self.fill; CHANNELS]
                };
            }
        }
    }
}

/// Pixels whose places are computed together.
const TOGETHER: usize = 256;

/// The pixels that hold the points.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn nearest<const CHANNELS: usize, S: Fn(usize, usize) -> (f64, f64)>(
    input: &[[u8; CHANNELS]],
    [width, height]: [usize; 2],
    fill: &[u8; CHANNELS],
    source: &S,
    pixels: &mut [[u8; CHANNELS]],
) {
    // From 2⁵² on a number's last bits are those of its whole part.
    const WHOLE: f64 = (1_u64 << 52) as f64;
    let (right, bottom) = (width as f64, height as f64);
    let mut places = [0; TOGETHER];
    for (y, row) in pixels.chunks_exact_mut(width).enumerate() {
        for (part, pixels) in row.chunks_mut(TOGETHER).enumerate() {
            let places = &mut places[..pixels.len()];
            for i in 0..places.len() {
                let (u, v) = source(part * TOGETHER + i, y);
                // Of a coordinate that is no number, no comparison holds.
                let inside = (u >= 0.0) & (u < right) & (v >= 0.0) & (v < bottom);
                let place = v.trunc() * right + u.trunc() + WHOLE;
                places[i] = if inside {
                    place.to_bits() as u32
                } else {
                    u32::MAX
                };
            }
            for (pixel, &place) in pixels.iter_mut().zip(&*places) {
                *pixel = *input.get(place as usize).unwrap_or(fill);
            }
        }
    }
}

/// The pixel whose centre is at or before a coordinate, −1 at the least, and how far behind that
/// centre the coordinate is, in 0..1.
fn split(coordinate: f64) -> (isize, f64) {
    let from_centre = coordinate - 0.5;
    let before = from_centre.floor();
    (before as isize, from_centre - before)
}

/// `COUNT` pixels from `first` on, those outside being the border's.
fn clamped<const COUNT: usize>(first: isize, length: usize) -> [usize; COUNT] {
    std::array::from_fn(|i| (first + i as isize).clamp(0, length as isize - 1) as usize)
}

fn bilinear<const CHANNELS: usize>(
    input: &[[u8; CHANNELS]],
    width: usize,
    height: usize,
    u: f64,
    v: f64,
) -> [u8; CHANNELS] {
    let ((x, dx), (y, dy)) = (split(u), split(v));
    let [left, right] = clamped(x, width);
    let rows = clamped::<2>(y, height).map(|y| &input[y * width..][..width]);
    let between = |a: f64, b: f64, share: f64| a + (b - a) * share;
    std::array::from_fn(|channel| {
        let [above, below] = rows.map(|row| {
            let [a, b] = [row[left], row[right]].map(|pixel| f64::from(pixel[channel]));
            between(a, b, dx)
        });
        between(above, below, dy) as u8
    })
}

fn bicubic<const CHANNELS: usize>(
    input: &[[u8; CHANNELS]],
    width: usize,
    height: usize,
    u: f64,
    v: f64,
) -> [u8; CHANNELS] {
    let ((x, dx), (y, dy)) = (split(u), split(v));
    let columns = clamped::<4>(x - 1, width);
    let rows = clamped::<4>(y - 1, height).map(|y| &input[y * width..][..width]);
    // Keys' cubic through four values, as a polynomial of the share between the middle two.
    let cubic = |[a, b, c, d]: [f64; 4], share: f64| {
        let (linear, square, cube) = (c - a, 2.0 * (a - b) + c - d, b - a + d - c);
        b + share * (linear + share * (square + share * cube))
    };
    std::array::from_fn(|channel| {
        let values = rows.map(|row| cubic(columns.map(|x| f64::from(row[x][channel])), dx));
        cubic(values, dy) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: a sum over all pixels, weighted by the kernel's value at their distance.
    fn naive(image: &Image, interpolation: Interpolation, u: f64, v: f64, channel: usize) -> f64 {
        let weight = |t: f64| {
            let t = t.abs();
            match interpolation {
                Interpolation::Nearest => unreachable!("compared without weights"),
                Interpolation::Bilinear => f64::max(0.0, 1.0 - t),
                Interpolation::Bicubic if t < 1.0 => (t - 2.0) * t * t + 1.0,
                Interpolation::Bicubic if t < 2.0 => -(((t - 5.0) * t + 8.0) * t - 4.0),
                Interpolation::Bicubic => 0.0,
            }
        };
        let mut sum = 0.0;
        for j in -3..image.height() as isize + 3 {
            for i in -3..image.width() as isize + 3 {
                let inside = |i: isize, length: usize| i.clamp(0, length as isize - 1) as usize;
                let pixel = image.pixel(inside(i, image.width()), inside(j, image.height()));
                let weight = weight(i as f64 + 0.5 - u) * weight(j as f64 + 0.5 - v);
                sum += weight * f64::from(pixel[channel]);
            }
        }
        sum
    }

    proptest! {
        #[test]
        fn matches_the_definition(
            (width, height) in (1..9_usize, 1..9_usize),
            channels in 1..5_usize,
            map in prop::array::uniform6(-1.5..1.5_f64),
            fill in any::<u8>(),
            seed in any::<u32>(),
        ) {
            let pixels = (0..width * height * channels)
                .map(|i| ((seed as usize).wrapping_mul(i + 7) >> 3) as u8)
                .collect();
            let image = Image::new(width, height, channels, pixels).unwrap();
            let source = |x: usize, y: usize| {
                let (x, y) = (x as f64, y as f64);
                let [a, b, c, d, e, f] = map;
                (a * x + b * y + 3.0 * c, d * x + e * y + 3.0 * f)
            };
            let kinds = [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic];
            for interpolation in kinds {
                let mut found = image.clone();
                warp(&mut found, interpolation, fill, &mut vec![1; 3], source);
                for (x, y) in (0..width).flat_map(|x| (0..height).map(move |y| (x, y))) {
                    let (u, v) = source(x, y);
                    let inside = (0.0..width as f64).contains(&u) && (0.0..height as f64).contains(&v);
                    for channel in 0..channels {
                        let level = f64::from(found.pixel(x, y)[channel]);
                        if !inside {
                            prop_assert_eq!(level, f64::from(fill));
                        } else if interpolation == Interpolation::Nearest {
                            let pixel = image.pixel(u.floor() as usize, v.floor() as usize);
                            prop_assert_eq!(level, f64::from(pixel[channel]));
                        } else {
                            let expected = naive(&image, interpolation, u, v, channel);
                            // The fraction is dropped.
                            let expected = expected.clamp(0.0, 255.0);
                            prop_assert!(
                                level <= expected + 1e-6 && expected < level + 1.0 + 1e-6,
                                "{} {}", level, expected
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn coordinates_that_are_no_numbers_are_filled() {
        for coordinate in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            let mut image = Image::new(2, 1, 1, vec![5, 6]).unwrap();
            let source = |x: usize, _: usize| {
                if x == 0 {
                    (coordinate, 0.5)
                } else {
                    (1.5, 0.5)
                }
            };
            warp(&mut image, Interpolation::Bicubic, 9, &mut vec![], source);
            assert_eq!(image.pixels(), [9, 6]);
        }
    }
}
