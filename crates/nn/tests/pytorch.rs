//! Against what PyTorch computes: `reference/make_fixtures.py` made the numbers.

use burn::module::{Module, Param};
use burn::nn::PaddingConfig2d;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, SgdConfig};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use evenkeel_nn::{
    Activation, AvgPool2dConfig, BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, Decay,
    GlobalAvgPool, MaxPool2dConfig, Pass, RunningAverage, WeightDecay, cross_entropy,
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

/// linspace(−1, end, count)³
fn ramp(end: f64, count: usize) -> Vec<f64> {
    let step = (end + 1.0) / (count.max(2) as f64 - 1.0);
    (0..count)
        .map(|i| (-1.0 + i as f64 * step).powi(3))
        .collect()
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
        let dy = tensor::<D>(&ramp(1.0, input.len()), &self.shape, &device, dtype);
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

/// NaN and infinities have no names in JSON: their text stands for them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Named(String),
}

fn floats(numbers: &[Number]) -> Vec<f64> {
    let float = |number: &Number| match number {
        Number::Finite(value) => *value,
        Number::Named(name) => name.parse().unwrap(),
    };
    numbers.iter().map(float).collect()
}

#[derive(Deserialize)]
struct NotFiniteCase {
    shape: Vec<usize>,
    relu: bool,
    x: Vec<Number>,
    test: NotFiniteRan,
    train: NotFiniteRan,
    running_mean: Vec<Number>,
    running_var: Vec<Number>,
}

#[derive(Deserialize)]
struct NotFiniteRan {
    output: Vec<Number>,
    x: Vec<Number>,
    weight: Vec<Number>,
    bias: Vec<Number>,
}

impl NotFiniteCase {
    fn check<const D: usize>(&self, dtype: DType, tolerance: f64) {
        let activation = if self.relu {
            Activation::Relu
        } else {
            Activation::None
        };
        let device = Device::flex().autodiff();
        let layer = BatchNormConfig::new(6)
            .with_activation(activation)
            .init(&device);
        // At test first, by finite statistics; then in training.
        for (pass, expected) in [(Pass::test(), &self.test), (Pass::train(0, 0), &self.train)] {
            let x = tensor::<D>(&floats(&self.x), &self.shape, &device, dtype).require_grad();
            let y = layer.forward(x.clone(), &pass);
            let dy = tensor::<D>(&ramp(1.0, self.x.len()), &self.shape, &device, dtype);
            let gradients = (y.clone() * dy).sum().backward();
            let by = |param: &Option<Param<Tensor<1>>>| {
                values(param.as_ref().unwrap().val().grad(&gradients).unwrap())
            };
            for (name, found, expected) in [
                ("output", values(y), &expected.output),
                ("dx", values(x.grad(&gradients).unwrap()), &expected.x),
                ("dweight", by(&layer.weight), &expected.weight),
                ("dbias", by(&layer.bias), &expected.bias),
            ] {
                let what = format!("{name} of {:?} {dtype:?} {pass:?}", self.shape);
                assert_same(&what, &found, &floats(expected), tolerance);
            }
        }
        for (name, running, expected) in [
            ("running mean", &layer.running_mean, &self.running_mean),
            ("running var", &layer.running_var, &self.running_var),
        ] {
            let found = values(running.get(&Device::flex()));
            assert_same(name, &found, &floats(expected), 1e-5);
        }
    }
}

/// Close where finite, the same where not.
#[track_caller]
fn assert_same(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let near = (found - expected).abs() <= tolerance * (1.0 + expected.abs());
        assert!(
            near || found == expected || found.is_nan() && expected.is_nan(),
            "{what}[{i}]: {found}, expected {expected}"
        );
    }
}

#[test]
fn batch_norm_of_what_is_not_finite() {
    for case in cases::<NotFiniteCase>(include_str!(
        "../../../reference/fixtures/batch_norm_not_finite.json"
    )) {
        for (dtype, tolerance) in [(DType::F64, 1e-7), (DType::F32, 3e-5)] {
            match case.shape.len() {
                2 => case.check::<2>(dtype, tolerance),
                3 => case.check::<3>(dtype, tolerance),
                _ => case.check::<4>(dtype, tolerance),
            }
        }
    }
}

#[derive(Deserialize)]
struct ConvCase {
    shape: Vec<usize>,
    weight_shape: Vec<usize>,
    stride: [usize; 2],
    padding: ConvPadding,
    dilation: [usize; 2],
    groups: usize,
    x: Vec<f64>,
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
    output_shape: Vec<usize>,
    output: Vec<f64>,
    gradients: ConvGradients,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ConvPadding {
    Zeros([usize; 2]),
    Named(String),
}

#[derive(Deserialize)]
struct ConvGradients {
    x: Vec<f64>,
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
}

impl ConvCase {
    fn layer(&self, device: &Device, dtype: DType) -> Conv2d {
        let [out, inner, height, width] = self.weight_shape[..] else {
            panic!("a weight has four dimensions");
        };
        let padding = match &self.padding {
            &ConvPadding::Zeros([rows, columns]) => {
                PaddingConfig2d::Explicit(rows, columns, rows, columns)
            }
            ConvPadding::Named(name) => {
                assert_eq!(name, "same");
                PaddingConfig2d::Same
            }
        };
        let mut layer = Conv2dConfig::new([inner * self.groups, out], [height, width])
            .with_stride(self.stride)
            .with_padding(padding)
            .with_dilation(self.dilation)
            .with_groups(self.groups)
            .init(device);
        layer.weight = Param::from_tensor(tensor(&self.weight, &self.weight_shape, device, dtype));
        let bias = self.bias.as_ref();
        layer.bias = bias.map(|bias| Param::from_tensor(tensor(bias, &[out], device, dtype)));
        layer
    }

    fn check(&self, dtype: DType, tolerance: f64) {
        let device = Device::flex().autodiff();
        let layer = self.layer(&device, dtype);
        let x = tensor::<4>(&self.x, &self.shape, &device, dtype).require_grad();
        let y = layer.forward(x.clone());
        assert_eq!(y.dims().to_vec(), self.output_shape);
        let dy = ramp(2.0, self.output.len());
        let dy = tensor::<4>(&dy, &self.output_shape, &device, dtype);
        let gradients = (y.clone() * dy).sum().backward();
        assert_close("output", &values(y), &self.output, tolerance);
        let dx = values(x.grad(&gradients).unwrap());
        assert_close("dx", &dx, &self.gradients.x, tolerance);
        let dweight = values(layer.weight.val().grad(&gradients).unwrap());
        assert_close("dweight", &dweight, &self.gradients.weight, tolerance);
        let dbias = layer
            .bias
            .map(|bias| values(bias.val().grad(&gradients).unwrap()));
        assert_eq!(dbias.is_some(), self.gradients.bias.is_some());
        if let (Some(found), Some(expected)) = (dbias, &self.gradients.bias) {
            assert_close("dbias", &found, expected, tolerance);
        }
    }
}

#[test]
fn conv2d() {
    let cases: Vec<ConvCase> = cases(include_str!("../../../reference/fixtures/conv2d.json"));
    assert_eq!(cases.len(), 8);
    for case in &cases {
        case.check(DType::F64, 1e-10);
        case.check(DType::F32, 1e-5);
    }
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
struct AvgPoolCase {
    shape: Vec<usize>,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    count_include_pad: bool,
    pooled: Vec<usize>,
    x: Vec<f64>,
    dy: Vec<f64>,
    output: Vec<f64>,
    gradient: Vec<f64>,
}

#[test]
fn avg_pool() {
    let device = Device::flex().autodiff();
    let cases: Vec<AvgPoolCase> = cases(include_str!("../../../reference/fixtures/avg_pool.json"));
    assert_eq!(cases.len(), 8);
    for case in cases {
        for dtype in [DType::F64, DType::F32, DType::F16] {
            let x = tensor::<4>(&case.x, &case.shape, &device, dtype).require_grad();
            let pool = AvgPool2dConfig::new(case.kernel)
                .with_stride(Some(case.stride))
                .with_padding(case.padding)
                .with_count_include_pad(case.count_include_pad)
                .init();
            let y = pool.forward(x.clone());
            assert_eq!(y.dims().to_vec(), case.pooled);
            let tolerance = if dtype == DType::F16 { 4e-3 } else { 1e-6 };
            assert_close("output", &values(y.clone()), &case.output, tolerance);
            let dy = tensor::<4>(&case.dy, &case.pooled, &device, dtype);
            let gradients = y.mul(dy).sum().backward();
            let dx = values(x.grad(&gradients).unwrap());
            assert_close("gradient", &dx, &case.gradient, tolerance);
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

/// Burn's optimizers under our decay move as PyTorch's with parameter groups; L1 and elastic net as
/// there with λR(W) written into the loss.
#[test]
fn decay_by_role() {
    let device = Device::flex().autodiff();
    let cases: Vec<OptimizerCase> =
        cases(include_str!("../../../reference/fixtures/optimizer.json"));
    assert_eq!(cases.len(), 4);
    for case in cases {
        let param = |values: &[f64]| tensor::<1>(values, &[values.len()], &device, DType::F32);
        let mut layer = burn::nn::LinearConfig::new(3, 2).init(&device);
        layer.weight = Param::from_tensor(param(&case.start.weight).reshape([3, 2]));
        layer.bias = Some(Param::from_tensor(param(&case.start.bias)));
        let decay = WeightDecay::new(case.decay);
        let mut optimizer = match case.decay {
            Decay::L2 { .. } | Decay::L1 { .. } | Decay::ElasticNet { .. } => {
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
