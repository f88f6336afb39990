//! The definitions: naive loops in `f64`, written to be read, which every fast path must match.

use evenkeel_random::Key;

use crate::{
    Activation, AvgPool, Channels, Conv2d, DropBlock, DropConnect, Dropout, Planes, RowNorm,
    RowStatistics, Rows, Shares, Window, keeps,
};

/// What [`batch_norm_train`] returns, all of it in `f64`.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// `[n, c, s]`.
    pub output: Vec<f64>,
    /// Per channel.
    pub mean: Vec<f64>,
    /// The biased variance, per channel.
    pub variance: Vec<f64>,
}

fn index(shape: Channels, n: usize, c: usize, s: usize) -> usize {
    (n * shape.c + c) * shape.s + s
}

fn of_channel(shape: Channels, c: usize) -> impl Iterator<Item = usize> + Clone {
    (0..shape.n).flat_map(move |n| (0..shape.s).map(move |s| index(shape, n, c, s)))
}

fn activate(activation: Activation, y: f64) -> f64 {
    match activation {
        Activation::Relu if y <= 0.0 => 0.0,
        _ => y,
    }
}

/// μ = mean of x, σ² = mean of (x − μ)², both per channel;
/// y = activation(γ·(x − μ)/√(σ² + ε) + β).
pub fn batch_norm_train(
    x: &[f64],
    shape: Channels,
    scale: &[f64],
    shift: &[f64],
    epsilon: f64,
    activation: Activation,
) -> BatchNorm {
    let count = shape.count() as f64;
    let statistics = (0..shape.c).map(|c| {
        let mean = of_channel(shape, c).map(|i| x[i]).sum::<f64>() / count;
        let variance = of_channel(shape, c)
            .map(|i| (x[i] - mean).powi(2))
            .sum::<f64>()
            / count;
        (mean, variance)
    });
    let (mean, variance): (Vec<f64>, Vec<f64>) = statistics.unzip();
    let reciprocal: Vec<f64> = variance
        .iter()
        .map(|v| 1.0 / (v + epsilon).sqrt())
        .collect();
    let output = batch_norm_apply(x, shape, &mean, &reciprocal, scale, shift, activation);
    BatchNorm {
        output,
        mean,
        variance,
    }
}

/// y = activation(γ·(x − μ)·r + β).
pub fn batch_norm_apply(
    x: &[f64],
    shape: Channels,
    mean: &[f64],
    reciprocal_deviation: &[f64],
    scale: &[f64],
    shift: &[f64],
    activation: Activation,
) -> Vec<f64> {
    let mut output = vec![0.0; x.len()];
    for c in 0..shape.c {
        for i in of_channel(shape, c) {
            let normalized = (x[i] - mean[c]) * reciprocal_deviation[c];
            output[i] = activate(activation, scale[c] * normalized + shift[c]);
        }
    }
    output
}

/// The gradients by x, γ, β of Σ y·dy, the statistics being those of x.
pub fn batch_norm_train_backward(
    x: &[f64],
    dy: &[f64],
    shape: Channels,
    scale: &[f64],
    shift: &[f64],
    epsilon: f64,
    activation: Activation,
) -> [Vec<f64>; 3] {
    let BatchNorm { mean, variance, .. } =
        batch_norm_train(x, shape, scale, shift, epsilon, activation);
    let r: Vec<f64> = variance
        .iter()
        .map(|v| 1.0 / (v + epsilon).sqrt())
        .collect();
    let [mut dx, dscale, dshift] =
        batch_norm_apply_backward(x, dy, shape, &mean, &r, scale, shift, activation);
    let count = shape.count() as f64;
    for c in 0..shape.c {
        for i in of_channel(shape, c) {
            let normalized = (x[i] - mean[c]) * r[c];
            dx[i] -= scale[c] * r[c] * (dshift[c] + normalized * dscale[c]) / count;
        }
    }
    [dx, dscale, dshift]
}

/// The gradients by x, γ, β of Σ y·dy, the statistics being constants.
#[allow(clippy::too_many_arguments)] // The formula's symbols, one by one.
pub fn batch_norm_apply_backward(
    x: &[f64],
    dy: &[f64],
    shape: Channels,
    mean: &[f64],
    reciprocal_deviation: &[f64],
    scale: &[f64],
    shift: &[f64],
    activation: Activation,
) -> [Vec<f64>; 3] {
    let r = reciprocal_deviation;
    let (mut dx, mut dscale, mut dshift) =
        (vec![0.0; x.len()], vec![0.0; shape.c], vec![0.0; shape.c]);
    for c in 0..shape.c {
        for i in of_channel(shape, c) {
            let normalized = (x[i] - mean[c]) * r[c];
            let blocked = activation == Activation::Relu && scale[c] * normalized + shift[c] <= 0.0;
            let gradient = if blocked { 0.0 } else { dy[i] };
            dshift[c] += gradient;
            dscale[c] += gradient * normalized;
            dx[i] = scale[c] * r[c] * gradient;
        }
    }
    [dx, dscale, dshift]
}

/// What [`row_norm`] returns, all of it in `f64`.
#[derive(Clone, Debug)]
pub struct RowForward {
    /// In the shape of the input.
    pub output: Vec<f64>,
    /// μ, per row.
    pub mean: Vec<f64>,
    /// r, per row.
    pub reciprocal_deviation: Vec<f64>,
}

/// The row and the channel of element i.
fn row_and_channel(shape: Rows, i: usize) -> (usize, usize) {
    let row = i / shape.row();
    let channel = i / shape.positions % shape.channels;
    (row, row % shape.groups * shape.channels + channel)
}

/// μ = mean of x (or 0), r = 1/√(mean of (x − μ)² + ε), both per row;
/// y = activation(γ·(x − μ)·r + β).
pub fn row_norm(x: &[f64], scale: &[f64], shift: &[f64], norm: &RowNorm) -> RowForward {
    let shape = norm.shape;
    let count = shape.row() as f64;
    let (mut mean, mut reciprocal_deviation) = (vec![0.0; shape.count()], Vec::new());
    for row in 0..shape.count() {
        let x = &x[row * shape.row()..][..shape.row()];
        if norm.statistics == RowStatistics::Deviation {
            mean[row] = x.iter().sum::<f64>() / count;
        }
        let squares = x.iter().map(|x| (x - mean[row]).powi(2));
        let square = squares.sum::<f64>() / count;
        reciprocal_deviation.push(1.0 / (square + norm.epsilon).sqrt());
    }
    let value = |(i, x): (usize, &f64)| {
        let (row, channel) = row_and_channel(shape, i);
        let normalized = (x - mean[row]) * reciprocal_deviation[row];
        activate(
            norm.activation,
            scale[channel] * normalized + shift[channel],
        )
    };
    let output = x.iter().enumerate().map(value).collect();
    RowForward {
        output,
        mean,
        reciprocal_deviation,
    }
}

/// The gradients by x, γ, β of Σ y·dy.
pub fn row_norm_backward(
    x: &[f64],
    dy: &[f64],
    scale: &[f64],
    shift: &[f64],
    norm: &RowNorm,
) -> [Vec<f64>; 3] {
    let shape = norm.shape;
    let forward = row_norm(x, scale, shift, norm);
    let parameters = shape.parameters();
    let (mut dscale, mut dshift) = (vec![0.0; parameters], vec![0.0; parameters]);
    let (mut sums, mut products) = (vec![0.0; shape.count()], vec![0.0; shape.count()]);
    let (mut gradients, mut normalized) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    for i in 0..x.len() {
        let (row, channel) = row_and_channel(shape, i);
        normalized[i] = (x[i] - forward.mean[row]) * forward.reciprocal_deviation[row];
        let before = scale[channel] * normalized[i] + shift[channel];
        let blocked = norm.activation == Activation::Relu && before <= 0.0;
        let gradient = if blocked { 0.0 } else { dy[i] };
        dshift[channel] += gradient;
        dscale[channel] += gradient * normalized[i];
        gradients[i] = gradient * scale[channel];
        sums[row] += gradients[i];
        products[row] += gradients[i] * normalized[i];
    }
    let count = shape.row() as f64;
    let gradient = |i: usize| {
        let (row, _) = row_and_channel(shape, i);
        let of_mean = match norm.statistics {
            RowStatistics::Deviation => sums[row] / count,
            RowStatistics::RootMeanSquare => 0.0,
        };
        let of_deviation = normalized[i] * products[row] / count;
        forward.reciprocal_deviation[row] * (gradients[i] - of_mean - of_deviation)
    };
    [(0..x.len()).map(gradient).collect(), dscale, dshift]
}

/// y\[i\] = x\[i\] times 0 or `kept`.
pub fn dropout(x: &[f64], mask: &Dropout, kept: f64, offset: u64) -> Vec<f64> {
    let factor = |i: usize| {
        if keeps(mask, offset + i as u64) {
            kept
        } else {
            0.0
        }
    };
    x.iter().enumerate().map(|(i, x)| x * factor(i)).collect()
}

/// y\[i\] = residual\[i\] + x\[i\] times 0 or `kept`.
pub fn dropout_add(x: &[f64], residual: &[f64], mask: &Dropout, kept: f64) -> Vec<f64> {
    let masked = dropout(x, mask, kept, 0);
    residual.iter().zip(masked).map(|(r, y)| r + y).collect()
}

/// y\[i\] = `kept`·(x\[i\] − `centre`) + `shift`, and `shift` where element i is dropped.
pub fn dropout_around(x: &[f64], mask: &Dropout, kept: f64, centre: f64, shift: f64) -> Vec<f64> {
    let of = |(i, x): (usize, &f64)| match keeps(mask, i as u64) {
        true => kept * (x - centre) + shift,
        false => shift,
    };
    x.iter().enumerate().map(of).collect()
}

/// Numbers 2j and 2j + 1 are √(−2 ln u)·cos 2πt and √(−2 ln u)·sin 2πt, with u the upper 23
/// bits of word 2j (half a unit more) and t the upper 24 of word 2j + 1.
pub fn normals(key: Key, count: usize) -> Vec<f64> {
    let word = |i: usize| key.block(i as u64 / 4)[i % 4];
    let number = |i: usize| {
        let u = (f64::from(word(i - i % 2) >> 9) + 0.5) / 8_388_608.0;
        let t = f64::from(word(i - i % 2 + 1) >> 8) / 16_777_216.0;
        let angle = std::f64::consts::TAU * t;
        let radius = (-2.0 * u.ln()).sqrt();
        radius * [angle.cos(), angle.sin()][i % 2]
    };
    (0..count).map(number).collect()
}

/// y\[i\] = x\[i\]·(1 + `deviation`·z\[i\]) with z the normals of the key.
pub fn gaussian_dropout(x: &[f64], key: Key, deviation: f64) -> Vec<f64> {
    let z = normals(key, x.len());
    x.iter()
        .zip(z)
        .map(|(x, z)| x * (1.0 + deviation * z))
        .collect()
}

/// Which elements of `len` DropBlock drops.
pub fn dropped_by_blocks(len: usize, blocks: &DropBlock) -> Vec<bool> {
    let [height, width] = blocks.image();
    let mut dropped = vec![false; len];
    for i in 0..len {
        let (row, column) = (i / width % height, i % width);
        let word = blocks.key().block(i as u64 / 4)[i % 4];
        if blocks.begins(word, row, column) {
            for below in 0..blocks.block()[0] {
                for right in 0..blocks.block()[1] {
                    dropped[i + below * width + right] = true;
                }
            }
        }
    }
    dropped
}

/// y\[i\] = x\[i\] times elements / kept elements, or 0 where a block covers it.
pub fn drop_block(x: &[f64], blocks: &DropBlock) -> Vec<f64> {
    let dropped = dropped_by_blocks(x.len(), blocks);
    let kept = dropped.iter().filter(|dropped| !**dropped).count();
    let factor = |dropped: bool| {
        if dropped {
            0.0
        } else {
            x.len() as f64 / kept as f64
        }
    };
    x.iter()
        .zip(dropped)
        .map(|(x, dropped)| x * factor(dropped))
        .collect()
}

/// y\[i\] = s·first\[i\] + (1 − s)·second\[i\], with s the share of the run of `run` elements.
pub fn mix(first: &[f64], second: &[f64], shares: &Shares, run: usize) -> Vec<f64> {
    let of = |(i, (first, second))| {
        let share = shares.share(i / run);
        share * first + (1.0 - share) * second
    };
    first.iter().zip(second).enumerate().map(of).collect()
}

/// Calls `visit(output, weight, input, factor)` with the index of each and the factor, 0 or `kept`,
/// for every product in a linear layer under a mask for each example.
fn for_connections(
    connect: &DropConnect,
    kept: f64,
    mut visit: impl FnMut(usize, usize, usize, f64),
) {
    let DropConnect {
        dropout,
        examples,
        positions,
        inputs,
        outputs,
    } = connect;
    for n in 0..*examples {
        for (t, i) in (0..*positions).flat_map(|t| (0..*inputs).map(move |i| (t, i))) {
            for o in 0..*outputs {
                let element = (n * inputs + i) * outputs + o;
                let factor = if keeps(dropout, element as u64) {
                    kept
                } else {
                    0.0
                };
                let position = n * positions + t;
                visit(
                    position * outputs + o,
                    i * outputs + o,
                    position * inputs + i,
                    factor,
                );
            }
        }
    }
}

/// y\[n, t, o\] = Σᵢ x\[n, t, i\]·weight\[i, o\]·m\[n, i, o\], m being 0 or `kept`.
pub fn drop_connect(x: &[f64], weight: &[f64], connect: &DropConnect, kept: f64) -> Vec<f64> {
    let mut y = vec![0.0; connect.examples * connect.positions * connect.outputs];
    for_connections(connect, kept, |o, w, i, m| y[o] += x[i] * weight[w] * m);
    y
}

/// The gradients by x and weight of Σ y·dy.
pub fn drop_connect_backward(
    x: &[f64],
    weight: &[f64],
    dy: &[f64],
    connect: &DropConnect,
    kept: f64,
) -> [Vec<f64>; 2] {
    let (mut dx, mut dweight) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
    for_connections(connect, kept, |o, w, i, m| {
        dx[i] += dy[o] * weight[w] * m;
        dweight[w] += dy[o] * x[i] * m;
    });
    [dx, dweight]
}

/// y\[n, c\] = mean of x\[n, c, ..\].
pub fn global_avg_pool(x: &[f64], shape: Channels) -> Vec<f64> {
    let mean = |slab: &[f64]| slab.iter().sum::<f64>() / shape.s as f64;
    (0..shape.n * shape.c)
        .map(|slab| mean(&x[slab * shape.s..][..shape.s]))
        .collect()
}

/// dx\[n, c, ..\] = dy\[n, c\]/s.
pub fn global_avg_pool_backward(dy: &[f64], shape: Channels) -> Vec<f64> {
    dy.iter()
        .flat_map(|dy| std::iter::repeat_n(dy / shape.s as f64, shape.s))
        .collect()
}

/// Calls `visit(output index, place in the window, input index)` for every window's every position
/// that lies in the image, in order.
fn for_windows(planes: Planes, window: Window, mut visit: impl FnMut(usize, usize, usize)) {
    let pooled = window.output(planes).expect("windows that fit");
    for p in 0..planes.count {
        for i in 0..pooled.height {
            for j in 0..pooled.width {
                for a in 0..window.size[0] {
                    for b in 0..window.size[1] {
                        let row = (i * window.stride[0] + a).checked_sub(window.padding[0]);
                        let column = (j * window.stride[1] + b).checked_sub(window.padding[1]);
                        let (Some(row), Some(column)) = (row, column) else {
                            continue;
                        };
                        if row < planes.height && column < planes.width {
                            visit(
                                (p * pooled.height + i) * pooled.width + j,
                                a * window.size[1] + b,
                                (p * planes.height + row) * planes.width + column,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// See [`avg_pool`](crate::avg_pool).
pub fn avg_pool(x: &[f64], planes: Planes, pool: AvgPool) -> Vec<f64> {
    let mut means = averages(planes, pool);
    for_windows(planes, pool.window, |y, _, i| means[y].0 += x[i]);
    means.into_iter().map(|(sum, count)| sum / count).collect()
}

/// See [`avg_pool_backward`](crate::avg_pool_backward).
pub fn avg_pool_backward(dy: &[f64], planes: Planes, pool: AvgPool) -> Vec<f64> {
    let means = averages(planes, pool);
    let mut dx = vec![0.0; planes.count * planes.height * planes.width];
    for_windows(planes, pool.window, |y, _, i| dx[i] += dy[y] / means[y].1);
    dx
}

/// A sum of 0 for each window, and what it is divided by.
fn averages(planes: Planes, pool: AvgPool) -> Vec<(f64, f64)> {
    let pooled = pool.window.output(planes).expect("windows that fit");
    let [rows, columns] = pool.window.size;
    let count = if pool.count_padding {
        rows * columns
    } else {
        0
    };
    let mut means = vec![(0.0, count as f64); pooled.count * pooled.height * pooled.width];
    if !pool.count_padding {
        for_windows(planes, pool.window, |y, _, _| means[y].1 += 1.0);
    }
    means
}

/// The largest value under each window, and its place there: the first of equal ones. NaN is the
/// largest of all, and the last NaN wins.
pub fn max_pool(x: &[f64], planes: Planes, window: Window) -> (Vec<f64>, Vec<u8>) {
    let pooled = window.output(planes).expect("windows that fit");
    let mut largest = vec![None; pooled.count * pooled.height * pooled.width];
    for_windows(planes, window, |y, place, i| {
        let wins = |(other, _): (f64, u8)| x[i] > other || x[i].is_nan();
        if largest[y].is_none_or(wins) {
            largest[y] = Some((x[i], place as u8));
        }
    });
    let found = largest.into_iter();
    found
        .map(|found| found.expect("a value under each window"))
        .unzip()
}

/// dx = the sum of the dy of all windows that this position won.
pub fn max_pool_backward(x: &[f64], dy: &[f64], planes: Planes, window: Window) -> Vec<f64> {
    let (_, winners) = max_pool(x, planes, window);
    let mut dx = vec![0.0; x.len()];
    for_windows(planes, window, |y, place, i| {
        if usize::from(winners[y]) == place {
            dx[i] += dy[y];
        }
    });
    dx
}

/// Calls `visit(y, weight, x)` with the indices of every product in a convolution's sums.
fn for_products(conv: &Conv2d, mut visit: impl FnMut(usize, usize, usize)) {
    let [height, width] = conv.output().expect("a kernel that fits");
    let [channels_in, channels_out] = conv.channels;
    let (group_in, group_out) = (channels_in / conv.groups, channels_out / conv.groups);
    for n in 0..conv.examples {
        for o in 0..channels_out {
            for i in 0..height {
                for j in 0..width {
                    for c in 0..group_in {
                        for a in 0..conv.kernel[0] {
                            for b in 0..conv.kernel[1] {
                                let row = i * conv.stride[0] + a * conv.dilation[0];
                                let column = j * conv.stride[1] + b * conv.dilation[1];
                                let row = row.wrapping_sub(conv.padding[0].0);
                                let column = column.wrapping_sub(conv.padding[1].0);
                                if row >= conv.image[0] || column >= conv.image[1] {
                                    continue;
                                }
                                let channel = n * channels_in + o / group_out * group_in + c;
                                visit(
                                    ((n * channels_out + o) * height + i) * width + j,
                                    ((o * group_in + c) * conv.kernel[0] + a) * conv.kernel[1] + b,
                                    (channel * conv.image[0] + row) * conv.image[1] + column,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// y = bias + Σ weight·x over the kernel's places and the group's channels; x is zero outside.
pub fn conv2d(x: &[f64], weight: &[f64], bias: &[f64], conv: &Conv2d) -> Vec<f64> {
    let [height, width] = conv.output().expect("a kernel that fits");
    let positions = height * width;
    let mut y: Vec<f64> = (0..conv.examples * conv.channels[1] * positions)
        .map(|i| bias[i / positions % conv.channels[1]])
        .collect();
    for_products(conv, |i, j, k| y[i] += weight[j] * x[k]);
    y
}

/// The gradients by x, weight and bias of Σ y·dy.
pub fn conv2d_backward(x: &[f64], weight: &[f64], dy: &[f64], conv: &Conv2d) -> [Vec<f64>; 3] {
    let [height, width] = conv.output().expect("a kernel that fits");
    let (mut dx, mut dweight) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
    for_products(conv, |i, j, k| {
        dx[k] += weight[j] * dy[i];
        dweight[j] += x[k] * dy[i];
    });
    let mut dbias = vec![0.0; conv.channels[1]];
    for (i, dy) in dy.iter().enumerate() {
        dbias[i / (height * width) % conv.channels[1]] += dy;
    }
    [dx, dweight, dbias]
}
