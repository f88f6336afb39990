//! A key's words in order, shaped into the distributions that augmentation and initialization use.

use crate::Key;

/// Draws from one [`Key`], starting at its first word. Two equal keys give equal draws.
#[derive(Clone, Debug)]
pub struct Draws {
    key: Key,
    next_block: u64,
    words: [u32; 4],
    used: usize,
}

impl Draws {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            next_block: 0,
            words: [0; 4],
            used: 4,
        }
    }

    /// The next 32 uniform bits.
    #[inline]
    pub fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.words = self.key.block(self.next_block);
            self.next_block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// A uniform number in [0, 1), a multiple of 2⁻³².
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        f64::from(self.word()) * (1.0 / 4_294_967_296.0)
    }

    /// A uniform number in [`low`, `high`) (and `low` where the two are equal).
    #[inline]
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// True with probability `p`, exactly ⌊p·2³²⌋ of 2³² times: never at 0, always at 1.
    #[inline]
    pub fn chance(&mut self, p: f64) -> bool {
        f64::from(self.word()) < (p * 4_294_967_296.0).floor()
    }

    /// An unbiased integer in 0..`bound`: Lemire's multiplication with rejection.
    ///
    /// # Panics
    /// If `bound` is 0: there is nothing to choose from.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        assert!(
            bound > 0,
            "Draws::below(0): expected at least one value to choose from"
        );
        let rejected = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.word()) * u64::from(bound);
            if product as u32 >= rejected {
                return (product >> 32) as u32;
            }
        }
    }

    /// A standard normal number (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        // 1 − u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Shuffles `items` uniformly over all orders (Fisher and Yates).
    ///
    /// # Panics
    /// If there are more than 2³² items.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = u32::try_from(last + 1).expect("at most 2^32 items can be shuffled");
            items.swap(last, self.below(bound) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_uniform() {
        let mut draws = Key::from_seed(1).draws();
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[draws.below(7) as usize] += 1;
        }
        // Chi-squared with 6 degrees of freedom exceeds 22.5 once in a thousand; the seed is fixed.
        let chi: f64 = counts
            .iter()
            .map(|&n| (f64::from(n) - 1e4).powi(2) / 1e4)
            .sum();
        assert!(chi < 22.5, "{counts:?}");
    }

    #[test]
    fn chance_has_its_ends() {
        let mut draws = Key::from_seed(2).draws();
        assert!((0..1000).all(|_| !draws.chance(0.0)));
        assert!((0..1000).all(|_| draws.chance(1.0)));
    }

    #[test]
    fn normal_has_its_moments() {
        let mut draws = Key::from_seed(3).draws();
        let values: Vec<f64> = (0..100_000).map(|_| draws.normal()).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(
            mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02,
            "{mean} {variance}"
        );
    }

    #[test]
    fn shuffle_reaches_every_order_equally() {
        let mut counts = std::collections::HashMap::new();
        for seed in 0..6000 {
            let mut items = [0, 1, 2];
            Key::from_seed(seed).draws().shuffle(&mut items);
            *counts.entry(items).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|n| (900..1100).contains(n)),
            "{counts:?}"
        );
    }
}
