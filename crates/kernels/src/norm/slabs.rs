//! Channels of many positions: each example holds a contiguous slab of each.
//!
//! A thread takes a few neighbouring channels over some examples at a time, so that it reads long
//! pieces of memory also where one slab is short.

use std::borrow::Cow;
use std::ops::Range;

use multiversion::multiversion;

use super::channels::Channels;
use super::moments::{Moments, STRETCH, ShiftedSums};
use crate::Float;
use crate::activation::Activate;
use crate::output::{Grid, Source, Writer, build_over};
use crate::parallel;
use crate::simd::LaneSums;

/// Elements that a thread takes at a time where only elements are mapped.
const CHUNK: usize = 1 << 15;

/// Some channels of some examples.
#[derive(Clone)]
pub(super) struct Part {
    pub channels: Range<usize>,
    pub examples: Range<usize>,
}

impl Part {
    /// Where a channel of an example is among the part's slabs, all examples being the part's.
    #[inline(always)]
    fn slab(&self, example: usize, channel: usize) -> usize {
        example * self.channels.len() + channel - self.channels.start
    }

    /// In the order in which a [`Writer`] wants them.
    pub fn slabs(&self, shape: Channels) -> impl Iterator<Item = usize> {
        let channels = self.channels.clone();
        let examples = self.examples.clone().rev();
        examples.flat_map(move |example| {
            channels
                .clone()
                .map(move |channel| example * shape.c + channel)
        })
    }
}

impl Channels {
    #[inline(always)]
    pub(super) fn slab<'a, T>(&self, x: &'a [T], example: usize, channel: usize) -> &'a [T] {
        &x[self.elements(example * self.c + channel)]
    }

    /// Of a slab, counted over examples and channels.
    #[inline(always)]
    fn elements(&self, slab: usize) -> Range<usize> {
        slab * self.s..(slab + 1) * self.s
    }
}

/// What a backward is given, of which one may be where the gradient by the input goes.
#[derive(Clone, Copy)]
pub(super) enum Given<'a, T> {
    /// The gradient by the output may.
    OverGradient { x: &'a [T], dy: Source<'a, T> },
    /// The input may; the gradient by the output is that of a part alone, `[examples, channels of the part, positions]`.
    OverInput {
        x: Source<'a, T>,
        dy: &'a [T],
        part: &'a Part,
    },
}

impl<'a, T: Float> Given<'a, T> {
    /// Slabs of the input and of the gradient by the output, of a writer's part before it is written.
    #[inline(always)]
    pub fn read(
        self,
        shape: Channels,
        writer: &'a Writer<'_, T>,
    ) -> impl Fn(usize, usize) -> [&'a [T]; 2] {
        move |example, channel| {
            let slab = shape.elements(example * shape.c + channel);
            match self {
                Self::OverGradient { x, dy } => [&x[slab.clone()], writer.read(dy, slab)],
                Self::OverInput { x, dy, part } => {
                    let of_part = part.slab(example, channel);
                    [writer.read(x, slab), &dy[shape.elements(of_part)]]
                }
            }
        }
    }
}

/// Calls `stretch(examples, positions)` for all of `examples`, in order: several examples at a time
/// where slabs are short, a piece of one where they are long.
#[inline(always)]
fn for_stretches(
    s: usize,
    examples: Range<usize>,
    mut stretch: impl FnMut(Range<usize>, Range<usize>),
) {
    let together = (STRETCH / s).max(1);
    let mut first = examples.start;
    while first < examples.end {
        let end = (first + together).min(examples.end);
        let mut position = 0;
        while position < s {
            let next = (position + STRETCH).min(s);
            stretch(first..end, position..next);
            position = next;
        }
        first = end;
    }
}

/// The moments of each of the part's channels.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn moments<T: Float>(x: &[T], shape: Channels, part: &Part) -> Vec<Moments> {
    let first = part.channels.start;
    let mut all = vec![Moments::default(); part.channels.len()];
    let mut sums = Vec::with_capacity(all.len());
    for_stretches(shape.s, part.examples.clone(), |examples, positions| {
        let slab = |example, channel| &shape.slab(x, example, channel)[positions.clone()];
        sums.clear();
        let channels = part.channels.clone();
        sums.extend(channels.map(|channel| ShiftedSums::around(slab(examples.start, channel))));
        for example in examples.clone() {
            for (i, sums) in sums.iter_mut().enumerate() {
                sums.add(slab(example, first + i));
            }
        }
        let count = examples.len() * positions.len();
        for (i, (all, sums)) in all.iter_mut().zip(&sums).enumerate() {
            let mut moments = sums.moments(count);
            if moments.overflowed() {
                let slabs = examples.clone().map(|example| slab(example, first + i));
                moments = Moments::of_wide(slabs.flatten().copied());
            }
            *all = all.merge(&moments);
        }
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

    /// The gradient by the input, the statistics being those of the batch.
    #[inline(always)]
    pub fn centred_gradient(self, x: T, dy: T, centring: Centring<T>) -> T {
        let gradient = self.gradient(x, dy) - centring.mean_gradient;
        (gradient - (x - self.mean) * centring.slope) * self.scale
    }

    /// The gradient by the input, the statistics being constants.
    #[inline(always)]
    pub fn plain_gradient(self, x: T, dy: T) -> T {
        self.gradient(x, dy) * self.scale
    }
}

/// Σg and Σg·(x − mean) of each of the part's channels, whose lines are `line(channel)`; `slabs(example, channel)`
/// are the input's and the gradient's.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn gradient_sums<'a, T: Float, A: Activate>(
    slabs: impl Fn(usize, usize) -> [&'a [T]; 2],
    shape: Channels,
    part: &Part,
    line: impl Fn(usize) -> Line<T, A>,
) -> Vec<[f64; 2]> {
    let lines: Vec<_> = part.channels.clone().map(line).collect();
    let mut all = vec![[0.0; 2]; lines.len()];
    let mut sums = vec![LaneSums::<T, 2>::new(); lines.len()];
    for_stretches(shape.s, part.examples.clone(), |examples, positions| {
        sums.fill(LaneSums::new());
        for example in examples {
            for (i, (sums, &line)) in sums.iter_mut().zip(&lines).enumerate() {
                let channel = part.channels.start + i;
                let [x, dy] = slabs(example, channel).map(|slab| &slab[positions.clone()]);
                sums.add_pairs(x, dy, |x, dy| {
                    let gradient = line.gradient(x, dy);
                    [gradient, gradient * (x - line.mean)]
                });
            }
        }
        for (all, sums) in all.iter_mut().zip(&sums) {
            let [gradient, product] = sums.totals();
            all[0] += gradient;
            all[1] += product;
        }
    });
    all
}

/// Folds `sums` over `blocks` ranges of the examples of each channel: the parts in parallel, their
/// merge in order.
pub(super) fn by_blocks<P: Send>(
    shape: Channels,
    blocks: usize,
    sums: impl Fn(&Part) -> Vec<P> + Sync,
    merge: impl Fn(P, P) -> P,
) -> Vec<P> {
    let edge = |block: usize| block * shape.n / blocks;
    let parts = parallel::collect(shape.c * blocks, shape.len(), |i| {
        let (channel, block) = (i / blocks, i % blocks);
        sums(&Part {
            channels: channel..channel + 1,
            examples: edge(block)..edge(block + 1),
        })
    });
    let mut parts = parts.into_iter().flatten();
    let channel = |_| {
        let blocks = parts.by_ref().take(blocks);
        blocks.reduce(&merge).expect("at least one block")
    };
    (0..shape.c).map(channel).collect()
}

/// Folds `sums` over all examples of groups of channels.
pub(super) fn by_groups<P: Send>(
    shape: Channels,
    group: usize,
    sums: impl Fn(&Part) -> Vec<P> + Sync,
) -> Vec<P> {
    let parts = parallel::collect(shape.c.div_ceil(group), shape.len(), |i| {
        sums(&Part {
            channels: i * group..((i + 1) * group).min(shape.c),
            examples: 0..shape.n,
        })
    });
    parts.into_iter().flatten().collect()
}

/// Makes an output of this shape over an input, by groups of channels: `work(part, source, writer)` returns something for
/// each channel and writes the part, from the last example to the first.
pub(super) fn build_by_groups<T: Float, P: Send>(
    shape: Channels,
    group: usize,
    input: Cow<'_, [T]>,
    work: impl Fn(&Part, Source<'_, T>, &mut Writer<'_, T>) -> Vec<P> + Sync,
) -> (Vec<T>, Vec<P>) {
    let grid = Grid {
        rows: shape.n,
        width: shape.c * shape.s,
        part: group * shape.s,
    };
    let (output, parts) = build_over(input, grid, |columns, source, writer| {
        let part = Part {
            channels: columns.start / shape.s..columns.end / shape.s,
            examples: 0..shape.n,
        };
        work(&part, source, writer)
    });
    (output, parts.into_iter().flatten().collect())
}

/// Writes the outputs of some slabs, whose channels' lines are `line(channel)`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_output<T: Float, A: Activate>(
    x: Source<'_, T>,
    shape: Channels,
    slabs: impl Iterator<Item = usize>,
    line: impl Fn(usize) -> Line<T, A>,
    writer: &mut Writer<'_, T>,
) {
    for slab in slabs {
        let line = line(slab % shape.c);
        let elements = shape.elements(slab);
        writer.map(x, elements, |x, _| line.output(x));
    }
}

/// [`write_output`] of neighbouring slabs, to a vector.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn output<T: Float, A: Activate>(
    x: &[T],
    shape: Channels,
    slabs: Range<usize>,
    line: impl Fn(usize) -> Line<T, A>,
) -> Vec<T> {
    let mut output = Vec::with_capacity(slabs.len() * shape.s);
    for slab in slabs {
        let line = line(slab % shape.c);
        let x = &x[slab * shape.s..][..shape.s];
        output.extend(x.iter().map(|&x| line.output(x)));
    }
    output
}

/// What turns the gradient g by the normalized value into the one by the input of a norm with
/// statistics of the batch: (g − mean of g − (x − μ)·slope)·γ·r.
#[derive(Clone, Copy)]
pub(super) struct Centring<T> {
    pub mean_gradient: T,
    pub slope: T,
}

/// Writes the gradients by the input of some slabs, the statistics being those of the batch.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_centred_gradient<T: Float, A: Activate>(
    given: Given<'_, T>,
    shape: Channels,
    slabs: impl Iterator<Item = usize>,
    line: impl Fn(usize) -> (Line<T, A>, Centring<T>),
    writer: &mut Writer<'_, T>,
) {
    for slab in slabs {
        let (line, centring) = line(slab % shape.c);
        let elements = shape.elements(slab);
        match given {
            Given::OverGradient { x, dy } => {
                let x = &x[elements.clone()];
                writer.map_with(dy, elements, [x], |dy, [x]| {
                    line.centred_gradient(x, dy, centring)
                });
            }
            Given::OverInput { x, dy, part } => {
                let of_part = part.slab(slab / shape.c, slab % shape.c);
                let dy = &dy[shape.elements(of_part)];
                writer.map_with(x, elements, [dy], |x, [dy]| {
                    line.centred_gradient(x, dy, centring)
                });
            }
        }
    }
}

/// Writes the gradients by the input of some slabs, the statistics being constants.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn write_plain_gradient<T: Float, A: Activate>(
    x: &[T],
    dy: Source<'_, T>,
    shape: Channels,
    slabs: impl Iterator<Item = usize>,
    line: impl Fn(usize) -> Line<T, A>,
    writer: &mut Writer<'_, T>,
) {
    for slab in slabs {
        let line = line(slab % shape.c);
        let elements = shape.elements(slab);
        let x = &x[elements.clone()];
        writer.map_with(dy, elements, [x], |dy, [x]| line.plain_gradient(x, dy));
    }
}

/// Makes an output of this shape over an input where nothing is read twice: `write(slabs, source, writer)` for some
/// neighbouring slabs at a time.
pub(super) fn map<T: Float>(
    shape: Channels,
    input: Cow<'_, [T]>,
    write: impl Fn(Range<usize>, Source<'_, T>, &mut Writer<'_, T>) + Sync,
) -> Vec<T> {
    let s = shape.s;
    let chunk = (CHUNK / s).max(1) * s;
    let grid = Grid::chunks(shape.len(), chunk);
    let (output, _) = build_over(input, grid, |elements, source, writer| {
        write(elements.start / s..elements.end / s, source, writer);
    });
    output
}
