//! How much memory training steps of the reference nets take: `experiments/memory` tells what it was run for.
//!
//! `step_memory convnet|resnet18 BATCH` takes ten steps and prints by how much the process's memory grew: the most
//! over what there was before the first step, net and batch included.

use std::fs;

use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use evenkeel_lab::data::Kind;
use evenkeel_lab::model::{ModelRecipe, Stem};
use evenkeel_nn::{NormKind, Pass, cross_entropy};

#[global_allocator]
static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    evenkeel_allocator::keep_freed_memory();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, batch] = &args[..] else {
        return Err("expected convnet or resnet18, and a batch size".into());
    };
    let batch: usize = batch.parse()?;
    let (recipe, [channels, height, width]) = match name.as_str() {
        "convnet" => (
            ModelRecipe::Convnet {
                widths: vec![32, 64, 64, 128],
                pool_after: vec![1, 2],
                norm: NormKind::Batch,
                dropout: 0.0,
                activation: Default::default(),
                dense: 0,
                drop_connect: 0.0,
            },
            [1, 28, 28],
        ),
        "resnet18" => (
            ModelRecipe::Resnet18 {
                width: 64,
                stem: Stem::Small,
                norm: NormKind::Batch,
                dropout: 0.0,
            },
            [3, 32, 32],
        ),
        other => return Err(format!("expected convnet or resnet18, found {other}").into()),
    };
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2);
    threads.build_global()?;
    let device = Device::flex().autodiff();
    let kind = Kind::Images {
        height,
        width,
        channels,
    };
    let mut model = recipe.build(&kind, 10, &device)?;
    let momentum = MomentumConfig::new().with_dampening(0.0);
    let mut optimizer = SgdConfig::new().with_momentum(Some(momentum)).init();
    let normal = Distribution::Normal(0.0, 1.0);
    let x = Tensor::<2>::random([batch, channels * height * width], normal, &device);
    let labels: Vec<i64> = (0..batch as i64).map(|i| i % 10).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [batch]), &device);
    let before = kilobytes("VmRSS")?;
    for step in 0..10 {
        let logits = model.forward(x.clone(), &Pass::train(0, step));
        let loss = cross_entropy(logits, labels.clone(), 0.0);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.01, model, gradients);
    }
    let grown = kilobytes("VmHWM")?.saturating_sub(before) / 1024;
    println!("{name}, batch {batch}: {grown} MiB");
    Ok(())
}

/// Of this process, as Linux tells it.
fn kilobytes(what: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(what));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.ok_or("/proc/self/status tells no memory")?.parse()?)
}
