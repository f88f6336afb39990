//! Channels of many positions: each example holds a contiguous slab of them.

use multiversion::multiversion;
use rayon::prelude::*;

use super::channels::Channels;
use super::moments::Moments;
use crate::Float;
use crate::activation::Activate;
use crate::output::{Writer, build_chunks};
use crate::simd::LaneSums;

/// Values whose sums are kept in one go before they are merged in f64: few enough for f32 lanes to
/// stay exact to a few ulps.
const STRETCH: usize = 4096;
/// Elements that a thread takes at a time where only elements are mapped.
const CHUNK: usize = 1 << 15;

/// One channel's view of a tensor.
#[derive(Clone, Copy)]
pub(super) struct Slabs<'a, T> {
    pub x: &'a [T],
    pub shape: Channels,
    pub channel: usize,
}

impl<'a, T> Slabs<'a, T> {
    #[inline(always)]
    pub fn slab(&self, example: usize) -> &'a [T] {
        let Channels { c, s, .. } = self.shape;
        &self.x[(example * c + self.channel) * s..][..s]
    }
}

/// Calls `stretch(first example, examples, range of positions)` for all parts of examples
/// `from..to`, in order: several short slabs at a time, or a piece of a long one.
#[inline(always)]
fn for_stretches(
    positions: usize,
    from: usize,
    to: usize,
    mut stretch: impl FnMut(usize, usize, std::ops::Range<usize>),
) {
    let together = (STRETCH / positions).max(1);
    let mut example = from;
    while example < to {
        let examples = together.min(to - example);
        let mut start = 0;
        while start < positions {
            let end = (start + STRETCH).min(positions);
            stretch(example, examples, start..end);
            start = end;
        }
        example += examples;
    }
}

/// The moments of one channel over some of the examples.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn moments<T: Float>(slabs: Slabs<'_, T>, from: usize, to: usize) -> Moments {
    let mut all = Moments::default();
    for_stretches(slabs.shape.s, from, to, |first, examples, range| {
        let part = Moments::of_stretches(examples, range.len(), |i| {
            &slabs.slab(first + i)[range.clone()]
        });
        all = all.merge(&part);
    });
    all
}

/// What maps a channel's input to its output: (x − mean)·scale + shift, then the activation.
#[derive(Clone, Copy)]
pub(super) struct Line<T, A> {
    pub mean: T,
    pub scale: T,
    pub shift: T,
    pub activation: A,
}

impl<T: Float, A: Activate> Line<T, A> {
    /// Before the activation. The backward computes exactly this again to know ReLU's mask.
    #[inline(always)]
    pub fn normalized(self, x: T) -> T {
        (x - self.mean) * self.scale + self.shift
    }

    #[inline(always)]
    pub fn output(self, x: T) -> T {
        self.activation.forward(self.normalized(x))
    }

    /// The gradient by the normalized value, given the one by the output.
    #[inline(always)]
    pub fn gradient(self, x: T, dy: T) -> T {
        self.activation.backward(self.normalized(x), dy)
    }
}

/// Σg and Σg·(x − mean) of one channel over some of the examples.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn gradient_sums<T: Float, A: Activate>(
    x: Slabs<'_, T>,
    dy: Slabs<'_, T>,
    line: Line<T, A>,
    from: usize,
    to: usize,
) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for_stretches(x.shape.s, from, to, |first, examples, range| {
        let mut stretch = LaneSums::<T, 2>::new();
        for example in first..first + examples {
            let x = &x.slab(example)[range.clone()];
            let dy = &dy.slab(example)[range.clone()];
            stretch.add(x.len(), |i| {
                let gradient = line.gradient(x[i], dy[i]);
                [gradient, gradient * (x[i] - line.mean)]
            });
        }
        let [gradient, product] = stretch.totals();
        sums[0] += gradient;
        sums[1] += product;
    });
    sums
}

/// Folds `part(channel, from, to)` over `blocks` ranges of the examples of each channel: the parts
/// in parallel, their merge in order.
pub(super) fn by_blocks<P: Send>(
    shape: Channels,
    blocks: usize,
    part: impl Fn(usize, usize, usize) -> P + Sync,
    merge: impl Fn(P, P) -> P,
) -> Vec<P> {
    let edge = |block: usize| block * shape.n / blocks;
    let parts: Vec<P> = (0..shape.c * blocks)
        .into_par_iter()
        .map(|i| part(i / blocks, edge(i % blocks), edge(i % blocks + 1)))
        .collect();
    let mut parts = parts.into_iter();
    let channel = |_| {
        parts
            .by_ref()
            .take(blocks)
            .reduce(&merge)
            .expect("at least one block")
    };
    (0..shape.c).map(channel).collect()
}

/// Writes the output of one slab.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_output<T: Float, A: Activate>(
    x: &[T],
    line: Line<T, A>,
    writer: &mut Writer<'_, T>,
) {
    writer.append(x.len(), |i| line.output(x[i]));
}

/// What turns the gradient g by the normalized value into the one by the input of a norm with
/// statistics of the batch: (g − mean of g − (x − μ)·slope)·γ·r.
#[derive(Clone, Copy)]
pub(super) struct Centring<T> {
    pub mean_gradient: T,
    pub slope: T,
}

/// Writes the gradient by one slab of input, the statistics being those of the batch.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_centred_gradient<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    line: Line<T, A>,
    centring: Centring<T>,
    writer: &mut Writer<'_, T>,
) {
    let dy = &dy[..x.len()];
    writer.append(x.len(), |i| {
        let gradient = line.gradient(x[i], dy[i]) - centring.mean_gradient;
        (gradient - (x[i] - line.mean) * centring.slope) * line.scale
    });
}

/// Writes the gradient by one slab of input, the statistics being constants.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_plain_gradient<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    line: Line<T, A>,
    writer: &mut Writer<'_, T>,
) {
    let dy = &dy[..x.len()];
    writer.append(x.len(), |i| line.gradient(x[i], dy[i]) * line.scale);
}

/// Makes an output of this shape slab by slab: `write(channel, element range, writer)`, in
/// parallel over neighbouring slabs.
pub(super) fn map<T: Float>(
    shape: Channels,
    write: impl Fn(usize, std::ops::Range<usize>, &mut Writer<'_, T>) + Sync,
) -> Vec<T> {
    let together = (CHUNK / shape.s).max(1);
    let (output, _) = build_chunks(shape.len(), together * shape.s, |chunk, len, writer| {
        for slab in 0..len / shape.s {
            let slab = chunk * together + slab;
            write(slab % shape.c, slab * shape.s..(slab + 1) * shape.s, writer);
        }
    });
    output
}
