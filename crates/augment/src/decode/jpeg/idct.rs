//! The inverse cosine transform of blocks, sixteen at a time: what is done for one is done for all at once.

use multiversion::multiversion;

/// Blocks that are transformed together. Coefficient k of block i is at [`LANES`]·k + i, a [`GROUP`] in all.
pub(super) const LANES: usize = 16;
pub(super) const GROUP: usize = 64 * LANES;

type Lanes = [i32; LANES];

/// Transforms a row of groups to `side` lines of samples, `side` a block.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn row(coefficients: &[i16], quantization: &[i16; 64], side: usize, samples: &mut [u8]) {
    let groups = coefficients.as_chunks::<GROUP>().0;
    let stride = groups.len() * LANES * side;
    for (i, group) in groups.iter().enumerate() {
        let output = &mut samples[i * LANES * side..];
        match side {
            8 => whole(group, quantization, output, stride),
            4 => part::<4>(group, quantization, &BASIS_4, output, stride),
            2 => part::<2>(group, quantization, &BASIS_2, output, stride),
            _ => part::<1>(group, quantization, &BASIS_1, output, stride),
        }
    }
}

#[inline(always)]
fn descale(value: i32, bits: u32) -> i32 {
    value.wrapping_add(1 << (bits - 1)) >> bits
}

/// The coefficients at one place, as they were before they were divided.
#[inline(always)]
fn multiplied(group: &[i16; GROUP], quantization: &[i16; 64], at: usize) -> Lanes {
    let mut values = [0; LANES];
    for i in 0..LANES {
        values[i] = i32::from(group[at * LANES + i]) * i32::from(quantization[at]);
    }
    values
}

/// Writes the samples of one line of all blocks.
#[inline(always)]
fn store<const SIDE: usize>(levels: &[Lanes; SIDE], output: &mut [u8]) {
    let blocks = output.as_chunks_mut::<SIDE>().0;
    for i in 0..LANES {
        for x in 0..SIDE {
            blocks[i][x] = levels[x][i].wrapping_add(128).clamp(0, 255) as u8;
        }
    }
}

/// Columns first, then rows.
#[inline(always)]
fn whole(group: &[i16; GROUP], quantization: &[i16; 64], output: &mut [u8], stride: usize) {
    let mut lines = [[[0; LANES]; 8]; 8];
    for column in 0..8 {
        let mut x = [[0; LANES]; 8];
        for k in 0..8 {
            x[k] = multiplied(group, quantization, 8 * k + column);
        }
        let y = transform(&x, 11);
        for k in 0..8 {
            lines[k][column] = y[k];
        }
    }
    for (line, x) in lines.iter().enumerate() {
        store(&transform(x, 18), &mut output[line * stride..][..8 * LANES]);
    }
}

/// libjpeg's accurate integer transform (`jidctint.c`) of eight frequencies to eight points: Loeffler, Ligtenberg and
/// Moschytz, "Practical Fast 1-D DCT Algorithms with 11 Multiplications" (1989), in 13 fractional bits. Damaged files may
/// overflow; they wrap.
#[inline(always)]
fn transform(x: &[Lanes; 8], bits: u32) -> [Lanes; 8] {
    let mut y = [[0; LANES]; 8];
    for i in 0..LANES {
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

const BASIS_1: [[i32; 1]; 1] = [[2896]];

/// The transform of the lowest frequencies to fewer points: sample n of N is Σ_k basis\[n\]\[k\]·coefficient k, along
/// both sides.
#[inline(always)]
fn part<const N: usize>(
    group: &[i16; GROUP],
    quantization: &[i16; 64],
    basis: &[[i32; N]; N],
    output: &mut [u8],
    stride: usize,
) {
    let mut lines = [[[0; LANES]; N]; N];
    for column in 0..N {
        let mut x = [[0; LANES]; N];
        for k in 0..N {
            x[k] = multiplied(group, quantization, 8 * k + column);
        }
        for n in 0..N {
            lines[n][column] = product(&x, &basis[n], 11);
        }
    }
    for (line, x) in lines.iter().enumerate() {
        let mut levels = [[0; LANES]; N];
        for n in 0..N {
            levels[n] = product(x, &basis[n], 15);
        }
        store(&levels, &mut output[line * stride..][..N * LANES]);
    }
}

#[inline(always)]
fn product<const N: usize>(x: &[Lanes; N], basis: &[i32; N], bits: u32) -> Lanes {
    let mut sums = [0_i32; LANES];
    for i in 0..LANES {
        for k in 0..N {
            sums[i] = sums[i].wrapping_add(x[k][i].wrapping_mul(basis[k]));
        }
        sums[i] = descale(sums[i], bits);
    }
    sums
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
            let mut blocks = [[0_i16; 64]; 2 * LANES];
            let quantization: [i16; 64] = std::array::from_fn(|i| (i + 1) as i16);
            for block in &mut blocks {
                block[0] = draws.below(1600) as i16 - 800;
                for _ in 0..round % 12 {
                    let at = draws.below(64) as usize;
                    block[at] = draws.below(21) as i16 - 10;
                }
            }
            let mut coefficients = [0; 2 * GROUP];
            for (i, value) in coefficients.iter_mut().enumerate() {
                *value = blocks[i / GROUP * LANES + i % LANES][i % GROUP / LANES];
            }
            for side in [1, 2, 4, 8] {
                let stride = blocks.len() * side;
                let mut samples = vec![0; stride * side];
                row(&coefficients, &quantization, side, &mut samples);
                for (i, block) in blocks.iter().enumerate() {
                    let expected = naive(block, &quantization, side);
                    for (at, expected) in expected.iter().enumerate() {
                        let (x, y) = (at % side, at / side);
                        let found = f64::from(samples[y * stride + i * side + x]);
                        assert!((found - expected).abs() < 0.7, "{side}: {found} {expected}");
                    }
                }
            }
        }
    }
}
