//! The kernels on a GPU, beside a device copy.
//!
//! ```sh
//! cargo bench -p evenkeel-nn --features wgpu --bench gpu
//! cargo bench -p evenkeel-nn --features cuda --bench gpu
//! ```
//!
//! Prints the milliseconds of each operation and the share of the copy's bandwidth that it reaches by
//! the traffic that it cannot avoid: each input read once, each output written once. A share above 1
//! is a cache's.

use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::{Device, Distribution, Tensor};
use evenkeel_kernels::{Activation, Dropout, RowNorm, RowStatistics, Rows, Scaling};
use evenkeel_nn::{MaskOperations, NormOperations, Normalization};
use evenkeel_random::Key;
use std::time::Instant;

const RELU: Activation = Activation::Relu;

/// Milliseconds of one run: the best of 5 rounds of 20 that are queued together.
fn time<T>(device: &Device, run: impl Fn() -> T) -> f64 {
    let round = |runs: u32| {
        let start = Instant::now();
        for _ in 0..runs {
            run();
        }
        device.sync().expect("the device finishes");
        start.elapsed().as_secs_f64() * 1e3 / f64::from(runs)
    };
    round(3); // Compiles.
    (0..5).map(|_| round(20)).fold(f64::INFINITY, f64::min)
}

struct Bench {
    device: Device,
    /// Elements that a copy reads and writes in a millisecond, both counted.
    copied: f64,
}

impl Bench {
    fn report<T>(&self, name: &str, elements: usize, passes: usize, run: impl Fn() -> T) {
        let ms = time(&self.device, run);
        let share = (elements * passes) as f64 / ms / self.copied;
        println!("{name:<40} {ms:>9.3} ms {share:>6.2}");
    }

    fn random<const D: usize>(&self, shape: [usize; D]) -> DispatchTensor {
        Tensor::<D>::random(shape, Distribution::Default, &self.device).into_dispatch()
    }

    fn batch(&self, shape: [usize; 4]) {
        let elements = shape.iter().product();
        let (x, dy) = (self.random(shape), self.random(shape));
        let [scale, shift] = [(); 2].map(|()| self.random([shape[1]]));
        let forward = || {
            let (scale, shift) = (scale.clone(), shift.clone());
            <Dispatch as NormOperations>::channel_norm(x.clone(), scale, shift, 1e-5, RELU)
        };
        let (_, mean, _, r) = forward();
        self.report(&format!("batch norm {shape:?}"), elements, 2, forward);
        self.report("  backward", elements, 3, || {
            let (mean, r) = (mean.clone(), r.clone());
            let (x, dy, scale, shift) = (x.clone(), dy.clone(), scale.clone(), shift.clone());
            <Dispatch as NormOperations>::norm_backward(
                x,
                dy,
                mean,
                r,
                scale,
                shift,
                Normalization::ByBatch(RELU),
            )
        });
    }

    fn rows(&self, name: &str, shape: Rows, statistics: RowStatistics) {
        let size = [shape.count(), shape.row()];
        let (x, dy) = (self.random(size), self.random(size));
        let [scale, shift] = [(); 2].map(|()| self.random([shape.parameters()]));
        let norm = RowNorm {
            shape,
            statistics,
            epsilon: 1e-5,
            activation: RELU,
        };
        let forward = || {
            let (scale, shift) = (scale.clone(), shift.clone());
            <Dispatch as NormOperations>::row_norm(x.clone(), scale, shift, norm)
        };
        let (_, mean, r) = forward();
        let name = format!("{name} {size:?}");
        self.report(&name, shape.len(), 2, forward);
        self.report("  backward", shape.len(), 3, || {
            let (mean, r) = (mean.clone(), r.clone());
            let (x, dy, scale, shift) = (x.clone(), dy.clone(), scale.clone(), shift.clone());
            <Dispatch as NormOperations>::norm_backward(
                x,
                dy,
                mean,
                r,
                scale,
                shift,
                Normalization::ByRows(norm),
            )
        });
    }
}

fn main() {
    let device = Device::default(); // A GPU, where one is compiled in.
    // More than caches hold, less than the 128 MB that a buffer may have everywhere.
    let elements: usize = 24 << 20;
    let x = Tensor::<1>::ones([elements], &device);
    let copy = time(&device, || x.clone().mul_scalar(2.0));
    let copied = (2 * elements) as f64 / copy;
    println!(
        "{device:?}: copy of {elements} f32 {copy:.3} ms, {:.0} GB/s",
        copied * 4e-6
    );
    let bench = Bench { device, copied };

    let dropout = Dropout::new(Key::from_seed(0), 0.5, Scaling::Inverted);
    let x = x.into_dispatch();
    bench.report("dropout", elements, 2, || {
        <Dispatch as MaskOperations>::mask(x.clone(), dropout, 0)
    });
    for shape in [
        [64, 64, 56, 56],
        [128, 64, 28, 28],
        [128, 256, 7, 7],
        [16, 512, 14, 14],
        [4096, 1024, 1, 1],
    ] {
        bench.batch(shape);
    }
    let rows = |examples, groups, channels, positions| Rows {
        examples,
        groups,
        channels,
        positions,
    };
    let (deviation, square) = (RowStatistics::Deviation, RowStatistics::RootMeanSquare);
    bench.rows("layer norm", rows(4096, 1, 768, 1), deviation);
    bench.rows("layer norm", rows(8192, 1, 4096, 1), deviation);
    bench.rows("RMS norm", rows(8192, 1, 4096, 1), square);
    bench.rows("group norm", rows(128, 32, 2, 28 * 28), deviation);
    bench.rows("instance norm", rows(64, 64, 1, 56 * 56), deviation);
}
