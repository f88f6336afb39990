//! One way to time, and the nets and layers that are timed.
#![allow(dead_code, reason = "the two benches use different parts")]

mod burn_nets;
mod given;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::nn::conv::Conv2dConfig;
use burn::nn::{self, LinearConfig, PaddingConfig2d};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use evenkeel_augment::{
    AugmentedImages, Cutout, Error, HorizontalFlip, Image, ImageSource, Loader, LoaderOptions,
    Normalize, Operation, PadMode, Pipeline, RandomCrop, Size, Sizes,
};
use evenkeel_lab::data::Kind;
use evenkeel_lab::model::{Model, ModelRecipe, Stem};
use evenkeel_nn::{
    BatchNormConfig, DropConnectLinearConfig, DropoutConfig, GroupNormConfig, InstanceNormConfig,
    LayerNormConfig, NormKind, Pass, RmsNormConfig, SpatialDropoutConfig, cross_entropy,
};
use serde_json::json;

use burn_nets::{BurnNet, BurnResNet, POOL_AFTER, WIDTHS};
use given::receive;

/// Whether the command line asks for this operation: no word after the bench's name asks for all.
fn wanted(op: &str) -> bool {
    let mut words = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .peekable();
    words.peek().is_none() || words.any(|word| op.contains(&word))
}

/// What runs before anything counts: a process, and a processor, are slow at first.
const WARM_UP: Duration = Duration::from_millis(200);

/// Warms up, repeats, and returns the times of each part in milliseconds, sorted.
fn measure<const PARTS: usize>(
    repeats: usize,
    mut run: impl FnMut() -> [Duration; PARTS],
) -> [Vec<f64>; PARTS] {
    let start = Instant::now();
    let mut runs = 0;
    while runs < 3 || start.elapsed() < WARM_UP {
        run();
        runs += 1;
    }
    let mut times = [const { Vec::new() }; PARTS];
    for _ in 0..repeats {
        for (times, time) in times.iter_mut().zip(run()) {
            times.push(time.as_secs_f64() * 1e3);
        }
    }
    times.each_mut().map(|times| {
        times.sort_by(f64::total_cmp);
        std::mem::take(times)
    })
}

fn report(op: &str, shape: &[usize], peer: &str, times: &[f64]) {
    let line = json!({
        "op": op, "shape": shape, "peer": peer,
        "ms": times[times.len() / 2], "min_ms": times[0], "n": times.len(),
    });
    println!("{line}");
}

fn device() -> Device {
    Device::flex().autodiff()
}

/// Forward and backward of one layer. It gets a copy of the input that is its own, and the gradient that reaches it is
/// ones, as in the peers' scripts.
fn layer<const D: usize>(
    op: &str,
    shape: [usize; D],
    peer: &str,
    forward: impl Fn(Tensor<D>) -> Tensor<D>,
) {
    if !wanted(op) {
        return;
    }
    let x = Tensor::<D>::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex());
    let [forwards, backwards] = measure(15, || {
        let leaf = Tensor::from_inner(x.clone().mul_scalar(1.0)).require_grad();
        let start = Instant::now();
        let y = forward(leaf);
        let forward = start.elapsed();
        let gradient = Tensor::ones(y.shape(), &y.device());
        let root = receive(y.clone(), gradient, Tensor::ones([1], &device()));
        let start = Instant::now();
        black_box(root.backward());
        [forward, start.elapsed()]
    });
    report(&format!("{op}/forward"), &shape, peer, &forwards);
    report(&format!("{op}/backward"), &shape, peer, &backwards);
}

/// Channels in and out, and the side, of the reference net's 3×3 convolutions.
const CONVOLUTIONS: [[usize; 3]; 4] = [[1, 32, 28], [32, 64, 28], [64, 64, 14], [64, 128, 7]];

/// Each with the gradients by input and weight.
fn convolutions(ours: &str, burns: &str) {
    for [channels_in, channels_out, side] in CONVOLUTIONS {
        let (op, shape) = (
            format!("conv_3x3_to_{channels_out}"),
            [128, channels_in, side, side],
        );
        let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
        let conv = evenkeel_nn::Conv2dConfig::new([channels_in, channels_out], [3, 3])
            .with_padding(padding.clone())
            .with_bias(false)
            .init(&device());
        layer(&op, shape, ours, |x| conv.forward(x));
        let conv = Conv2dConfig::new([channels_in, channels_out], [3, 3])
            .with_padding(padding)
            .with_bias(false)
            .init(&device());
        layer(&op, shape, burns, |x| conv.forward(x));
    }
}

const IMAGE_SHAPES: [[usize; 4]; 4] = [
    [64, 64, 56, 56],
    [128, 64, 28, 28],
    [128, 256, 7, 7],
    [16, 512, 14, 14],
];

pub fn layers(allocator: &str) {
    let (ours, burns) = (
        format!("evenkeel, {allocator}"),
        format!("burn, {allocator}"),
    );
    convolutions(&ours, &burns);
    let pass = Pass::train(0, 0);
    for shape in IMAGE_SHAPES {
        let norm = BatchNormConfig::new(shape[1]).init(&device());
        layer("batch_norm", shape, &ours, |x| norm.forward(x, &pass));
        let norm = nn::BatchNormConfig::new(shape[1]).init(&device());
        layer("batch_norm", shape, &burns, |x| norm.forward(x));
        let norm = GroupNormConfig::new(32, shape[1]).init(&device());
        layer("group_norm_32", shape, &ours, |x| norm.forward(x, &pass));
        let norm = nn::GroupNormConfig::new(32, shape[1]).init(&device());
        layer("group_norm_32", shape, &burns, |x| norm.forward(x));
        let config = InstanceNormConfig::new(shape[1]).with_affine(true);
        let norm = config.init(&device());
        layer("instance_norm", shape, &ours, |x| norm.forward(x, &pass));
        let norm = nn::InstanceNormConfig::new(shape[1]).init(&device());
        layer("instance_norm", shape, &burns, |x| norm.forward(x));
    }
    for shape in [[32, 128, 768], [8, 1024, 1024]] {
        let norm = LayerNormConfig::new(shape[2]).init(&device());
        layer("layer_norm", shape, &ours, |x| norm.forward(x, &pass));
        let norm = nn::LayerNormConfig::new(shape[2]).init(&device());
        layer("layer_norm", shape, &burns, |x| norm.forward(x));
        let norm = RmsNormConfig::new(shape[2]).init(&device());
        layer("rms_norm", shape, &ours, |x| norm.forward(x, &pass));
        let norm = nn::RmsNormConfig::new(shape[2]).init(&device());
        layer("rms_norm", shape, &burns, |x| norm.forward(x));
    }
    for shape in [[4096, 1024], [256, 256]] {
        let norm = BatchNormConfig::new(shape[1]).init(&device());
        layer("batch_norm", shape, &ours, |x| norm.forward(x, &pass));
        let norm = nn::BatchNormConfig::new(shape[1]).init(&device());
        layer("batch_norm", shape, &burns, |x| norm.forward(x));
    }
    for shape in IMAGE_SHAPES {
        let dropout = DropoutConfig::new(0.5).init();
        layer("dropout_0.5", shape, &ours, |x| dropout.forward(x, &pass));
        let dropout = SpatialDropoutConfig::new(0.5).init();
        layer("dropout2d_0.5", shape, &ours, |x| dropout.forward(x, &pass));
        let dropout = nn::DropoutConfig::new(0.5).init();
        layer("dropout_0.5", shape, &burns, |x| dropout.forward(x));
    }
    // Beside the plain linear layer, which is Burn's in both.
    let shape = [256, 1024];
    let linear = DropConnectLinearConfig::new(1024, 1024, 0.5).init(&device());
    layer("drop_connect_linear", shape, &ours, |x| {
        linear.forward(x, &pass)
    });
    let linear = LinearConfig::new(1024, 1024).init(&device());
    layer("drop_connect_linear", shape, &burns, |x| linear.forward(x));
}

/// A training step of `model` on a batch of images of so many values, each call one, as a time.
fn stepper<M: Module>(
    model: M,
    [batch, values]: [usize; 2],
    forward: impl Fn(&M, Tensor<2>) -> Tensor<2>,
) -> impl FnMut() -> Duration {
    let momentum = MomentumConfig::new().with_dampening(0.0);
    let mut optimizer = SgdConfig::new().with_momentum(Some(momentum)).init();
    let x = Tensor::<2>::random([batch, values], Distribution::Normal(0.0, 1.0), &device());
    let labels: Vec<i64> = (0..batch as i64).map(|i| i % 10).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [batch]), &device());
    let mut model = Some(model);
    move || {
        let start = Instant::now();
        let net = model.take().expect("put back below");
        let loss = cross_entropy(forward(&net, x.clone()), labels.clone(), 0.0);
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        model = Some(optimizer.step(0.01, net, gradients));
        start.elapsed()
    }
}

fn images([channels, height, width]: [usize; 3]) -> Kind {
    Kind::Images {
        height,
        width,
        channels,
    }
}

fn convnet(device: &Device) -> Model {
    let recipe = ModelRecipe::Convnet {
        widths: WIDTHS.to_vec(),
        pool_after: POOL_AFTER.to_vec(),
        norm: NormKind::Batch,
        dropout: 0.0,
        activation: Default::default(),
        dense: 0,
        drop_connect: 0.0,
    };
    let model = recipe.build(&images([1, 28, 28]), 10, device);
    model.expect("the net fits the images")
}

fn forward_in_training(model: &Model, x: Tensor<2>) -> Tensor<2> {
    model.forward(x, &Pass::train(0, 0))
}

/// The same net with our layers and with Burn's, a step of each in turn: the machine's moods meet
/// both.
pub fn training_step(allocator: &str) {
    if !wanted("train_step") {
        return;
    }
    for batch in [128, 8] {
        let size = [batch, 28 * 28];
        let mut ours = stepper(convnet(&device()), size, forward_in_training);
        let mut burns = stepper(BurnNet::new(&device()), size, BurnNet::forward);
        let [ours, burns] = measure(15, || [ours(), burns()]);
        let shape = [batch, 1, 28, 28];
        for (peer, times) in [("evenkeel", ours), ("burn", burns)] {
            let peer = format!("{peer}, {allocator}");
            report("train_step/convnet", &shape, &peer, &times);
        }
    }
    let recipe = ModelRecipe::Resnet18 {
        width: 64,
        stem: Stem::Small,
        norm: NormKind::Batch,
        dropout: 0.0,
    };
    let model = recipe.build(&images([3, 32, 32]), 10, &device());
    let model = model.expect("the net fits the images");
    let size = [64, 3 * 32 * 32];
    let mut ours = stepper(model, size, forward_in_training);
    let mut burns = stepper(BurnResNet::new(&device()), size, BurnResNet::forward);
    let [ours, burns] = measure(7, || [ours(), burns()]);
    for (peer, times) in [("evenkeel", ours), ("burn", burns)] {
        let peer = format!("{peer}, {allocator}");
        report("train_step/resnet18", &[64, 3, 32, 32], &peer, &times);
    }
}

/// Predictions of the trained net, with our layers and with Burn's.
pub fn inference(allocator: &str) {
    if !wanted("infer") {
        return;
    }
    let device = Device::flex();
    let (ours, burns) = (convnet(&device), BurnNet::new(&device));
    for batch in [128, 8] {
        let normal = Distribution::Normal(0.0, 1.0);
        let x = Tensor::<2>::random([batch, 28 * 28], normal, &device);
        let time = |forward: &dyn Fn(Tensor<2>) -> Tensor<2>| {
            let start = Instant::now();
            black_box(forward(x.clone()));
            start.elapsed()
        };
        let [ours, burns] = measure(15, || {
            [
                time(&|x| ours.forward(x, &Pass::test())),
                time(&|x| burns.forward(x)),
            ]
        });
        let shape = [batch, 1, 28, 28];
        for (peer, times) in [("evenkeel", ours), ("burn", burns)] {
            let peer = format!("{peer}, {allocator}");
            report("infer/convnet", &shape, &peer, &times);
        }
    }
}

const IMAGES: usize = 10_000;
const SIDE: usize = 28;

struct Pictures(Vec<u8>);

impl ImageSource for Pictures {
    fn len(&self) -> usize {
        IMAGES
    }

    fn sizes(&self) -> Sizes {
        Size::new(SIDE, SIDE).into()
    }

    fn channels(&self) -> usize {
        1
    }

    fn read(&self, index: usize, mut memory: Vec<u8>) -> Result<Image, Error> {
        let bytes = SIDE * SIDE;
        memory.extend_from_slice(&self.0[index * bytes..][..bytes]);
        Image::new(SIDE, SIDE, 1, memory)
    }

    fn label(&self, index: usize) -> u32 {
        index as u32 % 10
    }
}

/// Flip, crop after padding by 2, cutout of 8, conversion: images a second on one core.
pub fn loader() {
    if !wanted("loader") {
        return;
    }
    let pipeline = Pipeline {
        operations: vec![
            Operation::HorizontalFlip(HorizontalFlip { probability: 0.5 }),
            Operation::RandomCrop(RandomCrop {
                height: SIDE,
                width: SIDE,
                padding: 2,
                mode: PadMode::Constant(0),
            }),
            Operation::Cutout(Cutout {
                size: 8,
                count: 1,
                fill: 0,
                probability: 1.0,
            }),
        ],
        normalize: Normalize {
            mean: vec![0.3],
            std: vec![0.3],
        },
        exact: false,
    };
    let pixels = (0..IMAGES * SIDE * SIDE).map(|i| (i % 251) as u8).collect();
    let examples = AugmentedImages::new(Pictures(pixels), &pipeline, 0).expect("it fits");
    let options = LoaderOptions {
        batch_size: 128,
        workers: 0,
        prefetch: 0,
        shuffle: Some(0),
        drop_last: false,
    };
    let loader = Loader::new(Arc::new(examples), options).expect("valid settings");
    let [times] = measure(9, || {
        let start = Instant::now();
        black_box(loader.epoch(0, 0).count());
        [start.elapsed()]
    });
    let median = times[times.len() / 2];
    let line = json!({
        "op": "loader/flip+crop+cutout", "shape": [IMAGES, 1, SIDE, SIDE],
        "peer": "evenkeel, one core", "ms": median, "img_per_s": IMAGES as f64 / median * 1e3,
    });
    println!("{line}");
}
