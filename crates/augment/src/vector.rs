//! 64 bytes as a vector and back. Both are moves: the halves are how safe code says so.

use std::arch::x86_64::{
    __m256i, __m512i, _mm512_castsi256_si512, _mm512_castsi512_si256, _mm512_extracti64x4_epi64,
    _mm512_inserti64x4,
};

use bytemuck::cast;

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
