use burn::nn::BatchNormConfig;
use burn::tensor::{Device, Distribution, Tensor};

fn main() {
    let device = Device::flex().autodiff();
    device.seed(0);
    let norm = BatchNormConfig::new(1).with_momentum(0.01).init(&device);
    for _ in 0..3000 {
        norm.forward(Tensor::<2>::random([2, 1], Distribution::Normal(0.0, 1.0), &device));
    }
    let variance: f32 = norm.running_var.value_sync().into_scalar();
    println!("batches of two from a normal distribution of variance 1: running variance {variance}, expected 1");
    std::process::exit((variance < 0.75).into());
}
