//! Correction of the p-values of several tests.

/// Holm's correction: of m p-values, the smallest is multiplied by m, the next by m less one, and so on, none
/// falling below the one before it or rising above 1. Whoever calls those below α different from chance errs at
/// all with a probability of at most α, whatever depends on what. `None` stays `None` and does not count as a
/// test.
///
/// Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).
pub fn holm(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let known = |&i: &usize| p_values[i].is_some_and(|p| !p.is_nan());
    let mut order: Vec<usize> = (0..p_values.len()).filter(known).collect();
    let p = |i: usize| p_values[i].unwrap_or(f64::NAN);
    order.sort_by(|&a, &b| p(a).total_cmp(&p(b)));
    let mut corrected = vec![None; p_values.len()];
    let mut least: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max((order.len() - rank) as f64 * p(i)).min(1.0);
        corrected[i] = Some(least);
    }
    corrected
}
