//! What the noise layers do: their masks, their averages, their ends.

mod support;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, FloatDType, Tensor, TensorData, Tolerance};
use evenkeel_nn::{
    AlphaDropoutConfig, Conv2dConfig, Decay, DropBlockConfig, DropConnectConv2dConfig,
    DropConnectLinear, DropConnectLinearConfig, DropPathConfig, DropoutConfig,
    GaussianDropoutConfig, Observation, Observer, Pass, Role, Scaling, ShakeShakeConfig, Sharing,
    SpatialDropoutConfig, WeightDecay, initialize, linear_schedule,
};
use support::layers::autodiff;
use support::{assert_near, plain, random, random_of, values};

fn message(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("a panic");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("text")).to_owned(),
    }
}

type Noise = Box<dyn Fn(Tensor<4>, &Pass) -> Tensor<4>>;

/// Every layer that multiplies activations, at this probability.
fn masks(prob: f64) -> Vec<(&'static str, Noise)> {
    let mut layers: Vec<(&'static str, Noise)> = Vec::new();
    for scaling in [Scaling::Inverted, Scaling::Classic] {
        let dropout = DropoutConfig::new(prob).with_scaling(scaling).init();
        let spatial = SpatialDropoutConfig::new(prob).with_scaling(scaling).init();
        let path = DropPathConfig::new(prob).with_scaling(scaling).init();
        layers.push(("dropout", Box::new(move |x, pass| dropout.forward(x, pass))));
        layers.push(("spatial", Box::new(move |x, pass| spatial.forward(x, pass))));
        layers.push(("path", Box::new(move |x, pass| path.forward(x, pass))));
    }
    let alpha = AlphaDropoutConfig::new(prob).init();
    let block = DropBlockConfig::new(prob).with_block_size(3).init();
    layers.push(("alpha", Box::new(move |x, pass| alpha.forward(x, pass))));
    layers.push(("block", Box::new(move |x, pass| block.forward(x, pass))));
    layers
}

#[test]
fn nothing_happens_at_probability_zero() {
    let x = random([3, 4, 5, 6], &plain());
    let gaussian = GaussianDropoutConfig::new(0.0).init();
    let mut layers = masks(0.0);
    layers.push((
        "Gaussian",
        Box::new(move |x, pass| gaussian.forward(x, pass)),
    ));
    for (name, layer) in layers {
        for pass in [Pass::train(0, 0), Pass::test(), Pass::monte_carlo(0, 0)] {
            assert_eq!(values(layer(x.clone(), &pass)), values(x.clone()), "{name}");
        }
    }
}

#[test]
fn everything_is_zero_at_probability_one() {
    for dtype in [FloatDType::F32, FloatDType::F16, FloatDType::F64] {
        let x = random([3, 4, 5, 6], &plain()).cast(dtype);
        for (name, layer) in masks(1.0) {
            let y = values(layer(x.clone(), &Pass::train(0, 0)));
            assert!(y.iter().all(|&y| y == 0.0), "{name}: {y:?}");
            let test = values(layer(x.clone(), &Pass::test()));
            assert!(test.iter().all(|y| y.is_finite()), "{name}");
        }
    }
}

/// Without noise all but classic scaling are the identity, on any device.
#[test]
fn noise_is_off_at_test_and_in_recalibration() {
    for device in [plain(), autodiff()] {
        let x = random([3, 4, 5, 6], &device);
        for (name, layer) in masks(0.5) {
            for pass in [
                Pass::test(),
                Pass::recalibrate(),
                Pass::train(0, 0).without_noise(),
            ] {
                let y = values(layer(x.clone(), &pass));
                let x = values(x.clone());
                let half: Vec<f32> = x.iter().map(|x| x / 2.0).collect();
                assert!(y == x || y == half, "{name}");
            }
        }
    }
}

#[test]
fn empty_tensors_pass() {
    let mut layers = masks(0.5);
    let gaussian = GaussianDropoutConfig::new(0.5).init();
    layers.push((
        "Gaussian",
        Box::new(move |x, pass| gaussian.forward(x, pass)),
    ));
    let shake = ShakeShakeConfig::new().init();
    layers.push((
        "shake",
        Box::new(move |x: Tensor<4>, pass| shake.forward(x.clone(), x, pass)),
    ));
    let path = DropPathConfig::new(0.5).init();
    layers.push((
        "add",
        Box::new(move |x: Tensor<4>, pass| path.forward_add(x.clone(), x, pass)),
    ));
    for (name, layer) in layers {
        for shape in [[0, 4, 5, 6], [3, 0, 5, 6], [3, 4, 0, 6], [3, 4, 5, 0]] {
            let y = layer(Tensor::ones(shape, &plain()), &Pass::train(0, 0));
            assert_eq!(y.dims(), shape, "{name}");
        }
    }
}

#[test]
fn bad_settings_are_refused_with_the_story() {
    let cases: [(fn(), &str); 9] = [
        (
            || {
                let conv = Conv2dConfig::new([1, 1], [1, 1]).with_standardize(true);
                DropConnectConv2dConfig::new(conv, 0.5).init(&plain());
            },
            "expected a convolution without standardized weights",
        ),
        (
            || {
                SpatialDropoutConfig::new(1.5).init();
            },
            "SpatialDropout: expected a probability of dropping in 0..=1, got prob = 1.5",
        ),
        (
            || {
                AlphaDropoutConfig::new(f64::NAN).init();
            },
            "AlphaDropout: expected a probability of dropping in 0..=1, got prob = NaN",
        ),
        (
            || {
                DropPathConfig::new(-0.1).init();
            },
            "DropPath: expected a probability of dropping in 0..=1, got prob = -0.1",
        ),
        (
            || {
                DropBlockConfig::new(2.0).init();
            },
            "DropBlock: expected a probability of dropping in 0..=1, got prob = 2",
        ),
        (
            || {
                DropBlockConfig::new(0.1).with_block_size(0).init();
            },
            "DropBlock: expected a block size of at least 1, got 0",
        ),
        (
            || {
                GaussianDropoutConfig::new(1.0).init();
            },
            "(at 1 the variance p/(1 − p) of the noise is infinite), got prob = 1",
        ),
        (
            || drop(DropConnectLinearConfig::new(2, 3, 7.0).init(&plain())),
            "DropConnectLinear: expected a probability of dropping in 0..=1, got prob = 7",
        ),
        (
            || {
                linear_schedule(1.1, 3);
            },
            "linear_schedule: expected a probability of dropping in 0..=1, got prob = 1.1",
        ),
    ];
    for (work, expected) in cases {
        let told = message(work);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_the_story() {
    let x = || random::<2>([2, 3], &plain());
    let told = message(|| {
        let path = DropPathConfig::new(0.5).init();
        path.forward_add(x(), random([2, 4], &plain()), &Pass::test());
    });
    assert!(
        told.contains("drop_path: expected a residual of the input's shape"),
        "{told}"
    );
    let told = message(|| {
        let shake = ShakeShakeConfig::new().init();
        shake.forward(x(), random([2, 4], &plain()), &Pass::test());
    });
    assert!(
        told.contains("ShakeShake: expected two branches of one shape"),
        "{told}"
    );
    let linear = DropConnectLinearConfig::new(4, 5, 0.5).with_sharing(Sharing::Example);
    let linear = linear.init(&plain());
    let told = message(|| drop(linear.forward(x(), &Pass::test())));
    assert!(
        told.contains("DropConnectLinear: expected an input [..., 4], got [2, 3]"),
        "{told}"
    );
    let one = || random::<1>([4], &plain());
    let told = message(|| drop(linear.forward(one(), &Pass::train(0, 0))));
    assert!(
        told.contains("to have a mask for each of N examples, got [4]"),
        "{told}"
    );
    assert_eq!(linear.forward(one(), &Pass::test()).dims(), [5]);
}

// Masks.

/// What is dropped of an input of ones.
fn dropped<const D: usize>(y: Tensor<D>) -> Vec<bool> {
    values(y).into_iter().map(|y| y == 0.0).collect()
}

#[test]
fn channels_and_examples_are_dropped_whole() {
    let spatial = SpatialDropoutConfig::new(0.5).init();
    let path = DropPathConfig::new(0.5).init();
    let pass = Pass::train(1, 2);
    let channels = dropped(spatial.forward(Tensor::<3>::ones([40, 6, 7], &plain()), &pass));
    assert!((0..channels.len()).all(|i| channels[i] == channels[i / 7 * 7]));
    let examples = dropped(path.forward(Tensor::<3>::ones([40, 6, 7], &plain()), &pass));
    assert!((0..examples.len()).all(|i| examples[i] == examples[i / 42 * 42]));
    // The mask of channels, of examples and of elements is one: that of the call's key.
    let elements = |count: usize, pass: &Pass| {
        let ones = Tensor::<1>::ones([count], &plain());
        dropped(DropoutConfig::new(0.5).init().forward(ones, pass))
    };
    let pass = Pass::train(1, 2);
    let of_first_call = elements(240, &pass);
    assert!((0..240).all(|channel| channels[channel * 7] == of_first_call[channel]));
    let of_second_call = elements(40, &pass);
    assert!((0..40).all(|example| examples[example * 42] == of_second_call[example]));
    assert_ne!(of_first_call[..40], of_second_call[..]);
    // Without positions spatial dropout is dropout.
    let pass = Pass::train(1, 2);
    let table = dropped(spatial.forward(Tensor::<2>::ones([40, 6], &plain()), &pass));
    assert_eq!(table, of_first_call);
}

/// Pairs of neighbouring channels, examples, and calls, each of 4 patterns as often as chance has it.
#[test]
fn channels_examples_and_calls_are_independent() {
    let spatial = SpatialDropoutConfig::new(0.3).init();
    let pass = Pass::train(5, 6);
    let [n, c] = [4000, 4];
    let mask = || dropped(spatial.forward(Tensor::<3>::ones([n, c, 2], &plain()), &pass));
    let (first, second) = (mask(), mask());
    let at = |mask: &[bool], n: usize, channel: usize| mask[(n * c + channel) * 2];
    let check = |what: &str, pairs: Vec<(bool, bool)>| {
        let mut counts = HashMap::new();
        for pair in &pairs {
            *counts.entry(*pair).or_insert(0.0) += 1.0;
        }
        let share = |dropped| if dropped { 0.3 } else { 0.7 };
        let chi: f64 = [(true, true), (true, false), (false, true), (false, false)]
            .map(|pair| {
                let expected = pairs.len() as f64 * share(pair.0) * share(pair.1);
                (counts.get(&pair).copied().unwrap_or(0.0) - expected).powi(2) / expected
            })
            .iter()
            .sum();
        // 3 degrees of freedom exceed 16.3 once in a thousand; the seed is fixed.
        assert!(chi < 16.3, "{what}: {chi} {counts:?}");
    };
    check(
        "channels",
        (0..n)
            .map(|i| (at(&first, i, 0), at(&first, i, 1)))
            .collect(),
    );
    check(
        "examples",
        (0..n / 2)
            .map(|i| (at(&first, 2 * i, 0), at(&first, 2 * i + 1, 0)))
            .collect(),
    );
    check(
        "calls",
        (0..n)
            .map(|i| (at(&first, i, 0), at(&second, i, 0)))
            .collect(),
    );
}

#[test]
fn a_residual_is_added_to_what_is_left() {
    for dtype in [FloatDType::F32, FloatDType::F64] {
        let x = random::<3>([6, 5, 4], &plain()).cast(dtype);
        let residual = random_of::<3>(3, [6, 5, 4], &plain()).cast(dtype);
        for scaling in [Scaling::Inverted, Scaling::Classic] {
            for pass in [|| Pass::train(0, 3), Pass::test] {
                let dropout = DropoutConfig::new(0.4).with_scaling(scaling).init();
                let fused = dropout.forward_add(x.clone(), residual.clone(), &pass());
                let apart = dropout.forward(x.clone(), &pass()) + residual.clone();
                fused.into_data().assert_eq(&apart.into_data(), true);
                let path = DropPathConfig::new(0.4).with_scaling(scaling).init();
                let fused = path.forward_add(residual.clone(), x.clone(), &pass());
                let apart = path.forward(x.clone(), &pass()) + residual.clone();
                fused.into_data().assert_eq(&apart.into_data(), true);
            }
        }
    }
}

/// Each tensor alone on the graph, and in another type.
#[test]
fn a_residual_may_be_a_constant_or_of_another_type() {
    let path = DropPathConfig::new(0.5).init();
    let constant = || random_of::<2>(3, [6, 4], &autodiff());
    let leaf = || {
        random_of::<2>(4, [6, 4], &autodiff())
            .cast(FloatDType::F16)
            .require_grad()
    };
    let branch = leaf();
    let y = path.forward_add(constant(), branch.clone(), &Pass::train(0, 0));
    assert_eq!(y.dtype(), branch.dtype());
    let expected = path.forward(branch.ones_like(), &Pass::train(0, 0));
    let gradient = branch.grad(&y.sum().backward()).unwrap();
    assert_eq!(values(gradient), values(expected));
    let residual = leaf();
    let y = path.forward_add(residual.clone(), constant(), &Pass::train(0, 0));
    assert_eq!(y.dtype(), constant().dtype());
    let gradient = residual.grad(&y.sum().backward()).unwrap();
    assert_eq!(gradient.dtype(), residual.dtype());
    assert_eq!(values(gradient), [1.0; 24]);
}

// Alpha dropout.

/// PyTorch's formula, whose constants `reference/make_fixtures.py` would only repeat: y = a·x + αap for
/// what is kept and αa(p − 1) for what is dropped, with α = 1.7580993408473766 and
/// a = 1/√((α²p + 1)(1 − p)) (`_alpha_dropout` in ATen/native/Dropout.cpp).
#[test]
fn alpha_dropout_has_pytorchs_constants() {
    let p = 0.3_f64;
    let alpha = 1.758_099_340_847_376_6_f64;
    let a = 1.0 / ((alpha * alpha * p + 1.0) * (1.0 - p)).sqrt();
    let x = random::<1>([1000], &plain()).cast(FloatDType::F64);
    let layer = AlphaDropoutConfig::new(p).init();
    let y = layer.forward(x.clone(), &Pass::train(0, 0));
    let mask = DropoutConfig::new(p)
        .init()
        .forward(x.ones_like(), &Pass::train(0, 0));
    let [y, x, mask] =
        [y, x, mask].map(|tensor| tensor.into_data().iter::<f64>().collect::<Vec<_>>());
    let numbers = y.into_iter().zip(x).zip(mask);
    for ((y, x), mask) in numbers {
        let kept = a * x + alpha * a * p;
        let expected = if mask == 0.0 {
            alpha * a * (p - 1.0)
        } else {
            kept
        };
        assert!((y - expected).abs() < 1e-14, "{y} {expected}");
    }
}

/// Normal activations keep their mean and variance.
#[test]
fn alpha_dropout_keeps_mean_and_variance() {
    let x = random::<1>([400_000], &plain());
    for p in [0.05, 0.3, 0.8] {
        let y = values(
            AlphaDropoutConfig::new(p)
                .init()
                .forward(x.clone(), &Pass::train(2, 0)),
        );
        let n = y.len() as f64;
        let mean = y.iter().map(|&y| f64::from(y)).sum::<f64>() / n;
        let variance = y
            .iter()
            .map(|&y| (f64::from(y) - mean).powi(2))
            .sum::<f64>()
            / n;
        assert!(
            mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02,
            "{p}: {mean} {variance}"
        );
    }
}

#[test]
fn gaussian_dropout_has_dropouts_moments() {
    let ones = Tensor::<1>::ones([400_000], &plain());
    for p in [0.1, 0.5] {
        let y = values(
            GaussianDropoutConfig::new(p)
                .init()
                .forward(ones.clone(), &Pass::train(2, 0)),
        );
        let n = y.len() as f64;
        let mean = y.iter().map(|&y| f64::from(y)).sum::<f64>() / n;
        let variance = y
            .iter()
            .map(|&y| (f64::from(y) - mean).powi(2))
            .sum::<f64>()
            / n;
        let expected = p / (1.0 - p);
        assert!(
            (mean - 1.0).abs() < 5.0 * (expected / n).sqrt(),
            "{p}: {mean}"
        );
        assert!(
            (variance - expected).abs() < 5.0 * expected * (2.0 / n).sqrt(),
            "{p}: {variance}"
        );
    }
}

#[test]
fn the_schedule_over_depth_is_linear() {
    assert_eq!(
        linear_schedule(0.5, 5),
        [0.1, 0.2, 0.5 * (3.0 / 5.0), 0.4, 0.5]
    );
    assert!(linear_schedule(0.5, 0).is_empty());
}

// Shake-shake.

/// Output and gradients by both branches, for a gradient of ones.
fn shaken(sharing: Sharing, pass: &Pass) -> [Vec<f32>; 3] {
    let layer = ShakeShakeConfig::new().with_sharing(sharing).init();
    let ones = Tensor::<2>::ones([50, 3], &autodiff()).require_grad();
    let zeros = Tensor::<2>::zeros([50, 3], &autodiff()).require_grad();
    let y = layer.forward(ones.clone(), zeros.clone(), pass);
    let gradients = y.clone().sum().backward();
    [
        y,
        Tensor::from_inner(ones.grad(&gradients).unwrap()),
        Tensor::from_inner(zeros.grad(&gradients).unwrap()),
    ]
    .map(values)
}

#[test]
fn shake_shake_has_other_shares_in_the_backward() {
    let [alpha, beta, rest] = shaken(Sharing::Example, &Pass::train(3, 0));
    for (i, share) in alpha.iter().enumerate() {
        assert!(
            (0.0..=1.0).contains(share) && *share == alpha[i / 3 * 3],
            "of the example"
        );
        assert_eq!(rest[i], 1.0 - beta[i]);
        assert_eq!(beta[i], beta[i / 3 * 3]);
        assert_ne!(*share, beta[i], "independent");
    }
    assert!(alpha[0] != alpha[3] && beta[0] != beta[3]);
    assert_eq!(shaken(Sharing::Example, &Pass::train(3, 0))[0], alpha);
    assert_ne!(shaken(Sharing::Example, &Pass::train(3, 1))[0], alpha);
    let [alpha, beta, rest] = shaken(Sharing::Batch, &Pass::train(3, 0));
    assert!(
        alpha.iter().all(|share| *share == alpha[0]) && beta.iter().all(|share| *share == beta[0])
    );
    assert!(alpha[0] != beta[0] && rest[0] == 1.0 - beta[0]);
    assert_eq!(
        shaken(Sharing::Example, &Pass::test()),
        [[0.5; 150]; 3].map(Vec::from)
    );
}

// DropConnect.

fn connect(prob: f64) -> DropConnectLinearConfig {
    DropConnectLinearConfig::new(6, 5, prob)
}

/// The masked weights that a forward used: its output on the unit vectors, less the bias's.
fn used_weights(layer: &DropConnectLinear, pass: &Pass) -> Vec<f32> {
    let device = plain();
    let units = Tensor::cat(
        vec![Tensor::zeros([1, 6], &device), Tensor::eye(6, &device)],
        0,
    );
    let y = layer.forward(units, pass);
    let zero = y.clone().narrow(0, 0, 1);
    values(y.narrow(0, 1, 6) - zero)
}

#[test]
fn the_mask_of_a_batch_is_over_weights() {
    let layer = connect(0.5).with_mask_bias(false).init(&plain());
    let weights = values(layer.weight.val());
    let used = used_weights(&layer, &Pass::train(0, 0));
    let dropped = used.iter().filter(|&&w| w.abs() < 1e-6).count();
    assert!((5..25).contains(&dropped), "{dropped} of 30");
    for (used, weight) in used.iter().zip(&weights) {
        assert!(used.abs() < 1e-6 || (used - 2.0 * weight).abs() < 1e-5);
    }
    let again = used_weights(&layer, &Pass::train(0, 0));
    assert_eq!(used, again);
    assert_ne!(used, used_weights(&layer, &Pass::train(0, 1)));
}

/// Every example under a mask of its own, shared by its positions; so an example alone, in the place
/// of the first, has its output bit for bit.
#[test]
fn the_masks_of_examples_are_their_own() {
    let layer = connect(0.5).with_sharing(Sharing::Example).init(&plain());
    let row = random::<3>([1, 1, 6], &plain());
    let y = layer.forward(row.clone().expand([40, 3, 6]), &Pass::train(0, 0));
    let y = values(y);
    let of = |n: usize, t: usize| &y[(n * 3 + t) * 5..][..5];
    for n in 0..40 {
        assert_eq!(of(n, 0), of(n, 1));
        assert_eq!(of(n, 0), of(n, 2));
        assert!(n == 0 || of(n, 0) != of(0, 0));
    }
    let alone = values(layer.forward(row, &Pass::train(0, 0)));
    assert_eq!(alone, of(0, 0));
}

#[test]
fn drop_connect_at_its_ends() {
    let x = || random::<2>([4, 6], &plain());
    let conv_x = || random::<4>([2, 3, 5, 5], &plain());
    for scaling in [Scaling::Inverted, Scaling::Classic] {
        for sharing in [Sharing::Batch, Sharing::Example] {
            let config = |prob| connect(prob).with_scaling(scaling).with_sharing(sharing);
            let none = config(0.0).init(&plain());
            let trained = none.forward(x(), &Pass::train(0, 0));
            assert_eq!(values(trained), values(none.forward(x(), &Pass::test())));
            let all = config(1.0).init(&plain());
            assert_eq!(values(all.forward(x(), &Pass::train(0, 0))), [0.0; 20]);
            let told = all.pre_activation(x());
            assert_eq!(
                (values(told.mean), values(told.variance)),
                (vec![0.0; 20], vec![0.0; 20])
            );
            // A bias that is not masked is left.
            let all = config(1.0).with_mask_bias(false).init(&plain());
            let y = values(all.forward(x(), &Pass::train(0, 0)));
            assert_eq!(y, values(all.bias.as_ref().unwrap().val()).repeat(4));
            assert_eq!(values(all.pre_activation(x()).mean), y);
        }
        let config = |prob| {
            let conv = Conv2dConfig::new([3, 2], [3, 3]);
            DropConnectConv2dConfig::new(conv, prob).with_scaling(scaling)
        };
        let none = config(0.0).init(&plain());
        let trained = none.forward(conv_x(), &Pass::train(0, 0));
        assert_eq!(
            values(trained),
            values(none.forward(conv_x(), &Pass::test()))
        );
        let all = config(1.0).init(&plain());
        assert_eq!(values(all.forward(conv_x(), &Pass::train(0, 0))), [0.0; 36]);
    }
}

#[test]
fn empty_batches_pass_drop_connect() {
    for sharing in [Sharing::Batch, Sharing::Example] {
        let layer = connect(0.5).with_sharing(sharing).init(&plain());
        let y = layer.forward(Tensor::<3>::ones([0, 2, 6], &plain()), &Pass::train(0, 0));
        assert_eq!(y.dims(), [0, 2, 5]);
    }
}

/// From Burn's layer and back: the same parameters, their ids and what they compute.
#[test]
fn drop_connect_converts_from_and_to_burns_linear() {
    let linear: Linear = initialize(LinearConfig::new(6, 5).init(&autodiff()), 3);
    let x = || random::<2>([4, 6], &autodiff());
    let expected = values(linear.forward(x()));
    let inverted = connect(0.25).init_from(linear.clone());
    assert_eq!(values(inverted.forward(x(), &Pass::test())), expected);
    assert_eq!(inverted.weight.id, linear.weight.id);
    let back = inverted.into_linear();
    assert_eq!(
        (back.weight.id, values(back.forward(x()))),
        (linear.weight.id, expected)
    );
    for mask_bias in [true, false] {
        let classic = connect(0.25)
            .with_scaling(Scaling::Classic)
            .with_mask_bias(mask_bias);
        let classic = classic.init_from(linear.clone());
        let at_test = values(classic.forward(x(), &Pass::test()));
        let back = classic.into_linear();
        assert_near("classic", &values(back.forward(x())), &at_test, 1e-6);
        assert!(back.weight.val().is_require_grad());
    }
    let told = message(|| drop(connect(0.25).with_bias(false).init_from(linear)));
    assert!(
        told.contains("expected weights and a bias (or none) as configured"),
        "{told}"
    );
}

#[test]
fn drop_connect_of_a_convolution_has_the_convolutions_mean() {
    let x = || random::<4>([2, 3, 5, 5], &plain());
    for scaling in [Scaling::Inverted, Scaling::Classic] {
        let config = DropConnectConv2dConfig::new(Conv2dConfig::new([3, 2], [3, 3]), 0.25);
        let layer = config.with_scaling(scaling).init(&plain());
        let at_test = values(layer.forward(x(), &Pass::test()));
        assert_ne!(values(layer.forward(x(), &Pass::train(0, 0))), at_test);
        let conv = layer.into_conv2d();
        assert_near("mean weights", &values(conv.forward(x())), &at_test, 1e-6);
    }
}

/// Mean and variance over masks are those of the sums that forwards give.
#[test]
fn the_moments_of_drop_connects_sums() {
    let x = random::<2>([3, 6], &plain());
    for (scaling, mask_bias, sharing) in [
        (Scaling::Inverted, true, Sharing::Batch),
        (Scaling::Inverted, false, Sharing::Example),
        (Scaling::Classic, true, Sharing::Example),
        (Scaling::Classic, false, Sharing::Batch),
    ] {
        let config = connect(0.3).with_scaling(scaling).with_mask_bias(mask_bias);
        let layer = config.with_sharing(sharing).init(&plain());
        let told = layer.pre_activation(x.clone());
        let at_test = layer.forward(x.clone(), &Pass::test());
        let near = Tolerance::<f32>::rel_abs(1e-5, 1e-6);
        told.mean
            .clone()
            .into_data()
            .assert_approx_eq(&at_test.into_data(), near);
        let (mean, variance) = (values(told.mean.clone()), values(told.variance.clone()));
        let draws = 4000;
        let moments = |forward: &dyn Fn(Pass) -> Tensor<2>| {
            let mut sums = vec![[0.0_f64; 2]; 15];
            for draw in 0..draws {
                let y = values(forward(Pass::monte_carlo(1, draw)));
                for ((sums, y), mean) in sums.iter_mut().zip(y).zip(&mean) {
                    let distance = f64::from(y) - f64::from(*mean);
                    *sums = [sums[0] + distance, sums[1] + distance * distance];
                }
            }
            sums.iter()
                .map(|sums| sums.map(|sum| sum / draws as f64))
                .collect::<Vec<_>>()
        };
        // Of forwards, and of what is drawn from the Gaussian.
        let forwards = moments(&|pass| layer.forward(x.clone(), &pass));
        let gaussians = moments(&|pass| told.draw(&pass));
        for (i, [shift, spread]) in forwards.into_iter().chain(gaussians).enumerate() {
            let variance = f64::from(variance[i % 15]);
            assert!(
                shift.abs() < 5.0 * (variance / draws as f64).sqrt(),
                "{i}: {shift}"
            );
            assert!(
                (spread - variance).abs() < 0.15 * variance,
                "{i}: {spread} {variance}"
            );
        }
        assert_eq!(values(told.draw(&Pass::test())), mean);
    }
}

#[derive(Module, Debug)]
struct Net {
    head: DropConnectLinear,
    plain: Linear,
}

/// Roles, initial weights and fan-in are those of Burn's linear layer.
#[test]
fn drop_connects_weights_are_a_linear_layers() {
    let net = |device: &Device| Net {
        head: DropConnectLinearConfig::new(100, 4, 0.5).init(device),
        plain: LinearConfig::new(100, 4).init(device),
    };
    let net = initialize(net(&autodiff()), 5);
    let largest = |values: Vec<f32>| values.into_iter().fold(0.0_f32, |a, v| a.max(v.abs()));
    for weight in [net.head.weight.val(), net.plain.weight.val()] {
        let largest = largest(values(weight));
        assert!((0.095..=0.1).contains(&largest), "±1/√100: {largest}");
    }
    assert_eq!(values(net.head.bias.as_ref().unwrap().val()), [0.0; 4]);
    let roles: Vec<_> = WeightDecay::new(Decay::L2 { strength: 1.0 })
        .account(&net)
        .into_iter()
        .map(|entry| (entry.path, entry.role, entry.decayed))
        .collect();
    let expected = [
        ("head.weight", Role::Weight, true),
        ("head.bias", Role::Bias, false),
        ("plain.weight", Role::Weight, true),
        ("plain.bias", Role::Bias, false),
    ];
    let expected = expected.map(|(path, role, decayed)| (path.to_owned(), role, decayed));
    assert_eq!(roles, expected);
}

// Observation.

#[test]
fn observers_see_every_noise_layer() {
    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);
    impl Observer for Log {
        fn observe(&self, seen: Observation<'_>) {
            let line = format!("{} {:?} {:?}", seen.layer, seen.shape, seen.output.dims());
            self.0.lock().unwrap().push(line);
        }
    }
    let log = Arc::new(Log::default());
    let pass = Pass::train(0, 0).observed_by(log.clone());
    let x = || random::<4>([2, 3, 4, 6], &plain());
    DropoutConfig::new(0.5).init().forward_add(x(), x(), &pass);
    SpatialDropoutConfig::new(0.5).init().forward(x(), &pass);
    AlphaDropoutConfig::new(0.5).init().forward(x(), &pass);
    GaussianDropoutConfig::new(0.5).init().forward(x(), &pass);
    DropPathConfig::new(0.5).init().forward(x(), &pass);
    DropBlockConfig::new(0.5).init().forward(x(), &pass);
    ShakeShakeConfig::new().init().forward(x(), x(), &pass);
    connect(0.5).init(&plain()).forward(x(), &pass);
    let conv = Conv2dConfig::new([3, 2], [3, 3]);
    DropConnectConv2dConfig::new(conv, 0.5)
        .init(&plain())
        .forward(x(), &pass);
    let same = |layer: &str| format!("{layer} [2, 3, 4, 6] [2, 72]");
    let mut expected: Vec<_> = [
        "dropout",
        "spatial_dropout",
        "alpha_dropout",
        "gaussian_dropout",
        "drop_path",
        "drop_block",
        "shake_shake",
    ]
    .map(same)
    .into();
    expected.push("drop_connect_linear [2, 3, 4, 6] [2, 60]".to_owned());
    expected.push("drop_connect_conv2d [2, 3, 4, 6] [2, 16]".to_owned());
    assert_eq!(*log.0.lock().unwrap(), expected);
}

/// Classic dropout of weights divided by the kept share is inverted dropout, and stays it through training: the rate of
/// those weights is divided by the share's square, since their gradient is multiplied by the share.
#[test]
fn classic_and_inverted_dropout_train_alike() {
    const PROB: f64 = 0.4;
    let device = autodiff();
    let kept = 1.0 - PROB;
    let numbers = |count: usize, period: usize| -> Vec<f64> {
        (0..count)
            .map(|i| ((i * 37 % period) as f64 / period as f64 - 0.5) * 1.3)
            .collect()
    };
    let tensor = |values: Vec<f64>, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(values, shape), &device).cast(FloatDType::F64)
    };
    let (x, y) = (
        tensor(numbers(6 * 5, 29), [6, 5]),
        tensor(numbers(6 * 3, 17), [6, 3]),
    );
    let train = |scaling: Scaling| {
        let share = match scaling {
            Scaling::Inverted => 1.0,
            Scaling::Classic => kept,
        };
        let dropout = DropoutConfig::new(PROB).with_scaling(scaling).init();
        let mut first = tensor(numbers(5 * 8, 31), [5, 8]);
        let mut second = tensor(numbers(8 * 3, 23), [8, 3]) / share;
        let mut losses = Vec::new();
        for step in 0..20 {
            let (a, b) = (first.clone().require_grad(), second.clone().require_grad());
            let hidden = x.clone().matmul(a.clone()).tanh();
            let hidden = dropout.forward(hidden, &Pass::train(1, step));
            let loss = (hidden.matmul(b.clone()) - y.clone()).square().mean();
            losses.push(loss.clone().into_data().iter::<f64>().next().unwrap());
            let gradients = loss.backward();
            let step_of = |weight: &Tensor<2>, rate: f64| {
                let gradient = Tensor::from_inner(weight.grad(&gradients).unwrap());
                Tensor::from_inner(weight.clone().inner()) - gradient * rate
            };
            first = step_of(&a, 0.3);
            second = step_of(&b, 0.3 / (share * share));
        }
        let hidden = x.clone().matmul(first).tanh();
        let at_test = dropout.forward(hidden, &Pass::test()).matmul(second);
        (losses, values(at_test))
    };
    let (inverted, at_test) = train(Scaling::Inverted);
    let (classic, classic_at_test) = train(Scaling::Classic);
    assert!(
        inverted[19] < 0.5 * inverted[0],
        "it learned nothing: {inverted:?}"
    );
    for (found, expected) in classic.iter().zip(&inverted) {
        assert!((found - expected).abs() < 1e-12, "{classic:?} {inverted:?}");
    }
    assert_near("at test", &classic_at_test, &at_test, 1e-12);
}
