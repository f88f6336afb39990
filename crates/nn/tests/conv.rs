//! The convolution layer against Burn's own, whose configuration it shares: outputs and gradients.

use burn::module::{Module, Param};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2dConfig as BurnConfig;
use burn::tensor::{Device, Distribution, Tensor, Tolerance};
use evenkeel_nn::{Conv2d, Conv2dConfig, Decay, WeightDecay, initialize};

/// Channels, kernel, stride, dilation, groups, padding, bias.
type Case = (
    [usize; 2],
    [usize; 2],
    [usize; 2],
    [usize; 2],
    usize,
    PaddingConfig2d,
    bool,
);

fn cases() -> Vec<Case> {
    use PaddingConfig2d::{Explicit, Same, Valid};
    let one = [1, 1];
    vec![
        ([3, 5], [3, 3], one, one, 1, Explicit(1, 1, 1, 1), false),
        ([3, 5], [3, 3], one, one, 1, Same, true),
        ([3, 5], [1, 1], one, one, 1, Valid, true),
        ([2, 4], [2, 4], one, one, 1, Same, true),
        ([4, 6], [3, 2], [2, 3], one, 2, Explicit(1, 0, 2, 1), true),
        ([4, 4], [3, 3], one, [2, 2], 4, Explicit(2, 2, 2, 2), false),
        ([3, 2], [5, 5], [2, 2], one, 1, Explicit(2, 2, 2, 2), true),
    ]
}

/// Ours and Burn's with the same weights.
fn layers(case: &Case, device: &Device) -> (Conv2d, burn::nn::conv::Conv2d) {
    let (channels, kernel, stride, dilation, groups, padding, bias) = case.clone();
    let ours = Conv2dConfig::new(channels, kernel)
        .with_stride(stride)
        .with_dilation(dilation)
        .with_groups(groups)
        .with_padding(padding.clone())
        .with_bias(bias)
        .init(device);
    let mut burns = BurnConfig::new(channels, kernel)
        .with_stride(stride)
        .with_dilation(dilation)
        .with_groups(groups)
        .with_padding(padding)
        .with_bias(bias)
        .init(device);
    (burns.weight, burns.bias) = (ours.weight.clone(), ours.bias.clone());
    (ours, burns)
}

#[test]
fn agrees_with_burns() {
    let device = Device::flex().autodiff();
    let near = Tolerance::<f32>::rel_abs(1e-4, 1e-4);
    for case in cases() {
        let (ours, burns) = layers(&case, &device);
        let x = || {
            // A view: what was channels last.
            let x = Tensor::<4>::random([2, 8, 9, case.0[0]], Distribution::Default, &device);
            x.permute([0, 3, 1, 2])
        };
        let x = Tensor::from_inner(x().inner()).require_grad();
        let (y, expected) = (ours.forward(x.clone()), burns.forward(x.clone()));
        assert_eq!(y.dims(), expected.dims(), "{case:?}");
        y.to_data().assert_approx_eq(&expected.to_data(), near);
        let dy = Tensor::random(y.dims(), Distribution::Default, &device);
        let (found, expected) = (
            (y * dy.clone()).sum().backward(),
            (expected * dy).sum().backward(),
        );
        let same = |found: Option<Tensor<4>>, expected: Option<Tensor<4>>| {
            let (found, expected) = (found.expect("a gradient"), expected.expect("a gradient"));
            found.to_data().assert_approx_eq(&expected.to_data(), near);
        };
        same(x.grad(&found), x.grad(&expected));
        same(
            ours.weight.val().grad(&found),
            burns.weight.val().grad(&expected),
        );
        if let (Some(bias), Some(burns)) = (&ours.bias, &burns.bias) {
            let (found, expected) = (bias.val().grad(&found), burns.val().grad(&expected));
            let (found, expected) = (found.expect("a gradient"), expected.expect("a gradient"));
            found.to_data().assert_approx_eq(&expected.to_data(), near);
        }
    }
}

/// On a plain device, frozen or not asked for: only the gradients that are asked for.
#[test]
fn gradients_follow_what_is_trained() {
    let device = Device::flex().autodiff();
    let case = &cases()[1];
    let (ours, burns) = layers(case, &device);
    let x = Tensor::<4>::random([2, 3, 5, 5], Distribution::Default, &Device::flex());
    let plain = ours.valid().forward(x.clone());
    let near = Tolerance::<f32>::rel_abs(1e-4, 1e-4);
    let expected = burns.valid().forward(x.clone());
    plain.to_data().assert_approx_eq(&expected.to_data(), near);

    let x = Tensor::from_inner(x);
    let gradients = ours.forward(x.clone()).sum().backward();
    assert!(x.grad(&gradients).is_none() && ours.weight.val().grad(&gradients).is_some());
    let frozen = ours.no_grad();
    let x = x.require_grad();
    let gradients = frozen.forward(x.clone()).sum().backward();
    assert!(x.grad(&gradients).is_some() && frozen.weight.val().grad(&gradients).is_none());
}

#[test]
fn its_weight_is_a_weight_and_its_bias_a_bias() {
    let device = Device::flex().autodiff();
    let conv = initialize(Conv2dConfig::new([8, 4], [3, 3]).init(&device), 0);
    let bound = 1.0 / 72.0_f64.sqrt();
    let weights: Vec<f32> = conv.weight.val().into_data().iter().collect();
    assert!(
        weights
            .iter()
            .all(|&weight| f64::from(weight).abs() <= bound)
    );
    let bias = conv.bias.as_ref().expect("with a bias").val();
    assert!(bias.into_data().iter::<f32>().all(|bias| bias == 0.0));
    let text = WeightDecay::new(Decay::L2 { strength: 0.1 })
        .describe(&conv)
        .join("\n");
    assert!(text.contains("288 values decayed, 4 not"), "{text}");
}

#[test]
#[should_panic(
    expected = "Conv2d: expected an input [examples, 3, height, width], got [2, 4, 5, 5]"
)]
fn other_channels_are_refused() {
    let device = Device::flex();
    let conv = Conv2dConfig::new([3, 5], [3, 3]).init(&device);
    conv.forward(Tensor::zeros([2, 4, 5, 5], &device));
}

#[test]
#[should_panic(
    expected = "Conv2d: a kernel of [3, 3], [1, 1] apart, does not fit images of [2, 9]"
)]
fn an_image_that_is_too_small_is_refused() {
    let device = Device::flex();
    let conv = Conv2dConfig::new([3, 5], [3, 3]).init(&device);
    conv.forward(Tensor::zeros([2, 3, 2, 9], &device));
}

#[test]
fn standardized_kernels_have_mean_zero_and_deviation_one() {
    let device = Device::flex();
    let config = Conv2dConfig::new([4, 6], [3, 2]).with_groups(2);
    let plain = initialize(config.init(&device), 0);
    let conv = initialize(config.with_standardize(true).init(&device), 0);
    assert_eq!(
        plain.effective_weight().into_data(),
        conv.weight.val().into_data()
    );
    let weights: Vec<f64> = conv
        .effective_weight()
        .into_data()
        .convert::<f64>()
        .iter()
        .collect();
    for kernel in weights.chunks_exact(12) {
        let mean = kernel.iter().sum::<f64>() / 12.0;
        let variance = kernel.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / 12.0;
        assert!(
            mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-4,
            "{mean} {variance}"
        );
    }
    let x = Tensor::ones([1, 4, 5, 5], &device);
    let with = |weight: Tensor<4>| {
        let mut conv = plain.clone();
        conv.weight = Param::from_tensor(weight);
        conv.forward(x.clone()).into_data()
    };
    assert_eq!(
        conv.forward(x.clone()).into_data(),
        with(conv.effective_weight())
    );
}

#[test]
#[should_panic(expected = "more than one weight for each output channel to standardize")]
fn single_weights_are_not_standardized() {
    Conv2dConfig::new([1, 6], [1, 1])
        .with_standardize(true)
        .init(&Device::flex());
}
