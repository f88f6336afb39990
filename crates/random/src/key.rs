//! What is drawn: a 64-bit Philox key, derived by walking a path of names and numbers.

use crate::philox::philox;
use crate::{Draws, philox4x32};

/// Identifies one source of random words.
///
/// Keys form a tree: [`Key::at`] and [`Key::child`] lead to keys whose words are independent of
/// their parent's and siblings'. A derived key is a Philox block of its parent in a part of the
/// counter space that [`Key::block`] never uses, so derivation never overlaps drawing. Two
/// different paths give the same key with probability 2⁻⁶⁴.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u32; 2]);

/// The last counter word says what a block is for.
const FOR_DRAWS: u32 = 0;
const FOR_INDEX: u32 = 1;
const FOR_NAME: u32 = 2;

/// The lower half of 64 bits.
const LOW: u64 = 0xFFFF_FFFF;

impl Key {
    /// The root key of a run.
    pub const fn from_seed(seed: u64) -> Self {
        Self([seed as u32, (seed >> 32) as u32])
    }

    /// The key of two words that were drawn or recorded.
    pub const fn from_words(words: [u32; 2]) -> Self {
        Self(words)
    }

    /// The key of part `index` (a step, an epoch, a sample, a call).
    #[must_use]
    pub fn at(self, index: u64) -> Self {
        self.derive(index, 0, FOR_INDEX)
    }

    /// The key of the part called `name` (a scope, an operation, a parameter's path).
    #[must_use]
    pub fn child(self, name: &str) -> Self {
        // The length goes first, so that a name is never the prefix of another one's walk.
        let mut key = self.derive(name.len() as u64, 0, FOR_NAME);
        for (position, chunk) in (1u32..).zip(name.as_bytes().chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            key = key.derive(u64::from_le_bytes(bytes), position, FOR_NAME);
        }
        key
    }

    fn derive(self, value: u64, position: u32, purpose: u32) -> Self {
        let [left, right, ..] = philox4x32(
            self.0,
            [value as u32, (value >> 32) as u32, position, purpose],
        );
        Self([left, right])
    }

    /// Words 4·`index` to 4·`index` + 3 of this key.
    #[inline(always)]
    pub fn block(self, index: u64) -> [u32; 4] {
        philox4x32(self.0, [index as u32, (index >> 32) as u32, 0, FOR_DRAWS])
    }

    /// Blocks `first` to `first` + N − 1: a loop that compilers turn into vector instructions.
    #[inline(always)]
    pub fn blocks<const N: usize>(self, first: u64) -> [[u32; 4]; N] {
        let mut pairs = [[0; 2]; N];
        for (index, pairs) in (first..).zip(&mut pairs) {
            let [a, b, c, d] = philox(self.0, [index, index >> 32, 0, u64::from(FOR_DRAWS)]);
            *pairs = [a & LOW | b << 32, c & LOW | d << 32];
        }
        pairs.map(|[first, second]| {
            [
                first as u32,
                (first >> 32) as u32,
                second as u32,
                (second >> 32) as u32,
            ]
        })
    }

    /// This key's words one after another, as bounded integers, uniforms, normals, permutations.
    pub fn draws(self) -> Draws {
        Draws::new(self)
    }

    /// The key's two words, for kernels that compute Philox themselves.
    pub const fn words(self) -> [u32; 2] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Pins the derivation: a change here changes every mask, batch and weight ever drawn.
    #[test]
    fn derivation_is_pinned() {
        let key = Key::from_seed(42);
        assert_eq!(key.words(), [42, 0]);
        assert_eq!(key.at(7).words(), philox_words(key, [7, 0, 0, 1]));
        let name = philox_words(key, [3, 0, 0, 2]);
        assert_eq!(
            key.child("abc").words(),
            philox_words(Key(name), [0x0063_6261, 0, 1, 2])
        );
    }

    fn philox_words(key: Key, counter: [u32; 4]) -> [u32; 2] {
        let [left, right, ..] = philox4x32(key.words(), counter);
        [left, right]
    }

    #[test]
    fn blocks_are_those_one_by_one() {
        let key = Key::from_seed(3).child("mask");
        for first in [0, 7, u64::from(u32::MAX) - 5] {
            let blocks = key.blocks::<11>(first);
            for (index, block) in (first..).zip(blocks) {
                assert_eq!(block, key.block(index));
            }
        }
    }

    #[test]
    fn paths_do_not_collide() {
        let root = Key::from_seed(0);
        let names = [
            "",
            "a",
            "b",
            "ab",
            "block1",
            "block10",
            "block1.0",
            "12345678",
            "123456780",
        ];
        let mut seen: HashSet<_> = names.iter().map(|name| root.child(name)).collect();
        seen.extend((0..1000).map(|index| root.at(index)));
        seen.insert(root.child("a").child("b"));
        seen.insert(root);
        assert_eq!(seen.len(), names.len() + 1000 + 2);
    }
}
