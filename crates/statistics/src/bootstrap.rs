//! The interval of any statistic, by drawing samples from the sample.

use evenkeel_random::Key;
use statrs::distribution::{ContinuousCDF, Normal};

use crate::interval::{Interval, tail};

/// How to bootstrap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Samples to draw: some thousands for the ends of a 95 % interval.
    pub resamples: usize,
    /// What they are a function of.
    pub seed: u64,
    /// Such as 0.95.
    pub confidence: f64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            resamples: 2000,
            seed: 0,
            confidence: 0.95,
        }
    }
}

/// More parts than these would cost more than they tell of the acceleration.
const MOST_PARTS: usize = 200;

/// The bias-corrected and accelerated (BCa) interval of a statistic of `count` independent values, which it is
/// given as indices: all of them in order, some of them (the jackknife), or as many drawn with replacement.
/// Pairs stay together if one index stands for both.
///
/// The ends are quantiles of the statistic over drawn samples, at Φ(z₀ + (z₀ + z)/(1 − a·(z₀ + z))): z₀ says
/// how far the drawn statistics lie beside the observed one, the acceleration a how their spread changes with
/// their size. For more than 200 values, a comes from leaving out one of 200 parts at a time.
///
/// `None` of fewer than two values, where the statistic is not finite, or where all drawn ones lie on one side
/// of the observed, so that the bias cannot be told. The same seed gives the same interval.
///
/// Source: Efron, "Better Bootstrap Confidence Intervals" (1987).
///
/// # Panics
/// If the confidence is not in 0..1, there are no resamples, or there are 2³² values or more.
pub fn bootstrap(
    count: usize,
    options: Bootstrap,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Option<Interval> {
    let Bootstrap {
        resamples,
        seed,
        confidence,
    } = options;
    let tail = tail(confidence);
    assert!(resamples > 0, "bootstrap: expected at least one resample");
    let bound = u32::try_from(count).expect("bootstrap: expected fewer than 2³² values");
    if count < 2 {
        return None;
    }
    let mut indices: Vec<usize> = (0..count).collect();
    let observed = statistic(&indices);
    let acceleration = acceleration(count, &mut statistic)?;

    let key = Key::from_seed(seed).child("bootstrap");
    let mut drawn = Vec::with_capacity(resamples);
    for resample in 0..resamples {
        let mut draws = key.at(resample as u64).draws();
        indices.fill_with(|| draws.below(bound) as usize);
        drawn.push(statistic(&indices));
    }
    if !observed.is_finite() || drawn.iter().any(|value| !value.is_finite()) {
        return None;
    }
    drawn.sort_by(f64::total_cmp);
    if drawn[0] == drawn[resamples - 1] && drawn[0] == observed {
        return Some(Interval::around(observed, 0.0));
    }
    // Ties count half, as SciPy does.
    let below = drawn.iter().filter(|value| **value < observed).count();
    let equal = drawn.iter().filter(|value| **value == observed).count();
    let share = (below as f64 + 0.5 * equal as f64) / resamples as f64;
    let normal = Normal::standard();
    let bias = normal.inverse_cdf(share);
    if !bias.is_finite() {
        return None;
    }
    let end = |tail: f64| {
        let z = bias + normal.inverse_cdf(tail);
        quantile(&drawn, normal.cdf(bias + z / (1.0 - acceleration * z)))
    };
    Some(Interval {
        low: end(tail),
        high: end(1.0 - tail),
    })
}

/// Σd³/(6·(Σd²)^1.5), where d is the mean of the statistics without a part minus each of them.
fn acceleration(count: usize, statistic: &mut impl FnMut(&[usize]) -> f64) -> Option<f64> {
    let parts = count.min(MOST_PARTS);
    let mut rest = Vec::with_capacity(count);
    let without = (0..parts).map(|part| {
        rest.clear();
        rest.extend((0..count).filter(|index| index % parts != part));
        statistic(&rest)
    });
    let without: Vec<f64> = without.collect();
    if without.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mean = without.iter().sum::<f64>() / parts as f64;
    let power = |p: i32| -> f64 { without.iter().map(|value| (mean - value).powi(p)).sum() };
    let squares = power(2);
    Some(if squares > 0.0 {
        power(3) / (6.0 * squares.powf(1.5))
    } else {
        0.0
    })
}

/// Of ordered values, between neighbours by their distance.
fn quantile(ordered: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (ordered.len() - 1) as f64;
    let (low, rest) = (place.floor() as usize, place.fract());
    let high = (low + 1).min(ordered.len() - 1);
    ordered[low] + rest * (ordered[high] - ordered[low])
}
