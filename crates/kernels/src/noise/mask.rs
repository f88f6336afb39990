//! Dropout's mask: a function of a key and an element's index.
//!
//! Element m of the mask is dropped iff word m mod 4 of the key's Philox block m div 4 is below
//! ⌊p·2³²⌋, both as integers. So forward and backward compute the same mask and none is stored, parts
//! of a tensor can be computed by any number of threads, and a GPU can do the same.
//!
//! An element of the mask stands for a run of consecutive elements of the tensor: one (dropout), the
//! positions of a channel (spatial dropout), all of an example (DropPath).

use std::borrow::Cow;
use std::ops::Range;

use evenkeel_random::Key;
use multiversion::multiversion;
use serde::{Deserialize, Serialize};

use super::words::{GROUP, Words, group};
use crate::Float;
use crate::output::{Grid, Source, Writer, build_over, pieces};

/// Where the mean is kept right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// In training: kept values are multiplied by 1/(1 − p), and the test takes values as they are.
    #[default]
    Inverted,
    /// At test: values are multiplied by 1 − p, and training keeps them as they are.
    Classic,
}

/// A mask and the factor of what it keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    key: Key,
    /// Words below this one are dropped.
    threshold: u32,
    kept: f64,
    /// Consecutive elements that share an element of the mask.
    run: u64,
}

impl Dropout {
    /// Drops each element with probability `prob`.
    ///
    /// # Panics
    /// If `prob` is not in 0..=1.
    pub fn new(key: Key, prob: f64, scaling: Scaling) -> Self {
        assert!(
            (0.0..=1.0).contains(&prob),
            "prob: expected 0 to 1, got {prob}"
        );
        // As an integer; at p = 1 the threshold 2³² does not fit, and the factor 0 of what is kept
        // gives the zeros (and no division by zero).
        let threshold = (prob * 4_294_967_296.0) as u32;
        let kept = match scaling {
            _ if prob == 1.0 => 0.0,
            Scaling::Inverted => 1.0 / (1.0 - prob),
            Scaling::Classic => 1.0,
        };
        Self {
            key,
            threshold,
            kept,
            run: 1,
        }
    }

    /// The same mask with each of its elements repeated for `run` consecutive elements of the tensor.
    #[must_use]
    pub fn over_runs_of(mut self, run: usize) -> Self {
        // Where a run is of no elements there is nothing to mask.
        self.run = run.max(1) as u64;
        self
    }

    /// A mask by a threshold, up to 2³²; what it keeps stays as it is.
    pub(super) fn below(key: Key, threshold: u64) -> Self {
        let all = threshold > u64::from(u32::MAX);
        Self {
            key,
            threshold: u32::try_from(threshold).unwrap_or(u32::MAX),
            kept: if all { 0.0 } else { 1.0 },
            run: 1,
        }
    }

    /// The same mask with this factor of what it keeps; at p = 1 nothing is kept.
    #[must_use]
    pub fn with_kept(mut self, factor: f64) -> Self {
        if self.kept != 0.0 {
            self.kept = factor;
        }
        self
    }

    #[inline(always)]
    pub(super) fn factor<T: Float>(&self, word: u32) -> T {
        if word >= self.threshold {
            T::from_f64(self.kept)
        } else {
            T::ZERO
        }
    }

    /// The key of the words, for kernels that compute the mask themselves.
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Words below this one are dropped.
    pub const fn threshold(&self) -> u32 {
        self.threshold
    }

    /// The factor of what is kept.
    pub const fn kept(&self) -> f64 {
        self.kept
    }

    /// Consecutive elements that share an element of the mask.
    pub const fn run(&self) -> u64 {
        self.run
    }
}

/// Whether element `index` of the tensor is kept: the definition.
pub fn keeps(dropout: &Dropout, index: u64) -> bool {
    let of_mask = index / dropout.run;
    let word = dropout.key.block(of_mask / 4)[(of_mask % 4) as usize];
    word >= dropout.threshold && dropout.kept != 0.0
}

/// Elements that a thread takes at a time.
const CHUNK: usize = 1 << 15;

/// y\[i\] = x\[i\] times the factor of element `offset` + i: 0 if dropped, 1/(1 − p) or 1 if kept.
/// The gradient by x is the same function of the gradient by y.
///
/// It is a product, so a dropped NaN or infinity gives NaN, as in PyTorch.
pub fn dropout<'a, T: Float>(x: impl Into<Cow<'a, [T]>>, dropout: &Dropout, offset: u64) -> Vec<T> {
    masked(x.into(), Product, dropout, offset)
}

/// y\[i\] = residual\[i\] + x\[i\] times the factor of element i, in one pass over memory: the
/// gradient by x is [`dropout`] of the gradient by y, that by the residual the gradient by y itself.
///
/// # Panics
/// If the residual is not as long as `x`.
pub fn dropout_add<'a, T: Float>(
    x: impl Into<Cow<'a, [T]>>,
    residual: &[T],
    dropout: &Dropout,
) -> Vec<T> {
    let x = x.into();
    assert_eq!(x.len(), residual.len(), "residual: as long as x");
    masked(x, Sum { residual }, dropout, 0)
}

/// y\[i\] = (x\[i\] − centre) times the factor of element i, + shift: alpha dropout, which puts
/// `centre` in the place of what is dropped. The gradient by x is [`dropout`] of the gradient by y.
pub fn dropout_around<'a, T: Float>(
    x: impl Into<Cow<'a, [T]>>,
    dropout: &Dropout,
    centre: f64,
    shift: f64,
) -> Vec<T> {
    let (centre, shift) = (T::from_f64(centre), T::from_f64(shift));
    masked(x.into(), Around { centre, shift }, dropout, 0)
}

/// How a factor is applied to elements.
trait Masked<T>: Copy + Sync {
    /// The same for a part of the elements.
    fn part(self, elements: Range<usize>) -> Self;
    fn value(self, i: usize, x: T, factor: T) -> T;
}

#[derive(Clone, Copy)]
struct Product;

impl<T: Float> Masked<T> for Product {
    #[inline(always)]
    fn part(self, _: Range<usize>) -> Self {
        self
    }

    #[inline(always)]
    fn value(self, _: usize, x: T, factor: T) -> T {
        x * factor
    }
}

#[derive(Clone, Copy)]
struct Sum<'a, T> {
    residual: &'a [T],
}

impl<T: Float> Masked<T> for Sum<'_, T> {
    #[inline(always)]
    fn part(self, elements: Range<usize>) -> Self {
        Self {
            residual: &self.residual[elements],
        }
    }

    #[inline(always)]
    fn value(self, i: usize, x: T, factor: T) -> T {
        self.residual[i] + x * factor
    }
}

#[derive(Clone, Copy)]
struct Around<T> {
    centre: T,
    shift: T,
}

impl<T: Float> Masked<T> for Around<T> {
    #[inline(always)]
    fn part(self, _: Range<usize>) -> Self {
        self
    }

    #[inline(always)]
    fn value(self, _: usize, x: T, factor: T) -> T {
        (x - self.centre) * factor + self.shift
    }
}

/// `x` is the elements of the tensor from `offset` on.
fn masked<T: Float>(
    x: Cow<'_, [T]>,
    masked: impl Masked<T>,
    dropout: &Dropout,
    offset: u64,
) -> Vec<T> {
    let grid = Grid::chunks(x.len(), CHUNK);
    let (output, _) = build_over(x, grid, |elements, x, writer| {
        if dropout.run == 1 {
            fill(x, elements, masked, dropout, offset, writer);
        } else {
            fill_runs(x, elements, masked, dropout, offset, writer);
        }
    });
    output
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fill<T: Float, M: Masked<T>>(
    x: Source<'_, T>,
    elements: Range<usize>,
    masked: M,
    dropout: &Dropout,
    offset: u64,
    writer: &mut Writer<'_, T>,
) {
    let kept = T::from_f64(dropout.kept);
    let single = |elements: Range<usize>, writer: &mut Writer<'_, T>| {
        let first = offset + elements.start as u64;
        let masked = masked.part(elements.clone());
        writer.map(x, elements, |x, i| {
            let keeps = keeps(dropout, first + i as u64);
            masked.value(i, x, if keeps { kept } else { T::ZERO })
        });
    };
    let at = (offset + elements.start as u64) % 4;
    let head = ((4 - at) % 4).min(elements.len() as u64) as usize;
    let groups = (elements.len() - head) / GROUP;
    let [head, tail] = [head, head + groups * GROUP].map(|edge| elements.start + edge);
    if head > elements.start {
        single(elements.start..head, writer);
    }
    for group_of in pieces(head..tail, GROUP) {
        let words = group(dropout.key, (offset + group_of.start as u64) / 4);
        let masked = masked.part(group_of.clone());
        writer.map(x, group_of, |x, i| {
            masked.value(i, x, dropout.factor(words[i]))
        });
    }
    if tail < elements.end {
        single(tail..elements.end, writer);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fill_runs<T: Float, M: Masked<T>>(
    x: Source<'_, T>,
    elements: Range<usize>,
    masked: M,
    dropout: &Dropout,
    offset: u64,
    writer: &mut Writer<'_, T>,
) {
    let mut words = Words::new(dropout.key);
    let mut start = elements.start;
    while start < elements.end {
        let at = offset + start as u64;
        let rest_of_run = dropout.run - at % dropout.run;
        let factor = dropout.factor(words.from(at / dropout.run)[0]);
        let end = start + rest_of_run.min((elements.end - start) as u64) as usize;
        let masked = masked.part(start..end);
        writer.map(x, start..end, |x, i| masked.value(i, x, factor));
        start = end;
    }
}
