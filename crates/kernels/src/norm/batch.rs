//! Batch norm: training forward and backward, test forward and backward.

use std::borrow::Cow;
use std::ops::Range;

use super::channels::{Channels, Plan};
use super::columns::{self, Centrings, Lines, spread};
use super::moments::Moments;
use super::slabs::{self, Centring, Given, Line, Part};
use crate::activation::{Activate, with_activation};
use crate::output::Writer;
use crate::{Activation, Float};

/// The learned scale γ and shift β, one value per channel.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a, T> {
    /// γ.
    pub scale: &'a [T],
    /// β.
    pub shift: &'a [T],
}

/// What a training forward returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward<T> {
    /// `[n, c, s]`.
    pub output: Vec<T>,
    /// Per channel; 0 of no values.
    pub mean: Vec<T>,
    /// The biased variance, per channel; 0 of no values.
    pub variance: Vec<T>,
    /// 1/√(variance + ε), per channel.
    pub reciprocal_deviation: Vec<T>,
}

/// What a backward returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<T> {
    /// By the input, `[n, c, s]`.
    pub input: Vec<T>,
    /// By γ, per channel.
    pub scale: Vec<T>,
    /// By β, per channel.
    pub shift: Vec<T>,
}

/// The statistics of each channel over examples and positions.
///
/// # Panics
/// If `x` is not of this shape.
pub fn channel_moments<T: Float>(x: &[T], shape: Channels) -> Vec<Moments> {
    shape.check("x", x.len());
    if shape.is_empty() {
        return vec![Moments::default(); shape.c];
    }
    let of_part = |part: &Part| slabs::moments(x, shape, part);
    match shape.plan() {
        Plan::Columns => columns::moments(x, shape),
        Plan::Groups(group) => slabs::by_groups(shape, group, of_part),
        Plan::Blocks(blocks) => slabs::by_blocks(shape, blocks, of_part, |a, b| a.merge(&b)),
    }
}

/// [`channel_moments`] of some examples that are in cache, on the current thread.
pub(crate) fn channel_moments_of_part<T: Float>(x: &[T], shape: Channels) -> Vec<Moments> {
    let part = Part {
        channels: 0..shape.c,
        examples: 0..shape.n,
    };
    slabs::moments(x, shape, &part)
}

/// [`batch_norm_apply`] of some channels of some examples, `[n·c, s]`, on the current thread.
pub(crate) fn batch_norm_apply_part<T: Float>(
    x: &[T],
    shape: Channels,
    slabs: Range<usize>,
    mean: &[T],
    reciprocal_deviation: &[T],
    affine: Option<Affine<'_, T>>,
    activation: Activation,
) -> Vec<T> {
    with_activation!(activation, |activation| {
        slabs::output(x, shape, slabs, |channel| {
            let statistics = (mean[channel], reciprocal_deviation[channel]);
            line(channel, statistics, affine, activation)
        })
    })
}

/// y = activation((x − μ)·γ/√(σ² + ε) + β) with the mean μ and the biased variance σ² of each
/// channel of `x`.
///
/// Memory: with a channel in cache for its second read, each element is read once and written once.
///
/// # Panics
/// If a slice's length does not fit the shape.
pub fn batch_norm_train<T: Float>(
    x: &[T],
    shape: Channels,
    affine: Option<Affine<'_, T>>,
    epsilon: f64,
    activation: Activation,
) -> Forward<T> {
    shape.check("x", x.len());
    check_affine(shape, affine);
    let statistics = |moments: &Moments| {
        let reciprocal_deviation = T::from_f64(1.0 / (moments.variance() + epsilon).sqrt());
        (T::from_f64(moments.mean), reciprocal_deviation)
    };
    let (output, moments) = with_activation!(activation, |activation| {
        if let (false, Plan::Groups(group)) = (shape.is_empty(), shape.plan()) {
            slabs::build_by_groups(shape, group, Cow::Borrowed(x), |part, source, writer| {
                let moments = slabs::moments(x, shape, part);
                let lines = part.channels.clone().zip(&moments);
                let lines = lines
                    .map(|(channel, moments)| {
                        line(channel, statistics(moments), affine, activation)
                    })
                    .collect::<Vec<_>>();
                let line = |channel| lines[channel - part.channels.start];
                slabs::write_output(source, shape, part.slabs(shape), line, writer);
                moments
            })
        } else {
            let moments = channel_moments(x, shape);
            let (mean, reciprocal_deviation): (Vec<T>, Vec<T>) =
                moments.iter().map(statistics).unzip();
            let statistics = (&mean[..], &reciprocal_deviation[..]);
            let output = apply(Cow::Borrowed(x), shape, statistics, affine, activation);
            (output, moments)
        }
    });
    let (mean, reciprocal_deviation) = moments.iter().map(statistics).unzip();
    let variance = moments
        .iter()
        .map(|moments| T::from_f64(moments.variance()))
        .collect();
    Forward {
        output,
        mean,
        variance,
        reciprocal_deviation,
    }
}

/// y = activation((x − μ)·γ·r + β) with given means μ and reciprocal deviations r: batch norm at
/// test.
///
/// # Panics
/// If a slice's length does not fit the shape.
pub fn batch_norm_apply<'a, T: Float>(
    x: impl Into<Cow<'a, [T]>>,
    shape: Channels,
    mean: &[T],
    reciprocal_deviation: &[T],
    affine: Option<Affine<'_, T>>,
    activation: Activation,
) -> Vec<T> {
    let x = x.into();
    shape.check("x", x.len());
    shape.check_per_channel("mean", mean.len());
    shape.check_per_channel("reciprocal_deviation", reciprocal_deviation.len());
    check_affine(shape, affine);
    let statistics = (mean, reciprocal_deviation);
    with_activation!(activation, |activation| {
        apply(x, shape, statistics, affine, activation)
    })
}

/// The gradients of [`batch_norm_train`], given the one by its output. With g the gradient by the
/// normalized value before the activation, x̂ = (x − μ)·r and M = n·s:
///
/// ```text
/// dβ = Σg        dγ = Σ g·x̂        dx = γ·r·(g − dβ/M − x̂·dγ/M)
/// ```
///
/// ReLU's mask is computed again from x, by the forward's arithmetic: nothing is stored for it.
///
/// # Panics
/// If a slice's length does not fit the shape.
pub fn batch_norm_train_backward<'a, T: Float>(
    x: &[T],
    dy: impl Into<Cow<'a, [T]>>,
    shape: Channels,
    mean: &[T],
    reciprocal_deviation: &[T],
    affine: Option<Affine<'_, T>>,
    activation: Activation,
) -> Gradients<T> {
    let dy = dy.into();
    check_backward(x, &dy, shape, mean, reciprocal_deviation, affine);
    let count = shape.count() as f64;
    let (dx, sums) = with_activation!(activation, |activation| {
        let statistics = (mean, reciprocal_deviation);
        if let (false, Plan::Groups(group)) = (shape.is_empty(), shape.plan()) {
            slabs::build_by_groups(shape, group, dy, |part, dy, writer| {
                let given = Given::OverGradient { x, dy };
                centre_part(given, shape, part, statistics, affine, activation, writer)
            })
        } else {
            let sums = gradient_sums(x, &dy, shape, statistics, affine, activation);
            let dx = centred_gradient(x, dy, shape, statistics, affine, activation, &sums, count);
            (dx, sums)
        }
    });
    gradients(dx, sums, reciprocal_deviation)
}

/// [`batch_norm_train_backward`], where dy is not at hand in whole: `dy(n, c)` writes that of an example's
/// channel.
///
/// # Panics
/// As [`batch_norm_train_backward`].
pub(crate) fn batch_norm_train_backward_of<T: Float>(
    x: Cow<'_, [T]>,
    dy: impl Fn(usize, usize, &mut [T]) + Sync,
    shape: Channels,
    mean: &[T],
    reciprocal_deviation: &[T],
    affine: Option<Affine<'_, T>>,
    activation: Activation,
) -> Gradients<T> {
    check_backward(&x, &x, shape, mean, reciprocal_deviation, affine);
    let whole = Part {
        channels: 0..shape.c,
        examples: 0..shape.n,
    };
    let made = |part: &Part| {
        let mut made = vec![T::ZERO; part.examples.len() * part.channels.len() * shape.s];
        let mut slabs = made.chunks_exact_mut(shape.s.max(1));
        for example in part.examples.clone() {
            for (channel, slab) in part.channels.clone().zip(&mut slabs) {
                dy(example, channel, slab);
            }
        }
        made
    };
    let (false, Plan::Groups(group)) = (shape.is_empty(), shape.plan()) else {
        let dy = made(&whole);
        return batch_norm_train_backward(
            &x,
            dy,
            shape,
            mean,
            reciprocal_deviation,
            affine,
            activation,
        );
    };
    let (dx, sums) = with_activation!(activation, |activation| {
        let statistics = (mean, reciprocal_deviation);
        slabs::build_by_groups(shape, group, x, |part, x, writer| {
            let dy = &made(part)[..];
            let given = Given::OverInput { x, dy, part };
            centre_part(given, shape, part, statistics, affine, activation, writer)
        })
    });
    gradients(dx, sums, reciprocal_deviation)
}

/// Writes the gradient by the input of some channels, all examples, and returns their sums of gradients.
fn centre_part<T: Float, A: Activate>(
    given: Given<'_, T>,
    shape: Channels,
    part: &Part,
    (mean, reciprocal_deviation): (&[T], &[T]),
    affine: Option<Affine<'_, T>>,
    activation: A,
    writer: &mut Writer<'_, T>,
) -> Vec<[f64; 2]> {
    let line = |channel: usize| {
        let statistics = (mean[channel], reciprocal_deviation[channel]);
        line(channel, statistics, affine, activation)
    };
    let sums = slabs::gradient_sums(given.read(shape, writer), shape, part, line);
    let centred = part.channels.clone().zip(&sums);
    let centred = centred
        .map(|(channel, &sums)| {
            let centring = centring(sums, reciprocal_deviation[channel], shape.count() as f64);
            (line(channel), centring)
        })
        .collect::<Vec<_>>();
    let centred = |channel| centred[channel - part.channels.start];
    slabs::write_centred_gradient(given, shape, part.slabs(shape), centred, writer);
    sums
}

/// Σg and Σg·(x − μ) per channel, with g the gradient by the normalized value before the activation:
/// what parts of a batch that are normalized together add up before
/// [`batch_norm_gradient_of_sums`].
///
/// # Panics
/// If a slice's length does not fit the shape.
pub fn channel_gradient_sums<T: Float>(
    x: &[T],
    dy: &[T],
    shape: Channels,
    mean: &[T],
    reciprocal_deviation: &[T],
    affine: Option<Affine<'_, T>>,
    activation: Activation,
) -> Vec<[f64; 2]> {
    check_backward(x, dy, shape, mean, reciprocal_deviation, affine);
    with_activation!(activation, |activation| {
        gradient_sums(
            x,
            dy,
            shape,
            (mean, reciprocal_deviation),
            affine,
            activation,
        )
    })
}

/// The gradient by the input of a part of a batch whose `count` values per channel in all were
/// normalized together, given the sums of [`channel_gradient_sums`] over all parts. With those of `x`
/// alone it is the input's gradient of [`batch_norm_train_backward`].
///
/// # Panics
/// If a slice's length does not fit the shape.
#[expect(clippy::too_many_arguments, reason = "the backward's, and the sums")]
pub fn batch_norm_gradient_of_sums<'a, T: Float>(
    x: &[T],
    dy: impl Into<Cow<'a, [T]>>,
    shape: Channels,
    mean: &[T],
    reciprocal_deviation: &[T],
    affine: Option<Affine<'_, T>>,
    activation: Activation,
    sums: &[[f64; 2]],
    count: f64,
) -> Vec<T> {
    let dy = dy.into();
    check_backward(x, &dy, shape, mean, reciprocal_deviation, affine);
    shape.check_per_channel("sums", sums.len());
    let statistics = (mean, reciprocal_deviation);
    with_activation!(activation, |activation| {
        centred_gradient(x, dy, shape, statistics, affine, activation, sums, count)
    })
}

/// The gradients of [`batch_norm_apply`], whose statistics are constants: dx = γ·r·g.
///
/// # Panics
/// If a slice's length does not fit the shape.
pub fn batch_norm_apply_backward<'a, T: Float>(
    x: &[T],
    dy: impl Into<Cow<'a, [T]>>,
    shape: Channels,
    mean: &[T],
    reciprocal_deviation: &[T],
    affine: Option<Affine<'_, T>>,
    activation: Activation,
) -> Gradients<T> {
    let dy = dy.into();
    check_backward(x, &dy, shape, mean, reciprocal_deviation, affine);
    let (dx, sums) = with_activation!(activation, |activation| {
        let statistics = (mean, reciprocal_deviation);
        let sums = gradient_sums(x, &dy, shape, statistics, affine, activation);
        let dx = match shape.plan() {
            _ if shape.is_empty() => Vec::new(),
            Plan::Groups(_) | Plan::Blocks(_) => {
                let line = |channel: usize| {
                    let statistics = (mean[channel], reciprocal_deviation[channel]);
                    line(channel, statistics, affine, activation)
                };
                slabs::map(shape, dy, |slabs, dy, writer| {
                    slabs::write_plain_gradient(x, dy, shape, slabs, line, writer);
                })
            }
            Plan::Columns => {
                let lines = lines(shape, mean, reciprocal_deviation, affine, activation);
                columns::map(shape, dy, |elements, dy, writer| {
                    columns::write_plain_gradient(x, dy, elements, &lines, writer);
                })
            }
        };
        (dx, sums)
    });
    gradients(dx, sums, reciprocal_deviation)
}

fn gradient_sums<T: Float, A: Activate>(
    x: &[T],
    dy: &[T],
    shape: Channels,
    (mean, reciprocal_deviation): (&[T], &[T]),
    affine: Option<Affine<'_, T>>,
    activation: A,
) -> Vec<[f64; 2]> {
    let line = |channel: usize| {
        let statistics = (mean[channel], reciprocal_deviation[channel]);
        line(channel, statistics, affine, activation)
    };
    let slabs =
        |example: usize, channel: usize| [x, dy].map(|values| shape.slab(values, example, channel));
    let of_part = |part: &Part| slabs::gradient_sums(slabs, shape, part, line);
    match shape.plan() {
        _ if shape.is_empty() => vec![[0.0; 2]; shape.c],
        Plan::Groups(group) => slabs::by_groups(shape, group, of_part),
        Plan::Blocks(blocks) => {
            slabs::by_blocks(shape, blocks, of_part, |a, b| [a[0] + b[0], a[1] + b[1]])
        }
        Plan::Columns => {
            let lines = lines(shape, mean, reciprocal_deviation, affine, activation);
            columns::gradient_sums(x, dy, shape, &lines)
        }
    }
}

/// From the sums over all values that were normalized together, `count` per channel.
#[expect(clippy::too_many_arguments, reason = "the backward's, and the sums")]
fn centred_gradient<T: Float, A: Activate>(
    x: &[T],
    dy: Cow<'_, [T]>,
    shape: Channels,
    (mean, reciprocal_deviation): (&[T], &[T]),
    affine: Option<Affine<'_, T>>,
    activation: A,
    sums: &[[f64; 2]],
    count: f64,
) -> Vec<T> {
    let centring = |channel: usize| centring(sums[channel], reciprocal_deviation[channel], count);
    match shape.plan() {
        _ if shape.is_empty() => Vec::new(),
        Plan::Groups(_) | Plan::Blocks(_) => {
            let line = |channel: usize| {
                let statistics = (mean[channel], reciprocal_deviation[channel]);
                let line = line(channel, statistics, affine, activation);
                (line, centring(channel))
            };
            slabs::map(shape, dy, |slabs, dy, writer| {
                let given = Given::OverGradient { x, dy };
                slabs::write_centred_gradient(given, shape, slabs, line, writer);
            })
        }
        Plan::Columns => {
            let lines = lines(shape, mean, reciprocal_deviation, affine, activation);
            let per_channel: Vec<_> = (0..shape.c).map(centring).collect();
            let column = |value: fn(&Centring<T>) -> T| {
                spread(&per_channel.iter().map(value).collect::<Vec<_>>(), shape)
            };
            let centrings = Centrings {
                mean_gradient: column(|centring| centring.mean_gradient),
                slope: column(|centring| centring.slope),
            };
            columns::map(shape, dy, |elements, dy, writer| {
                columns::write_centred_gradient(x, dy, elements, &lines, &centrings, writer);
            })
        }
    }
}

#[inline(always)]
fn centring<T: Float>(sums: [f64; 2], reciprocal_deviation: T, count: f64) -> Centring<T> {
    let r = reciprocal_deviation.to_f64();
    Centring {
        mean_gradient: T::from_f64(sums[0] / count),
        slope: T::from_f64(sums[1] * r * r / count),
    }
}

fn gradients<T: Float>(
    input: Vec<T>,
    sums: Vec<[f64; 2]>,
    reciprocal_deviation: &[T],
) -> Gradients<T> {
    let scale = sums.iter().zip(reciprocal_deviation);
    Gradients {
        input,
        scale: scale
            .map(|(sums, r)| T::from_f64(sums[1] * r.to_f64()))
            .collect(),
        shift: sums.iter().map(|sums| T::from_f64(sums[0])).collect(),
    }
}

fn apply<T: Float, A: Activate>(
    x: Cow<'_, [T]>,
    shape: Channels,
    (mean, reciprocal_deviation): (&[T], &[T]),
    affine: Option<Affine<'_, T>>,
    activation: A,
) -> Vec<T> {
    if shape.is_empty() {
        return Vec::new();
    }
    if shape.plan() == Plan::Columns {
        let lines = lines(shape, mean, reciprocal_deviation, affine, activation);
        return columns::map(shape, x, |elements, x, writer| {
            columns::write_output(x, elements, &lines, writer);
        });
    }
    let line = |channel: usize| {
        let statistics = (mean[channel], reciprocal_deviation[channel]);
        line(channel, statistics, affine, activation)
    };
    slabs::map(shape, x, |slabs, x, writer| {
        slabs::write_output(x, shape, slabs, line, writer);
    })
}

#[inline(always)]
fn line<T: Float, A: Activate>(
    channel: usize,
    (mean, reciprocal_deviation): (T, T),
    affine: Option<Affine<'_, T>>,
    activation: A,
) -> Line<T, A> {
    let (scale, shift) = match affine {
        Some(affine) => (
            affine.scale[channel] * reciprocal_deviation,
            affine.shift[channel],
        ),
        None => (reciprocal_deviation, T::ZERO),
    };
    Line {
        mean,
        scale,
        shift,
        activation,
    }
}

fn lines<T: Float, A: Activate>(
    shape: Channels,
    mean: &[T],
    reciprocal_deviation: &[T],
    affine: Option<Affine<'_, T>>,
    activation: A,
) -> Lines<T, A> {
    let lines: Vec<_> = mean
        .iter()
        .zip(reciprocal_deviation)
        .enumerate()
        .map(|(channel, (&mean, &r))| line(channel, (mean, r), affine, activation))
        .collect();
    let column =
        |value: fn(&Line<T, A>) -> T| spread(&lines.iter().map(value).collect::<Vec<_>>(), shape);
    Lines {
        mean: column(|line| line.mean),
        scale: column(|line| line.scale),
        shift: column(|line| line.shift),
        activation,
    }
}

fn check_affine<T>(shape: Channels, affine: Option<Affine<'_, T>>) {
    if let Some(Affine { scale, shift }) = affine {
        shape.check_per_channel("affine.scale", scale.len());
        shape.check_per_channel("affine.shift", shift.len());
    }
}

fn check_backward<T>(
    x: &[T],
    dy: &[T],
    shape: Channels,
    mean: &[T],
    reciprocal_deviation: &[T],
    affine: Option<Affine<'_, T>>,
) {
    shape.check("x", x.len());
    shape.check("dy", dy.len());
    shape.check_per_channel("mean", mean.len());
    shape.check_per_channel("reciprocal_deviation", reciprocal_deviation.len());
    check_affine(shape, affine);
}
