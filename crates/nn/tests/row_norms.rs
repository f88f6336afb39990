//! Layer, RMS, group and instance norm: against PyTorch (`reference/make_fixtures.py`), and what is
//! particular to each.

mod support;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use evenkeel_nn::{
    Activation, GroupNormConfig, InstanceNorm, InstanceNormConfig, LayerNormConfig, Pass,
    RmsNormConfig, RunningAverage,
};
use serde::Deserialize;
use support::layers::autodiff;
use support::{plain, random_of, values};

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    norm: String,
    shape: Vec<usize>,
    options: Options,
    relu: bool,
    x: Vec<f64>,
    output: Vec<f64>,
    gradients: Gradients,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    num_features: Option<usize>,
    num_channels: Option<usize>,
    num_groups: Option<usize>,
    dimensions: Option<usize>,
    channels_first: Option<bool>,
    epsilon: Option<f64>,
    affine: Option<bool>,
    bias: Option<bool>,
}

#[derive(Deserialize)]
struct Gradients {
    x: Vec<f64>,
    weight: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
}

type Parameter = Option<Param<Tensor<1>>>;

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().iter::<f64>().collect()
}

#[track_caller]
fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * (1.0 + expected.abs()),
            "{what}[{i}]: {found}, expected {expected}"
        );
    }
}

impl Case {
    /// linspace(from, from + 1), as the fixture's parameters are.
    fn line(&self, from: f64, count: usize, dtype: DType) -> Param<Tensor<1>> {
        let step = 1.0 / (count as f64 - 1.0);
        let values: Vec<f64> = (0..count).map(|i| from + i as f64 * step).collect();
        let data = TensorData::new(values, [count]);
        Param::from_tensor(Tensor::from_data(data, (&autodiff(), dtype)))
    }

    fn check<const D: usize>(&self, dtype: DType, tolerance: f64) {
        let device = autodiff();
        let Options {
            num_features,
            num_channels,
            num_groups,
            dimensions,
            channels_first,
            epsilon,
            affine,
            bias,
        } = self.options;
        let features = num_features.or(num_channels).expect("a size");
        let epsilon = epsilon.unwrap_or(1e-5);
        let activation = if self.relu {
            Activation::Relu
        } else {
            Activation::None
        };
        let lines = |weight: &mut Parameter, bias: &mut Parameter| {
            let learned = |parameter: &mut Parameter, from| {
                if parameter.is_some() {
                    *parameter = Some(self.line(from, features, dtype));
                }
                parameter.clone()
            };
            (learned(weight, 0.5), learned(bias, -0.4))
        };
        let data = TensorData::new(self.x.clone(), self.shape.clone());
        let x = Tensor::<D>::from_data(data, (&device, dtype)).require_grad();
        let pass = Pass::test();
        let (y, (weight, bias)) = match self.norm.as_str() {
            "layer" => {
                let mut norm = LayerNormConfig::new(features)
                    .with_dimensions(dimensions.unwrap_or(1))
                    .with_channels_first(channels_first.unwrap_or(false))
                    .with_epsilon(epsilon)
                    .with_affine(affine.unwrap_or(true))
                    .with_bias(bias.unwrap_or(true))
                    .with_activation(activation)
                    .init(&device);
                let parameters = lines(&mut norm.weight, &mut norm.bias);
                (norm.forward(x.clone(), &pass), parameters)
            }
            "rms" => {
                let mut norm = RmsNormConfig::new(features)
                    .with_dimensions(dimensions.unwrap_or(1))
                    .with_epsilon(epsilon)
                    .with_affine(affine.unwrap_or(true))
                    .init(&device);
                let parameters = lines(&mut norm.weight, &mut None);
                (norm.forward(x.clone(), &pass), parameters)
            }
            "group" => {
                let groups = num_groups.expect("groups");
                let mut norm = GroupNormConfig::new(groups, features)
                    .with_epsilon(epsilon)
                    .with_affine(affine.unwrap_or(true))
                    .with_activation(activation)
                    .init(&device);
                let parameters = lines(&mut norm.weight, &mut norm.bias);
                (norm.forward(x.clone(), &pass), parameters)
            }
            "instance" => {
                let mut norm = InstanceNormConfig::new(features)
                    .with_epsilon(epsilon)
                    .with_affine(affine.unwrap_or(false))
                    .with_activation(activation)
                    .init(&device);
                let parameters = lines(&mut norm.weight, &mut norm.bias);
                (norm.forward(x.clone(), &pass), parameters)
            }
            other => panic!("no norm called {other}"),
        };
        let name = format!("{} {:?} relu {}", self.norm, self.shape, self.relu);
        assert_close(&name, &numbers(y.clone()), &self.output, tolerance);
        let count = self.x.len();
        let dy: Vec<f64> = (0..count)
            .map(|i| (-1.0 + 2.0 * i as f64 / (count as f64 - 1.0)).powi(3))
            .collect();
        let dy = TensorData::new(dy, self.shape.clone());
        let gradients = (y * Tensor::from_data(dy, (&device, dtype)))
            .sum()
            .backward();
        let dx = numbers(x.grad(&gradients).expect("a gradient"));
        assert_close(&format!("{name}, dx"), &dx, &self.gradients.x, tolerance);
        for (which, parameter, expected) in [
            ("weight", weight, &self.gradients.weight),
            ("bias", bias, &self.gradients.bias),
        ] {
            let found = parameter.map(|parameter| parameter.val().grad(&gradients));
            let found = found.map(|gradient| numbers(gradient.expect("a gradient")));
            assert_eq!(found.is_some(), expected.is_some(), "{name}, {which}");
            if let (Some(found), Some(expected)) = (found, expected) {
                assert_close(&format!("{name}, {which}"), &found, expected, tolerance);
            }
        }
    }
}

#[test]
fn pytorch_computes_the_same() {
    let text = include_str!("../../../reference/fixtures/row_norms.json");
    let fixture: Fixture = serde_json::from_str(text).expect("a fixture");
    for case in &fixture.cases {
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 2e-5)] {
            match case.shape.len() {
                2 => case.check::<2>(dtype, tolerance),
                3 => case.check::<3>(dtype, tolerance),
                4 => case.check::<4>(dtype, tolerance),
                _ => case.check::<5>(dtype, tolerance),
            }
        }
    }
}

/// No example sees another: a batch of one gives the same, in training as at test.
#[test]
fn examples_do_not_see_each_other() {
    let device = plain();
    let x = random_of::<3>(1, [4, 6, 5], &device);
    let layer = LayerNormConfig::new(5).init(&device);
    let rms = RmsNormConfig::new(5).init(&device);
    let group = GroupNormConfig::new(3, 6).init(&device);
    let instance = InstanceNormConfig::new(6).init(&device);
    for forward in [
        &|x: Tensor<3>, pass: &Pass| layer.forward(x, pass) as Tensor<3>,
        &|x: Tensor<3>, pass: &Pass| rms.forward(x, pass),
        &|x: Tensor<3>, pass: &Pass| group.forward(x, pass),
        &|x: Tensor<3>, pass: &Pass| instance.forward(x, pass),
    ] as [&dyn Fn(Tensor<3>, &Pass) -> Tensor<3>; 4]
    {
        let together = values(forward(x.clone(), &Pass::train(0, 0)));
        let alone = |i| values(forward(x.clone().narrow(0, i, 1), &Pass::test()));
        assert_eq!(together, (0..4).flat_map(alone).collect::<Vec<f32>>());
    }
}

#[test]
fn a_group_norm_of_all_channels_alone_is_an_instance_norm() {
    let device = plain();
    let x = random_of::<4>(2, [3, 4, 5, 6], &device);
    let group = GroupNormConfig::new(4, 4).init(&device);
    let instance = InstanceNormConfig::new(4).init(&device);
    let pass = Pass::test();
    assert_eq!(
        values(group.forward(x.clone(), &pass)),
        values(instance.forward(x, &pass))
    );
}

#[test]
fn parameters_are_named_as_pytorchs() {
    let norm = GroupNormConfig::new(2, 4).init(&plain());
    assert_eq!(norm.num_params(), 8);
    let record = LayerNormConfig::new(3).with_bias(false).init(&plain());
    assert_eq!(record.num_params(), 3);
    assert_eq!(InstanceNormConfig::new(3).init(&plain()).num_params(), 0);
}

#[test]
#[should_panic(expected = "expected an input whose last 1 dimensions have 4 values in all")]
fn a_wrong_feature_count_is_named() {
    let norm = LayerNormConfig::new(4).init(&plain());
    norm.forward(random_of::<2>(1, [2, 5], &plain()), &Pass::test());
}

#[test]
#[should_panic(expected = "groups that divide the channels, got 3 groups of 8 channels")]
fn groups_that_do_not_divide_are_refused() {
    GroupNormConfig::new(3, 8).init(&plain());
}

#[test]
#[should_panic(expected = "InstanceNorm: expected more than one position")]
fn an_instance_norm_of_one_position_is_refused() {
    let norm = InstanceNormConfig::new(4).init(&plain());
    norm.forward(random_of::<2>(1, [2, 4], &plain()), &Pass::test());
}

/// Squares of 300 are more than f16 holds.
#[test]
fn half_precision_is_computed_in_f32() {
    let device: Device = plain();
    let x = random_of::<2>(3, [5, 40], &device) * 300.0;
    let norm = RmsNormConfig::new(40).init(&device);
    let half = norm.forward(x.clone().cast(DType::F16), &Pass::test());
    assert_eq!(half.dtype(), DType::F16);
    let (found, expected) = (values(half), values(norm.forward(x, &Pass::test())));
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 2e-3, "{found} {expected}");
    }
}

#[derive(Deserialize)]
struct Tracked {
    cases: Vec<TrackedCase>,
}

#[derive(Deserialize)]
struct TrackedCase {
    shape: Vec<usize>,
    momentum: f64,
    inputs: Vec<Vec<f64>>,
    train: Vec<f64>,
    test: Vec<f64>,
    running_mean: Vec<f64>,
    running_var: Vec<f64>,
}

impl TrackedCase {
    fn check<const D: usize>(&self, dtype: DType, tolerance: f64) {
        let norm = InstanceNormConfig::new(self.shape[1])
            .with_track_running_stats(true)
            .with_average(RunningAverage::Momentum(self.momentum))
            .init(&plain());
        let buffers = [&norm.running_mean, &norm.running_var];
        let [mean, var] = buffers.map(|buffer| buffer.as_ref().expect("tracked"));
        for buffer in [mean, var] {
            buffer.set(buffer.get(&plain()).cast(dtype));
        }
        let forward = |input: &[f64], pass: Pass| {
            let data = TensorData::new(input.to_vec(), self.shape.clone());
            let x = Tensor::<D>::from_data(data, (&plain(), dtype));
            numbers(norm.forward(x, &pass))
        };
        let [first, second, third, last] = &self.inputs[..] else {
            panic!("four inputs");
        };
        forward(first, Pass::train(0, 0));
        forward(second, Pass::train(0, 1));
        let train = forward(third, Pass::train(0, 2));
        assert_close("training", &train, &self.train, tolerance);
        for (buffer, expected) in [(mean, &self.running_mean), (var, &self.running_var)] {
            let found = numbers(buffer.get(&plain()));
            assert_close("statistics", &found, expected, tolerance);
        }
        assert_close("test", &forward(last, Pass::test()), &self.test, tolerance);
        assert_eq!(numbers(mean.get(&plain())).len(), self.shape[1]);
    }
}

#[test]
fn tracked_instance_norm_is_pytorchs() {
    let text = include_str!("../../../reference/fixtures/instance_norm_tracked.json");
    let fixture: Tracked = serde_json::from_str(text).expect("a fixture");
    for case in fixture.cases {
        for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-5)] {
            match case.shape.len() {
                3 => case.check::<3>(dtype, tolerance),
                4 => case.check::<4>(dtype, tolerance),
                rank => panic!("no case for rank {rank}"),
            }
        }
    }
}

/// As one big batch: the averages over all examples.
#[test]
fn a_tracked_instance_norm_is_recalibrated() {
    let config = InstanceNormConfig::new(2).with_track_running_stats(true);
    let (norm, whole) = (config.init(&plain()), config.init(&plain()));
    let x = random_of::<3>(4, [7, 2, 6], &plain());
    let pass = Pass::recalibrate();
    for examples in [0..2, 2..7] {
        norm.forward(x.clone().slice_dim(0, examples), &pass);
    }
    whole.forward(x, &Pass::recalibrate());
    let state = |norm: &InstanceNorm| {
        [&norm.running_mean, &norm.running_var]
            .map(|buffer| numbers(buffer.as_ref().expect("tracked").get(&plain())))
    };
    for (found, expected) in state(&norm).iter().zip(&state(&whole)) {
        assert_close("statistics", found, expected, 1e-6);
    }
    let tracked = norm.num_batches_tracked.expect("tracked").get(&plain());
    assert_eq!(tracked.into_scalar::<i64>(), 2);
}
