//! Averages over noise: Monte Carlo, and whether the test pass is one.

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, FloatDType, Tensor};
use evenkeel_nn::{
    AlphaDropoutConfig, BatchNormConfig, Conv2dConfig, DropBlockConfig, DropConnectConv2dConfig,
    DropConnectLinearConfig, DropPathConfig, DropoutConfig, ExpectationGap, GaussianDropoutConfig,
    Pass, Scaling, ShakeShakeConfig, Sharing, SpatialDropoutConfig, expectation_gap, initialize,
    monte_carlo, monte_carlo_predictive,
};
use support::layers::autodiff;
use support::{assert_near, norm, plain, random, random_of, running, tracked, values};

const DRAWS: u64 = 1500;
const SCALINGS: [Scaling; 2] = [Scaling::Inverted, Scaling::Classic];

fn input() -> Tensor<4> {
    random([4, 3, 5, 6], &plain())
}

#[track_caller]
fn assert_exact(what: &str, gap: &ExpectationGap) {
    assert!(gap.is_within_error(), "{what}: {gap}");
    assert!(gap.relative < 0.05, "{what}: {gap}");
}

#[track_caller]
fn assert_off(what: &str, gap: &ExpectationGap) {
    assert!(!gap.is_within_error(), "{what}: {gap}");
    assert!(gap.relative > 0.02, "{what}: {gap}");
}

#[test]
fn exact_layers_are_within_error() {
    let x = input();
    for scaling in SCALINGS {
        let dropout = DropoutConfig::new(0.4).with_scaling(scaling).init();
        assert_exact(
            "dropout",
            &expectation_gap(DRAWS, 1, |pass| dropout.forward(x.clone(), pass)),
        );
        let spatial = SpatialDropoutConfig::new(0.4).with_scaling(scaling).init();
        assert_exact(
            "spatial",
            &expectation_gap(DRAWS, 2, |pass| spatial.forward(x.clone(), pass)),
        );
        let path = DropPathConfig::new(0.4).with_scaling(scaling).init();
        let add = |pass: &Pass| path.forward_add(x.clone(), x.clone().square(), pass);
        assert_exact("DropPath", &expectation_gap(DRAWS, 3, add));
        for sharing in [Sharing::Batch, Sharing::Example] {
            let config = DropConnectLinearConfig::new(6, 3, 0.4).with_scaling(scaling);
            let linear = config.with_sharing(sharing).init(&plain());
            let gap = expectation_gap(DRAWS, 4, |pass| linear.forward(x.clone(), pass));
            assert_exact("DropConnect", &gap);
        }
        let conv = DropConnectConv2dConfig::new(Conv2dConfig::new([3, 2], [3, 3]), 0.4);
        let conv = conv.with_scaling(scaling).init(&plain());
        let gap = expectation_gap(DRAWS, 5, |pass| conv.forward(x.clone(), pass));
        assert_exact("DropConnect of a convolution", &gap);
    }
    let gaussian = GaussianDropoutConfig::new(0.4).init();
    assert_exact(
        "Gaussian",
        &expectation_gap(DRAWS, 6, |pass| gaussian.forward(x.clone(), pass)),
    );
    let shake = ShakeShakeConfig::new().init();
    let both = |pass: &Pass| shake.forward(x.clone(), x.clone().neg() + 1.0, pass);
    assert_exact("shake-shake", &expectation_gap(DRAWS, 7, both));
}

fn net(device: &Device) -> [Linear; 2] {
    let layers = [LinearConfig::new(6, 16), LinearConfig::new(16, 3)];
    let [first, second] = layers.map(|config| config.init(device));
    [initialize(first, 1), initialize(second, 2)]
}

#[test]
fn approximate_averages_are_reported_off() {
    let x = random::<2>([8, 6], &plain());
    let [first, second] = net(&plain());
    let dropout = DropoutConfig::new(0.5).init();
    let gap = expectation_gap(DRAWS, 1, |pass| {
        let hidden = relu(first.forward(dropout.forward(x.clone(), pass)));
        second.forward(hidden)
    });
    assert_off("dropout before a ReLU", &gap);

    let linear =
        DropConnectLinearConfig::new(6, 8, 0.5).init_from(LinearConfig::new(6, 8).init(&plain()));
    let gap = expectation_gap(DRAWS, 2, |pass| relu(linear.forward(x.clone(), pass)));
    assert_off("DropConnect before a ReLU", &gap);

    // Statistics of 2000 examples at test, of 8 in training.
    let norm = BatchNormConfig::new(6).init(&plain());
    norm.forward(random::<2>([2000, 6], &plain()), &Pass::recalibrate());
    let gap = expectation_gap(4, 3, |pass| norm.forward(x.clone(), pass));
    assert_off("batch norm of small batches", &gap);

    let alpha = AlphaDropoutConfig::new(0.3).init();
    let gap = expectation_gap(DRAWS, 4, |pass| alpha.forward(x.clone(), pass));
    assert_off("alpha dropout element by element", &gap);

    // Elements at the edge of a map are dropped less often than those inside.
    let ones = Tensor::<4>::ones([2, 2, 8, 8], &plain());
    let block = DropBlockConfig::new(0.3).with_block_size(5).init();
    let gap = expectation_gap(DRAWS, 5, |pass| block.forward(ones.clone(), pass));
    assert!(!gap.is_within_error(), "{gap}");
}

/// The example whose companions differ from draw to draw: noise of a kind that no layer draws.
#[test]
fn companions_of_a_batch_are_noise() {
    let norm = BatchNormConfig::new(3).init(&plain());
    norm.forward(random::<2>([4000, 3], &plain()), &Pass::recalibrate());
    let gap_of = |companions: usize| {
        let call = Cell::new(100);
        expectation_gap(400, 0, |pass| {
            call.set(call.get() + 1);
            let example = Tensor::<2>::from_floats([[1.5, -2.0, 3.0]], &plain());
            let others = random_of::<2>(call.get(), [companions, 3], &plain());
            let y = norm.forward(Tensor::cat(vec![example, others], 0), pass);
            y.narrow(0, 0, 1)
        })
    };
    let (few, many) = (gap_of(3), gap_of(63));
    assert_off("4 in a batch", &few);
    assert!(many.relative < few.relative / 4.0, "{few}; {many}");
}

#[test]
fn looking_leaves_no_trace() {
    let norm = norm(&plain());
    let before = running(&norm);
    expectation_gap(5, 0, |pass| {
        norm.forward(random::<2>([6, 2], &plain()), pass)
    });
    monte_carlo(5, 0, |pass| {
        norm.forward(random::<2>([6, 2], &plain()), pass)
    });
    assert_eq!((running(&norm), tracked(&norm)), (before, 0));
}

#[test]
fn the_gap_is_mean_less_test_and_its_error() {
    // 1 at test, 3 and 5 in two draws; 2 always.
    let call = Cell::new(0);
    let gap = expectation_gap(2, 0, |_| {
        call.set(call.get() + 1);
        let first = [1.0, 3.0, 5.0][call.get() - 1];
        Tensor::<1>::from_floats([first, 2.0], &plain())
    });
    assert_eq!(
        (gap.gap.as_slice(), gap.standard_error.as_slice()),
        (&[3.0, 0.0][..], &[1.0, 0.0][..])
    );
    assert!((gap.largest - 3.0).abs() < 1e-6);
    // √((9 − 1)/2) of the deviation of 1 and 2.
    assert!((gap.relative - 4.0).abs() < 1e-12, "{}", gap.relative);
    assert_eq!((gap.draws, gap.shape.as_slice()), (2, &[2][..]));
    let told = gap.to_string();
    assert!(
        told.contains("3.0 standard errors") && told.contains("400.00 %"),
        "{told}"
    );
}

/// NaN is beyond every limit, and nothing at all is within.
#[test]
fn values_that_are_not_numbers_are_off() {
    let nan = |_: &Pass| Tensor::<1>::from_floats([f32::NAN, 1.0], &plain());
    assert!(!expectation_gap(3, 0, nan).is_within_error());
    let nothing = |_: &Pass| Tensor::<2>::ones([0, 3], &plain());
    assert!(expectation_gap(3, 0, nothing).is_within_error());
}

#[test]
fn moments_are_those_of_all_draws_at_once() {
    let dropout = DropoutConfig::new(0.3).init();
    for device in [plain(), autodiff()] {
        let x = random::<2>([3, 4], &device) + 100.0;
        let draw = |pass: &Pass| dropout.forward(x.clone(), pass);
        let moments = monte_carlo(50, 9, draw);
        let all: Vec<_> = (0..50)
            .map(|i| values(draw(&Pass::monte_carlo(9, i))))
            .collect();
        let of = |i: usize| {
            let mean = all.iter().map(|y| f64::from(y[i])).sum::<f64>() / 50.0;
            let squares = all.iter().map(|y| (f64::from(y[i]) - mean).powi(2));
            (mean as f32, (squares.sum::<f64>() / 49.0) as f32)
        };
        let (mean, variance): (Vec<_>, Vec<_>) = (0..12).map(of).unzip();
        assert_near("mean", &values(moments.mean()), &mean, 1e-5);
        assert_near("variance", &values(moments.variance()), &variance, 1e-4);
        assert_eq!((moments.draws(), moments.mean().is_autodiff()), (50, false));
        let other = monte_carlo(50, 10, draw);
        assert_ne!(values(other.mean()), values(moments.mean()));
        let one = monte_carlo(1, 9, draw);
        assert_eq!(values(one.variance()), [0.0; 12]);
    }
    let half = random::<2>([3, 4], &plain()).cast(FloatDType::F16);
    let moments = monte_carlo(3, 0, |_| half.clone());
    assert_eq!(moments.mean().dtype(), FloatDType::F32.into());
}

#[test]
fn uncertainty_is_total_and_of_disagreement() {
    let two = |logits: [[f32; 2]; 3]| Tensor::<2>::from_floats(logits, &plain());
    // Agreed and sure; agreed that both are likely; disagreeing.
    let call = Cell::new(0);
    let predicted = monte_carlo_predictive(10, 0, |_| {
        call.set(call.get() + 1);
        let sign = if call.get() % 2 == 0 { 20.0 } else { -20.0 };
        two([[f32::NEG_INFINITY, 0.0], [1.0, 1.0], [sign, -sign]])
    });
    let ln2 = std::f32::consts::LN_2;
    assert_near(
        "probabilities",
        &values(predicted.probabilities),
        &[0.0, 1.0, 0.5, 0.5, 0.5, 0.5],
        1e-6,
    );
    assert_near(
        "entropy",
        &values(predicted.entropy),
        &[0.0, ln2, ln2],
        1e-5,
    );
    assert_near(
        "mutual information",
        &values(predicted.mutual_information),
        &[0.0, 0.0, ln2],
        1e-5,
    );
    // 0 and 1, five times each: 10·¼/9.
    let variance = [0.0, 0.0, 0.0, 0.0, 2.5 / 9.0, 2.5 / 9.0];
    assert_near("variance", &values(predicted.variance), &variance, 1e-5);
}

#[test]
fn no_draws_are_refused() {
    let told = |work: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("a panic");
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap()
    };
    let one = |_: &Pass| Tensor::<1>::ones([1], &plain());
    let text = told(&|| {
        monte_carlo(0, 0, one);
    });
    assert!(
        text.contains("monte_carlo: expected at least one draw, got 0"),
        "{text}"
    );
    let text = told(&|| {
        expectation_gap(1, 0, one);
    });
    assert!(
        text.contains("expected at least 2 draws to tell an error from, got 1"),
        "{text}"
    );
}
