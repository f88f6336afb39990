use burn::nn::BatchNormConfig;
use burn::tensor::{Device, Tensor};

fn main() {
    let device = Device::flex().autodiff();
    let norm = BatchNormConfig::new(1).init(&device);
    let copy = norm.clone();
    norm.forward(Tensor::<2>::from_data([[10.0], [20.0]], &device));
    norm.running_mean.value_sync();
    let mean: f32 = copy.running_mean.value_sync().into_scalar();
    println!("the untouched clone's running mean: {mean}, expected 0");
    std::process::exit((mean != 0.0).into());
}
