//! Every layer on a backend that has no kernels of ours, composed of Burn's operations, against the
//! kernels. Burn's ndarray is deprecated there in favour of Flex; it is what needs no GPU.
#![allow(deprecated)]

mod support;

use burn::tensor::{Device, FloatDType, Tensor};
use evenkeel_nn::{DropoutConfig, Pass};
use support::layers::{Ran, autodiff, input, layers, statistics_after_all_passes};
use support::{assert_near, plain, values};

fn other() -> Device {
    Device::ndarray()
}

#[test]
fn outputs_and_gradients_are_the_kernels() {
    for layer in layers() {
        let run = |device: &Device| {
            let ran = layer.run(input(device), &layer.parameters(device));
            assert_eq!(ran.output.device(), *device);
            ran
        };
        let (found, expected) = (run(&other().autodiff()), run(&autodiff()));
        let Ran {
            output,
            input,
            parameters,
        } = found;
        assert_eq!(output.dims(), expected.output.dims(), "{}", layer.name);
        let near = |what: &str, found: Vec<f32>, expected: Vec<f32>| {
            assert_near(
                &format!("{what} of {}", layer.name),
                &found,
                &expected,
                1e-4,
            );
        };
        near("output", values(output), values(expected.output));
        near("input's gradient", values(input), values(expected.input));
        assert_eq!(parameters.len(), expected.parameters.len());
        for (found, expected) in parameters.into_iter().zip(expected.parameters) {
            near("parameter's gradient", values(found), values(expected));
        }
    }
}

/// Without autodiff too, and with an input of another type than the parameters.
#[test]
fn plain_devices_and_mixed_types() {
    for layer in layers() {
        let expected = values(layer.forward(input(&plain()), &layer.parameters(&plain())));
        let parameters = layer.parameters(&other());
        for dtype in [FloatDType::F32, FloatDType::F64] {
            let y = layer.forward(input(&other()).cast(dtype), &parameters);
            assert_eq!(y.dtype(), dtype.into(), "{}", layer.name);
            assert_near(layer.name, &values(y), &expected, 1e-4);
        }
    }
}

#[test]
fn masks_are_the_same_bits() {
    let dropout = DropoutConfig::new(0.3).init();
    let on = |device: &Device| {
        let ones = Tensor::<2>::ones([33, 17], device);
        values(dropout.forward(ones, &Pass::train(4, 2).scope("drop")))
    };
    assert_eq!(on(&other()), on(&plain()));
}

#[test]
fn running_statistics_follow_all_passes() {
    let [found, expected] = [other(), plain()].map(|device| statistics_after_all_passes(&device));
    for ((mean, var, batches), expected) in found.into_iter().zip(expected) {
        assert_near("mean", &mean, &expected.0, 1e-5);
        assert_near("var", &var, &expected.1, 1e-5);
        assert_eq!(batches, expected.2);
    }
}
