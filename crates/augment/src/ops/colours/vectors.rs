//! The steps 64 bytes at a time, with permutations of bytes for tables (AVX-512 VBMI) and products of bytes for grays
//! (AVX-512 VNNI). A loop over a table stays scalar: compilers have no permutation for an index that is not known.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_adds_epu8, _mm512_dpbusd_epi32, _mm512_mask_blend_epi8,
    _mm512_mask_permutexvar_epi8, _mm512_movepi8_mask, _mm512_permutex2var_epi8,
    _mm512_permutexvar_epi8, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_slli_epi32,
    _mm512_srli_epi32, _mm512_subs_epu8,
};

use bytemuck::cast;

use super::lanes;
use super::pass::Step;
use crate::ops::point::Table;
use crate::strip::{self, BYTES, PIXELS, Planes};
use crate::vector::{bytes, interleaved, load, packed};

/// See [`strip::split`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
pub(super) fn split(strip: &[u8], planes: &mut Planes) -> usize {
    let Some(strip) = strip.first_chunk::<BYTES>() else {
        return strip::split(strip, planes);
    };
    let thirds = strip.as_chunks::<64>().0.as_chunks::<3>().0;
    for (i, [a, b, c]) in thirds.iter().enumerate() {
        let thirds = [load(a), load(b), load(c)];
        for (plane, gather) in planes.0.iter_mut().zip(&SPLIT) {
            plane.as_chunks_mut::<64>().0[i] = bytes(gather.of(thirds));
        }
    }
    PIXELS
}

/// See [`strip::join`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
pub(super) fn join(planes: &Planes, strip: &mut [u8]) {
    let Some(strip) = strip.first_chunk_mut::<BYTES>() else {
        return strip::join(planes, strip);
    };
    let [red, green, blue] = planes.0.each_ref().map(|plane| plane.as_chunks::<64>().0);
    let thirds = strip.as_chunks_mut::<64>().0.as_chunks_mut::<3>().0;
    for (i, thirds) in thirds.iter_mut().enumerate() {
        let planes = [load(&red[i]), load(&green[i]), load(&blue[i])];
        for (third, gather) in thirds.iter_mut().zip(&JOIN) {
            *third = bytes(gather.of(planes));
        }
    }
}

/// See [`lanes::apply`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
#[inline]
pub(super) fn apply(steps: &[Step], planes: &mut Planes) {
    for step in steps {
        match step {
            Step::Levels(levels) => {
                for (channel, plane) in planes.0.iter_mut().enumerate() {
                    let table = Registers::new(levels.of(channel));
                    for levels in plane.as_chunks_mut::<64>().0 {
                        *levels = bytes(table.at(load(levels)));
                    }
                }
            }
            Step::Saturation(differences) => match differences.tables() {
                Some(tables) => saturate(tables, planes),
                None => lanes::apply(std::slice::from_ref(step), planes),
            },
        }
    }
}

/// A blend of each pixel's gray with the pixel, by the tables of
/// [`Differences`](super::differences::Differences).
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
#[inline]
fn saturate([above, below]: &[Table; 2], Planes(planes): &mut Planes) {
    let (above, below) = (Registers::new(above), Registers::new(below));
    let [red, green, blue] = planes.each_mut().map(|plane| plane.as_chunks_mut::<64>().0);
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let gray = gray([load(red), load(green), load(blue)]);
        for levels in [red, green, blue] {
            let level = load(levels);
            let up = above.at(_mm512_subs_epu8(level, gray));
            let down = below.at(_mm512_subs_epu8(gray, level));
            *levels = bytes(_mm512_subs_epu8(_mm512_adds_epu8(gray, up), down));
        }
    }
}

/// The gray of each pixel.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
pub(super) fn grays(Planes(planes): &Planes) -> [u8; PIXELS] {
    let mut grays = [0; PIXELS];
    let [red, green, blue] = planes.each_ref().map(|plane| plane.as_chunks::<64>().0);
    for (i, grays) in grays.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        *grays = bytes(gray([load(&red[i]), load(&green[i]), load(&blue[i])]));
    }
    grays
}

/// [`point::gray`](crate::ops::point::gray) of 64 colours: the weights of red, green, blue and again green, of which
/// each has a half, as two signed digits.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn gray([red, green, blue]: [__m512i; 3]) -> __m512i {
    packed(interleaved([red, green, blue, green]).map(|colours| gray_of_sixteen(colours)))
}

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn gray_of_sixteen(colours: __m512i) -> __m512i {
    // 19595 = 77·2⁸ − 117, 38470/2 = 75·2⁸ + 35, 7471 = 29·2⁸ + 47.
    let upper = _mm512_set1_epi32(cast([77_i8, 75, 29, 75]));
    let lower = _mm512_set1_epi32(cast([-117_i8, 35, 47, 35]));
    let sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), colours, upper);
    let sum = _mm512_add_epi32(_mm512_slli_epi32::<8>(sum), _mm512_set1_epi32(0x8000));
    _mm512_srli_epi32::<16>(_mm512_dpbusd_epi32(sum, colours, lower))
}

/// A table in four registers.
#[derive(Clone, Copy)]
struct Registers([__m512i; 4]);

impl Registers {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn new(table: &Table) -> Self {
        let quarters: [[u8; 64]; 4] = cast(*table);
        let [a, b, c, d] = &quarters;
        Self([load(a), load(b), load(c), load(d)])
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn at(self, index: __m512i) -> __m512i {
        let Self([a, b, c, d]) = self;
        let lower = _mm512_permutex2var_epi8(a, index, b);
        let upper = _mm512_permutex2var_epi8(c, index, d);
        // An index's first bit says which half it is in.
        _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), lower, upper)
    }
}

/// 64 bytes out of three times 64.
struct Gather {
    /// Which byte of its vector each is,
    bytes: [u8; 64],
    /// and which ones are out of each vector.
    masks: [u64; 3],
}

/// Of pixels, each channel's bytes.
const SPLIT: [Gather; 3] = [
    Gather::new(true, 0),
    Gather::new(true, 1),
    Gather::new(true, 2),
];

/// Of each channel's bytes, a third of the pixels.
const JOIN: [Gather; 3] = [
    Gather::new(false, 0),
    Gather::new(false, 1),
    Gather::new(false, 2),
];

impl Gather {
    const fn new(split: bool, number: usize) -> Self {
        let (mut bytes, mut masks) = ([0; 64], [0; 3]);
        let mut i = 0;
        while i < 64 {
            let (vector, byte) = if split {
                let place = 3 * i + number;
                (place / 64, place % 64)
            } else {
                let place = 64 * number + i;
                (place % 3, place / 3)
            };
            bytes[i] = byte as u8;
            masks[vector] |= 1 << i;
            i += 1;
        }
        Self { bytes, masks }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn of(&self, [a, b, c]: [__m512i; 3]) -> __m512i {
        let places = load(&self.bytes);
        let [_, of_b, of_c] = self.masks;
        let result = _mm512_permutexvar_epi8(places, a);
        let result = _mm512_mask_permutexvar_epi8(result, of_b, places, b);
        _mm512_mask_permutexvar_epi8(result, of_c, places, c)
    }
}
