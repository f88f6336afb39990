//! Outputs are written over inputs that nobody else holds; what somebody holds stays as it is.

use burn::tensor::{Device, Tensor, TensorData};
use evenkeel_kernels::Activation;
use evenkeel_nn::{
    AlphaDropoutConfig, BatchNormConfig, DropBlockConfig, DropPathConfig, DropoutConfig,
    GaussianDropoutConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Pass,
    RmsNormConfig, ShakeShakeConfig, SpatialDropoutConfig, add_activated,
};
use evenkeel_random::Key;

const SHAPE: [usize; 4] = [6, 8, 5, 4];

type Layer = Box<dyn Fn(Tensor<4>, &Pass) -> Tensor<4>>;

/// Noise, whose backward needs neither its input nor its output.
fn noise() -> Vec<(&'static str, Layer)> {
    let dropout = DropoutConfig::new(0.5).init();
    let spatial = SpatialDropoutConfig::new(0.5).init();
    let alpha = AlphaDropoutConfig::new(0.5).init();
    let gaussian = GaussianDropoutConfig::new(0.5).init();
    let path = DropPathConfig::new(0.5).init();
    let block = DropBlockConfig::new(0.3).with_block_size(2).init();
    let shake = ShakeShakeConfig::new().init();
    vec![
        ("dropout", Box::new(move |x, pass| dropout.forward(x, pass))),
        ("spatial", Box::new(move |x, pass| spatial.forward(x, pass))),
        ("alpha", Box::new(move |x, pass| alpha.forward(x, pass))),
        (
            "gaussian",
            Box::new(move |x, pass| gaussian.forward(x, pass)),
        ),
        ("path", Box::new(move |x, pass| path.forward(x, pass))),
        ("block", Box::new(move |x, pass| block.forward(x, pass))),
        (
            "shake",
            Box::new(move |x, pass| {
                let second = x.ones_like();
                shake.forward(x, second, pass)
            }),
        ),
    ]
}

fn norms(device: &Device) -> Vec<(&'static str, Layer)> {
    let channels = SHAPE[1];
    let batch = BatchNormConfig::new(channels).init(device);
    let group = GroupNormConfig::new(2, channels).init(device);
    let instance = InstanceNormConfig::new(channels).init(device);
    let layer = LayerNormConfig::new(SHAPE[3]).init(device);
    let rms = RmsNormConfig::new(SHAPE[3]).init(device);
    vec![
        ("batch", Box::new(move |x, pass| batch.forward(x, pass))),
        ("group", Box::new(move |x, pass| group.forward(x, pass))),
        (
            "instance",
            Box::new(move |x, pass| instance.forward(x, pass)),
        ),
        ("layer", Box::new(move |x, pass| layer.forward(x, pass))),
        ("rms", Box::new(move |x, pass| rms.forward(x, pass))),
    ]
}

fn values(seed: u64) -> Vec<f32> {
    let mut draws = Key::from_seed(seed).draws();
    let count = SHAPE.iter().product();
    (0..count)
        .map(|_| draws.between(-2.0, 2.0) as f32)
        .collect()
}

fn tensor(seed: u64, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values(seed), SHAPE), device)
}

fn read(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

/// Both passes, on a plain device and under autodiff: an input that the caller still holds is as it was.
#[test]
fn an_input_that_is_held_stays() {
    let noisy: Vec<_> = noise().into_iter().map(|(name, _)| name).collect();
    for device in [Device::flex(), Device::flex().autodiff()] {
        for (name, layer) in noise().into_iter().chain(norms(&device)) {
            for pass in [|| Pass::train(1, 2), Pass::test] {
                let x = tensor(3, &device);
                let held = x.clone();
                let first = read(layer(x, &pass()));
                assert!(read(held.clone()) == values(3), "{name}");
                // The running statistics of a norm have moved.
                if noisy.contains(&name) {
                    assert!(read(layer(held, &pass())) == first, "{name}");
                }
            }
        }
    }
}

/// The memory of an output is that of an input which nobody else holds.
#[test]
fn an_input_that_is_given_away_is_written_over() {
    let device = Device::flex();
    let place = |tensor: Tensor<4>| {
        let values = read(tensor);
        (values.as_ptr(), values)
    };
    for (name, layer) in noise() {
        let (before, given) = place(tensor(3, &device));
        let x = Tensor::from_data(TensorData::new(given, SHAPE), &device);
        let (after, _) = place(layer(x, &Pass::train(1, 2)));
        assert_eq!(before, after, "{name}");
    }
    let (before, given) = place(tensor(3, &device));
    let x = Tensor::from_data(TensorData::new(given, SHAPE), &device);
    let (after, _) = place(add_activated(x, tensor(4, &device), Activation::Relu));
    assert_eq!(before, after);
}

/// A gradient that goes to two layers, neither of which may write over it before the other has read it.
#[test]
fn a_gradient_of_two_layers_stays_for_both() {
    let device = Device::flex().autodiff();
    let layers = || noise().into_iter().chain(norms(&device));
    let gradients = |layers: &[&Layer]| -> Vec<Vec<f32>> {
        let weight = tensor(9, &device);
        let leaves: Vec<_> = layers
            .iter()
            .map(|_| tensor(3, &device).require_grad())
            .collect();
        let outputs = layers
            .iter()
            .zip(&leaves)
            .map(|(layer, leaf)| layer(leaf.clone(), &Pass::train(1, 2)));
        let sum = outputs.reduce(|a, b| a + b).expect("a layer");
        let gradients = (sum * weight).sum().backward();
        let gradient = |leaf: &Tensor<4>| read(leaf.grad(&gradients).expect("tracked"));
        leaves.iter().map(gradient).collect()
    };
    for (name, layer) in layers() {
        let alone = gradients(&[&layer]);
        for (other_name, other) in layers() {
            let other_alone = gradients(&[&other]);
            let both = gradients(&[&layer, &other]);
            let expected = [alone.clone(), other_alone].concat();
            assert!(both == expected, "{name} and {other_name}");
        }
    }
}
