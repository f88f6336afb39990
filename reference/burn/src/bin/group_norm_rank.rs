use burn::nn::GroupNormConfig;
use burn::tensor::{Device, Tensor};

fn main() {
    let device = Device::flex();
    let norm = GroupNormConfig::new(1, 2).init(&device);
    let x = Tensor::<3>::ones([1, 2, 1], &device);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| norm.forward(x).dims()));
    println!("a group norm of [1, 2, 1]: {result:?}, expected the same shape");
    std::process::exit(result.is_err().into());
}
