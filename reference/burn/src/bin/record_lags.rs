use burn::module::Module;
use burn::nn::BatchNormConfig;
use burn::tensor::{Device, Tensor};

fn main() {
    let device = Device::flex().autodiff();
    let config = BatchNormConfig::new(1);
    let norm = config.init(&device);
    norm.forward(Tensor::<2>::from_data([[10.0], [20.0]], &device));
    let loaded = config.init(&device).load_record(norm.clone().into_record());
    let mean: f32 = loaded.running_mean.value_sync().into_scalar();
    println!("running mean in the record: {mean}, expected 1.5");
    std::process::exit((mean != 1.5).into());
}
