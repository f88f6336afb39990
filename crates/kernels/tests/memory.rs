//! What operations allocate: their outputs, and no more than is bounded by channels, rows, weights and threads.
//! One test, in a binary of its own, since all allocations of the process are counted.

use evenkeel_kernels::{
    Activation, Affine, AvgPool, BlockPool, Channels, Conv2d, ConvBlock, ConvBlockState, DropBlock,
    DropConnect, Dropout, GaussianDropout, Planes, RowNorm, RowStatistics, Rows, Scaling, Window,
    avg_pool, avg_pool_backward, batch_norm_train, batch_norm_train_backward, conv_block_backward,
    conv_block_train, conv2d, conv2d_activated, conv2d_input_gradient, conv2d_weight_gradient,
    drop_block, drop_connect, drop_connect_input_gradient, drop_connect_weight_gradient, dropout,
    dropout_add, gaussian_dropout, global_avg_pool, global_avg_pool_backward, max_pool,
    max_pool_backward, row_norm, row_norm_backward,
};
use evenkeel_random::Key;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const THREADS: usize = 2;
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Asserts that what `work` has at once, its output among it, is at most the output's bytes and `more`.
fn bounded<R>(what: &str, output: usize, more: usize, work: impl Fn() -> R + Sync + Send) -> R
where
    R: Send,
{
    // The first call makes what stays: the threads' queues.
    drop(work());
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    let most = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(
        most <= output + more,
        "{what}: {} KiB besides an output of {} KiB, expected at most {} KiB",
        most.saturating_sub(output) / KIB,
        output / KIB,
        more / KIB
    );
    assert!(most >= output, "{what}: the output is not counted");
    result
}

const SHAPES: [[usize; 3]; 3] = [[32, 64, 56 * 56], [64, 256, 49], [4096, 1024, 1]];

/// The output, and at most 1 KiB a channel or row.
fn norms() {
    for [n, c, s] in SHAPES {
        let shape = Channels { n, c, s };
        let x: Vec<f32> = (0..n * c * s).map(|i| (i % 997) as f32).collect();
        let (scale, shift) = (vec![1.0; c], vec![0.5; c]);
        let affine = Affine {
            scale: &scale,
            shift: &shift,
        };
        let (bytes, activation) = (size_of_val(&x[..]), Activation::Relu);
        let more = 64 * KIB + c * KIB;
        let forward = bounded("batch norm", bytes, more, || {
            batch_norm_train(&x, shape, Some(affine), 1e-5, activation)
        });
        bounded("batch norm, backward", bytes, more, || {
            let (mean, r) = (&forward.mean, &forward.reciprocal_deviation);
            batch_norm_train_backward(&x, &x, shape, mean, r, Some(affine), activation)
        });
        drop(forward);
        for (groups, statistics) in [
            (1, RowStatistics::Deviation),
            (32, RowStatistics::Deviation),
            (c, RowStatistics::Deviation),
            (1, RowStatistics::RootMeanSquare),
        ] {
            if c * s == groups {
                continue;
            }
            let norm = RowNorm {
                shape: Rows {
                    examples: n,
                    groups,
                    channels: c / groups,
                    positions: s,
                },
                statistics,
                epsilon: 1e-5,
                activation,
            };
            let more = 64 * KIB + (n * groups + c) * KIB;
            let what = format!("norm of {norm:?}");
            let forward = bounded(&what, bytes, more, || row_norm(&x, affine, &norm));
            bounded(&format!("{what}, backward"), bytes, more, || {
                let (mean, r) = (&forward.mean, &forward.reciprocal_deviation);
                row_norm_backward(&x, &x, mean, r, affine, &norm)
            });
        }
    }
}

fn noise() {
    let x = vec![1.0_f32; 1 << 22];
    let bytes = size_of_val(&x[..]);
    let key = Key::from_seed(1);
    let mask = Dropout::new(key, 0.5, Scaling::Inverted);
    bounded("dropout", bytes, 64 * KIB, || dropout(&x, &mask, 0));
    bounded("spatial dropout", bytes, 64 * KIB, || {
        dropout(&x, &mask.over_runs_of(49), 0)
    });
    bounded("dropout and residual", bytes, 64 * KIB, || {
        dropout_add(&x, &x, &mask)
    });
    let gaussian = GaussianDropout::new(key, 0.5);
    bounded("Gaussian dropout", bytes, 64 * KIB, || {
        gaussian_dropout(&x, &gaussian)
    });
    let blocks = DropBlock::new(key, 0.1, 5, [32, 32]);
    bounded("DropBlock", bytes, 64 * KIB, || drop_block(&x, &blocks));
    // A mask for each example, 256 times the weights in all: none is ever whole in memory.
    let connect = DropConnect {
        dropout: mask,
        examples: 256,
        positions: 16,
        inputs: 1024,
        outputs: 64,
    };
    let weight = vec![1.0_f32; 1024 * 64];
    let of_y = size_of::<f32>() * 256 * 16 * 64;
    let dy = drop_connect(&x, &weight, &connect);
    bounded("DropConnect", of_y, 64 * KIB, || {
        drop_connect(&x, &weight, &connect)
    });
    bounded("DropConnect, by x", bytes, 64 * KIB, || {
        drop_connect_input_gradient(&dy, &weight, &connect)
    });
    let of_weight = size_of_val(&weight[..]);
    bounded("DropConnect, by the weight", of_weight, 64 * KIB, || {
        drop_connect_weight_gradient(&x, &dy, &connect)
    });
}

fn pools() {
    let planes = Planes {
        count: 4096,
        height: 28,
        width: 28,
    };
    let x: Vec<f32> = (0..4096 * 784).map(|i| (i % 997) as f32).collect();
    let bytes = size_of_val(&x[..]);
    let window = Window::HALVING;
    // A value and the byte of its winner, which is twice in memory for a moment.
    let places = x.len() / 4;
    let pooled = bounded("max pooling", 5 * places, places + MIB / 4, || {
        max_pool(&x, planes, window)
    });
    bounded("max pooling, backward", bytes, 64 * KIB, || {
        max_pool_backward(&pooled.output, &pooled.winners, planes, window)
    });
    let pool = AvgPool {
        window,
        count_padding: true,
    };
    let averages = bounded("average pooling", bytes / 4, 64 * KIB, || {
        avg_pool(&x, planes, pool)
    });
    bounded("average pooling, backward", bytes, 64 * KIB, || {
        avg_pool_backward(&averages, planes, pool)
    });
    let shape = Channels {
        n: 64,
        c: 64,
        s: 784,
    };
    let means = bounded("global average", 4096 * 4, 64 * KIB, || {
        global_avg_pool(&x, shape)
    });
    bounded("global average, backward", bytes, 64 * KIB, || {
        global_avg_pool_backward(&means, shape)
    });
}

/// Planes and sums of a thread; and the weights in another order, for all places of a stride.
fn convolutions() {
    for (examples, channels, side, kernel, stride) in [
        (128, [1, 32], 28, 3, 1),
        (32, [32, 64], 28, 3, 1),
        (128, [64, 64], 14, 3, 1),
        (128, [64, 128], 7, 3, 1),
        (64, [256, 512], 8, 3, 2),
        (2, [3, 64], 224, 7, 2),
        (2, [64, 64], 112, 3, 1),
        (2, [64, 64], 112, 1, 1),
    ] {
        let conv = Conv2d {
            examples,
            channels,
            image: [side; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [(kernel / 2, kernel / 2); 2],
            dilation: [1; 2],
            groups: 1,
        };
        let [height, width] = conv.output().expect("a kernel that fits");
        let x = vec![0.5_f32; examples * channels[0] * side * side];
        let weight = vec![0.5_f32; channels[0] * channels[1] * kernel * kernel];
        let dy = vec![0.5_f32; examples * channels[1] * height * width];
        let [of_x, of_weight, of_y] = [&x, &weight, &dy].map(|values| size_of_val(&values[..]));
        // Packed; and the offsets of their terms.
        let weights = 2 * of_weight + 256 * KIB;
        let scratch = THREADS * 2 * MIB + weights;
        let what = format!("{conv:?}");
        bounded(&what, of_y, scratch, || conv2d(&x, &weight, None, &conv));
        bounded(&format!("{what}, by x"), of_x, scratch, || {
            conv2d_input_gradient(&dy, &weight, &conv)
        });
        // A sum of all weights for each of the parts: 16 of few weights, 4 of many.
        let parts = if weight.len() > 1 << 17 { 4 } else { 16 } * (of_weight + 64 * KIB);
        bounded(
            &format!("{what}, by the weight"),
            of_weight,
            scratch + parts,
            || conv2d_weight_gradient(&x, &dy, &conv),
        );
        // What is pooled is never whole in memory.
        let pool = Some(BlockPool::Max(Window::HALVING));
        let pooled = size_of::<f32>() * examples * channels[1] * (height / 2) * (width / 2);
        bounded(&format!("{what}, pooled"), pooled, scratch, || {
            conv2d_activated(&x, &weight, None, &conv, Activation::Relu, pool)
        });
    }
}

/// Forward, the convolution's output besides; backward, the gradient by it. What the norm gives is never whole in
/// memory where it is pooled.
fn blocks() {
    for pool in [
        None,
        Some(BlockPool::Max(Window::HALVING)),
        Some(BlockPool::GlobalAvg),
    ] {
        let conv = Conv2d {
            examples: 64,
            channels: [32, 64],
            image: [28; 2],
            kernel: [3; 2],
            stride: [1; 2],
            padding: [(1, 1); 2],
            dilation: [1; 2],
            groups: 1,
        };
        let block = ConvBlock {
            conv,
            epsilon: 1e-5,
            activation: Activation::Relu,
            pool,
        };
        let x = vec![0.5_f32; 64 * 32 * 784];
        let weight: Vec<f32> = (0..64 * 32 * 9).map(|i| (i % 7) as f32 - 3.0).collect();
        let (scale, shift) = (vec![1.0; 64], vec![0.5; 64]);
        let affine = Affine {
            scale: &scale,
            shift: &shift,
        };
        let [of_x, of_weight] = [&x, &weight].map(|values| size_of_val(&values[..]));
        let convolved = size_of::<f32>() * 64 * 64 * 784;
        let (pooled, winners) = match pool {
            None => (convolved, 0),
            Some(BlockPool::Max(_)) => (convolved / 4, convolved / 16),
            Some(BlockPool::GlobalAvg) => (convolved / 784, 0),
        };
        let scratch = THREADS * 2 * MIB + 3 * of_weight;
        let what = format!("{block:?}");
        // The winners' bytes are twice in memory for a moment.
        let output = pooled + convolved + winners;
        let forward = bounded(&what, output, scratch + winners, || {
            conv_block_train(&x, &weight, affine, &block)
        });
        let state = ConvBlockState {
            convolved: (&forward.convolved).into(),
            mean: &forward.mean,
            reciprocal_deviation: &forward.reciprocal_deviation,
            winners: &forward.winners,
        };
        let parts = 16 * (of_weight + 64 * KIB);
        let more = convolved + scratch + parts;
        bounded(&format!("{what}, backward"), of_x + of_weight, more, || {
            let dy = &forward.output;
            conv_block_backward(&x, dy, &weight, affine, state.clone(), &block, [true; 2])
        });
    }
}

#[test]
fn operations_allocate_their_outputs_and_little_more() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(THREADS)
        .build()
        .expect("a small thread pool");
    pool.install(|| {
        noise();
        pools();
        norms();
        convolutions();
        blocks();
    });
}
