//! 2-d convolution: forward, and the gradients by input, weight and bias.
//!
//! No matrix of columns is made: sums of products are read from padded planes of the image (see `gather`) by
//! tiles that stay in registers (see [`tiles`]).

mod gather;
mod sums;
mod tiles;
mod transpose;
mod weight_gradient;
mod winograd;

use crate::Float;
use crate::activation::{Activate, Activation, with_activation};
use crate::norm::{Channels, Moments, channel_moments_of_part};
use crate::parallel;
use crate::pool::Pooling;
use crate::simd::LaneSums;
use crate::{BlockPool, Planes};

use gather::Gather;
use sums::{Kernels, Sums};

pub use weight_gradient::conv2d_weight_gradient;

/// With this many parts, threads are kept busy.
const ENOUGH_PARTS: usize = 16;
/// Elements of the padded planes that are in use at a time: half a cache of second level, for `f32`.
const PLANES: usize = 1 << 17;

/// The geometry of a convolution; rows first, columns second in each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Images.
    pub examples: usize,
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Height and width of the input.
    pub image: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// From one output position to the next.
    pub stride: [usize; 2],
    /// Zeros before and after the image, along each axis.
    pub padding: [(usize, usize); 2],
    /// From one place of the kernel to the next.
    pub dilation: [usize; 2],
    /// Output channels see only the input channels of their group.
    pub groups: usize,
}

impl Conv2d {
    /// Height and width of the output:
    /// ⌊(image + padding before and after − dilation·(kernel − 1) − 1)/stride⌋ + 1 each way.
    ///
    /// # Errors
    /// If a size is zero, the groups do not divide the channels, or the kernel does not fit the
    /// padded image.
    pub fn output(&self) -> Result<[usize; 2], String> {
        let Self {
            channels,
            image,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            ..
        } = self;
        if kernel.contains(&0) || stride.contains(&0) || dilation.contains(&0) {
            return Err(format!(
                "expected a kernel, stride and dilation of at least 1, got {kernel:?}, {stride:?}, \
                 {dilation:?}"
            ));
        }
        if *groups == 0 || channels.iter().any(|channels| channels % groups != 0) {
            return Err(format!(
                "expected groups that divide the channels {channels:?}, got {groups}"
            ));
        }
        let along = |axis: usize| {
            let reach = (kernel[axis] - 1).checked_mul(dilation[axis])?;
            let (before, after) = padding[axis];
            let room = image[axis].checked_add(before)?.checked_add(after)?;
            Some(room.checked_sub(reach.checked_add(1)?)? / stride[axis] + 1)
        };
        let (Some(height), Some(width)) = (along(0), along(1)) else {
            return Err(format!(
                "a kernel of {kernel:?}, {dilation:?} apart, does not fit images of {image:?} with \
                 a padding of {padding:?}"
            ));
        };
        Ok([height, width])
    }

    fn checked_output(&self) -> [usize; 2] {
        match self.output() {
            Ok(output) => output,
            Err(problem) => panic!("conv2d: {problem}"),
        }
    }

    /// Channels in and out, of a group.
    fn channels_of_group(&self) -> [usize; 2] {
        self.channels.map(|channels| channels / self.groups)
    }

    /// Weights of one output channel.
    fn taps(&self) -> usize {
        self.channels[0] / self.groups * self.kernel[0] * self.kernel[1]
    }

    fn check(&self, argument: &str, found: usize, shape: &[usize]) {
        let expected = shape.iter().try_fold(1_usize, |a, &b| a.checked_mul(b));
        assert_eq!(
            Some(found),
            expected,
            "{argument}: expected {shape:?} values"
        );
    }

    fn check_weight<T>(&self, weight: &[T]) {
        let [rows, columns] = self.kernel;
        let [channels_in, channels_out] = self.channels;
        let shape = [channels_out, channels_in / self.groups, rows, columns];
        self.check("weight", weight.len(), &shape);
    }

    fn check_input<T>(&self, x: &[T]) {
        let [height, width] = self.image;
        let shape = [self.examples, self.channels[0], height, width];
        self.check("x", x.len(), &shape);
    }

    fn check_output<T>(&self, dy: &[T], [height, width]: [usize; 2]) {
        let shape = [self.examples, self.channels[1], height, width];
        self.check("dy", dy.len(), &shape);
    }

    /// Multiplications of the forward, to tell whether threads are worth waking.
    fn work(&self, positions: usize) -> usize {
        let per_channel = self.taps().saturating_mul(positions);
        per_channel
            .saturating_mul(self.channels[1])
            .saturating_mul(self.examples)
    }
}

/// y\[n, o, i, j\] = bias\[o\] + Σ over c, a, b of
/// weight\[o, c, a, b\]·x\[n, c, i·stride + a·dilation − padding, j·stride + b·dilation − padding\],
/// with x zero outside the image: `[examples, channels out, output height, output width]`.
///
/// # Panics
/// If a slice's length does not fit, or the kernel does not fit the image: see [`Conv2d::output`].
pub fn conv2d<T: Float>(x: &[T], weight: &[T], bias: Option<&[T]>, conv: &Conv2d) -> Vec<T> {
    convolve(x, weight, bias, conv, |_, _| ()).0
}

/// [`conv2d`], followed by an activation and perhaps [`max_pool`](crate::max_pool) or
/// [`global_avg_pool`](crate::global_avg_pool): what is pooled is never whole in memory, unless large planes are averaged.
///
/// # Panics
/// As [`conv2d`], or if the windows do not fit its output: see [`Window::output`](crate::Window::output).
pub fn conv2d_activated<T: Float>(
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    conv: &Conv2d,
    activation: Activation,
    pool: Option<BlockPool>,
) -> Vec<T> {
    let [height, width] = conv.checked_output();
    with_activation!(activation, |activation| {
        let activate = |y: &mut [T]| y.iter_mut().for_each(|y| *y = activation.forward(*y));
        with_sums(x, weight, bias, conv, |sums| match pool {
            None => sums.of_with(x, |_, y| activate(y)).0,
            Some(BlockPool::GlobalAvg) => sums.averaged(x, activate),
            Some(BlockPool::Max(window)) => {
                let planes = Planes {
                    count: conv.examples * conv.channels[1],
                    height,
                    width,
                };
                sums.pooled(x, activate, &Pooling::new(planes, window))
            }
        })
    })
}

/// [`conv2d`] without a bias, and the moments of each channel of its output, of parts that were in cache.
///
/// # Panics
/// As [`conv2d`].
pub(crate) fn conv2d_moments<T: Float>(
    x: &[T],
    weight: &[T],
    conv: &Conv2d,
) -> (Vec<T>, Vec<Moments>) {
    let [height, width] = conv.checked_output();
    let (y, parts) = convolve(x, weight, None, conv, |images, y| {
        let shape = Channels {
            n: images,
            c: y.len() / (images * height * width),
            s: height * width,
        };
        channel_moments_of_part(y, shape)
    });
    let mut moments = vec![Moments::default(); conv.channels[1]];
    for (channel, part) in parts {
        for (moments, part) in moments[channel..].iter_mut().zip(part) {
            *moments = moments.merge(&part);
        }
    }
    (y, moments)
}

/// [`conv2d`], and what `finish` returns: see [`Sums::of_with`].
fn convolve<T: Float, R: Send>(
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    conv: &Conv2d,
    finish: impl Fn(usize, &mut [T]) -> R + Sync + Send,
) -> (Vec<T>, Vec<(usize, R)>) {
    with_sums(x, weight, bias, conv, |sums| sums.of_with(x, finish))
}

/// What `make` returns of the sums that are the convolution.
fn with_sums<T: Float, R>(
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    conv: &Conv2d,
    make: impl FnOnce(&Sums<'_, T>) -> R,
) -> R {
    let output = conv.checked_output();
    conv.check_input(x);
    conv.check_weight(weight);
    let [channels_in, channels_out] = conv.channels;
    if let Some(bias) = bias {
        conv.check("bias", bias.len(), &[channels_out]);
    }
    let kernels = Kernels {
        weight,
        groups: conv.groups,
        width: conv.kernel[1],
        outputs: channels_out / conv.groups,
        sources: channels_in / conv.groups,
        // [outputs, sources, taps] of each group.
        output_step: conv.taps(),
        source_step: conv.kernel[0] * conv.kernel[1],
    };
    let gather = Gather::forward(conv, output);
    let work = conv.work(gather.target_size());
    make(&Sums::new(&gather, &kernels, bias, conv.examples, work))
}

/// The gradient by x, given `dy` of the output's shape.
///
/// # Panics
/// As [`conv2d`].
pub fn conv2d_input_gradient<T: Float>(dy: &[T], weight: &[T], conv: &Conv2d) -> Vec<T> {
    let output = conv.checked_output();
    conv.check_output(dy, output);
    conv.check_weight(weight);
    let [channels_in, channels_out] = conv.channels;
    let kernels = Kernels {
        weight,
        groups: conv.groups,
        width: conv.kernel[1],
        outputs: channels_in / conv.groups,
        sources: channels_out / conv.groups,
        // [sources, outputs, taps] of each group.
        output_step: conv.kernel[0] * conv.kernel[1],
        source_step: conv.taps(),
    };
    let gather = Gather::backward(conv, output);
    let work = conv.work(output[0] * output[1]);
    let sums = Sums::new(&gather, &kernels, None, conv.examples, work);
    sums.of_with(dy, |_, _| ()).0
}

/// The gradient by the bias: dy summed over examples and positions.
///
/// # Panics
/// As [`conv2d`].
pub fn conv2d_bias_gradient<T: Float>(dy: &[T], conv: &Conv2d) -> Vec<T> {
    let output = conv.checked_output();
    conv.check_output(dy, output);
    let positions = output[0] * output[1];
    let channels = conv.channels[1];
    parallel::collect(channels, dy.len(), |channel| {
        let slab = |n: usize| &dy[(n * channels + channel) * positions..][..positions];
        let slabs = (0..conv.examples).map(slab);
        let total: f64 = slabs
            .map(|dy| {
                let mut sums = LaneSums::<T, 1>::new();
                sums.add(dy, |dy| [dy]);
                sums.totals()[0]
            })
            .sum();
        T::from_f64(total)
    })
}
