//! Shake-shake: two branches mixed by random shares.

use evenkeel_random::Key;

use super::words::Words;
use crate::Float;
use crate::output::{Grid, Writer, build};

const CHUNK: usize = 1 << 15;

/// Uniform shares in 0..=1, one for each run of consecutive elements: that of run m is word m of the
/// key times 2⁻³².
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    key: Key,
    run: usize,
}

/// Which of two branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// That which gets the share.
    First,
    /// That which gets the rest.
    Second,
}

impl Shares {
    /// Shares of runs of `run` elements.
    pub fn new(key: Key, run: usize) -> Self {
        Self {
            key,
            run: run.max(1),
        }
    }

    /// Consecutive elements that have one share.
    pub fn run(&self) -> usize {
        self.run
    }

    /// The share of run `index`: the definition.
    pub fn share(&self, index: usize) -> f64 {
        let word = self.key.block(index as u64 / 4)[index % 4];
        f64::from(word) / 4_294_967_296.0
    }
}

/// y\[i\] = s·first\[i\] + (1 − s)·second\[i\] with s the share of the run that i is in.
///
/// # Panics
/// If the branches are not of one length.
pub fn mix<T: Float>(first: &[T], second: &[T], shares: &Shares) -> Vec<T> {
    assert_eq!(first.len(), second.len(), "second: as long as first");
    by_runs(first.len(), shares, |share, elements, writer| {
        let (first, second) = (&first[elements.clone()], &second[elements.clone()]);
        let rest = T::ONE - share;
        writer.append(elements.len(), |i| share * first[i] + rest * second[i]);
    })
}

/// y\[i\] = x\[i\] times the part of a branch: s or 1 − s.
pub fn share<T: Float>(x: &[T], branch: Branch, shares: &Shares) -> Vec<T> {
    by_runs(x.len(), shares, |share, elements, writer| {
        let x = &x[elements.clone()];
        let part = match branch {
            Branch::First => share,
            Branch::Second => T::ONE - share,
        };
        writer.append(elements.len(), |i| part * x[i]);
    })
}

/// Calls `write(share, elements, writer)` for all runs, or the parts of runs that threads take.
fn by_runs<T: Float>(
    len: usize,
    shares: &Shares,
    write: impl Fn(T, std::ops::Range<usize>, &mut Writer<'_, T>) + Sync,
) -> Vec<T> {
    let (output, _) = build(Grid::chunks(len, CHUNK), |_, elements, writer| {
        let mut words = Words::new(shares.key);
        let mut start = elements.start;
        while start < elements.end {
            let run = start / shares.run;
            let end = ((run + 1) * shares.run).min(elements.end);
            let word = words.from(run as u64)[0];
            let share = T::from_f64(f64::from(word) / 4_294_967_296.0);
            write(share, start..end, writer);
            start = end;
        }
    });
    output
}
