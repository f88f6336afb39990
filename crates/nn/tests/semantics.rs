//! The semantics that frameworks differ in, and Burn's traps that must not be inherited: most of
//! these tests fail with Burn's own layers.

mod support;

use std::sync::{Arc, Mutex};

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, Tolerance};
use evenkeel_nn::{
    Activation, BatchNorm, BatchNormConfig, Decay, DropoutConfig, GlobalAvgPool, Observation,
    Observer, Pass, Role, RunningAverage, Scaling, WeightDecay, initialize,
};
use support::{message, norm, plain, random, running, values};

fn table(rows: &[[f32; 2]], device: &Device) -> Tensor<2> {
    let numbers = rows.concat();
    Tensor::from_data(TensorData::new(numbers, [rows.len(), 2]), device)
}

// Modes: the pass decides, not the device. (Burn infers training from `is_autodiff()`.)

#[test]
fn trains_on_a_plain_device_and_tests_on_an_autodiff_one() {
    let norm = norm(&plain());
    let x = table(&[[1.0, 2.0], [3.0, 6.0]], &plain());
    norm.forward(x.clone(), &Pass::train(0, 0));
    assert_eq!(running(&norm).0, [0.2, 0.4]);
    let autodiff = plain().autodiff();
    let norm = norm.train();
    norm.forward(Tensor::from_inner(x), &Pass::test());
    assert_eq!(running(&norm).0, [0.2, 0.4]);
    assert!(norm.weight.unwrap().val().device() == autodiff);
}

#[test]
fn dropout_runs_on_a_plain_device() {
    let dropout = DropoutConfig::new(0.5).init();
    let x = Tensor::<1>::ones([1000], &plain());
    let zeros = |pass: &Pass| {
        values(dropout.forward(x.clone(), pass))
            .iter()
            .filter(|value| **value == 0.0)
            .count()
    };
    assert_eq!(zeros(&Pass::test()), 0);
    assert!((400..600).contains(&zeros(&Pass::monte_carlo(1, 0))));
    assert!((400..600).contains(&zeros(&Pass::train(1, 0))));
}

#[test]
fn frozen_statistics_stay_whatever_the_module_says() {
    let norm = norm(&plain().autodiff());
    let x = random([8, 2], &plain().autodiff());
    let pass = Pass::train(0, 0).freeze_statistics();
    let norm = norm.unfreeze().train();
    let y = norm.forward(x.clone(), &pass);
    assert_eq!(running(&norm), (vec![0.0; 2], vec![1.0; 2]));
    y.into_data()
        .assert_approx_eq::<f32>(&x.into_data(), Tolerance::absolute(1e-4));
}

// Running statistics.

#[test]
fn the_running_variance_is_unbiased_and_keras_has_its_own() {
    let x = table(&[[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]], &plain());
    let norm = norm(&plain());
    norm.forward(x.clone(), &Pass::train(0, 0));
    let (_, var) = running(&norm);
    // Unbiased: 4 and 12; biased: 8/3 and 8.
    assert!(
        (var[0] - (0.9 + 0.1 * 4.0)).abs() < 1e-6 && (var[1] - (0.9 + 0.1 * 12.0)).abs() < 1e-6
    );
    let keras = BatchNormConfig::keras(2).init(&plain());
    keras.forward(x, &Pass::train(0, 0));
    let (mean, var) = running(&keras);
    assert!((mean[0] - 0.03).abs() < 1e-6 && (var[1] - (0.99 + 0.01 * 8.0)).abs() < 1e-6);
}

#[test]
fn cumulative_is_the_plain_average() {
    let norm = BatchNormConfig::new(2)
        .with_average(RunningAverage::Cumulative)
        .init(&plain());
    for (step, shift) in [0.0, 3.0, 6.0].into_iter().enumerate() {
        let x = table(&[[shift - 1.0, 0.0], [shift + 1.0, 4.0]], &plain());
        norm.forward(x, &Pass::train(0, step as u64));
    }
    let (mean, var) = running(&norm);
    assert!(
        (mean[0] - 3.0).abs() < 1e-5 && (var[0] - 2.0).abs() < 1e-5 && (var[1] - 8.0).abs() < 1e-5
    );
}

#[test]
fn a_clone_has_statistics_of_its_own() {
    let first = norm(&plain());
    let second = first.clone();
    first.forward(
        table(&[[1.0, 1.0], [3.0, 3.0]], &plain()),
        &Pass::train(0, 0),
    );
    assert_eq!(running(&second), (vec![0.0; 2], vec![1.0; 2]));
    assert_ne!(running(&first), running(&second));
}

#[test]
fn a_record_is_up_to_date_and_a_load_is_final() {
    let device = plain().autodiff();
    let trained = norm(&device);
    trained.forward(
        table(&[[1.0, 1.0], [3.0, 5.0]], &device),
        &Pass::train(0, 0),
    );
    let expected = running(&trained);
    let bytes = trained.clone().into_record().into_bytes().unwrap();
    let load = |into: BatchNorm| {
        let record = burn::store::ModuleRecord::from_bytes(bytes.clone()).unwrap();
        into.load_record(record)
    };
    let loaded = load(norm(&device));
    assert_eq!(running(&loaded), expected);
    // A layer that was training when the record came has no pending update that overwrites it.
    let busy = norm(&device);
    busy.forward(
        table(&[[100.0, 100.0], [300.0, 500.0]], &device),
        &Pass::train(0, 0),
    );
    let busy = load(busy);
    assert_eq!(running(&busy), expected);
    assert_eq!(running(&busy.valid()), expected);
    let count = busy.num_batches_tracked.get(&plain()).into_scalar::<i64>();
    assert_eq!(count, 1);
}

#[test]
fn statistics_are_never_trained() {
    let norm = norm(&plain().autodiff()).unfreeze().set_require_grad(true);
    norm.forward(random([8, 2], &plain().autodiff()), &Pass::train(0, 0));
    assert!(!norm.running_mean.get(&plain().autodiff()).is_require_grad());
}

#[test]
fn recalibration_is_one_big_batch() {
    let device = plain();
    let all = random([24, 2, 3], &device) * 3.0 + 5.0;
    let (parts, whole) = (norm(&device), norm(&device));
    parts.forward(random([4, 2, 3], &device), &Pass::train(0, 0));
    for pass in [Pass::recalibrate(), Pass::recalibrate()] {
        // Twice: a second recalibration starts afresh.
        for range in [0..5, 5..6, 6..24] {
            parts.forward(
                all.clone().narrow(0, range.start, range.len()),
                &pass.scope("net"),
            );
        }
    }
    whole.forward(all, &Pass::recalibrate());
    let ((mean, var), (whole_mean, whole_var)) = (running(&parts), running(&whole));
    for (a, b) in mean
        .iter()
        .zip(&whole_mean)
        .chain(var.iter().zip(&whole_var))
    {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert_eq!(
        parts.num_batches_tracked.get(&device).into_scalar::<i64>(),
        3
    );
}

// Hard inputs.

#[test]
fn one_value_per_channel_is_refused_with_the_remedy() {
    let norm = norm(&plain());
    let one = Tensor::<4>::ones([1, 2, 1, 1], &plain());
    let told = message(|| drop(norm.forward(one.clone(), &Pass::train(0, 0))));
    assert!(
        told.contains("[1, 2, 1, 1]") && told.contains("freeze_statistics"),
        "{told}"
    );
    norm.forward(one, &Pass::test());
    let told = message(|| drop(norm.forward(Tensor::<2>::ones([4, 3], &plain()), &Pass::test())));
    assert!(
        told.contains("[examples, 2, positions...]") && told.contains("[4, 3]"),
        "{told}"
    );
}

#[test]
fn empty_batches_pass_and_leave_no_trace() {
    for device in [plain(), plain().autodiff()] {
        let norm = norm(&device);
        let y = norm.forward(Tensor::<3>::zeros([0, 2, 5], &device), &Pass::train(0, 0));
        assert_eq!(y.dims(), [0, 2, 5]);
        assert_eq!(running(&norm), (vec![0.0; 2], vec![1.0; 2]));
    }
}

#[test]
fn a_fused_relu_lets_nan_through() {
    let norm = BatchNormConfig::new(1)
        .with_activation(Activation::Relu)
        .init(&plain());
    let x = Tensor::<2>::from_floats([[f32::NAN], [1.0]], &plain());
    assert!(values(norm.forward(x, &Pass::test()))[0].is_nan());
}

// Noise.

#[test]
fn dropout_keeps_the_mean_in_training_or_at_test() {
    let x = Tensor::<1>::ones([100_000], &plain());
    for (scaling, train_mean, test_value) in
        [(Scaling::Inverted, 1.0, 1.0), (Scaling::Classic, 0.7, 0.7)]
    {
        let dropout = DropoutConfig::new(0.3).with_scaling(scaling).init();
        let y = values(dropout.forward(x.clone(), &Pass::train(0, 0)));
        let mean = y.iter().sum::<f32>() / 1e5;
        assert!((mean - train_mean).abs() < 0.01, "{mean}");
        assert!(
            values(dropout.forward(x.clone(), &Pass::test()))
                .iter()
                .all(|v| (v - test_value).abs() < 1e-6)
        );
    }
}

#[test]
fn dropping_everything_gives_zeros_and_no_nan() {
    for scaling in [Scaling::Inverted, Scaling::Classic] {
        let dropout = DropoutConfig::new(1.0).with_scaling(scaling).init();
        let x = Tensor::<1>::ones([50], &plain());
        assert!(
            values(dropout.forward(x, &Pass::train(0, 0)))
                .iter()
                .all(|value| *value == 0.0)
        );
    }
    assert!(
        message(|| {
            DropoutConfig::new(1.5).init();
        })
        .contains("prob = 1.5")
    );
}

#[test]
fn the_gradient_has_the_mask_of_the_forward() {
    let device = plain().autodiff();
    let dropout = DropoutConfig::new(0.4).init();
    let x = Tensor::<2>::ones([37, 11], &device).require_grad();
    let y = dropout.forward(x.clone(), &Pass::train(3, 14));
    let gradients = y.clone().sum().backward();
    y.into_data()
        .assert_eq(&x.grad(&gradients).unwrap().into_data(), true);
}

#[test]
fn masks_are_a_function_of_seed_step_and_scope() {
    let dropout = DropoutConfig::new(0.5).init();
    let x = Tensor::<1>::ones([256], &plain());
    let mask = |pass: Pass| values(dropout.forward(x.clone(), &pass));
    assert_eq!(
        mask(Pass::train(1, 2).scope("a")),
        mask(Pass::train(1, 2).scope("a"))
    );
    assert_ne!(
        mask(Pass::train(1, 2).scope("a")),
        mask(Pass::train(1, 3).scope("a"))
    );
    assert_ne!(
        mask(Pass::train(1, 2).scope("a")),
        mask(Pass::train(1, 2).scope("b"))
    );
    // Pinned: a change here changes every training.
    let first: Vec<bool> = mask(Pass::train(1, 2).scope("a"))[..12]
        .iter()
        .map(|v| *v != 0.0)
        .collect();
    assert_eq!(first, PINNED_MASK);
}

const PINNED_MASK: [bool; 12] = [
    false, true, false, true, true, false, true, false, false, false, false, false,
];

// Decay, initialization, observation.

#[derive(Module, Debug)]
struct Net {
    conv: burn::nn::conv::Conv2d,
    norm: BatchNorm,
    head: burn::nn::Linear,
}

fn net(device: &Device) -> Net {
    Net {
        conv: burn::nn::conv::Conv2dConfig::new([1, 2], [3, 3]).init(device),
        norm: norm(device),
        head: burn::nn::LinearConfig::new(2, 3).init(device),
    }
}

#[test]
fn only_weights_are_decayed_unless_asked() {
    let net = net(&plain().autodiff());
    let decayed = |decay: &WeightDecay| -> Vec<String> {
        let entries = decay.account(&net).into_iter();
        entries
            .filter(|entry| entry.decayed)
            .map(|entry| entry.path)
            .collect()
    };
    let decay = WeightDecay::new(Decay::L2 { strength: 0.1 });
    assert_eq!(decayed(&decay), ["conv.weight", "head.weight"]);
    assert_eq!(
        decayed(&decay.clone().including(Role::Norm)),
        ["conv.weight", "norm.weight", "norm.bias", "head.weight"]
    );
    assert!(decayed(&WeightDecay::new(Decay::None)).is_empty());
    let account = decay.describe(&net).join("\n");
    assert!(
        account.starts_with("L2 0.1: 24 values decayed, 9 not"),
        "{account}"
    );
    assert!(
        account.contains("norm.weight [2] (norm): not decayed"),
        "{account}"
    );
}

/// `freeze()` and `no_grad()` stop decay, in the account as in what happens.
#[test]
fn frozen_parameters_are_not_decayed() {
    let device = plain().autodiff();
    let mut net = net(&device);
    net.head = net.head.no_grad();
    let coupled = WeightDecay::new(Decay::L2 { strength: 0.1 });
    for net in [net.clone(), net.valid()] {
        let account = coupled.describe(&net).join("\n");
        for line in [
            "L2 0.1: 18 values decayed, 15 not",
            "conv.weight [2, 1, 3, 3] (weight): L2 0.1",
            "norm.weight [2] (norm): not decayed",
            "head.weight [2, 3] (weight): frozen, not decayed",
        ] {
            assert!(account.contains(line), "{account}");
        }
    }
    let mut without_head = net.clone();
    without_head.head = burn::nn::LinearConfig::new(2, 3)
        .with_initializer(burn::module::Initializer::Zeros)
        .init(&device);
    assert_eq!(coupled.penalty(&net), coupled.penalty(&without_head));
    let (head, conv) = (values(net.head.weight.val()), values(net.conv.weight.val()));
    let shrunk = WeightDecay::new(Decay::Decoupled { strength: 0.5 }).shrink(net, 1.0);
    assert_eq!(values(shrunk.head.weight.val()), head);
    let half: Vec<f32> = conv.iter().map(|weight| weight / 2.0).collect();
    assert_eq!(values(shrunk.conv.weight.val()), half);
}

#[test]
fn penalties_are_what_their_gradients_say() {
    let device = plain().autodiff();
    let net = net(&device);
    for decay in [
        Decay::L2 { strength: 0.3 },
        Decay::L1 { strength: 0.2 },
        Decay::ElasticNet { l1: 0.1, l2: 0.4 },
    ] {
        let decay = WeightDecay::new(decay);
        let weight = net.head.weight.val();
        let zero = (weight.clone() * 0.0).sum().backward();
        let gradients = burn::optim::GradientsParams::from_grads(zero, &net);
        let gradients = decay.add_to_gradients(&net, gradients);
        let gradient = gradients.get::<2>(net.head.weight.id).unwrap();
        // The penalty moves as its gradient says, along a random direction.
        let direction = random([2, 3], &plain());
        let slope = (gradient * direction.clone()).sum().into_scalar::<f32>();
        let moved = |by: f64| {
            let mut net = net.clone();
            let weight = net.head.weight.val().without_autodiff() + direction.clone() * by;
            net.head.weight = Param::from_tensor(Tensor::from_inner(weight));
            decay.penalty(&net)
        };
        let measured = (moved(1e-3) - moved(-1e-3)) / 2e-3;
        assert!(
            (measured - f64::from(slope)).abs() < 1e-3,
            "{measured} {slope}"
        );
    }
}

#[test]
fn initial_weights_depend_on_seed_and_path_alone() {
    #[derive(Module, Debug)]
    struct Larger {
        added: burn::nn::Linear,
        conv: burn::nn::conv::Conv2d,
    }
    let device = plain();
    let first = initialize(net(&device), 7);
    let again = initialize(net(&device), 7);
    let other = initialize(net(&device), 8);
    let weight = |net: &Net| values(net.conv.weight.val());
    assert_eq!(weight(&first), weight(&again));
    assert_ne!(weight(&first), weight(&other));
    assert_eq!(first.conv.weight.id, again.conv.weight.id);
    let Net { conv, .. } = net(&device);
    let added = burn::nn::LinearConfig::new(4, 4).init(&device);
    let larger = initialize(Larger { added, conv }, 7);
    assert_eq!(values(larger.conv.weight.val()), weight(&first));
    // Uniform in ±1/√fan_in; biases zero; norms as they were.
    assert!(weight(&first).iter().all(|value| value.abs() <= 1.0 / 3.0));
    assert!(
        values(first.head.bias.unwrap().val())
            .iter()
            .all(|value| *value == 0.0)
    );
    assert_eq!(values(first.norm.weight.unwrap().val()), [1.0; 2]);
}

#[test]
fn observers_see_each_layer() {
    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);
    impl Observer for Log {
        fn observe(&self, seen: Observation<'_>) {
            let statistics = if seen.statistics.is_some() {
                "with"
            } else {
                "without"
            };
            let line = format!(
                "{} {} {:?} {statistics}",
                seen.path,
                seen.layer,
                seen.input.dims()
            );
            self.0.lock().unwrap().push(line);
        }
    }
    let log = Arc::new(Log::default());
    let pass = Pass::train(0, 0).observed_by(log.clone());
    let x = norm(&plain()).forward(
        random([4, 2, 3], &plain()),
        &pass.scope("block1").scope("norm"),
    );
    DropoutConfig::new(0.5)
        .init()
        .forward(x, &pass.scope("drop"));
    let seen = log.0.lock().unwrap();
    assert_eq!(
        *seen,
        [
            "block1.norm batch_norm [4, 6] with",
            "drop dropout [4, 6] without"
        ]
    );
}

#[test]
fn averaging_nothing_is_refused() {
    let empty = Tensor::<3>::ones([2, 2, 0], &plain());
    assert!(message(|| drop(GlobalAvgPool.forward(empty))).contains("[2, 2, 0]"));
}
