//! A key's words, many blocks at a time.

use evenkeel_random::Key;

/// Blocks computed side by side: a vector of lanes for each of the four words.
const BLOCKS: usize = 32;
/// Words that they make.
pub(super) const GROUP: usize = 4 * BLOCKS;

/// The words of the [`GROUP`] from block `first_block` on, in order.
#[inline(always)]
pub(super) fn group(key: Key, first_block: u64) -> [u32; GROUP] {
    let mut words = [0; GROUP];
    let blocks = key.blocks::<BLOCKS>(first_block);
    words.as_chunks_mut().0.copy_from_slice(&blocks);
    words
}

/// A key's words from any place on: fast where they are read in order.
pub(super) struct Words {
    key: Key,
    /// The group at hand, and its words.
    at: u64,
    words: [u32; GROUP],
}

impl Words {
    #[inline(always)]
    pub fn new(key: Key) -> Self {
        Self {
            key,
            at: 0,
            words: group(key, 0),
        }
    }

    /// Word `index` and those after it, as many as are at hand: at least one, at most [`GROUP`].
    #[inline(always)]
    pub fn from(&mut self, index: u64) -> &[u32] {
        let at = index / GROUP as u64;
        if at != self.at {
            self.words = group(self.key, at * BLOCKS as u64);
            self.at = at;
        }
        &self.words[(index % GROUP as u64) as usize..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_any_order_are_the_keys() {
        let key = Key::from_seed(5);
        let mut words = Words::new(key);
        for index in [
            0,
            1,
            127,
            128,
            131,
            700,
            129,
            3,
            u64::from(u32::MAX) * 4 + 5,
        ] {
            let found = words.from(index);
            assert!(!found.is_empty());
            for (index, word) in (index..).zip(found) {
                assert_eq!(*word, key.block(index / 4)[(index % 4) as usize]);
            }
        }
    }
}
