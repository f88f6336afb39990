//! Vectors of 64 bytes: from memory and back, four beside each other and back.

use std::arch::x86_64::{
    __m256i, __m512i, _mm512_castsi256_si512, _mm512_castsi512_si256, _mm512_extracti64x4_epi64,
    _mm512_inserti64x4, _mm512_packs_epi32, _mm512_packus_epi16, _mm512_unpackhi_epi8,
    _mm512_unpackhi_epi16, _mm512_unpacklo_epi8, _mm512_unpacklo_epi16,
};

use bytemuck::cast;

/// A move, as [`bytes`] is: the halves are how safe code says so.
#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) fn load(bytes: &[u8; 64]) -> __m512i {
    let [first, second]: [__m256i; 2] = cast(*bytes);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) fn bytes(vector: __m512i) -> [u8; 64] {
    cast([
        _mm512_castsi512_si256(vector),
        _mm512_extracti64x4_epi64::<1>(vector),
    ])
}

/// Each byte of the four beside those of the others: a byte of each in 32 bits, in the order in which [`packed`] puts them
/// back.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(crate) fn interleaved([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let low = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
    let high = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
    [
        _mm512_unpacklo_epi16(low.0, low.1),
        _mm512_unpackhi_epi16(low.0, low.1),
        _mm512_unpacklo_epi16(high.0, high.1),
        _mm512_unpackhi_epi16(high.0, high.1),
    ]
}

/// Numbers of 32 bits as bytes, clipped: four of each vector beside four of the next.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(crate) fn packed([a, b, c, d]: [__m512i; 4]) -> __m512i {
    _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d))
}
