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

    /// A standard normal number.
    pub fn normal(&mut self) -> f64 {
        self.normals()[0]
    }

    /// Two independent standard normal numbers (Box and Muller).
    pub fn normals(&mut self) -> [f64; 2] {
        // 1 − u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        [radius * cos, radius * sin]
    }

    /// The logarithm of a number with the gamma distribution of this shape and scale 1. Small shapes
    /// give numbers that `f64` cannot hold; their logarithms it can.
    ///
    /// Source: Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables" (2000); for
    /// shapes below 1, Γ(α) is Γ(α + 1)·U^(1/α).
    ///
    /// # Panics
    /// If the shape is not finite and above 0.
    pub fn ln_gamma(&mut self, shape: f64) -> f64 {
        assert!(
            shape.is_finite() && shape > 0.0,
            "Draws::ln_gamma({shape}): expected a finite shape above 0"
        );
        let boost = if shape < 1.0 {
            // 1 − u lies in (0, 1], so the logarithm is finite.
            (1.0 - self.uniform()).ln() / shape
        } else {
            0.0
        };
        let d = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let root = 1.0 + c * x;
            if root <= 0.0 {
                continue;
            }
            let v = root * root * root;
            if (1.0 - self.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return (d * v).ln() + boost;
            }
        }
    }

    /// A number in [0, 1] with the beta distribution: X/(X + Y) of two gamma numbers.
    ///
    /// # Panics
    /// If a shape is not finite and above 0.
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.ln_gamma(a), self.ln_gamma(b));
        1.0 / (1.0 + (y - x).exp())
    }

    /// Non-negative numbers that sum to 1, with the symmetric Dirichlet distribution: gamma numbers
    /// divided by their sum.
    ///
    /// # Panics
    /// If α is not finite and above 0.
    pub fn dirichlet(&mut self, alpha: f64, count: usize) -> Vec<f64> {
        let logarithms: Vec<f64> = (0..count).map(|_| self.ln_gamma(alpha)).collect();
        // Relative to the largest, which becomes 1: the sum is neither 0 nor infinite.
        let largest = logarithms.iter().copied().fold(f64::MIN, f64::max);
        let weights = logarithms
            .iter()
            .map(|logarithm| (logarithm - largest).exp());
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
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
        let pairs: Vec<[f64; 2]> = (0..100_000).map(|_| draws.normals()).collect();
        for i in [0, 1] {
            let mean = pairs.iter().map(|pair| pair[i]).sum::<f64>() / 1e5;
            let variance = pairs
                .iter()
                .map(|pair| (pair[i] - mean).powi(2))
                .sum::<f64>()
                / 1e5;
            assert!(
                mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02,
                "{mean} {variance}"
            );
        }
        let product = pairs.iter().map(|[a, b]| a * b).sum::<f64>() / 1e5;
        assert!(product.abs() < 0.01, "{product}");
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

    /// Mean and variance of many draws.
    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let values: Vec<f64> = (0..100_000).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e5;
        (mean, variance)
    }

    #[test]
    fn gamma_has_its_moments() {
        let mut draws = Key::from_seed(4).draws();
        for shape in [0.2, 0.9, 1.0, 2.5, 40.0] {
            let (mean, variance) = moments(|| draws.ln_gamma(shape).exp());
            // The mean's deviation is √(α/n), that of the variance about α·√((2 + 6/α)/n).
            assert!(
                (mean - shape).abs() < 4.0 * (shape / 1e5).sqrt(),
                "{shape}: {mean}"
            );
            let error = shape * ((2.0 + 6.0 / shape) / 1e5).sqrt();
            assert!(
                (variance - shape).abs() < 5.0 * error,
                "{shape}: {variance}"
            );
        }
    }

    #[test]
    fn beta_has_its_distribution() {
        let mut draws = Key::from_seed(5).draws();
        // Beta(1, 1) is uniform, Beta(½, ½) the arcsine law, Beta(2, 1) has the distribution x².
        let arcsine = |x: f64| 2.0 / std::f64::consts::PI * x.sqrt().asin();
        type Law<'a> = &'a dyn Fn(f64) -> f64;
        let laws: [(f64, f64, Law); 3] = [
            (1.0, 1.0, &|x| x),
            (0.5, 0.5, &arcsine),
            (2.0, 1.0, &|x| x * x),
        ];
        for (a, b, law) in laws {
            let mut counts = [0u32; 10];
            for _ in 0..100_000 {
                counts[((law(draws.beta(a, b)) * 10.0) as usize).min(9)] += 1;
            }
            // Chi-squared with 9 degrees of freedom exceeds 27.9 once in a thousand.
            let chi: f64 = counts
                .iter()
                .map(|&n| (f64::from(n) - 1e4).powi(2) / 1e4)
                .sum();
            assert!(chi < 27.9, "Beta({a}, {b}): {counts:?}");
        }
    }

    #[test]
    fn small_and_large_shapes_give_numbers() {
        let mut draws = Key::from_seed(6).draws();
        for alpha in [1e-12, 1e-4, 1e4, 1e12] {
            for _ in 0..1000 {
                let value = draws.beta(alpha, alpha);
                assert!(
                    (0.0..=1.0).contains(&value),
                    "Beta({alpha}, {alpha}) gave {value}"
                );
            }
            let weights = draws.dirichlet(alpha, 3);
            assert!(
                (weights.iter().sum::<f64>() - 1.0).abs() < 1e-12,
                "{weights:?}"
            );
        }
        assert!(draws.dirichlet(1.0, 0).is_empty());
    }

    #[test]
    fn dirichlet_has_its_moments() {
        let mut draws = Key::from_seed(7).draws();
        let (mean, variance) = moments(|| draws.dirichlet(1.0, 3)[1]);
        // Mean 1/k and variance (k − 1)/(k²(kα + 1)).
        assert!((mean - 1.0 / 3.0).abs() < 0.003, "{mean}");
        assert!((variance - 2.0 / 36.0).abs() < 0.002, "{variance}");
    }
}
