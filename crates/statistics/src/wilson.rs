//! Wilson's interval of a share.

use crate::interval::{Interval, normal_reach};

/// The interval of a probability that gave `successes` in `trials` independent trials: all p for which the
/// observed share p̂ lies within z·√(p·(1 − p)/n) of p. It stays within 0..=1 and holds at shares of 0 and 1,
/// where the usual p̂ ± z·√(p̂·(1 − p̂)/n) has no width. Without trials it is 0..=1.
///
/// Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927).
///
/// # Panics
/// If there are more successes than trials, or the confidence is not in 0..1.
pub fn wilson(successes: u64, trials: u64, confidence: f64) -> Interval {
    assert!(
        successes <= trials,
        "wilson: expected at most {trials} successes of as many trials, got {successes}"
    );
    let z2 = normal_reach(confidence).powi(2);
    if trials == 0 {
        return Interval {
            low: 0.0,
            high: 1.0,
        };
    }
    let n = trials as f64;
    let share = successes as f64 / n;
    let scale = 1.0 + z2 / n;
    let center = (share + z2 / (2.0 * n)) / scale;
    let reach = (z2 * (share * (1.0 - share) / n + z2 / (4.0 * n * n))).sqrt() / scale;
    let Interval { low, high } = Interval::around(center, reach);
    Interval {
        // Exact at the ends, where rounding would leave −10⁻¹⁷.
        low: if successes == 0 { 0.0 } else { low },
        high: if successes == trials { 1.0 } else { high },
    }
}
