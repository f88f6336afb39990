//! The inverse cosine transform of blocks.

use multiversion::multiversion;

/// Transforms a row of blocks to `side` lines of samples, `side` a block.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn row(coefficients: &[i16], quantization: &[i16; 64], side: usize, samples: &mut [u8]) {
    let blocks = coefficients.as_chunks::<64>().0;
    let stride = blocks.len() * side;
    for (i, block) in blocks.iter().enumerate() {
        let output = &mut samples[i * side..];
        match side {
            8 if block[1..] == [0; 63] => {
                let level = descale(i32::from(block[0]) * i32::from(quantization[0]), 3);
                for line in 0..8 {
                    output[line * stride..][..8].fill(sample(level));
                }
            }
            8 => whole(block, quantization, output, stride),
            4 => part::<4>(block, quantization, &BASIS_4, output, stride),
            2 => part::<2>(block, quantization, &BASIS_2, output, stride),
            _ => {
                let mean = i32::from(block[0]) * i32::from(quantization[0]);
                output[0] = sample(descale(mean, 3));
            }
        }
    }
}

#[inline(always)]
fn sample(level: i32) -> u8 {
    (level + 128).clamp(0, 255) as u8
}

#[inline(always)]
fn descale(value: i32, bits: u32) -> i32 {
    value.wrapping_add(1 << (bits - 1)) >> bits
}

type Lanes = [i32; 8];

/// libjpeg's accurate integer transform (`jidctint.c`): Loeffler, Ligtenberg and Moschytz, "Practical Fast 1-D DCT
/// Algorithms with 11 Multiplications" (1989), in 13 fractional bits.
#[inline(always)]
fn whole(block: &[i16; 64], quantization: &[i16; 64], output: &mut [u8], stride: usize) {
    let mut lines = [[0; 8]; 8];
    for line in 0..8 {
        for i in 0..8 {
            let at = 8 * line + i;
            lines[line][i] = i32::from(block[at]) * i32::from(quantization[at]);
        }
    }
    lines = transpose(transform(lines, 11));
    lines = transpose(transform(lines, 18));
    for (line, levels) in lines.iter().enumerate() {
        let output = &mut output[line * stride..][..8];
        for (output, &level) in output.iter_mut().zip(levels) {
            *output = sample(level);
        }
    }
}

#[inline(always)]
fn transpose(lines: [Lanes; 8]) -> [Lanes; 8] {
    let mut columns = [[0; 8]; 8];
    for i in 0..8 {
        for j in 0..8 {
            columns[i][j] = lines[j][i];
        }
    }
    columns
}

/// Of eight columns at once. Damaged files may overflow; they wrap.
#[inline(always)]
fn transform(x: [Lanes; 8], bits: u32) -> [Lanes; 8] {
    let mut y = [[0; 8]; 8];
    for i in 0..8 {
        let [x0, x1, x2, x3] = [x[0][i], x[1][i], x[2][i], x[3][i]];
        let [x4, x5, x6, x7] = [x[4][i], x[5][i], x[6][i], x[7][i]];
        // Even frequencies.
        let z1 = x2.wrapping_add(x6).wrapping_mul(4433);
        let t2 = z1.wrapping_sub(x6.wrapping_mul(15_137));
        let t3 = z1.wrapping_add(x2.wrapping_mul(6270));
        let t0 = x0.wrapping_add(x4) << 13;
        let t1 = x0.wrapping_sub(x4) << 13;
        let even = [
            t0.wrapping_add(t3),
            t1.wrapping_add(t2),
            t1.wrapping_sub(t2),
            t0.wrapping_sub(t3),
        ];
        // Odd ones.
        let (z3, z4) = (x7.wrapping_add(x3), x5.wrapping_add(x1));
        let z5 = z3.wrapping_add(z4).wrapping_mul(9633);
        let z1 = x7.wrapping_add(x1).wrapping_mul(-7373);
        let z2 = x5.wrapping_add(x3).wrapping_mul(-20_995);
        let z3 = z3.wrapping_mul(-16_069).wrapping_add(z5);
        let z4 = z4.wrapping_mul(-3196).wrapping_add(z5);
        let odd = [
            x1.wrapping_mul(12_299).wrapping_add(z1).wrapping_add(z4),
            x3.wrapping_mul(25_172).wrapping_add(z2).wrapping_add(z3),
            x5.wrapping_mul(16_819).wrapping_add(z2).wrapping_add(z4),
            x7.wrapping_mul(2446).wrapping_add(z1).wrapping_add(z3),
        ];
        for k in 0..4 {
            y[k][i] = descale(even[k].wrapping_add(odd[k]), bits);
            y[7 - k][i] = descale(even[k].wrapping_sub(odd[k]), bits);
        }
    }
    y
}

/// 2¹³·c_k·cos((2n + 1)kπ/2N)/2 for N = 4, c_0 = 1/√2: the orthonormal transform's √(2/N)·c_k·cos, by √(N/8) for the
/// larger block's coefficients.
const BASIS_4: [[i32; 4]; 4] = [
    [2896, 3784, 2896, 1567],
    [2896, 1567, -2896, -3784],
    [2896, -1567, -2896, 3784],
    [2896, -3784, 2896, -1567],
];

const BASIS_2: [[i32; 2]; 2] = [[2896, 2896], [2896, -2896]];

/// The transform of the lowest frequencies to fewer points: sample n of N is Σ_k basis\[n\]\[k\]·coefficient k, along
/// both sides.
#[inline(always)]
fn part<const N: usize>(
    block: &[i16; 64],
    quantization: &[i16; 64],
    basis: &[[i32; N]; N],
    output: &mut [u8],
    stride: usize,
) {
    let mut half = [[0_i32; N]; N];
    for (line, basis) in half.iter_mut().zip(basis) {
        for (column, sum) in line.iter_mut().enumerate() {
            for (k, &weight) in basis.iter().enumerate() {
                let at = 8 * k + column;
                let value = i32::from(block[at]) * i32::from(quantization[at]);
                *sum = sum.wrapping_add(value.wrapping_mul(weight));
            }
            *sum = descale(*sum, 11);
        }
    }
    for (line, half) in half.iter().enumerate() {
        for (output, basis) in output[line * stride..][..N].iter_mut().zip(basis) {
            let mut sum = 0_i32;
            for (a, b) in half.iter().zip(basis) {
                sum = sum.wrapping_add(a.wrapping_mul(*b));
            }
            *output = sample(descale(sum, 15));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    /// The definition: of the first `side` frequencies, `side` points.
    fn naive(block: &[i16; 64], quantization: &[i16; 64], side: usize) -> Vec<f64> {
        let c = |k: usize| if k == 0 { 0.5_f64.sqrt() } else { 1.0 };
        let cos =
            |n: usize, k: usize| ((2 * n + 1) as f64 * k as f64 * PI / (2 * side) as f64).cos();
        let places = (0..side).flat_map(|y| (0..side).map(move |x| (x, y)));
        let sample = |(x, y): (usize, usize)| {
            let mut sum = 0.0;
            for (u, v) in (0..side).flat_map(|v| (0..side).map(move |u| (u, v))) {
                let at = 8 * v + u;
                let value = f64::from(block[at]) * f64::from(quantization[at]);
                sum += c(u) * c(v) * value * cos(x, u) * cos(y, v);
            }
            (sum / 4.0 + 128.0).clamp(0.0, 255.0)
        };
        places.map(sample).collect()
    }

    #[test]
    fn matches_the_definition() {
        let mut draws = evenkeel_random::Key::from_seed(1).draws();
        for round in 0..200 {
            let mut coefficients = [0_i16; 128];
            let quantization: [i16; 64] = std::array::from_fn(|i| (i + 1) as i16);
            for block in coefficients.as_chunks_mut::<64>().0 {
                block[0] = draws.below(1600) as i16 - 800;
                for _ in 0..round % 12 {
                    let at = draws.below(64) as usize;
                    block[at] = draws.below(21) as i16 - 10;
                }
            }
            for side in [1, 2, 4, 8] {
                let mut samples = vec![0; 2 * side * side];
                row(&coefficients, &quantization, side, &mut samples);
                for (i, block) in coefficients.as_chunks::<64>().0.iter().enumerate() {
                    let expected = naive(block, &quantization, side);
                    for (at, expected) in expected.iter().enumerate() {
                        let (x, y) = (at % side, at / side);
                        let found = f64::from(samples[y * 2 * side + i * side + x]);
                        assert!((found - expected).abs() < 0.7, "{side}: {found} {expected}");
                    }
                }
            }
        }
    }
}
