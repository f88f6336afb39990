//! Weighted sums of bytes, four products at a time.
//!
//! A weight of 24 bits is three signed digits, w = d₀ + 2⁸·d₁ + 2¹⁶·d₂ with −128 ≤ d < 128. Processors with AVX-512 VNNI
//! have one instruction for Σ x·d over four neighbouring bytes x, added to a sum of 32 bits. So Σ w·x is three of them
//! for four weights, and exact: whatever overflows in between, the sum of the three does not.

use std::ops::Range;

use multiversion::multiversion;
use multiversion::target::match_target;

use super::{HALF, Samples, Weights, level};

/// Whether this processor has these instructions.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl"))]
pub(super) fn are_fast() -> bool {
    match_target! {
        "x86_64+avx512vbmi+avx512vnni" => true,
        _ => false,
    }
}

/// The digits of four weights: the lowest ones, the middle ones, the highest ones.
type Quad = [[i8; 4]; 3];

/// Those of up to four weights; the others are 0.
fn quad(weights: &[i32]) -> Quad {
    let mut quad = [[0; 4]; 3];
    for (i, &weight) in weights.iter().enumerate() {
        let mut rest = weight;
        for digits in &mut quad {
            digits[i] = rest as i8;
            rest = (rest - i32::from(digits[i])) >> 8;
        }
    }
    quad
}

/// What three digits stand for.
fn weight([low, middle, high]: [i8; 3]) -> i32 {
    i32::from(low) + (i32::from(middle) << 8) + (i32::from(high) << 16)
}

fn digits_of(weights: &[i32]) -> impl ExactSizeIterator<Item = Quad> {
    weights.chunks(4).map(quad)
}

/// A vector's values.
const LANES: usize = 16;
/// Its bytes.
const BYTES: usize = 4 * LANES;

/// Rows that are made together.
const ROWS: usize = 4;

/// Up to four taps of each of some output values.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Part {
    /// Where among the bytes of a block's input they are.
    places: [[u8; 4]; LANES],
    digits: [[[i8; 4]; LANES]; 3],
}

/// Neighbouring output values.
struct Block {
    /// Where in a row the bytes begin that they are made of.
    input: usize,
    outputs: Range<usize>,
    parts: Range<usize>,
}

/// Weights of pixels in rows.
pub(super) struct Along {
    blocks: Vec<Block>,
    parts: Vec<Part>,
}

impl Along {
    /// Of rows of pixels of so many channels; `None` where a block's pixels lie too far apart.
    pub fn new(weights: &Weights, channels: usize) -> Option<Self> {
        let end = weights.inputs().end * channels;
        let width = weights.starts.len() - 1;
        let together = LANES / channels;
        let (mut blocks, mut parts) = (Vec::new(), Vec::new());
        for first in (0..width).step_by(together) {
            let pixels = first..(first + together).min(width);
            let of = pixels.clone().map(|i| weights.of(i));
            let from = of.clone().map(|(start, _)| start).min()? * channels;
            let to = of.clone().map(|(start, weights)| start + weights.len());
            // So that a vector of bytes ends in the row.
            let input = from.min(end.checked_sub(BYTES)?);
            if to.max()? * channels > input + BYTES {
                return None;
            }
            let begin = parts.len();
            let quads = of.clone().map(|(_, weights)| weights.len().div_ceil(4));
            let empty = Part {
                places: [[0; 4]; LANES],
                digits: [[[0; 4]; LANES]; 3],
            };
            parts.resize(begin + quads.max()?, empty);
            for (i, (start, weights)) in of.enumerate() {
                let quads = parts[begin..].iter_mut().zip(digits_of(weights));
                for (number, (part, quad)) in quads.enumerate() {
                    // Behind the last tap the digits are 0, and the place may be any.
                    let first = (start + 4 * number) * channels - input;
                    for channel in 0..channels {
                        let lane = i * channels + channel;
                        part.places[lane] = [0, 1, 2, 3]
                            .map(|tap| (first + tap * channels + channel).min(BYTES - 1) as u8);
                        for (digits, &quad) in part.digits.iter_mut().zip(&quad) {
                            digits[lane] = quad;
                        }
                    }
                }
            }
            blocks.push(Block {
                input,
                outputs: pixels.start * channels..pixels.end * channels,
                parts: begin..parts.len(),
            });
        }
        Some(Self { blocks, parts })
    }

    /// Makes rows.
    pub fn rows(&self, samples: Samples<'_>, rows: &[usize], outputs: &mut [u8]) {
        let Some(last) = self.blocks.last() else {
            return;
        };
        make_rows(self, samples, rows, last.outputs.end, outputs);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl"))]
fn make_rows(
    along: &Along,
    samples: Samples<'_>,
    rows: &[usize],
    width: usize,
    outputs: &mut [u8],
) {
    for (ys, outputs) in rows.chunks(ROWS).zip(outputs.chunks_mut(ROWS * width)) {
        // The last one in place of those that there are none of.
        let lines = [0, 1, 2, 3].map(|i| samples.row(ys[i.min(ys.len() - 1)]));
        for block in &along.blocks {
            let parts = &along.parts[block.parts.clone()];
            let bytes = [
                taken(lines[0], block),
                taken(lines[1], block),
                taken(lines[2], block),
                taken(lines[3], block),
            ];
            let levels = match_target! {
                "x86_64+avx512vbmi+avx512vnni" => vectors::sums_of_places(bytes, parts),
                _ => bytes.map(|bytes| sum_of_places(bytes, parts)),
            };
            for (output, levels) in outputs.chunks_exact_mut(width).zip(&levels) {
                let output = &mut output[block.outputs.start..];
                match output.first_chunk_mut::<LANES>() {
                    // What is too much, the next block overwrites.
                    Some(output) => *output = *levels,
                    None => output.copy_from_slice(&levels[..output.len()]),
                }
            }
        }
    }
}

/// A row's bytes that a block is made of.
#[inline(always)]
fn taken<'a>(row: &'a [u8], block: &Block) -> &'a [u8; BYTES] {
    let bytes = row[block.input..].first_chunk();
    bytes.expect("a block's bytes end in the row")
}

/// The definition of [`vectors::sums_of_places`].
fn sum_of_places(bytes: &[u8; BYTES], parts: &[Part]) -> [u8; LANES] {
    std::array::from_fn(|lane| {
        let mut sum = HALF;
        for part in parts {
            for tap in 0..4 {
                let x = i32::from(bytes[usize::from(part.places[lane][tap])]);
                sum += x * weight(part.digits.map(|digits| digits[lane][tap]));
            }
        }
        level(sum)
    })
}

/// Weights of rows.
pub(super) struct Across {
    /// Where an output row's quads begin.
    starts: Vec<usize>,
    quads: Vec<Quad>,
}

impl Across {
    pub fn new(weights: &Weights) -> Self {
        let (mut starts, mut quads) = (Vec::with_capacity(weights.starts.len()), Vec::new());
        for i in 0..weights.starts.len() - 1 {
            starts.push(quads.len());
            quads.extend(digits_of(weights.of(i).1));
        }
        starts.push(quads.len());
        Self { starts, quads }
    }

    /// Makes row `i` of the output, of the first `count` rows of `pixels`. Rows have at least [`Across::LEAST`] bytes.
    pub fn row(&self, i: usize, count: usize, pixels: &[u8], output: &mut [u8]) {
        sum_rows(
            &self.quads[self.starts[i]..self.starts[i + 1]],
            count,
            pixels,
            output,
        );
    }

    pub const LEAST: usize = BYTES;
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl"))]
fn sum_rows(quads: &[Quad], count: usize, pixels: &[u8], output: &mut [u8]) {
    let stride = output.len();
    let mut from = 0;
    while from < stride {
        // The last vector ends with the row, and makes some values again.
        from = from.min(stride - BYTES);
        let Some(place) = output[from..].first_chunk_mut::<BYTES>() else {
            return;
        };
        let pixels = &pixels[from..];
        *place = match_target! {
            "x86_64+avx512vbmi+avx512vnni" => vectors::sum_of_rows(quads, count, pixels, stride),
            _ => sum_of_rows(quads, count, pixels, stride),
        };
        from += BYTES;
    }
}

/// The bytes of row `4·quad + tap`; behind the last row, where weights are 0, that one's.
#[inline(always)]
fn tap(pixels: &[u8], stride: usize, count: usize, row: usize) -> &[u8; BYTES] {
    let bytes = pixels[row.min(count - 1) * stride..].first_chunk();
    bytes.expect("a row has a vector of bytes from here on")
}

/// The definition of [`vectors::sum_of_rows`].
fn sum_of_rows(quads: &[Quad], count: usize, pixels: &[u8], stride: usize) -> [u8; BYTES] {
    let mut sums = [HALF; BYTES];
    for (i, quad) in quads.iter().enumerate() {
        for at in 0..4 {
            let bytes = tap(pixels, stride, count, 4 * i + at);
            let weight = weight(quad.map(|digits| digits[at]));
            for (sum, &x) in sums.iter_mut().zip(bytes) {
                *sum += i32::from(x) * weight;
            }
        }
    }
    sums.map(level)
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_permutexvar_epi8,
        _mm512_permutexvar_epi32, _mm512_set1_epi32, _mm512_setr_epi32, _mm512_setzero_si512,
        _mm512_slli_epi32, _mm512_srai_epi32,
    };

    use bytemuck::{cast, cast_ref};

    use super::{BYTES, HALF, LANES, Part, Quad, ROWS, tap};
    use crate::ops::resample::FRACTION;
    use crate::vector::{self, interleaved, load, packed};

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    #[inline]
    pub fn sums_of_places(bytes: [&[u8; BYTES]; ROWS], parts: &[Part]) -> [[u8; LANES]; ROWS] {
        let [a, b, c, d] = bytes;
        let bytes = [load(a), load(b), load(c), load(d)];
        let levels = match parts {
            [part] => {
                let (places, digits) = part.load();
                bytes.map(|bytes| level(_mm512_permutexvar_epi8(places, bytes), digits))
            }
            _ => {
                let mut sums = [Sums::new(); ROWS];
                for part in parts {
                    let (places, digits) = part.load();
                    for (sums, bytes) in sums.iter_mut().zip(bytes) {
                        sums.add(_mm512_permutexvar_epi8(places, bytes), digits);
                    }
                }
                sums.map(|sums| sums.levels())
            }
        };
        // Packing leaves four bytes of each row beside four of the next.
        let rows = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        cast(vector::bytes(_mm512_permutexvar_epi32(
            rows,
            packed(levels),
        )))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
    #[inline]
    pub fn sum_of_rows(quads: &[Quad], count: usize, pixels: &[u8], stride: usize) -> [u8; BYTES] {
        let taps = |i| {
            let a = load(tap(pixels, stride, count, 4 * i));
            let b = load(tap(pixels, stride, count, 4 * i + 1));
            let c = load(tap(pixels, stride, count, 4 * i + 2));
            let d = load(tap(pixels, stride, count, 4 * i + 3));
            interleaved([a, b, c, d])
        };
        let digits = |quad: &Quad| [broadcast(quad[0]), broadcast(quad[1]), broadcast(quad[2])];
        let levels = match quads {
            [quad] => {
                let digits = digits(quad);
                taps(0).map(|taps| level(taps, digits))
            }
            _ => {
                let mut sums = [Sums::new(); 4];
                for (i, quad) in quads.iter().enumerate() {
                    let digits = digits(quad);
                    for (sums, taps) in sums.iter_mut().zip(taps(i)) {
                        sums.add(taps, digits);
                    }
                }
                sums.map(|sums| sums.levels())
            }
        };
        vector::bytes(packed(levels))
    }

    /// What [`Sums`] of four taps alone come to, in fewer steps: the sum of the highest digits is on its way up when the
    /// next ones are added.
    #[target_feature(enable = "avx512f,avx512vnni")]
    #[inline]
    fn level(taps: __m512i, [low, middle, high]: [__m512i; 3]) -> __m512i {
        let sum = _mm512_dpbusd_epi32(_mm512_set1_epi32(HALF >> 16), taps, high);
        let sum = _mm512_dpbusd_epi32(_mm512_slli_epi32::<8>(sum), taps, middle);
        let sum = _mm512_dpbusd_epi32(_mm512_slli_epi32::<8>(sum), taps, low);
        _mm512_srai_epi32::<FRACTION>(sum)
    }

    impl Part {
        /// The places and the digits.
        #[target_feature(enable = "avx512f")]
        #[inline]
        fn load(&self) -> (__m512i, [__m512i; 3]) {
            let [low, middle, high] = &self.digits;
            let digits = [
                load(cast_ref(low)),
                load(cast_ref(middle)),
                load(cast_ref(high)),
            ];
            (load(cast_ref(&self.places)), digits)
        }
    }

    /// Of bytes with each of the digits.
    #[derive(Clone, Copy)]
    struct Sums([__m512i; 3]);

    impl Sums {
        #[target_feature(enable = "avx512f")]
        #[inline]
        fn new() -> Self {
            let zero = _mm512_setzero_si512();
            Self([_mm512_set1_epi32(HALF), zero, zero])
        }

        #[target_feature(enable = "avx512f,avx512vnni")]
        #[inline]
        fn add(&mut self, bytes: __m512i, digits: [__m512i; 3]) {
            let [low, middle, high] = self.0;
            self.0 = [
                _mm512_dpbusd_epi32(low, bytes, digits[0]),
                _mm512_dpbusd_epi32(middle, bytes, digits[1]),
                _mm512_dpbusd_epi32(high, bytes, digits[2]),
            ];
        }

        /// Not yet clipped.
        #[target_feature(enable = "avx512f")]
        #[inline]
        fn levels(self) -> __m512i {
            let [low, middle, high] = self.0;
            let upper = _mm512_add_epi32(
                _mm512_slli_epi32::<8>(middle),
                _mm512_slli_epi32::<16>(high),
            );
            _mm512_srai_epi32::<FRACTION>(_mm512_add_epi32(low, upper))
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn broadcast(digits: [i8; 4]) -> __m512i {
        _mm512_set1_epi32(cast(digits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Filter;
    use crate::ops::geometry::Axis;
    use evenkeel_random::Key;

    #[test]
    fn digits_are_those_of_the_weight() {
        // 127·(1 + 2⁸ + 2¹⁶) is the largest; weights are at most some 1.3·2²².
        let least = -(1 << 23);
        for expected in (least..8_355_711).step_by(997).chain([1 << 22, 8_355_711]) {
            let found = weight(quad(&[0, expected]).map(|digits| digits[1]));
            assert_eq!(found, expected);
        }
    }

    /// Against sums of products of whole weights, with the instructions where they are and without.
    #[test]
    fn rows_and_columns_are_those_of_whole_weights() {
        let mut draws = Key::from_seed(6).draws();
        let mut made = 0;
        for round in 0..300 {
            let channels = 1 + round % 4;
            let (length, to) = (30 + draws.below(90) as usize, 1 + draws.below(120) as usize);
            let filter = [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos][round % 3];
            let mut axis = Axis::whole(length);
            axis.resize(to);
            axis.flipped = round % 5 == 0;
            let weights = Weights::new(&axis, filter, round % 7 != 0);
            // No contrast is too much.
            let bytes: Vec<u8> = (0..length * length * channels)
                .map(|_| [0, 255, draws.below(256) as u8][draws.below(3) as usize])
                .collect();
            let whole = |first: usize, weights: &[i32], step: usize| {
                let taps = bytes[first..].iter().step_by(step).zip(weights);
                level(taps.fold(HALF, |sum, (&x, weight)| sum + weight * i32::from(x)))
            };
            let stride = length * channels;
            let across = Across::new(&weights);
            for i in 0..to {
                let (start, of) = weights.of(i);
                let rows = &bytes[start * stride..];
                if stride >= Across::LEAST {
                    let mut found = vec![7; stride];
                    across.row(i, of.len(), rows, &mut found);
                    let expected = (0..stride).map(|x| whole(start * stride + x, of, stride));
                    assert!(expected.eq(found.iter().copied()), "{axis:?} {i}");
                    let plain = sum_of_rows(
                        &across.quads[across.starts[i]..across.starts[i + 1]],
                        of.len(),
                        rows,
                        stride,
                    );
                    assert_eq!(plain, found[..BYTES]);
                }
            }
            if let Some(along) = Along::new(&weights, channels) {
                let samples = Samples {
                    bytes: &bytes,
                    stride,
                };
                let rows = [0, length / 2, length - 1, 3, 3, 7];
                let mut found = vec![7; to * channels * rows.len()];
                along.rows(samples, &rows, &mut found);
                for (y, found) in rows.into_iter().zip(found.chunks(to * channels)) {
                    for (x, &found) in found.iter().enumerate() {
                        let (start, of) = weights.of(x / channels);
                        let first = y * stride + start * channels + x % channels;
                        assert_eq!(found, whole(first, of, channels), "{axis:?} {x} {y}");
                    }
                    for block in &along.blocks {
                        let bytes = samples.row(y)[block.input..].first_chunk().unwrap();
                        let plain = sum_of_places(bytes, &along.parts[block.parts.clone()]);
                        let outputs = block.outputs.clone();
                        assert_eq!(plain[..outputs.len()], found[outputs]);
                    }
                }
                made += 1;
            }
        }
        assert!(made > 100, "{made}");
    }
}
