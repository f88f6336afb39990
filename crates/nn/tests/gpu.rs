//! The kernels on a GPU (or Mesa's software Vulkan) against those on the CPU, for every layer.
//!
//! Statistics are `f32` there and `f64` here, sums are added in another order, and products and sums
//! may be contracted: results agree within 10⁻⁴ of the largest value, masks agree bit for bit.

#[path = "support/gpu.rs"]
mod gpu;
mod support;

use burn::tensor::{Device, Tensor};
use evenkeel_nn::{DropPathConfig, DropoutConfig, Pass, SpatialDropoutConfig};
use support::layers::{Ran, input, layers};
use support::{plain, values};

/// Within `tolerance` of the largest value; not a number where the other is not, and infinities the
/// same.
#[track_caller]
fn assert_agree(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let finite = expected.iter().filter(|value| value.is_finite());
    let largest = finite.fold(1.0, |largest: f32, value| largest.max(value.abs()));
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let agree = if expected.is_finite() {
            (found - expected).abs() <= tolerance * largest
        } else {
            found == expected || (found.is_nan() && expected.is_nan())
        };
        assert!(agree, "{what}[{i}]: {found}, expected {expected}");
    }
}

#[test]
fn every_layer_forward_and_backward() {
    let Some(device) = gpu::device("every_layer_forward_and_backward") else {
        return;
    };
    for layer in layers() {
        let run = |device: &Device| {
            let ran = layer.run(input(device), &layer.parameters(device));
            assert_eq!(ran.output.device(), *device);
            ran
        };
        let (found, expected) = (run(&device.clone().autodiff()), run(&plain().autodiff()));
        let Ran {
            output,
            input,
            parameters,
        } = found;
        let near = |what: &str, found: Vec<f32>, expected: Vec<f32>| {
            assert_agree(
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

/// Odd sizes, and more than a grid's dimension has cubes or 2¹⁶ has elements.
#[test]
fn masks_are_the_same_bits() {
    let Some(device) = gpu::device("masks_are_the_same_bits") else {
        return;
    };
    for size in [1, 2, 3, 4, 5, 7, 561, 1024, 65_543, 65_544, 20_000_002] {
        for prob in [0.3, 1.0] {
            let dropout = DropoutConfig::new(prob).init();
            let on = |device: &Device| {
                let x = Tensor::<1>::ones([size], device);
                let y = dropout.forward(x, &Pass::train(4, 2).scope("drop"));
                y.into_data()
            };
            assert!(on(&device) == on(&plain()), "{size} elements, prob {prob}");
        }
    }
}

/// Channels and examples of odd and even sizes, shorter than a vector and longer than a cube.
#[test]
fn masks_over_runs_are_the_same_bits() {
    let Some(device) = gpu::device("masks_over_runs_are_the_same_bits") else {
        return;
    };
    for shape in [
        [1, 1, 1, 1],
        [7, 5, 1, 2],
        [3, 6, 1, 3],
        [33, 17, 2, 2],
        [2, 9, 5, 7],
        [3, 5, 64, 66],
    ] {
        let on = |device: &Device| {
            let x = || Tensor::<4>::ones(shape, device);
            let pass = Pass::train(4, 2).scope("drop");
            let spatial = SpatialDropoutConfig::new(0.3).init();
            let path = DropPathConfig::new(0.3).init();
            [
                spatial.forward(x(), &pass),
                path.forward(x(), &pass),
                path.forward_add(x(), x(), &pass),
            ]
            .map(Tensor::into_data)
        };
        assert!(on(&device) == on(&plain()), "{shape:?}");
    }
}
