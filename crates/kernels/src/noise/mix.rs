//! Shake-shake: two branches mixed by random shares.

use std::borrow::Cow;
use std::ops::Range;

use evenkeel_random::Key;

use super::words::Words;
use crate::Float;
use crate::output::{Grid, Source, Writer, build_over};

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
pub fn mix<'a, T: Float>(first: impl Into<Cow<'a, [T]>>, second: &[T], shares: &Shares) -> Vec<T> {
    let first = first.into();
    assert_eq!(first.len(), second.len(), "second: as long as first");
    by_runs(first, shares, |share, elements, first, writer| {
        let second = &second[elements.clone()];
        let rest = T::ONE - share;
        writer.map_with(first, elements, [second], |first, [second]| {
            share * first + rest * second
        });
    })
}

/// y\[i\] = x\[i\] times the part of a branch: s or 1 − s.
pub fn share<'a, T: Float>(x: impl Into<Cow<'a, [T]>>, branch: Branch, shares: &Shares) -> Vec<T> {
    by_runs(x.into(), shares, |share, elements, x, writer| {
        let part = match branch {
            Branch::First => share,
            Branch::Second => T::ONE - share,
        };
        writer.map(x, elements, |x, _| part * x);
    })
}

/// Calls `write(share, elements, source, writer)` for all runs, or the parts of runs that threads take.
fn by_runs<T: Float>(
    input: Cow<'_, [T]>,
    shares: &Shares,
    write: impl Fn(T, Range<usize>, Source<'_, T>, &mut Writer<'_, T>) + Sync,
) -> Vec<T> {
    let grid = Grid::chunks(input.len(), CHUNK);
    let (output, _) = build_over(input, grid, |elements, source, writer| {
        let mut words = Words::new(shares.key);
        let mut start = elements.start;
        while start < elements.end {
            let run = start / shares.run;
            let end = ((run + 1) * shares.run).min(elements.end);
            let word = words.from(run as u64)[0];
            let share = T::from_f64(f64::from(word) / 4_294_967_296.0);
            write(share, start..end, source, writer);
            start = end;
        }
    });
    output
}
