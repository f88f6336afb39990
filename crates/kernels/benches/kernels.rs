//! Times of the kernels, beside a plain copy of the same memory.
//!
//! `cargo bench -p evenkeel-kernels`

use divan::{Bencher, black_box};
use evenkeel_kernels::{
    Activation, Affine, Channels, Conv2d, Dropout, Planes, RowNorm, RowStatistics, Rows, Scaling,
    Window, batch_norm_train, batch_norm_train_backward, conv2d, conv2d_input_gradient,
    conv2d_weight_gradient, dropout, global_avg_pool, global_avg_pool_backward, max_pool,
    max_pool_backward, row_norm, row_norm_backward,
};
use evenkeel_random::Key;

#[global_allocator]
static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;

const SHAPES: [[usize; 3]; 6] = [
    [64, 64, 56 * 56],
    [128, 64, 28 * 28],
    [128, 256, 7 * 7],
    [16, 512, 14 * 14],
    [4096, 1024, 1],
    [256, 256, 1],
];

fn main() {
    evenkeel_allocator::keep_freed_memory();
    divan::main();
}

fn shape([n, c, s]: [usize; 3]) -> Channels {
    Channels { n, c, s }
}

fn values(count: usize) -> Vec<f32> {
    let mut draws = Key::from_seed(0).draws();
    (0..count).map(|_| draws.uniform() as f32).collect()
}

#[divan::bench(args = [SHAPES[0], SHAPES[4]])]
fn copy(bencher: Bencher, of: [usize; 3]) {
    let x = values(shape(of).len());
    let mut y = x.clone();
    bencher.bench_local(|| {
        use rayon::prelude::*;
        let chunk = 1 << 18;
        y.par_chunks_mut(chunk)
            .zip(x.par_chunks(chunk))
            .for_each(|(y, x)| y.copy_from_slice(x));
    });
}

#[divan::bench(args = SHAPES)]
fn batch_norm_forward(bencher: Bencher, of: [usize; 3]) {
    let shape = shape(of);
    let (x, ones) = (values(shape.len()), vec![1.0; shape.c]);
    let affine = Some(Affine {
        scale: &ones,
        shift: &ones,
    });
    bencher.bench_local(|| batch_norm_train(black_box(&x), shape, affine, 1e-5, Activation::Relu));
}

#[divan::bench(args = SHAPES)]
fn batch_norm_backward(bencher: Bencher, of: [usize; 3]) {
    let shape = shape(of);
    let (x, dy, ones) = (values(shape.len()), values(shape.len()), vec![1.0; shape.c]);
    let affine = Some(Affine {
        scale: &ones,
        shift: &ones,
    });
    let relu = Activation::Relu;
    bencher.bench_local(|| {
        batch_norm_train_backward(black_box(&x), &dy, shape, &ones, &ones, affine, relu)
    });
}

/// `[examples, groups, channels, positions]`: layer norms of tokens, group and instance norms.
const ROWS: [[usize; 4]; 6] = [
    [32 * 128, 1, 768, 1],
    [8 * 1024, 1, 1024, 1],
    [64, 32, 2, 56 * 56],
    [128, 32, 2, 28 * 28],
    [128, 32, 8, 7 * 7],
    [64, 64, 1, 56 * 56],
];

fn rows([examples, groups, channels, positions]: [usize; 4]) -> RowNorm {
    RowNorm {
        shape: Rows {
            examples,
            groups,
            channels,
            positions,
        },
        statistics: RowStatistics::Deviation,
        epsilon: 1e-5,
        activation: Activation::None,
    }
}

#[divan::bench(args = ROWS)]
fn row_norm_forward(bencher: Bencher, of: [usize; 4]) {
    let norm = rows(of);
    let (x, ones) = (values(norm.shape.len()), vec![1.0; norm.shape.parameters()]);
    let affine = Affine {
        scale: &ones,
        shift: &ones,
    };
    bencher.bench_local(|| row_norm(black_box(&x), affine, &norm));
}

#[divan::bench(name = "row_norm_backward", args = ROWS)]
fn backward_of_row_norm(bencher: Bencher, of: [usize; 4]) {
    let norm = rows(of);
    let shape = norm.shape;
    let (x, dy) = (values(shape.len()), values(shape.len()));
    let (ones, of_rows) = (vec![1.0; shape.parameters()], vec![1.0; shape.count()]);
    let affine = Affine {
        scale: &ones,
        shift: &ones,
    };
    bencher
        .bench_local(|| row_norm_backward(black_box(&x), &dy, &of_rows, &of_rows, affine, &norm));
}

#[divan::bench(args = [SHAPES[0], SHAPES[4]])]
fn dropout_half(bencher: Bencher, of: [usize; 3]) {
    let x = values(shape(of).len());
    let mask = Dropout::new(Key::from_seed(1), 0.5, Scaling::Inverted);
    bencher.bench_local(|| dropout(black_box(&x), &mask, 0));
}

#[divan::bench(args = [SHAPES[0], SHAPES[2]])]
fn average_pool_forward(bencher: Bencher, of: [usize; 3]) {
    let x = values(shape(of).len());
    bencher.bench_local(|| global_avg_pool(black_box(&x), shape(of)));
}

#[divan::bench(args = [SHAPES[0], SHAPES[2]])]
fn average_pool_backward(bencher: Bencher, of: [usize; 3]) {
    let dy = values(of[0] * of[1]);
    bencher.bench_local(|| global_avg_pool_backward(black_box(&dy), shape(of)));
}

const IMAGES: [[usize; 3]; 2] = [[128 * 64, 28, 28], [128 * 64, 14, 14]];

fn planes([count, height, width]: [usize; 3]) -> Planes {
    Planes {
        count,
        height,
        width,
    }
}

#[divan::bench(args = IMAGES)]
fn max_pool_forward(bencher: Bencher, of: [usize; 3]) {
    let x = values(of.iter().product());
    bencher.bench_local(|| max_pool(black_box(&x), planes(of), Window::HALVING));
}

#[divan::bench(args = IMAGES)]
fn max_pool_gradient(bencher: Bencher, of: [usize; 3]) {
    let x = values(of.iter().product());
    let pooled = max_pool(&x, planes(of), Window::HALVING);
    bencher.bench_local(|| {
        max_pool_backward(
            black_box(&pooled.output),
            &pooled.winners,
            planes(of),
            Window::HALVING,
        )
    });
}

/// Channels in and out, height and width: those of the reference net.
const CONVS: [[usize; 3]; 4] = [[1, 32, 28], [32, 64, 28], [64, 64, 14], [64, 128, 7]];

fn conv([channels_in, channels_out, side]: [usize; 3]) -> Conv2d {
    Conv2d {
        examples: 128,
        channels: [channels_in, channels_out],
        image: [side, side],
        kernel: [3, 3],
        stride: [1, 1],
        padding: [(1, 1), (1, 1)],
        dilation: [1, 1],
        groups: 1,
    }
}

#[divan::bench(args = CONVS)]
fn conv_forward(bencher: Bencher, of: [usize; 3]) {
    let (x, weight) = (
        values(128 * of[0] * of[2] * of[2]),
        values(of[1] * of[0] * 9),
    );
    bencher.bench_local(|| conv2d(black_box(&x), &weight, None, &conv(of)));
}

#[divan::bench(args = CONVS)]
fn conv_input_gradient(bencher: Bencher, of: [usize; 3]) {
    let (dy, weight) = (
        values(128 * of[1] * of[2] * of[2]),
        values(of[1] * of[0] * 9),
    );
    bencher.bench_local(|| conv2d_input_gradient(black_box(&dy), &weight, &conv(of)));
}

#[divan::bench(args = CONVS)]
fn conv_weight_gradient(bencher: Bencher, of: [usize; 3]) {
    let area = of[2] * of[2];
    let (x, dy) = (values(128 * of[0] * area), values(128 * of[1] * area));
    bencher.bench_local(|| conv2d_weight_gradient(black_box(&x), &dy, &conv(of)));
}
