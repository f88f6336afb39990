//! What the tests of the layers share.
#![allow(dead_code)] // Each test file uses a part of it.

pub mod layers;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device, Tensor, TensorData};
use evenkeel_nn::{BatchNorm, BatchNormConfig};

/// The CPU without autodiff.
pub fn plain() -> Device {
    Device::flex()
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().iter::<f32>().collect()
}

/// Standard normal values, the same ones at each call.
pub fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    random_of(9, shape, device)
}

/// Standard normal values of this seed.
pub fn random_of<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut draws = evenkeel_random::Key::from_seed(seed).draws();
    let numbers = (0..shape.iter().product())
        .map(|_| draws.normal() as f32)
        .collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

/// What this panics with.
pub fn message(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("should panic");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a message")).to_owned(),
    }
}

/// A batch norm of two channels.
pub fn norm(device: &Device) -> BatchNorm {
    BatchNormConfig::new(2).init(device)
}

/// The running mean and variance.
pub fn running(norm: &BatchNorm) -> (Vec<f32>, Vec<f32>) {
    (
        values(norm.running_mean.get(&plain())),
        values(norm.running_var.get(&plain())),
    )
}

/// How many batches the running statistics have seen.
pub fn tracked(norm: &BatchNorm) -> i64 {
    norm.num_batches_tracked.get(&plain()).into_scalar::<i64>()
}

#[track_caller]
pub fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * (1.0 + expected.abs()),
            "{what}[{i}]: {found}, expected {expected}"
        );
    }
}
