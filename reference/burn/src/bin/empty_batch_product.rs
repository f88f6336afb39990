//! Burn 0.22.1 on `Device::flex()`: the product of an empty batch of matrices with one matrix, which is
//! broadcast, ends in a segmentation fault. So does `Linear` on an input of rank 3 without examples.
//! (Without broadcasting, and at rank 2, it gives an empty result as it should.)

use burn::nn::LinearConfig;
use burn::tensor::{Device, Tensor};

fn main() {
    let device = Device::flex();
    let empty = Tensor::<3>::ones([0, 2, 6], &device);
    // Either line alone is enough.
    println!("{:?}", empty.clone().matmul(Tensor::<3>::ones([1, 6, 5], &device)).dims());
    println!("{:?}", LinearConfig::new(6, 5).init(&device).forward(empty).dims());
}
