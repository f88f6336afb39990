//! Standard normal numbers as a function of a key and an index, by arithmetic that is the same on
//! every machine.

use evenkeel_random::Key;
use multiversion::multiversion;

use super::words::{GROUP, group};
use crate::output::{Grid, Writer, build};

const CHUNK: usize = 1 << 15;
const PAIRS: usize = GROUP / 2;

/// The first `count` standard normal numbers of `key`.
///
/// Numbers 2j and 2j + 1 are r·cos 2πt and r·sin 2πt with r = √(−2 ln u), where
/// u = (⌊w₂ⱼ/2⁹⌋ + ½)·2⁻²³ and t = ⌊w₂ⱼ₊₁/2⁸⌋·2⁻²⁴ come from words 2j and 2j + 1 of the key: none is
/// beyond 5.77. Logarithm, sine and cosine are polynomials in `f32`, written out here: a system's own
/// differ from one another in their last bits.
///
/// Source: Box and Muller, "A Note on the Generation of Random Normal Deviates" (1958).
pub fn normals(key: Key, count: usize) -> Vec<f32> {
    let (output, _) = build(Grid::chunks(count, CHUNK), |_, elements, writer| {
        fill(key, elements.start, elements.len(), writer);
    });
    output
}

/// `start` is a multiple of [`GROUP`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fill(key: Key, start: usize, len: usize, writer: &mut Writer<'_, f32>) {
    for at in (0..len).step_by(GROUP) {
        let numbers = normal_group(group(key, ((start + at) / 4) as u64));
        writer.append(GROUP.min(len - at), |i| numbers[i]);
    }
}

/// The numbers of a group of words.
#[inline(always)]
pub(super) fn normal_group(words: [u32; GROUP]) -> [f32; GROUP] {
    let (mut radius, mut turn) = ([0; PAIRS], [0; PAIRS]);
    for (i, [first, second]) in words.as_chunks().0.iter().enumerate() {
        // With the half 24 bits, which `f32` holds; signed, which every instruction set converts.
        (radius[i], turn[i]) = ((first >> 9) as i32, (second >> 8) as i32);
    }
    let (mut cosines, mut sines) = ([0.0; PAIRS], [0.0; PAIRS]);
    for i in 0..PAIRS {
        let u = (radius[i] as f32 + 0.5) * (2.0 * TWO_TO_MINUS_24);
        let radius = (-2.0 * ln(u)).sqrt();
        let (cosine, sine) = cos_sin(turn[i] as f32 * TWO_TO_MINUS_24);
        (cosines[i], sines[i]) = (radius * cosine, radius * sine);
    }
    let mut numbers = [0.0; GROUP];
    for (i, pair) in numbers.as_chunks_mut().0.iter_mut().enumerate() {
        *pair = [cosines[i], sines[i]];
    }
    numbers
}

const TWO_TO_MINUS_24: f32 = 1.0 / 16_777_216.0;

/// ln x of a positive normal number: x = m·2ᵉ with m in [√½, √2), and a polynomial in m − 1.
/// Coefficients: Moshier's Cephes.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "as published")]
fn ln(x: f32) -> f32 {
    const HALF_SQRT: i32 = 0x3F35_04F3;
    let bits = x.to_bits() as i32;
    let exponent = (bits - HALF_SQRT) >> 23;
    let f = f32::from_bits((bits - (exponent << 23)) as u32) - 1.0;
    let e = exponent as f32;
    let z = f * f;
    let mut y = 7.037_683_629_2e-2 * f - 1.151_461_031_0e-1;
    y = y * f + 1.167_699_874_0e-1;
    y = y * f - 1.242_014_084_6e-1;
    y = y * f + 1.424_932_278_7e-1;
    y = y * f - 1.666_805_766_5e-1;
    y = y * f + 2.000_071_476_5e-1;
    y = y * f - 2.499_999_399_3e-1;
    y = y * f + 3.333_333_117_4e-1;
    y = y * f * z;
    // ln 2 in two parts, the first exact times an exponent.
    y += e * -2.121_944_40e-4;
    y += -0.5 * z;
    f + y + e * 0.693_359_375
}

/// cos 2πt and sin 2πt for t in [0, 1): polynomials over an eighth of a turn to either side of the
/// nearest quarter. Coefficients: Moshier's Cephes.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "as published")]
fn cos_sin(t: f32) -> (f32, f32) {
    // Half a quarter more, rounded down: t is not negative.
    let quarter = (4.0 * t + 0.5) as i32;
    let x = (4.0 * t - quarter as f32) * std::f32::consts::FRAC_PI_2;
    let z = x * x;
    let sine =
        ((-1.951_529_589_1e-4 * z + 8.332_160_873_6e-3) * z - 1.666_665_461_1e-1) * z * x + x;
    let cosine = ((2.443_315_711_809_948e-5 * z - 1.388_731_625_493_765e-3) * z
        + 4.166_664_568_298_827e-2)
        * z
        * z
        - 0.5 * z
        + 1.0;
    let (a, b) = if quarter & 1 == 0 {
        (cosine, sine)
    } else {
        (sine, cosine)
    };
    let a = if (quarter + 1) & 2 == 0 { a } else { -a };
    let b = if quarter & 2 == 0 { b } else { -b };
    (a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both are as good as `f32` allows, over all that is asked of them.
    #[test]
    fn logarithm_sine_and_cosine() {
        for i in (0..1 << 24).step_by(97).chain([(1 << 24) - 1]) {
            let u = ((i / 2) as f32 + 0.5) * (2.0 * TWO_TO_MINUS_24);
            let expected = f64::from(u).ln();
            let error = (f64::from(ln(u)) - expected).abs();
            assert!(error <= 1.5e-7 * expected.abs(), "ln {u}: {error}");
            let t = i as f32 * TWO_TO_MINUS_24;
            let (cosine, sine) = cos_sin(t);
            let angle = std::f64::consts::TAU * f64::from(t);
            let error = (f64::from(cosine) - angle.cos())
                .abs()
                .max((f64::from(sine) - angle.sin()).abs());
            assert!(error <= 1.5e-7, "at {t}: {error}");
        }
    }
}
