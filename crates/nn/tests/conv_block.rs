//! The block as one operation against its layers one after another, which an observed pass runs.

mod support;

use std::sync::{Arc, Mutex};

use burn::module::{Module, Param};
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, FloatDType, Tensor};
use evenkeel_nn::{
    Activation, ConvBlock, ConvBlockConfig, GlobalAvgPool, MaxPool2dConfig, Norm, NormKind,
    Observation, Observer, Pass, initialize,
};
use support::layers::autodiff;
use support::{message, plain, random_of, running, tracked, values};

#[derive(Default)]
struct Watch(Mutex<Vec<&'static str>>);

impl Observer for Watch {
    fn observe(&self, observation: Observation<'_>) {
        self.0.lock().unwrap().push(observation.layer);
    }
}

/// The same pass, in which layers run one after another.
fn apart(pass: Pass) -> Pass {
    pass.observed_by(Arc::new(Watch::default()))
}

/// With and without pooling and activation, strided, and in groups.
fn configs() -> Vec<ConvBlockConfig> {
    let plain = ConvBlockConfig::new([4, 6], [3, 3]);
    let pool = MaxPool2dConfig::new([2, 2]);
    vec![
        plain.clone(),
        plain.clone().with_pool(Some(pool.clone())),
        plain.clone().with_activation(Activation::None),
        ConvBlockConfig::new([4, 40], [3, 3]).with_pool(Some(pool)),
        plain
            .clone()
            .with_stride([2, 2])
            .with_groups(2)
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)),
        ConvBlockConfig::new([4, 20], [1, 1])
            .with_pool(Some(MaxPool2dConfig::new([3, 3]).with_padding([1, 1]))),
    ]
}

fn block(config: &ConvBlockConfig, device: &Device) -> ConvBlock {
    let mut block = initialize(config.init(device), 3);
    if let Some(Norm::Batch(norm)) = &mut block.norm {
        let channels = [config.channels[1]];
        norm.weight = Some(Param::from_tensor(random_of(5, channels, device)));
        norm.bias = Some(Param::from_tensor(random_of(6, channels, device)));
    }
    block
}

fn input(device: &Device) -> Tensor<4> {
    random_of(1, [5, 4, 8, 10], device)
        .mul_scalar(2.0)
        .add_scalar(0.5)
}

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= 2e-4 * (1.0 + b.abs()),
            "{what}[{i}]: {a}, {b}"
        );
    }
}

/// The output, the gradients by input, weight, γ and β of Σ y·g for some g, and the running statistics.
fn run(config: &ConvBlockConfig, pass: &Pass) -> Vec<Vec<f32>> {
    run_by(config, |block, x| block.forward(x, pass))
}

fn run_by<const D: usize>(
    config: &ConvBlockConfig,
    forward: impl Fn(&ConvBlock, Tensor<4>) -> Tensor<D>,
) -> Vec<Vec<f32>> {
    let device = autodiff();
    let block = block(config, &device);
    let x = input(&device).require_grad();
    let y = forward(&block, x.clone());
    let g = random_of(8, y.dims(), &device).sin();
    let gradients = (y.clone() * g).sum().backward();
    let Some(Norm::Batch(norm)) = &block.norm else {
        panic!("a batch norm")
    };
    let of = |parameter: &Option<Param<Tensor<1>>>| {
        let parameter = parameter.as_ref().unwrap().val();
        values(parameter.grad(&gradients).expect("a gradient"))
    };
    let (mean, variance) = running(norm);
    vec![
        values(y.clone()),
        values(x.grad(&gradients).expect("a gradient")),
        values(
            block
                .conv
                .weight
                .val()
                .grad(&gradients)
                .expect("a gradient"),
        ),
        of(&norm.weight),
        of(&norm.bias),
        mean,
        variance,
        vec![tracked(norm) as f32],
    ]
}

#[test]
fn is_its_layers_in_training() {
    for config in configs() {
        let found = run(&config, &Pass::train(1, 2));
        let expected = run(&config, &apart(Pass::train(1, 2)));
        assert_eq!(expected.last(), Some(&vec![1.0]));
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_close(&format!("{i} of {config:?}"), found, expected);
        }
    }
}

#[test]
fn statistics_that_are_frozen_or_recalibrated_are_those_of_the_layers() {
    for config in configs() {
        for pass in [
            || Pass::train(1, 2).freeze_statistics(),
            || Pass::train(1, 2).keep_statistics(),
            || Pass::recalibrate(),
            || Pass::train(1, 2).mix_statistics(0.5),
        ] {
            let (found, expected) = (run(&config, &pass()), run(&config, &apart(pass())));
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_close(&format!("{i} of {config:?}"), found, expected);
            }
        }
    }
}

#[test]
fn at_test_the_norm_is_folded_into_the_convolution() {
    for config in configs() {
        let block = block(&config, &plain());
        for _ in 0..20 {
            block.forward(input(&plain()), &Pass::train(1, 2));
        }
        let folded = block.forward(input(&plain()), &Pass::test());
        let expected = block.forward(input(&plain()), &apart(Pass::test()));
        assert_close(&format!("{config:?}"), &values(folded), &values(expected));
    }
}

/// With and without a pooling of its own, in training and at test.
#[test]
fn its_average_is_that_of_its_layers() {
    let average =
        |block: &ConvBlock, x, pass: Pass| GlobalAvgPool.forward(block.forward(x, &apart(pass)));
    for config in configs() {
        let pass = || Pass::train(1, 2);
        let found = run_by(&config, |block, x| block.forward_averaged(x, &pass()));
        let expected = run_by(&config, |block, x| average(block, x, pass()));
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_close(&format!("{i} of {config:?}"), found, expected);
        }
        let block = block(&config, &plain());
        block.forward(input(&plain()), &pass());
        let found = block.forward_averaged(input(&plain()), &Pass::test());
        let expected = average(&block, input(&plain()), Pass::test());
        assert_close(&format!("{config:?}"), &values(found), &values(expected));
    }
}

#[test]
fn an_observer_sees_each_layer() {
    let config = &configs()[1];
    let watch = Arc::new(Watch::default());
    let pass = Pass::test().observed_by(watch.clone());
    block(config, &plain()).forward(input(&plain()), &pass);
    assert_eq!(*watch.0.lock().unwrap(), ["batch_norm"]);
}

#[test]
fn other_norms_and_none_run_in_order() {
    for norm in [
        NormKind::Group(2),
        NormKind::Layer,
        NormKind::Instance,
        NormKind::None,
    ] {
        let config = ConvBlockConfig::new([4, 6], [3, 3]).with_norm(norm);
        let block = initialize(config.init(&plain()), 3);
        assert_eq!(block.conv.bias.is_some(), norm == NormKind::None);
        let y = block.conv.forward(input(&plain()));
        let y = match &block.norm {
            Some(norm) => norm.forward(y, &Pass::test()),
            None => burn::tensor::activation::relu(y),
        };
        let found = block.forward(input(&plain()), &Pass::test());
        assert_eq!(values(found), values(y));
    }
}

#[test]
fn half_precision_is_rounded_at_the_end_alone() {
    let config = &configs()[3];
    for dtype in [FloatDType::F16, FloatDType::BF16] {
        let half = input(&plain()).cast(dtype);
        let expected =
            block(config, &plain()).forward(half.clone().cast(FloatDType::F32), &Pass::train(1, 2));
        let found = block(config, &plain()).forward(half, &Pass::train(1, 2));
        assert_eq!(found.dtype(), dtype.into());
        assert_eq!(values(found), values(expected.cast(dtype)));
    }
}

#[test]
fn what_is_not_asked_for_is_not_computed() {
    let config = &configs()[1];
    let device = autodiff();
    let mut frozen = block(config, &device);
    frozen.conv = frozen.conv.no_grad();
    let y = frozen.forward(input(&device), &Pass::train(1, 2));
    let gradients = y.sum().backward();
    assert!(frozen.conv.weight.val().grad(&gradients).is_none());
    let Some(Norm::Batch(norm)) = &frozen.norm else {
        panic!("a batch norm")
    };
    assert!(norm.bias.as_ref().unwrap().val().grad(&gradients).is_some());
}

#[test]
fn one_value_a_channel_is_refused() {
    let block = block(&configs()[0], &plain());
    let x = random_of(1, [1, 4, 1, 1], &plain());
    let problem = message(|| drop(block.forward(x, &Pass::train(1, 2))));
    assert!(
        problem.contains("more than one value per channel"),
        "{problem}"
    );
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let block = block(&configs()[1], &plain());
    let x = random_of(1, [3, 4, 1, 1], &plain());
    for pass in [Pass::train(1, 2), Pass::test(), apart(Pass::test())] {
        let problem = message(|| drop(block.forward(x.clone(), &pass)));
        assert!(problem.contains("does not fit images of 1×1"), "{problem}");
    }
}
