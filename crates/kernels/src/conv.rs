//! 2-d convolution: forward, and the gradients by input, weight and bias.
//!
//! The image's values under each place of the kernel become a row of a matrix of columns, one
//! column per output position (Chellapilla, Puri, Simard, "High Performance Convolutional Neural
//! Networks for Document Processing", 2006): convolution is then a product with the weights. Columns
//! are made for a few images at a time, so that they stay in cache, and never stored.

use std::borrow::Cow;
use std::ops::Range;

use crate::Float;
use crate::matrix::{Matrix, add_product, product};
use crate::output::{Parts, Unwritten, build_parts};
use crate::parallel;
use crate::simd::LaneSums;

/// Elements of the columns that are made at a time: 1 MB of f32, a cache of second level.
const COLUMNS: usize = 1 << 18;
/// With this many parts, threads are kept busy; as many partial sums of weights are made.
const ENOUGH_PARTS: usize = 16;

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

    /// Weights of one output channel.
    fn taps(&self) -> usize {
        self.channels[0] / self.groups * self.kernel[0] * self.kernel[1]
    }

    fn input_size(&self) -> usize {
        self.channels[0] * self.image[0] * self.image[1]
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

    /// Images whose columns are made at a time: more than one where they are small, to have larger
    /// products.
    fn together(&self, positions: usize) -> usize {
        let fit = COLUMNS / (self.taps() * positions).max(1);
        fit.min(self.examples.div_ceil(ENOUGH_PARTS)).max(1)
    }
}

/// The output positions of one axis at which a place of the kernel lies on the image.
#[derive(Clone)]
struct Reach {
    positions: Range<usize>,
    /// On the image, of the first of them.
    start: usize,
}

impl Conv2d {
    /// Per place of the kernel along `axis`.
    fn reaches(&self, axis: usize, output: usize) -> Vec<Reach> {
        let (stride, (padding, _)) = (self.stride[axis], self.padding[axis]);
        let reach = |place: usize| {
            let offset = place * self.dilation[axis];
            let first = padding.saturating_sub(offset).div_ceil(stride).min(output);
            let end = (self.image[axis] + padding).saturating_sub(offset);
            Reach {
                positions: first..end.div_ceil(stride).clamp(first, output),
                start: (first * stride + offset).saturating_sub(padding),
            }
        };
        (0..self.kernel[axis]).map(reach).collect()
    }
}

/// What making columns, and adding them back, needs to know besides the geometry.
struct Unfolding {
    conv: Conv2d,
    output: [usize; 2],
    rows: Vec<Reach>,
    columns: Vec<Reach>,
}

impl Unfolding {
    fn new(conv: Conv2d, output: [usize; 2]) -> Self {
        Self {
            conv,
            output,
            rows: conv.reaches(0, output[0]),
            columns: conv.reaches(1, output[1]),
        }
    }

    fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The input channels of a group.
    fn channels(&self, group: usize) -> Range<usize> {
        let channels = self.conv.channels[0] / self.conv.groups;
        group * channels..(group + 1) * channels
    }

    /// Calls `row` for each row of the columns (tap, image, row of positions, in this order), with
    /// the reach across and the index in `[images, channels, height, width]` where it starts, if
    /// that row lies on the image.
    #[inline(always)]
    fn for_rows(&self, images: usize, group: usize, mut row: impl FnMut(&Reach, Option<usize>)) {
        let [height, width] = self.conv.image;
        for channel in self.channels(group) {
            for (down, across) in self.taps() {
                for image in 0..images {
                    let plane = (image * self.conv.channels[0] + channel) * height * width;
                    for i in 0..self.output[0] {
                        let lies = down.positions.contains(&i);
                        let y = || down.start + (i - down.positions.start) * self.conv.stride[0];
                        row(across, lies.then(|| plane + y() * width + across.start));
                    }
                }
            }
        }
    }

    fn taps(&self) -> impl Iterator<Item = (&Reach, &Reach)> {
        let rows = self.rows.iter();
        rows.flat_map(|down| self.columns.iter().map(move |across| (down, across)))
    }

    /// The columns of some images, `[taps of the group, images·positions]`, from `x`, those images.
    fn unfold<T: Float>(&self, x: &[T], images: usize, group: usize, columns: &mut [T]) {
        let stride = self.conv.stride[1];
        let mut pieces = columns.chunks_exact_mut(self.output[1]);
        self.for_rows(images, group, |across, start| {
            let Some(piece) = pieces.next() else {
                unreachable!("as many rows as the columns have");
            };
            let Some(start) = start else {
                piece.fill(T::ZERO);
                return;
            };
            let Range { start: first, end } = across.positions;
            piece[..first].fill(T::ZERO);
            if first < end {
                if stride == 1 {
                    piece[first..end].copy_from_slice(&x[start..][..end - first]);
                } else {
                    let values = x[start..].iter().step_by(stride);
                    for (piece, &value) in piece[first..end].iter_mut().zip(values) {
                        *piece = value;
                    }
                }
            }
            piece[end..].fill(T::ZERO);
        });
    }

    /// Adds columns back to where [`unfold`](Self::unfold) took them from.
    fn fold<T: Float>(&self, columns: &[T], images: usize, group: usize, x: &mut [T]) {
        let stride = self.conv.stride[1];
        let mut pieces = columns.chunks_exact(self.output[1]);
        self.for_rows(images, group, |across, start| {
            let Some(piece) = pieces.next() else {
                unreachable!("as many rows as the columns have");
            };
            let piece = &piece[across.positions.clone()];
            if let (Some(start), false) = (start, piece.is_empty()) {
                if stride == 1 {
                    for (x, &value) in x[start..][..piece.len()].iter_mut().zip(piece) {
                        *x += value;
                    }
                } else {
                    for (x, &value) in x[start..].iter_mut().step_by(stride).zip(piece) {
                        *x += value;
                    }
                }
            }
        });
    }
}

/// y\[n, o, i, j\] = bias\[o\] + Σ over c, a, b of
/// weight\[o, c, a, b\]·x\[n, c, i·stride + a·dilation − padding, j·stride + b·dilation − padding\],
/// with x zero outside the image: `[examples, channels out, output height, output width]`.
///
/// # Panics
/// If a slice's length does not fit, or the kernel does not fit the image: see [`Conv2d::output`].
pub fn conv2d<T: Float>(x: &[T], weight: &[T], bias: Option<&[T]>, conv: &Conv2d) -> Vec<T> {
    let output = conv.checked_output();
    conv.check_input(x);
    conv.check_weight(weight);
    let [_, channels] = conv.channels;
    if let Some(bias) = bias {
        conv.check("bias", bias.len(), &[channels]);
    }
    let unfolding = Unfolding::new(*conv, output);
    let (positions, taps) = (unfolding.positions(), conv.taps());
    let (size, together) = (channels * positions, conv.together(positions));
    let in_group = channels / conv.groups;
    let scratch = taps * together * positions;
    let shape = Parts {
        work: conv.work(positions),
        total: conv.examples * size,
        part: together * size,
        scratch,
    };
    build_parts(shape, |part, to, scratch| {
        let images = to.len() / size;
        let x = &x[part * together * conv.input_size()..][..images * conv.input_size()];
        let columns = &mut scratch[..taps * images * positions];
        let y = if images == 1 && conv.groups == 1 {
            unfolding.unfold(x, images, 0, columns);
            let weight = Matrix::by_rows(weight, channels, taps);
            product(to, weight, Matrix::by_rows(columns, taps, positions))
        } else {
            let width = images * positions;
            let mut y = vec![T::ZERO; channels * width];
            let weights = weight.chunks_exact((in_group * taps).max(1));
            let groups = y.chunks_exact_mut((in_group * width).max(1)).zip(weights);
            for (group, (y, weight)) in groups.enumerate() {
                unfolding.unfold(x, images, group, columns);
                let weight = Matrix::by_rows(weight, in_group, taps);
                add_product(y, weight, Matrix::by_rows(columns, taps, width));
            }
            to.concat(swap_leading(&y, channels, images, positions))
        };
        if let Some(bias) = bias {
            for (y, &bias) in y.chunks_exact_mut(positions).zip(bias.iter().cycle()) {
                y.iter_mut().for_each(|y| *y += bias);
            }
        }
        y
    })
}

/// The pieces of `[a, b, positions]` in the order `[b, a, positions]`.
fn swap_leading<T>(
    values: &[T],
    a: usize,
    b: usize,
    positions: usize,
) -> impl Iterator<Item = &[T]> {
    let piece = move |i: usize, j: usize| &values[(i * b + j) * positions..][..positions];
    (0..b).flat_map(move |j| (0..a).map(move |i| piece(i, j)))
}

/// The gradient by x, given `dy` of the output's shape.
///
/// # Panics
/// As [`conv2d`].
pub fn conv2d_input_gradient<T: Float>(dy: &[T], weight: &[T], conv: &Conv2d) -> Vec<T> {
    let output = conv.checked_output();
    conv.check_output(dy, output);
    conv.check_weight(weight);
    let unfolding = Unfolding::new(*conv, output);
    let (positions, taps) = (unfolding.positions(), conv.taps());
    let (size, together) = (conv.input_size(), conv.together(positions));
    let in_group = conv.channels[1] / conv.groups;
    let shape = Parts {
        work: conv.work(positions),
        total: conv.examples * size,
        part: together * size,
        scratch: taps * together * positions,
    };
    build_parts(shape, |part, to, scratch| {
        let images = to.len() / size;
        let columns = &mut scratch[..taps * images * positions];
        let first = part * together;
        let dx = to.fill(T::ZERO);
        for (group, weight) in weight.chunks_exact((in_group * taps).max(1)).enumerate() {
            let dy = gradient_rows(dy, conv, positions, first..first + images, group);
            let dy = Matrix::by_rows(&dy, in_group, images * positions);
            let weight = Matrix::by_rows(weight, in_group, taps);
            product(Unwritten::over(columns), weight.transposed(), dy);
            unfolding.fold(columns, images, group, dx);
        }
        dx
    })
}

/// `dy` of some images and a group as `[channels of the group, images·positions]`.
fn gradient_rows<'a, T: Float>(
    dy: &'a [T],
    conv: &Conv2d,
    positions: usize,
    images: Range<usize>,
    group: usize,
) -> Cow<'a, [T]> {
    let in_group = conv.channels[1] / conv.groups;
    let of_image = |image: usize| {
        let first = image * conv.channels[1] + group * in_group;
        &dy[first * positions..][..in_group * positions]
    };
    if images.len() == 1 {
        return Cow::Borrowed(of_image(images.start));
    }
    let mut rows = Vec::with_capacity(images.len() * in_group * positions);
    for channel in 0..in_group {
        for image in images.clone() {
            rows.extend_from_slice(&of_image(image)[channel * positions..][..positions]);
        }
    }
    Cow::Owned(rows)
}

/// The gradient by the weight, given `dy` of the output's shape: sums over a few ranges of the
/// images, added in order.
///
/// # Panics
/// As [`conv2d`].
pub fn conv2d_weight_gradient<T: Float>(x: &[T], dy: &[T], conv: &Conv2d) -> Vec<T> {
    let output = conv.checked_output();
    conv.check_input(x);
    conv.check_output(dy, output);
    let unfolding = Unfolding::new(*conv, output);
    let (positions, taps) = (unfolding.positions(), conv.taps());
    let (size, together) = (conv.input_size(), conv.together(positions));
    let in_group = conv.channels[1] / conv.groups;
    let batches = conv.examples.div_ceil(together);
    let of_part = batches.div_ceil(ENOUGH_PARTS).max(1) * together;
    let parts = conv.examples.div_ceil(of_part);
    let sums = parallel::collect(parts, conv.work(positions), |part| {
        let mut sums = vec![T::ZERO; conv.channels[1] * taps];
        let mut scratch = vec![T::ZERO; taps * together * positions];
        let end = ((part + 1) * of_part).min(conv.examples);
        for first in (part * of_part..end).step_by(together) {
            let images = first..(first + together).min(end);
            let columns = &mut scratch[..taps * images.len() * positions];
            let x = &x[images.start * size..images.end * size];
            for (group, sums) in sums.chunks_exact_mut((in_group * taps).max(1)).enumerate() {
                unfolding.unfold(x, images.len(), group, columns);
                let dy = gradient_rows(dy, conv, positions, images.clone(), group);
                let width = images.len() * positions;
                let columns = Matrix::by_rows(columns, taps, width);
                add_product(
                    sums,
                    Matrix::by_rows(&dy, in_group, width),
                    columns.transposed(),
                );
            }
        }
        sums
    });
    let none = || vec![T::ZERO; conv.channels[1] * taps];
    let added = sums.into_iter().reduce(|mut all, part| {
        for (all, part) in all.iter_mut().zip(part) {
            *all += part;
        }
        all
    });
    added.unwrap_or_else(none)
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
