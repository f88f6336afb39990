//! Philox4x32-10: ten rounds of a counter-mode bijection on 128 bits under a 64-bit key.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
//! It needs only 32×32→64-bit products, which GPUs without 64-bit integers have as `mul_hi`.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// The golden ratio and √3 − 1 in fixed point: the key's Weyl increments.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;

/// The four words of block `counter` under `key`.
#[inline(always)]
pub fn philox4x32(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    philox(key, counter.map(u64::from)).map(|word| word as u32)
}

/// [`philox4x32`] on words in the lower halves of 64 bits; what the upper ones hold, here and in the result, is nothing.
///
/// A product of 32 bits by 32 takes that much room. Where words stay in it from round to round, a loop over blocks
/// becomes vectors that nothing packs and unpacks: a product, a shift and an exclusive or of three for each word.
#[inline(always)]
pub(crate) fn philox(key: [u32; 2], counter: [u64; 4]) -> [u64; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let [mut left, mut right] = key;
    for _ in 0..ROUNDS {
        let first = u64::from(MULTIPLIERS[0]) * u64::from(a as u32);
        let second = u64::from(MULTIPLIERS[1]) * u64::from(c as u32);
        a = (second >> 32) ^ b ^ u64::from(left);
        b = second;
        c = (first >> 32) ^ d ^ u64::from(right);
        d = first;
        left = left.wrapping_add(WEYL[0]);
        right = right.wrapping_add(WEYL[1]);
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that Random123 ships in `kat_vectors` for philox4x32, 10 rounds.
    #[test]
    fn known_answers() {
        assert_eq!(
            philox4x32([0, 0], [0, 0, 0, 0]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([u32::MAX; 2], [u32::MAX; 4]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0xa409_3822, 0x299f_31d0],
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
