//! The one way of dividing work: parts known in advance, results in their order.

use rayon::prelude::*;

/// Whether this many elements take longer than waking threads for them, which on a virtual machine takes 30 to 80 µs, and
/// as long again for a thread outside the pool, which sleeps until they are done.
fn worth_waking(elements: usize) -> bool {
    elements > 1 << 17
}

/// `work(0)`, `work(1)`, ... for all `parts`, on the current pool if there are enough `elements` in
/// them. What a part is must depend on the shape alone, never on the number of threads.
pub(crate) fn collect<R: Send>(
    parts: usize,
    elements: usize,
    work: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    if !worth_waking(elements) {
        (0..parts).map(work).collect()
    } else {
        (0..parts).into_par_iter().map(&work).collect()
    }
}

/// `work(i, part, scratch)` for all `parts`, as [`collect`]; what `scratch` makes is used again by
/// the same thread.
pub(crate) fn collect_with<P: Send, S, R: Send>(
    parts: impl Iterator<Item = P>,
    elements: usize,
    scratch: impl Fn() -> S + Sync + Send,
    work: impl Fn(usize, P, &mut S) -> R + Sync + Send,
) -> Vec<R> {
    if !worth_waking(elements) {
        let mut scratch = scratch();
        let parts = parts.enumerate();
        parts.map(|(i, part)| work(i, part, &mut scratch)).collect()
    } else {
        let parts: Vec<P> = parts.collect();
        let parts = parts.into_par_iter().enumerate();
        let parts = parts.map_init(scratch, |scratch, (i, part)| work(i, part, scratch));
        parts.collect()
    }
}
