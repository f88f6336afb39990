//! Convolution, batch norm, activation and pooling as one: what follows the convolution reads its output as
//! few times as it can, and nothing between them is kept but that output.
//!
//! Forward: the moments of each channel are summed while the convolution's output is in cache; normalizing,
//! activation and pooling are one pass over it. Backward: the gradient goes back to the windows' winners, through
//! the activation and through the norm a few channels at a time, then the convolution's gradients are made from it.

use std::borrow::Cow;

use crate::conv::conv2d_moments;
use crate::norm::{batch_norm_apply_part, batch_norm_train_backward_of};
use crate::pool::{Spread, global_avg_pool_of, max_pool_of, share};
use crate::{
    Activation, Affine, Channels, Conv2d, Float, Gradients, MaxPool, Planes, Window,
    batch_norm_apply, batch_norm_train_backward, conv2d_input_gradient, conv2d_weight_gradient,
};

/// What a block ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockPool {
    /// The largest value under each window.
    Max(Window),
    /// The mean over all positions: one is left.
    GlobalAvg,
}

/// A convolution without a bias, batch norm, an activation, and perhaps pooling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvBlock {
    /// The convolution.
    pub conv: Conv2d,
    /// ε, in the norm.
    pub epsilon: f64,
    /// After the norm.
    pub activation: Activation,
    /// After that.
    pub pool: Option<BlockPool>,
}

/// What [`conv_block_train`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvBlockForward<T> {
    /// `[examples, channels out, height, width]`, pooled.
    pub output: Vec<T>,
    /// Where in its window each pooled value lies; empty where nothing is pooled.
    pub winners: Vec<u8>,
    /// The convolution's output, which the backward needs.
    pub convolved: Vec<T>,
    /// Of the convolution's output, per channel.
    pub mean: Vec<T>,
    /// The biased variance.
    pub variance: Vec<T>,
    /// 1/√(variance + ε).
    pub reciprocal_deviation: Vec<T>,
}

/// What [`conv_block_backward`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvBlockGradients<T> {
    /// By x, if it was asked for.
    pub input: Option<Vec<T>>,
    /// By the convolution's weight, if it was asked for.
    pub weight: Option<Vec<T>>,
    /// By γ.
    pub scale: Vec<T>,
    /// By β.
    pub shift: Vec<T>,
}

impl ConvBlock {
    /// Of the convolution's output.
    ///
    /// # Errors
    /// As [`Conv2d::output`].
    pub fn convolved(&self) -> Result<Planes, String> {
        let [height, width] = self.conv.output()?;
        Ok(Planes {
            count: self.conv.examples * self.conv.channels[1],
            height,
            width,
        })
    }

    /// The images that come out, one for each example and channel.
    ///
    /// # Errors
    /// If the kernel does not fit the input or the windows do not fit what it gives.
    pub fn output(&self) -> Result<Planes, String> {
        let convolved = self.convolved()?;
        match self.pool {
            None => Ok(convolved),
            Some(BlockPool::Max(window)) => window.output(convolved),
            Some(BlockPool::GlobalAvg) => Ok(Planes {
                height: 1,
                width: 1,
                ..convolved
            }),
        }
    }

    fn checked(&self) -> (Planes, Channels) {
        let planes = self.convolved();
        let planes = planes.unwrap_or_else(|problem| panic!("conv_block: {problem}"));
        let shape = Channels {
            n: self.conv.examples,
            c: self.conv.channels[1],
            s: planes.height * planes.width,
        };
        (planes, shape)
    }
}

/// pool(activation((c − μ)·γ/√(σ² + ε) + β)) of c = [`conv2d`](crate::conv2d)(x, weight), with the mean μ and the
/// biased variance σ² of each of its channels.
///
/// # Panics
/// If a slice's length does not fit, the kernel the image, or the windows what it gives.
pub fn conv_block_train<T: Float>(
    x: &[T],
    weight: &[T],
    affine: Affine<'_, T>,
    block: &ConvBlock,
) -> ConvBlockForward<T> {
    let (planes, shape) = block.checked();
    let (convolved, moments) = conv2d_moments(x, weight, &block.conv);
    let per_channel = |value: &dyn Fn(f64, f64) -> f64| -> Vec<T> {
        let values = moments
            .iter()
            .map(|moments| value(moments.mean, moments.variance()));
        values.map(T::from_f64).collect()
    };
    let mean = per_channel(&|mean, _| mean);
    let variance = per_channel(&|_, variance| variance);
    let r = per_channel(&|_, variance| 1.0 / (variance + block.epsilon).sqrt());
    let (affine, activation) = (Some(affine), block.activation);
    let MaxPool { output, winners } = match block.pool {
        None => MaxPool {
            output: batch_norm_apply(&convolved, shape, &mean, &r, affine, activation),
            winners: Vec::new(),
        },
        Some(pool) => {
            let part = |slabs| {
                let part =
                    batch_norm_apply_part(&convolved, shape, slabs, &mean, &r, affine, activation);
                Cow::Owned(part)
            };
            match pool {
                BlockPool::Max(window) => max_pool_of(planes, window, part),
                BlockPool::GlobalAvg => MaxPool {
                    output: global_avg_pool_of(shape, part),
                    winners: Vec::new(),
                },
            }
        }
    };
    ConvBlockForward {
        output,
        winners,
        convolved,
        mean,
        variance,
        reciprocal_deviation: r,
    }
}

/// What [`conv_block_backward`] needs of the forward besides its parameters.
#[derive(Clone, Debug)]
pub struct ConvBlockState<'a, T: Float> {
    /// See [`ConvBlockForward`]. If it is given away and there is pooling, its gradient is written over it.
    pub convolved: Cow<'a, [T]>,
    /// See [`ConvBlockForward`].
    pub mean: &'a [T],
    /// See [`ConvBlockForward`].
    pub reciprocal_deviation: &'a [T],
    /// See [`ConvBlockForward`].
    pub winners: &'a [u8],
}

/// The gradients of [`conv_block_train`], given the one by its output: by γ and β, and by x and the weight if
/// they are wanted.
///
/// # Panics
/// If a slice's length does not fit, or a winner is not a place in its window.
pub fn conv_block_backward<'a, T: Float>(
    x: &[T],
    dy: impl Into<Cow<'a, [T]>>,
    weight: &[T],
    affine: Affine<'_, T>,
    state: ConvBlockState<'_, T>,
    block: &ConvBlock,
    [input, of_weight]: [bool; 2],
) -> ConvBlockGradients<T> {
    let (dy, (planes, shape)) = (dy.into(), block.checked());
    let ConvBlockState {
        convolved,
        mean,
        reciprocal_deviation: r,
        winners,
    } = state;
    let (affine, activation) = (Some(affine), block.activation);
    let Gradients {
        input: gradient,
        scale,
        shift,
    } = match block.pool {
        None => batch_norm_train_backward(&convolved, dy, shape, mean, r, affine, activation),
        Some(BlockPool::GlobalAvg) => {
            let (n, c, s) = (shape.n, shape.c, shape.s);
            assert_eq!(dy.len(), n * c, "dy: expected [{n}, {c}] values");
            let share: T = share(s);
            let dy = |example: usize, channel: usize, slab: &mut [T]| {
                slab.fill(dy[example * c + channel] * share);
            };
            batch_norm_train_backward_of(convolved, dy, shape, mean, r, affine, activation)
        }
        Some(BlockPool::Max(window)) => {
            let spread = Spread::new(planes, window);
            spread.check(&dy, winners);
            let dy = |example: usize, channel: usize, slab: &mut [T]| {
                spread.add(&dy, winners, example * shape.c + channel, slab);
            };
            batch_norm_train_backward_of(convolved, dy, shape, mean, r, affine, activation)
        }
    };
    ConvBlockGradients {
        input: input.then(|| conv2d_input_gradient(&gradient, weight, &block.conv)),
        weight: of_weight.then(|| conv2d_weight_gradient(x, &gradient, &block.conv)),
        scale,
        shift,
    }
}
