//! Against what PyTorch computes: `reference/make_fixtures.py` made the numbers.

use burn::module::{Module, Param};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, SgdConfig};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use evenkeel_nn::{
    Activation, BatchNorm, BatchNormConfig, Decay, GlobalAvgPool, MaxPool2dConfig, Pass,
    RunningAverage, WeightDecay, cross_entropy,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Fixture<T> {
    cases: Vec<T>,
}

fn cases<T: DeserializeOwned>(text: &str) -> Vec<T> {
    serde_json::from_str::<Fixture<T>>(text).unwrap().cases
}

fn tensor<const D: usize>(
    values: &[f64],
    shape: &[usize],
    device: &Device,
    dtype: DType,
) -> Tensor<D> {
    Tensor::from_data(
        TensorData::new(values.to_vec(), shape.to_vec()),
        (device, dtype),
    )
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().iter::<f64>().collect()
}

#[track_caller]
fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = tolerance * (1.0 + expected.abs());
        assert!(
            (found - expected).abs() <= allowed,
            "{what}[{i}]: {found}, expected {expected}"
        );
    }
}

#[derive(Deserialize)]
struct BatchNormCase {
    shape: Vec<usize>,
    momentum: Option<f64>,
    affine: bool,
    relu: bool,
    epsilon: f64,
    inputs: Vec<Vec<f64>>,
    train: Ran,
    test: Ran,
    running_mean: Vec<f64>,
    running_var: Vec<f64>,
}

#[derive(Deserialize)]
struct Ran {
    output: Vec<f64>,
    gradients: Gradients,
}

#[derive(Deserialize)]
struct Gradients {
    x: Vec<f64>,
    weight: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
}

impl BatchNormCase {
    fn layer(&self, device: &Device, dtype: DType) -> BatchNorm {
        let channels = self.shape[1];
        let average = self
            .momentum
            .map_or(RunningAverage::Cumulative, RunningAverage::Momentum);
        let activation = if self.relu {
            Activation::Relu
        } else {
            Activation::None
        };
        let mut layer = BatchNormConfig::new(channels)
            .with_epsilon(self.epsilon)
            .with_average(average)
            .with_affine(self.affine)
            .with_activation(activation)
            .init(device);
        // linspace(a, a + 1, channels)
        let line = |from: f64| {
            let step = 1.0 / (channels as f64 - 1.0);
            let values: Vec<f64> = (0..channels).map(|i| from + i as f64 * step).collect();
            Param::from_tensor(tensor::<1>(&values, &[channels], device, dtype))
        };
        if self.affine {
            (layer.weight, layer.bias) = (Some(line(0.5)), Some(line(-0.4)));
        }
        let plain = device.clone().without_autodiff();
        layer
            .running_mean
            .set(Tensor::zeros([channels], (&plain, dtype)));
        layer
            .running_var
            .set(Tensor::ones([channels], (&plain, dtype)));
        layer
    }

    fn check<const D: usize>(&self, dtype: DType, tolerance: f64) {
        let device = Device::flex().autodiff();
        let layer = self.layer(&device, dtype);
        let (test_input, train_inputs) = self.inputs.split_last().unwrap();
        for (step, input) in train_inputs.iter().enumerate() {
            let pass = Pass::train(0, step as u64);
            if step + 1 == train_inputs.len() {
                self.check_pass::<D>(&layer, input, &pass, &self.train, dtype, tolerance);
            } else {
                layer.forward(tensor::<D>(input, &self.shape, &device, dtype), &pass);
            }
        }
        let running = |buffer: &evenkeel_nn::Buffer<_>| values(buffer.get(&Device::flex()));
        assert_close(
            "running mean",
            &running(&layer.running_mean),
            &self.running_mean,
            tolerance,
        );
        assert_close(
            "running var",
            &running(&layer.running_var),
            &self.running_var,
            tolerance,
        );
        self.check_pass::<D>(
            &layer,
            test_input,
            &Pass::test(),
            &self.test,
            dtype,
            tolerance,
        );
        // The same on a plain device: the mode is the pass's, not the device's.
        let plain = layer.valid();
        let x = tensor::<D>(test_input, &self.shape, &Device::flex(), dtype);
        let output = values(plain.forward(x, &Pass::test()));
        assert_close("plain test", &output, &self.test.output, tolerance);
    }

    fn check_pass<const D: usize>(
        &self,
        layer: &BatchNorm,
        input: &[f64],
        pass: &Pass,
        expected: &Ran,
        dtype: DType,
        tolerance: f64,
    ) {
        let device = Device::flex().autodiff();
        let x = tensor::<D>(input, &self.shape, &device, dtype).require_grad();
        let y = layer.forward(x.clone(), pass);
        let what = format!("{:?} {pass:?}", self.shape);
        assert_close(&what, &values(y.clone()), &expected.output, tolerance);
        let count = input.len();
        let dy: Vec<f64> = (0..count)
            .map(|i| (-1.0 + 2.0 * i as f64 / (count as f64 - 1.0)).powi(3))
            .collect();
        let dy = tensor::<D>(&dy, &self.shape, &device, dtype);
        let gradients = (y * dy).sum().backward();
        let dx = values(x.grad(&gradients).unwrap());
        assert_close(&format!("{what} dx"), &dx, &expected.gradients.x, tolerance);
        for (name, param, expected) in [
            ("weight", &layer.weight, &expected.gradients.weight),
            ("bias", &layer.bias, &expected.gradients.bias),
        ] {
            let found = param
                .as_ref()
                .map(|param| values(param.val().grad(&gradients).unwrap()));
            assert_eq!(found.is_some(), expected.is_some());
            if let (Some(found), Some(expected)) = (found, expected) {
                assert_close(
                    &format!("{what} d{name}"),
                    &found,
                    expected,
                    tolerance * 10.0,
                );
            }
        }
    }
}

#[test]
fn batch_norm() {
    let cases: Vec<BatchNormCase> =
        cases(include_str!("../../../reference/fixtures/batch_norm.json"));
    for case in &cases {
        // At mean 10⁴ the input itself is rounded to 10⁻³ of the deviation in f32.
        let far = case.inputs[0][0].abs() > 100.0;
        for (dtype, tolerance) in [
            (DType::F64, 1e-7),
            (DType::F32, if far { 2e-3 } else { 3e-5 }),
        ] {
            match case.shape.len() {
                2 => case.check::<2>(dtype, tolerance),
                3 => case.check::<3>(dtype, tolerance),
                4 => case.check::<4>(dtype, tolerance),
                5 => case.check::<5>(dtype, tolerance),
                rank => panic!("no case of rank {rank} is expected"),
            }
        }
    }
    assert_eq!(cases.len(), 9);
}

#[derive(Deserialize)]
struct CrossEntropyCase {
    smoothing: f64,
    logits: Vec<f64>,
    labels: Vec<i64>,
    loss: f64,
    gradient: Vec<f64>,
}

#[test]
fn cross_entropy_and_its_gradient() {
    let device = Device::flex().autodiff();
    let text = include_str!("../../../reference/fixtures/cross_entropy.json");
    for case in cases::<CrossEntropyCase>(text) {
        let logits = tensor::<2>(&case.logits, &[6, 5], &device, DType::F64).require_grad();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(case.labels, [6]), &device);
        let loss = cross_entropy(logits.clone(), labels, case.smoothing);
        let gradients = loss.backward();
        assert_close("loss", &values(loss), &[case.loss], 1e-9);
        assert_close(
            "gradient",
            &values(logits.grad(&gradients).unwrap()),
            &case.gradient,
            1e-9,
        );
    }
}

#[derive(Deserialize)]
struct PoolCase {
    shape: Vec<usize>,
    x: Vec<f64>,
    dy: Vec<f64>,
    output: Vec<f64>,
    gradient: Vec<f64>,
}

#[test]
fn global_avg_pool() {
    fn check<const D: usize>(case: &PoolCase) {
        let device = Device::flex().autodiff();
        for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 1e-6)] {
            let x = tensor::<D>(&case.x, &case.shape, &device, dtype).require_grad();
            let y = GlobalAvgPool.forward(x.clone());
            assert_close("output", &values(y.clone()), &case.output, tolerance);
            let dy = tensor::<2>(&case.dy, &case.shape[..2], &device, dtype);
            let gradients = (y * dy).sum().backward();
            assert_close(
                "gradient",
                &values(x.grad(&gradients).unwrap()),
                &case.gradient,
                tolerance,
            );
        }
    }
    for case in cases::<PoolCase>(include_str!(
        "../../../reference/fixtures/global_avg_pool.json"
    )) {
        match case.shape.len() {
            3 => check::<3>(&case),
            4 => check::<4>(&case),
            _ => check::<5>(&case),
        }
    }
}

#[derive(Deserialize)]
struct MaxPoolCase {
    shape: Vec<usize>,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    pooled: Vec<usize>,
    x: Vec<Option<f64>>,
    dy: Vec<f64>,
    output: Vec<Option<f64>>,
    gradient: Vec<f64>,
}

/// With ties, of which the first wins, and NaN, which wins over all.
#[test]
fn max_pool() {
    let nan_for_null = |values: &[Option<f64>]| -> Vec<f64> {
        values
            .iter()
            .map(|value| value.unwrap_or(f64::NAN))
            .collect()
    };
    let device = Device::flex().autodiff();
    let cases: Vec<MaxPoolCase> = cases(include_str!("../../../reference/fixtures/max_pool.json"));
    assert_eq!(cases.len(), 4);
    for case in cases {
        for dtype in [DType::F64, DType::F32, DType::F16] {
            let x = tensor::<4>(&nan_for_null(&case.x), &case.shape, &device, dtype).require_grad();
            let pool = MaxPool2dConfig::new(case.kernel)
                .with_stride(Some(case.stride))
                .with_padding(case.padding)
                .init();
            let y = pool.forward(x.clone());
            assert_eq!(y.dims().to_vec(), case.pooled);
            let (found, expected) = (values(y.clone()), nan_for_null(&case.output));
            let same = |(a, b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan();
            assert!(
                found.iter().zip(&expected).all(same),
                "{found:?}, expected {expected:?}"
            );
            let dy = tensor::<4>(&case.dy, &case.pooled, &device, dtype);
            let gradients = y.mul(dy).sum().backward();
            let tolerance = if dtype == DType::F16 { 4e-3 } else { 1e-6 };
            let dx = values(x.grad(&gradients).unwrap());
            assert_close("gradient", &dx, &case.gradient, tolerance);
        }
    }
}

#[derive(Deserialize)]
struct OptimizerCase {
    decay: Decay,
    x: Vec<f64>,
    start: Weights,
    end: Weights,
}

#[derive(Deserialize)]
struct Weights {
    weight: Vec<f64>,
    bias: Vec<f64>,
}

/// Burn's optimizers under our decay move as PyTorch's with parameter groups.
#[test]
fn decay_by_role() {
    let device = Device::flex().autodiff();
    for case in cases::<OptimizerCase>(include_str!("../../../reference/fixtures/optimizer.json")) {
        let param = |values: &[f64]| tensor::<1>(values, &[values.len()], &device, DType::F32);
        let mut layer = burn::nn::LinearConfig::new(3, 2).init(&device);
        layer.weight = Param::from_tensor(param(&case.start.weight).reshape([3, 2]));
        layer.bias = Some(Param::from_tensor(param(&case.start.bias)));
        let decay = WeightDecay::new(case.decay);
        let mut optimizer = match case.decay {
            Decay::L2 { .. } => {
                let momentum = MomentumConfig::new()
                    .with_dampening(0.0)
                    .with_nesterov(true);
                SgdConfig::new().with_momentum(Some(momentum)).init()
            }
            _ => AdamWConfig::new()
                .with_beta_2(0.99)
                .with_epsilon(1e-8)
                .with_weight_decay(0.0)
                .init(),
        };
        let x = tensor::<2>(&case.x, &[4, 3], &device, DType::F32);
        for _ in 0..4 {
            let y = layer.forward(x.clone());
            let loss = (y.clone() * y).mean();
            let gradients = GradientsParams::from_grads(loss.backward(), &layer);
            let gradients = decay.add_to_gradients(&layer, gradients);
            layer = optimizer.step(0.2, decay.shrink(layer, 0.2), gradients);
        }
        let weight = layer.weight.val().reshape([6]);
        assert_close("weight", &values(weight), &case.end.weight, 1e-5);
        assert_close(
            "bias",
            &values(layer.bias.unwrap().val()),
            &case.end.bias,
            1e-5,
        );
    }
}
