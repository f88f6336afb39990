//! A dense net of one's own on two spirals: batch norm with a fused ReLU, dropout, weight decay by
//! role, and what each mode of the pass does.
//!
//! `cargo run --release -p evenkeel --example spirals`

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::softmax};
use evenkeel::nn::{
    Activation, BatchNorm, BatchNormConfig, Decay, Dropout, DropoutConfig, Pass, WeightDecay,
    cross_entropy, initialize,
};
use evenkeel_random::Key;

#[global_allocator]
static ALLOCATOR: evenkeel_allocator::MiMalloc = evenkeel_allocator::MiMalloc;

#[derive(Module, Debug)]
struct Net {
    hidden: Vec<(Linear, BatchNorm)>,
    dropout: Dropout,
    head: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        // Without a bias: the norm's shift replaces it.
        let layer = |(inputs, outputs)| {
            let linear = LinearConfig::new(inputs, outputs)
                .with_bias(false)
                .init(device);
            let norm = BatchNormConfig::new(outputs)
                .with_activation(Activation::Relu)
                .init(device);
            (linear, norm)
        };
        Self {
            hidden: [(2, 64), (64, 64)].map(layer).into(),
            dropout: DropoutConfig::new(0.1).init(),
            head: LinearConfig::new(64, 2).init(device),
        }
    }

    fn forward(&self, mut x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        for (linear, norm) in &self.hidden {
            x = self
                .dropout
                .forward(norm.forward(linear.forward(x), pass), pass);
        }
        self.head.forward(x)
    }
}

/// Points on two spirals, and which of them.
fn spirals(count: usize, seed: u64, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    let mut draws = Key::from_seed(seed).draws();
    let (mut points, mut labels) = (Vec::new(), Vec::new());
    for i in 0..count {
        let turn = draws.uniform() * 3.0;
        let angle = std::f64::consts::PI * (turn + (i % 2) as f64);
        let mut place = |side: f64| (turn * side / 3.0 + 0.03 * draws.normal()) as f32;
        points.extend([place(angle.cos()), place(angle.sin())]);
        labels.push((i % 2) as i64);
    }
    let points = Tensor::from_data(TensorData::new(points, [count, 2]), device);
    (
        points,
        Tensor::from_data(TensorData::new(labels, [count]), device),
    )
}

fn accuracy(probabilities: Tensor<2>, labels: &Tensor<1, Int>) -> f32 {
    let right = probabilities
        .argmax(1)
        .squeeze_dim::<1>(1)
        .equal(labels.clone());
    right.float().mean().into_scalar::<f32>()
}

fn main() {
    // In one's own program: `evenkeel::allocator`, a feature.
    evenkeel_allocator::keep_freed_memory();
    // This thread computes too, instead of sleeping while rayon's others do.
    let pool = rayon::ThreadPoolBuilder::new().use_current_thread();
    pool.build_global().expect("the first pool");

    let device = Device::flex().autodiff();
    let (x, labels) = spirals(512, 1, &device);
    let mut net = initialize(Net::new(&device), 0);
    let decay = WeightDecay::new(Decay::Decoupled { strength: 0.01 });
    for line in decay.describe(&net) {
        println!("{line}");
    }
    let mut optimizer = AdamWConfig::new().with_weight_decay(0.0).init();
    for step in 0..300 {
        let pass = Pass::train(0, step);
        let loss = cross_entropy(net.forward(x.clone(), &pass), labels.clone(), 0.05);
        if step % 100 == 0 {
            println!("step {step}: loss {:.3}", loss.clone().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        net = optimizer.step(0.01, decay.shrink(net, 0.01), gradients);
    }

    let net = net.valid();
    let (x, labels) = spirals(1000, 2, &Device::flex());
    let test = softmax(net.forward(x.clone(), &Pass::test()), 1);
    println!("test accuracy {:.3}", accuracy(test, &labels));
    // Dropout's average by hand: the mean over many masks, on a plain device.
    let draws = 32;
    let mean = (0..draws)
        .map(|draw| softmax(net.forward(x.clone(), &Pass::monte_carlo(0, draw)), 1))
        .reduce(|sum, draw| sum + draw)
        .expect("at least one draw");
    println!(
        "mean over {draws} masks {:.3}",
        accuracy(mean / draws as f32, &labels)
    );
}
