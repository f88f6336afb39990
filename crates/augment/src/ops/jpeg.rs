//! JPEG artefacts: what compression loses, without the file.
//!
//! A JPEG loses only where colours are averaged and where coefficients are rounded; the coding after
//! that is exact. So the loss is computed directly, with no encoder and no decoder.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::{Apply, Draw, check, point};
use crate::Image;
use crate::size::{Size, Sizes};

/// The image as it is after being saved as a JPEG of this quality and read again. Opacity stays.
///
/// 1. Colours become brightness Y = .299 R + .587 G + .114 B and two differences, C_b = 128 + (B −
///    Y)/1.772 and C_r = 128 + (R − Y)/1.402; the differences are averaged over 2×2 pixels.
/// 2. Each plane, its last row and column repeated to fill blocks of 8×8, is less 128 and transformed
///    block by block: F(u, v) = ¼·c_u·c_v·Σ f(x, y)·cos((2x + 1)uπ/16)·cos((2y + 1)vπ/16), c_0 = 1/√2,
///    else 1.
/// 3. F becomes q·round(F/q), where q is the standard's table times 50/quality, below 50, or
///    2 − quality/50, from there on.
/// 4. All the way back; between the averages, differences are linear.
///
/// Dialect: libjpeg with its defaults (the standard's example tables, colours at half the resolution,
/// smooth upsampling), as in Pillow and torchvision's `JPEG`, but for rounding in the cosine transform.
/// Source: ITU-T T.81 (1992), with the tables of its annex K.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jpeg {
    /// The least and the greatest quality, from 1 to 100; each between is equally likely.
    pub quality: [u8; 2],
}

/// How much an image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compressed {
    /// From 1 to 100.
    pub quality: u8,
}

impl Draw for Jpeg {
    type Parameters = Compressed;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("quality", self.quality.map(f64::from), 1.0..=100.0).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> Compressed {
        let [least, most] = self.quality.map(u32::from);
        let quality = least + draws.below(most - least + 1);
        Compressed {
            quality: quality as u8,
        }
    }
}

impl Apply for Compressed {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::count("quality", usize::from(self.quality), 1..=100).map(|()| size)
    }

    fn apply(&self, image: &mut Image, _: &mut Vec<u8>) {
        let size = Size::new(image.width(), image.height());
        let channels = image.channels();
        let transform = CosineTransform::new();
        let brightness = table(&BRIGHTNESS, self.quality);
        if point::color_channels(channels) == 1 {
            let mut plane: Vec<u8> = image.pixels().iter().step_by(channels).copied().collect();
            transform.round(&mut plane, size, &brightness);
            let levels = image.pixels_mut().iter_mut().step_by(channels);
            levels
                .zip(plane)
                .for_each(|(level, rounded)| *level = rounded);
            return;
        }
        let colours = image.pixels().chunks_exact(channels).map(to_ycc);
        let [mut y, mut cb, mut cr] = [const { Vec::new() }; 3];
        for [brightness, blue, red] in colours {
            y.push(brightness);
            cb.push(blue);
            cr.push(red);
        }
        transform.round(&mut y, size, &brightness);
        let difference = table(&DIFFERENCE, self.quality);
        for plane in [&mut cb, &mut cr] {
            let (mut half, half_size) = halved(plane, size);
            transform.round(&mut half, half_size, &difference);
            doubled(&half, half_size, plane, size);
        }
        let planes = y.iter().zip(cb.iter().zip(&cr));
        for (pixel, (&y, (&cb, &cr))) in image.pixels_mut().chunks_exact_mut(channels).zip(planes) {
            pixel[..3].copy_from_slice(&to_rgb([y, cb, cr]));
        }
    }
}

/// The standard's table for brightness, row by row.
#[rustfmt::skip]
const BRIGHTNESS: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// The standard's table for colour differences.
#[rustfmt::skip]
const DIFFERENCE: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
];

/// What coefficients are rounded to multiples of.
fn table(standard: &[u16; 64], quality: u8) -> [f32; 64] {
    let quality = u32::from(quality);
    let percent = if quality < 50 {
        5000 / quality
    } else {
        200 - 2 * quality
    };
    standard.map(|q| ((u32::from(q) * percent + 50) / 100).clamp(1, 255) as f32)
}

/// Y, C_b and C_r of a colour, in 16-bit fixed point.
fn to_ycc(pixel: &[u8]) -> [u8; 3] {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(i32::from);
    let middle = (128 << 16) + 0x7FFF;
    let blue = (-11_059 * r - 21_709 * g + 32_768 * b + middle) >> 16;
    let red = (32_768 * r - 27_439 * g - 5_329 * b + middle) >> 16;
    let gray = point::gray([pixel[0], pixel[1], pixel[2]]);
    [gray, blue as u8, red as u8]
}

fn to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let [y, cb, cr] = [i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128];
    let rounded = |value: i32| (value + 0x8000) >> 16;
    [
        y + rounded(91_881 * cr),
        y + rounded(-22_554 * cb - 46_802 * cr),
        y + rounded(116_130 * cb),
    ]
    .map(|level| level.clamp(0, 255) as u8)
}

/// The means of 2×2 pixels; halves are rounded down and up in turn. The last row and column are
/// repeated where there is an odd one, and the column as often as it takes to fill blocks of 8 means.
fn halved(plane: &[u8], size: Size) -> (Vec<u8>, Size) {
    let half = Size::new(size.width.div_ceil(16) * 8, size.height.div_ceil(2));
    let mut means = Vec::with_capacity(half.width * half.height);
    for y in 0..half.height {
        let rows = [2 * y, (2 * y + 1).min(size.height - 1)]
            .map(|y| &plane[y * size.width..][..size.width]);
        means.extend((0..half.width).map(|x| {
            let columns = [2 * x, 2 * x + 1].map(|x| x.min(size.width - 1));
            let four = rows
                .iter()
                .flat_map(|row| columns.map(|x| u32::from(row[x])));
            let bias = 1 + (x % 2) as u32;
            ((four.sum::<u32>() + bias) / 4) as u8
        }));
    }
    (means, half)
}

/// Each pixel of the doubled plane is 9/16 of the mean that covers it, 3/16 of the nearest ones beside
/// and above or below, and 1/16 of the one between these; the last ones are repeated at the border.
/// Planes of one or two columns are repeated, as in libjpeg.
fn doubled(half: &[u8], half_size: Size, plane: &mut [u8], size: Size) {
    let columns = size.width.div_ceil(2);
    let last = columns - 1;
    let mut sums = vec![0_u32; half_size.width];
    for (y, row) in plane.chunks_exact_mut(size.width).enumerate() {
        let near = &half[y / 2 * half_size.width..][..half_size.width];
        if columns <= 2 {
            for (x, level) in row.iter_mut().enumerate() {
                *level = near[x / 2];
            }
            continue;
        }
        let far = if y % 2 == 0 {
            (y / 2).saturating_sub(1)
        } else {
            (y / 2 + 1).min(half_size.height - 1)
        };
        let far = &half[far * half_size.width..][..half_size.width];
        for (sum, (&near, &far)) in sums.iter_mut().zip(near.iter().zip(far)) {
            *sum = 3 * u32::from(near) + u32::from(far);
        }
        for (x, level) in row.iter_mut().enumerate() {
            let place = x / 2;
            // Halves are rounded up on the left and down on the right.
            let (beside, bias) = if x % 2 == 0 {
                (place.saturating_sub(1), 8)
            } else {
                ((place + 1).min(last), 7)
            };
            let bias = if beside == place { 8 } else { bias };
            *level = ((3 * sums[place] + sums[beside] + bias) >> 4) as u8;
        }
    }
}

type Block = [[f32; 8]; 8];

/// The cosine transform along one side, times √8: row u holds √2·c_u·cos((2x + 1)uπ/16).
struct CosineTransform(Block);

impl CosineTransform {
    fn new() -> Self {
        Self(std::array::from_fn(|u| {
            std::array::from_fn(|x| {
                let scale = if u == 0 { 1.0 } else { 2.0_f64.sqrt() };
                let angle = (2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0;
                (scale * angle.cos()) as f32
            })
        }))
    }

    /// 8·F. libjpeg keeps two fractional bits after the rows and none after the columns, which decides
    /// what ties are rounded to.
    fn forward(&self, block: &Block) -> Block {
        let Self(t) = self;
        let rows = rounded(product(block, &transposed(t)), 4.0);
        rounded(product(t, &rows), 0.25)
    }

    /// f, of F. Two fractional bits are kept after the columns.
    fn backward(&self, block: &Block) -> Block {
        let Self(t) = self;
        let columns = rounded(product(&transposed(t), block), 4.0);
        rounded(product(&columns, t), 1.0 / 32.0)
    }

    /// Rounds the coefficients of a plane to multiples of the table's.
    fn round(&self, plane: &mut [u8], size: Size, table: &[f32; 64]) {
        let Size { width, height } = size;
        for top in (0..height).step_by(8) {
            for left in (0..width).step_by(8) {
                let mut block: Block = std::array::from_fn(|y| {
                    let row = &plane[(top + y).min(height - 1) * width..][..width];
                    std::array::from_fn(|x| f32::from(row[(left + x).min(width - 1)]) - 128.0)
                });
                block = self.forward(&block);
                for (row, table) in block.iter_mut().zip(table.as_chunks::<8>().0) {
                    for (coefficient, q) in row.iter_mut().zip(table) {
                        *coefficient = q * (*coefficient / (8.0 * q)).round();
                    }
                }
                block = self.backward(&block);
                for (y, row) in block.iter().enumerate().take(height - top) {
                    let output = &mut plane[(top + y) * width..][..width];
                    for (level, value) in output[left..].iter_mut().zip(row) {
                        *level = (value + 128.0) as u8;
                    }
                }
            }
        }
    }
}

fn product(a: &Block, b: &Block) -> Block {
    let mut product = [[0.0; 8]; 8];
    for (output, a) in product.iter_mut().zip(a) {
        for (factor, row) in a.iter().zip(b) {
            for (sum, value) in output.iter_mut().zip(row) {
                *sum += factor * value;
            }
        }
    }
    product
}

/// The values times a scale, rounded, halves upwards.
fn rounded(block: Block, scale: f32) -> Block {
    block.map(|row| row.map(|value| (value * scale + 0.5).floor()))
}

fn transposed(block: &Block) -> Block {
    std::array::from_fn(|i| std::array::from_fn(|j| block[j][i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_matches_its_formula_and_is_undone() {
        let transform = CosineTransform::new();
        let level = |x: usize, y: usize| ((x * x * 7 + y * 29) % 200) as f32;
        let block: Block = std::array::from_fn(|y| std::array::from_fn(|x| level(x, y)));
        let coefficients = transform.forward(&block);
        let cos = |x: usize, u: usize| {
            let scale = if u == 0 { 0.5_f64.sqrt() } else { 1.0 };
            scale * ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos()
        };
        for (u, v) in (0..8).flat_map(|u| (0..8).map(move |v| (u, v))) {
            let places = (0..8).flat_map(|x| (0..8).map(move |y| (x, y)));
            let terms = places.map(|(x, y)| f64::from(level(x, y)) * cos(x, u) * cos(y, v));
            let expected = 8.0 * 0.25 * terms.sum::<f64>();
            assert!(
                (f64::from(coefficients[v][u]) - expected).abs() < 1.5,
                "{u} {v}"
            );
        }
        let back = transform.backward(&coefficients.map(|row| row.map(|value| value / 8.0)));
        for (a, b) in back.as_flattened().iter().zip(block.as_flattened()) {
            assert!((a - b).abs() <= 1.0);
        }
    }

    #[test]
    fn tables_follow_the_quality() {
        assert_eq!(table(&BRIGHTNESS, 50), BRIGHTNESS.map(f32::from));
        assert_eq!(table(&BRIGHTNESS, 100), [1.0; 64]);
        assert_eq!(table(&DIFFERENCE, 1), [255.0; 64]);
        assert_eq!(table(&BRIGHTNESS, 75)[..3], [8.0, 6.0, 5.0]);
    }

    #[test]
    fn lower_quality_loses_more_and_opacity_nothing() {
        let pixels = (0..40 * 30 * 4).map(|i| (i * i / 7 % 251) as u8).collect();
        let image = Image::new(40, 30, 4, pixels).unwrap();
        let losses = [100, 80, 40, 10].map(|quality| {
            let mut lossy = image.clone();
            Compressed { quality }.apply(&mut lossy, &mut Vec::new());
            let pairs = || lossy.pixels().iter().zip(image.pixels());
            assert!(pairs().skip(3).step_by(4).all(|(a, b)| a == b));
            pairs()
                .map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2))
                .sum::<f64>()
        });
        assert!(losses.is_sorted() && losses[0] > 0.0, "{losses:?}");
    }
}
