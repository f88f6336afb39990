//! Folding batch norms: the same outputs within the promised bound, and refusals.

mod support;

use burn::module::Param;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, FloatDType, Tensor};
use evenkeel_nn::fold::{FoldingError, NotFoldable, fold_conv2d, fold_linear, foldable};
use evenkeel_nn::{
    Activation, BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, NormKind, Pass, initialize,
};
use support::{plain, random_of, values};

/// A norm as after training: scales of both signs, statistics of any size.
fn trained(channels: usize, affine: bool) -> BatchNorm {
    let mut norm = BatchNormConfig::new(channels)
        .with_affine(affine)
        .init(&plain());
    let random = |seed| random_of::<1>(seed, [channels], &plain());
    if affine {
        norm.weight = Some(Param::from_tensor(random(1)));
        norm.bias = Some(Param::from_tensor(random(2)));
    }
    norm.running_mean.set(random(3) * 5.0);
    norm.running_var.set(random(4).square() * 3.0 + 1e-3);
    norm
}

/// The outputs differ, by no more than promised.
fn assert_within<const D: usize>(
    what: &str,
    x: &Tensor<D>,
    folded: Tensor<D>,
    apart: Tensor<D>,
    error: FoldingError,
) {
    let largest = values(x.clone().abs().max()).remove(0);
    let bound = error.of(f64::from(largest));
    let (folded, apart) = (values(folded), values(apart));
    let difference = folded.iter().zip(&apart).map(|(a, b)| (a - b).abs());
    let worst = f64::from(difference.fold(0.0, f32::max));
    assert!(worst <= bound, "{what}: {worst}, promised {bound}");
    let size = f64::from(apart.iter().fold(0.0_f32, |size, y| size.max(y.abs())));
    assert!(
        bound < 1e-3 * size,
        "{what}: a bound of {bound} says nothing of {size}"
    );
    assert_eq!(folded.len(), apart.len());
}

fn conv(config: Conv2dConfig) -> Conv2d {
    let mut conv = initialize(config.init(&plain()), 7);
    if let Some(bias) = conv.bias.take() {
        let [channels] = bias.val().dims();
        conv.bias = Some(Param::from_tensor(random_of::<1>(8, [channels], &plain())));
    }
    conv
}

#[test]
fn a_convolution_computes_the_same() {
    let x = random_of::<4>(5, [3, 4, 9, 8], &plain()) * 3.0;
    let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
    for (what, config) in [
        (
            "plain",
            Conv2dConfig::new([4, 6], [3, 3]).with_padding(same),
        ),
        (
            "without bias",
            Conv2dConfig::new([4, 6], [3, 3]).with_bias(false),
        ),
        (
            "grouped, strided",
            Conv2dConfig::new([4, 6], [2, 3])
                .with_groups(2)
                .with_stride([2, 1]),
        ),
        ("1×1", Conv2dConfig::new([4, 5], [1, 1])),
        (
            "standardized",
            Conv2dConfig::new([4, 6], [3, 3]).with_standardize(true),
        ),
    ] {
        for affine in [true, false] {
            let conv = conv(config.clone());
            let norm = trained(config.channels[1], affine);
            let (folded, error) = fold_conv2d(&conv, &norm).expect("foldable");
            let apart = norm.forward(conv.forward(x.clone()), &Pass::test());
            assert_within(what, &x, folded.forward(x.clone()), apart, error);
            assert_eq!(folded.weight.id, conv.weight.id);
        }
    }
}

fn linear(inputs: usize, outputs: usize, bias: bool) -> Linear {
    let mut linear: Linear = LinearConfig::new(inputs, outputs)
        .with_bias(bias)
        .init(&plain());
    linear.weight = Param::from_tensor(random_of::<2>(9, [inputs, outputs], &plain()));
    linear
}

#[test]
fn a_linear_layer_computes_the_same() {
    let x = random_of::<2>(5, [7, 50], &plain());
    for bias in [true, false] {
        let (linear, norm) = (linear(50, 6, bias), trained(6, true));
        let (folded, error) = fold_linear(&linear, &norm).expect("foldable");
        let apart = norm.forward(linear.forward(x.clone()), &Pass::test());
        assert_within("linear", &x, folded.forward(x.clone()), apart, error);
    }
}

/// In `f64` the two differ by the rounding of the folded weights to their own type alone.
#[test]
fn it_is_the_algebra() {
    let wide = |norm: &mut BatchNorm| {
        let cast = |p: &mut Option<Param<Tensor<1>>>| {
            *p = p
                .take()
                .map(|p| Param::from_tensor(p.val().cast(FloatDType::F64)));
        };
        cast(&mut norm.weight);
        cast(&mut norm.bias);
    };
    let mut norm = trained(3, true);
    wide(&mut norm);
    let mut linear = linear(4, 3, false);
    linear.weight = Param::from_tensor(linear.weight.val().cast(FloatDType::F64));
    let x = random_of::<2>(5, [7, 4], &plain()).cast(FloatDType::F64);
    let (folded, _) = fold_linear(&linear, &norm).expect("foldable");
    let difference = folded.forward(x.clone()) - norm.forward(linear.forward(x), &Pass::test());
    let worst = difference.abs().max().into_scalar::<f64>();
    assert!(worst < 1e-12, "{worst}");
}

#[test]
fn what_cannot_be_folded_is_refused() {
    assert_eq!(foldable(None).expect_err("no norm"), NotFoldable::NoNorm);
    let init = |kind: NormKind| kind.init(4, Activation::None, &Device::flex());
    assert!(foldable(init(NormKind::Batch).as_ref()).is_ok());
    for (kind, name) in [
        (NormKind::Group(2), "group norm"),
        (NormKind::Layer, "layer norm"),
        (NormKind::Instance, "instance norm"),
    ] {
        let refusal = foldable(init(kind).as_ref()).expect_err("depends on the example");
        assert!(refusal.to_string().contains(name), "{refusal}");
    }
    let config = Conv2dConfig::new([4, 6], [3, 3]);
    let refusal = fold_conv2d(&conv(config), &trained(4, true)).expect_err("other channels");
    let told = refusal.to_string();
    assert!(told.contains("6 output channels and the norm 4"), "{told}");
}
