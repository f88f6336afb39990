//! The kernels on a GPU (or Mesa's software Vulkan) against those on the CPU, for every layer.
//!
//! Statistics are `f32` there and `f64` here, sums are added in another order, and products and sums
//! may be contracted: results agree within 10⁻⁴ of the largest value, masks agree bit for bit.

#[path = "support/gpu.rs"]
mod gpu;
mod support;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use evenkeel_nn::{
    Activation, BatchNormConfig, DropBlockConfig, DropConnectLinearConfig, DropPathConfig,
    DropoutConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Pass, RmsNormConfig,
    ShakeShakeConfig, Sharing, SpatialDropoutConfig,
};
use support::layers::{Ran, SHAPE, input, layers, statistics_after_all_passes};
use support::{plain, random_of, values};

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

/// The same tensor elsewhere.
fn on<const D: usize>(device: &Device, tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_data(tensor.to_data(), device)
}

/// Output and gradients by input and parameters, of a smooth gradient of the output.
fn run<const D: usize>(
    x: Tensor<D>,
    parameters: usize,
    layer: impl Fn(Tensor<D>, &[Tensor<1>]) -> Tensor<D>,
) -> Vec<Vec<f32>> {
    let device = x.device();
    let x = x.detach().require_grad();
    let parameters: Vec<_> = (20..22)
        .filter(|_| parameters > 0)
        .map(|seed| random_of(seed, [parameters], &device).require_grad())
        .collect();
    let y = layer(x.clone(), &parameters);
    let dy = random_of(8, y.dims(), &device).sin();
    let gradients = (y.clone() * dy).sum().backward();
    let mut all = vec![values(y), values(x.grad(&gradients).unwrap())];
    let by_parameters = parameters.iter().filter_map(|p| p.grad(&gradients));
    all.extend(by_parameters.map(values));
    all
}

#[track_caller]
fn assert_as_on_the_cpu<const D: usize>(
    device: &Device,
    what: &str,
    x: Tensor<D>,
    parameters: usize,
    layer: impl Fn(Tensor<D>, &[Tensor<1>]) -> Tensor<D>,
) {
    let expected = run(on(&plain().autodiff(), &x), parameters, &layer);
    let found = run(on(&device.clone().autodiff(), &x), parameters, &layer);
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let part = ["output", "dx", "dscale", "dshift"][i];
        assert_agree(
            &format!("{what} {:?} {part}", x.dims()),
            found,
            expected,
            1e-4,
        );
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

fn param(value: &Tensor<1>) -> Option<Param<Tensor<1>>> {
    let id = ParamId::new();
    Some(Param::initialized(id, value.clone()))
}

fn batch_norm<const D: usize>(
    channels: usize,
    pass: Pass,
) -> impl Fn(Tensor<D>, &[Tensor<1>]) -> Tensor<D> {
    move |x, parameters| {
        let config = BatchNormConfig::new(channels).with_activation(Activation::Relu);
        let mut norm = config.init(&x.device());
        norm.weight = param(&parameters[0]);
        norm.bias = param(&parameters[1]);
        norm.forward(x, &pass)
    }
}

/// One or several cubes a channel, vectors or single elements, slabs or columns, odd or even.
#[test]
fn batch_norm_in_all_shapes() {
    let Some(device) = gpu::device("batch_norm_in_all_shapes") else {
        return;
    };
    let check = |x: Tensor<4>| {
        let channels = x.dims()[1];
        for (name, pass) in [("training", Pass::train(0, 0)), ("test", Pass::test())] {
            let what = format!("batch norm, {name},");
            assert_as_on_the_cpu(
                &device,
                &what,
                x.clone(),
                channels,
                batch_norm(channels, pass),
            );
        }
    };
    for shape in [
        [2, 1, 1, 1],
        [5, 7, 1, 1],
        [300, 37, 1, 1],
        [3000, 20, 1, 1],
        [2, 200, 1, 1],
        [7, 3, 2, 2],
        [400, 5, 3, 5],
        [3, 5, 7, 9],
        [2, 3, 4, 4],
        [1, 2, 129, 131],
        [16, 3, 64, 64],
        [70, 33, 5, 4],
    ] {
        check(random_of(1, shape, &plain()) * 2.0 + 3.0);
    }
}

#[test]
fn norms_by_rows_in_all_shapes() {
    let Some(device) = gpu::device("norms_by_rows_in_all_shapes") else {
        return;
    };
    for [rows, length] in [
        [1, 1],
        [9, 1],
        [7, 3],
        [5, 33],
        [3, 1000],
        [2000, 8],
        [300, 768],
        [3, 4099],
        [2, 20_000],
        [2, 16_387],
    ] {
        let x = random_of(2, [rows, length], &plain()) * 2.0 + 3.0;
        let config = LayerNormConfig::new(length).with_activation(Activation::Relu);
        assert_as_on_the_cpu(&device, "layer norm", x.clone(), length, |x, parameters| {
            let mut norm = config.init(&x.device());
            norm.weight = param(&parameters[0]);
            norm.bias = param(&parameters[1]);
            norm.forward(x, &Pass::test())
        });
        let config = RmsNormConfig::new(length);
        assert_as_on_the_cpu(&device, "RMS norm", x, length, |x, parameters| {
            let mut norm = config.init(&x.device());
            norm.weight = param(&parameters[0]);
            norm.forward(x, &Pass::test())
        });
    }
    for (shape, groups) in [
        ([2, 4, 3, 3], 2),
        ([3, 6, 1, 1], 2),
        ([3, 8, 1, 1], 8),
        ([3, 6, 2, 2], 3),
        ([2, 8, 64, 64], 2),
        ([1, 4, 150, 151], 1),
        ([2, 2, 130, 130], 2),
        ([40, 12, 5, 5], 4),
    ] {
        let x = random_of(3, shape, &plain()) * 2.0 + 3.0;
        let channels = shape[1];
        let config = GroupNormConfig::new(groups, channels).with_activation(Activation::Relu);
        assert_as_on_the_cpu(
            &device,
            "group norm",
            x.clone(),
            channels,
            |x, parameters| {
                let mut norm = config.init(&x.device());
                norm.weight = param(&parameters[0]);
                norm.bias = param(&parameters[1]);
                norm.forward(x, &Pass::test())
            },
        );
        if shape[2] * shape[3] == 1 {
            continue; // A deviation of one value is refused.
        }
        assert_as_on_the_cpu(&device, "instance norm", x, 0, |x, _| {
            let norm = InstanceNormConfig::new(channels).init(&x.device());
            norm.forward(x, &Pass::test())
        });
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

/// Blocks of one element, several, and as large as the map; none and all dropped.
#[test]
fn masks_of_blocks_are_the_same_bits() {
    let Some(device) = gpu::device("masks_of_blocks_are_the_same_bits") else {
        return;
    };
    for shape in [[1, 1, 1, 1], [2, 3, 5, 7], [3, 2, 8, 8], [16, 33, 13, 14]] {
        for block_size in [1, 2, 3, 7] {
            for prob in [0.001, 0.1, 0.6, 1.0] {
                let on = |device: &Device| {
                    let x = Tensor::<4>::ones(shape, device);
                    let blocks = DropBlockConfig::new(prob).with_block_size(block_size);
                    let pass = Pass::train(4, 2).scope("drop");
                    blocks.init().forward(x, &pass).into_data()
                };
                let what = format!("{shape:?}, blocks of {block_size}, prob {prob}");
                assert!(on(&device) == on(&plain()), "{what}");
            }
        }
    }
}

/// Masks of weights, an example each, whose numbers of elements are whole Philox blocks or not; and shares.
#[test]
fn noise_by_examples() {
    let Some(device) = gpu::device("noise_by_examples") else {
        return;
    };
    for [examples, inputs, outputs] in [[1, 4, 8], [5, 3, 5], [7, 8, 6]] {
        let x = random_of(5, [examples, inputs], &plain());
        let weight = random_of::<2>(6, [inputs, outputs], &plain());
        assert_as_on_the_cpu(&device, "DropConnect", x.clone(), 0, |x, _| {
            let config = DropConnectLinearConfig::new(inputs, outputs, 0.4);
            let config = config.with_sharing(Sharing::Example).with_bias(false);
            let mut linear = config.init(&x.device());
            let data = weight.clone().into_data();
            linear.weight = Param::from_tensor(Tensor::from_data(data, &x.device()));
            linear.forward(x, &Pass::train(4, 2))
        });
        for sharing in [Sharing::Example, Sharing::Batch] {
            assert_as_on_the_cpu(&device, "shake-shake", x.clone(), 0, |x, _| {
                let shake = ShakeShakeConfig::new().with_sharing(sharing).init();
                shake.forward(x.clone() * 2.0, x, &Pass::train(4, 2))
            });
        }
    }
}

/// A dropped NaN is NaN, as a product with 0 is.
#[test]
fn what_is_not_a_number_stays_so() {
    let Some(device) = gpu::device("what_is_not_a_number_stays_so") else {
        return;
    };
    let with = |values: &[(usize, f32)]| {
        let mut numbers: Vec<f32> = random_of::<1>(4, [2 * 3 * 40], &plain())
            .into_data()
            .iter::<f32>()
            .collect();
        for &(i, value) in values {
            numbers[i] = value;
        }
        Tensor::<4>::from_data(TensorData::new(numbers, [2, 3, 5, 8]), &plain())
    };
    for special in [
        vec![(3, f32::NAN), (50, 1.0)],
        vec![(0, f32::INFINITY)],
        vec![(0, f32::NEG_INFINITY), (9, f32::INFINITY)],
        vec![(17, f32::INFINITY), (90, f32::NAN)],
    ] {
        let x = with(&special);
        for (name, pass) in [("training", Pass::train(0, 0)), ("test", Pass::test())] {
            let what = format!("batch norm, {name}, with {special:?}");
            assert_as_on_the_cpu(&device, &what, x.clone(), 3, batch_norm(3, pass));
        }
        let what = format!("RMS norm with {special:?}");
        assert_as_on_the_cpu(&device, &what, x.clone(), 8, |x, parameters| {
            let mut norm = RmsNormConfig::new(8).init(&x.device());
            norm.weight = param(&parameters[0]);
            norm.forward(x, &Pass::test())
        });
        let what = format!("layer norm with {special:?}");
        assert_as_on_the_cpu(&device, &what, x.clone(), 40, |x, parameters| {
            let config = LayerNormConfig::new(40).with_dimensions(2);
            let mut norm = config.with_activation(Activation::Relu).init(&x.device());
            norm.weight = param(&parameters[0]);
            norm.bias = param(&parameters[1]);
            norm.forward(x, &Pass::test())
        });
        let what = format!("dropout with {special:?}");
        assert_as_on_the_cpu(&device, &what, x, 0, |x, _| {
            DropoutConfig::new(0.5)
                .init()
                .forward(x, &Pass::train(0, 0))
        });
    }
}

/// Equal values have no deviation, not that of the mean's rounding; and a mean far from 0 costs no
/// more of the variance than its rounding does.
#[test]
fn large_means() {
    let Some(device) = gpu::device("large_means") else {
        return;
    };
    let none = Activation::None;
    for shape in [[6, 3, 8, 8], [50, 4, 1, 1]] {
        let x = Tensor::<4>::full(shape, 1234.567, &device);
        let batch = BatchNormConfig::new(shape[1]).init(&device);
        let y = batch.forward(x.clone(), &Pass::train(0, 0));
        assert!(values(y).iter().all(|y| *y == 0.0));
        let layer = GroupNormConfig::new(1, shape[1])
            .with_activation(none)
            .init(&device);
        assert!(
            values(layer.forward(x, &Pass::test()))
                .iter()
                .all(|y| *y == 0.0)
        );
        let x = random_of(5, shape, &plain()) + 3000.0;
        let channels = shape[1];
        let y = |device: &Device| {
            let norm = BatchNormConfig::new(channels).init(device);
            values(norm.forward(on(device, &x), &Pass::train(0, 0)))
        };
        assert_agree("batch norm", &y(&device), &y(&plain()), 2e-4);
    }
}

#[test]
fn views() {
    let Some(device) = gpu::device("views") else {
        return;
    };
    let device = device.autodiff();
    let [n, c, h, w] = SHAPE;
    let random = |shape| random_of(5, shape, &device);
    for (name, view) in [
        ("swapped examples", random([c, n, h, w]).swap_dims(0, 1)),
        ("channels last", random([n, h, w, c]).permute([0, 3, 1, 2])),
        (
            "some of all",
            random([n + 1, c + 2, h + 3, w + 4]).slice([1..n + 1, 1..c + 1, 2..h + 2, 3..w + 3]),
        ),
        ("repeated", random([1, c, 1, w]).expand(SHAPE)),
        ("the last", random([n + 1, c, h, w]).narrow(0, 1, n)),
    ] {
        for layer in layers() {
            let parameters = layer.parameters(&device);
            let strided: Vec<_> = parameters
                .iter()
                .map(|parameter| {
                    let pair = vec![parameter.clone(), parameter.clone() + 1.0];
                    Tensor::stack::<2>(pair, 1)
                        .narrow(1, 0, 1)
                        .squeeze_dim::<1>(1)
                })
                .collect();
            let expected = layer.run(on(&device, &view), &parameters);
            let found = layer.run(view.clone(), &strided);
            let what = format!("{} of {name}", layer.name);
            let [found, expected] = [found, expected].map(|ran| {
                let mut all = vec![values(ran.output), values(ran.input)];
                all.extend(ran.parameters.into_iter().map(values));
                all.concat()
            });
            // Burn may choose another kernel for a product of views, which adds in another order.
            let tolerance = if layer.burn_product { 1e-4 } else { 1e-5 };
            assert_agree(&what, &found, &expected, tolerance);
        }
    }
}

#[test]
fn the_same_bits_each_time() {
    let Some(device) = gpu::device("the_same_bits_each_time") else {
        return;
    };
    let x = random_of(6, [16, 6, 60, 60], &device.clone().autodiff());
    let again = || run(x.clone(), 6, batch_norm(6, Pass::train(0, 0)));
    assert!(again() == again());
}

#[test]
fn running_statistics_follow_all_passes() {
    let Some(device) = gpu::device("running_statistics_follow_all_passes") else {
        return;
    };
    let [found, expected] = [device, plain()].map(|device| statistics_after_all_passes(&device));
    for ((mean, var, batches), expected) in found.into_iter().zip(expected) {
        assert_agree("mean", &mean, &expected.0, 1e-5);
        assert_agree("var", &var, &expected.1, 1e-5);
        assert_eq!(batches, expected.2);
    }
}

/// Inputs of the types that the device has, with parameters in `f32`: outputs and the input's gradient
/// are those of the CPU, rounded to the input's type.
#[test]
fn mixed_types() {
    let Some(device) = gpu::device("mixed_types") else {
        return;
    };
    let mut types = vec![FloatDType::F32];
    for dtype in [FloatDType::F16, FloatDType::BF16, FloatDType::F64] {
        if device.supports_dtype(dtype) {
            types.push(dtype);
        }
    }
    println!("types: {types:?}");
    for layer in layers() {
        for &dtype in &types {
            // Composed of Burn's operations, whose exponentials and powers of f64 are wrong on wgpu.
            if dtype == FloatDType::F64 && layer.name.contains('ℓ') {
                continue;
            }
            let tolerance = match dtype {
                FloatDType::F16 => 2e-3,
                FloatDType::BF16 => 2e-2,
                _ => 1e-4,
            };
            let run = |device: &Device| {
                let device = device.clone().autodiff();
                let x = input(&device).cast(dtype);
                layer.run(x, &layer.parameters(&device))
            };
            let (found, expected) = (run(&device), run(&plain()));
            assert_eq!(found.output.dtype(), dtype.into(), "{}", layer.name);
            assert_eq!(found.input.dtype(), dtype.into(), "{}", layer.name);
            let near = |what: &str, found: Vec<f32>, expected: Vec<f32>| {
                let what = format!("{what} of {} in {dtype:?}", layer.name);
                assert_agree(&what, &found, &expected, tolerance);
            };
            near("output", values(found.output), values(expected.output));
            near(
                "input's gradient",
                values(found.input),
                values(expected.input),
            );
            for (found, expected) in found.parameters.into_iter().zip(expected.parameters) {
                assert_eq!(found.dtype(), expected.dtype(), "{}", layer.name);
                near("parameter's gradient", values(found), values(expected));
            }
        }
    }
}
