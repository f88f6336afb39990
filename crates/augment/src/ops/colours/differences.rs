//! A blend of two levels, a + f·(b − a), by tables of their difference.

use crate::ops::point::Table;

/// What becomes of a difference of two levels.
pub(super) struct Differences {
    factor: f32,
    tables: Option<[Table; 2]>,
}

impl Differences {
    pub fn new(factor: f32) -> Self {
        Self {
            factor,
            tables: tables(factor),
        }
    }

    pub fn factor(&self) -> f32 {
        self.factor
    }

    /// ⌊f·d⌋, which a blend adds where b is d above a, and ⌈f·d⌉, which it takes away where b is d below; both at most
    /// 255. With sums that end at 0 and 255 the result is [`blend`](crate::ops::point::blend)'s to the bit. There are
    /// none for factors with which that would round an almost whole sum to a whole one.
    pub fn tables(&self) -> Option<&[Table; 2]> {
        self.tables.as_ref()
    }
}

fn tables(factor: f32) -> Option<[Table; 2]> {
    // Twice what an `f32` below 256 is rounded by, at most.
    const MARGIN: f32 = 1.0 / (1 << 16) as f32;
    let mut tables = [[0; 256]; 2];
    for difference in 0..256 {
        let product = factor * difference as f32;
        let part = product - product.floor();
        if !(product >= 0.0 && (part == 0.0 || (MARGIN..=1.0 - MARGIN).contains(&part))) {
            return None;
        }
        // The conversion clips.
        tables[0][difference] = product.floor() as u8;
        tables[1][difference] = product.ceil() as u8;
    }
    Some(tables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::point;

    #[test]
    fn tables_give_the_blend() {
        let mut draws = evenkeel_random::Key::from_seed(7).draws();
        let ends = [0.0, 0.5, 1.0, 1.25, 2.0, 1e-30, 1e30, f32::MAX];
        let drawn = (0..200).map(|_| (draws.between(0.0, 2.0) * draws.between(0.5, 50.0)) as f32);
        let mut found = 0;
        for factor in ends.into_iter().chain(drawn) {
            let Some([above, below]) = tables(factor) else {
                continue;
            };
            found += 1;
            for a in 0..=255_u8 {
                for b in 0..=255_u8 {
                    let up = a.saturating_add(above[usize::from(b.saturating_sub(a))]);
                    let level = up.saturating_sub(below[usize::from(a.saturating_sub(b))]);
                    assert_eq!(level, point::blend(a, b, factor), "{a} {b} {factor}");
                }
            }
        }
        // Most factors have tables.
        assert!(found > 190, "{found}");
    }

    #[test]
    fn other_factors_have_none() {
        // 1 − 2⁻²⁴: 255 and almost 1 is 256, almost.
        for factor in [-0.5, f32::NAN, f32::INFINITY, 1.0 - f32::EPSILON / 2.0] {
            assert!(tables(factor).is_none(), "{factor}");
        }
    }
}
