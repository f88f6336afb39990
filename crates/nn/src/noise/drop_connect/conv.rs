//! A convolution with a mask over its weights.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor};
use evenkeel_kernels::Scaling;

use super::mean_weights::{mean_parameter, noisy};
use crate::noise::check_prob;
use crate::{Conv2d, Conv2dConfig, Pass};

/// Configuration of a [`DropConnectConv2d`] layer.
#[derive(Config, Debug)]
pub struct DropConnectConv2dConfig {
    /// The convolution.
    pub conv: Conv2dConfig,
    /// The probability of *dropping* a weight, in 0..=1.
    pub prob: f64,
    /// Whether biases are masked as well.
    #[config(default = true)]
    pub mask_bias: bool,
    /// Keep the mean right in training (inverted) or at test (classic).
    #[config(default = "Scaling::Inverted")]
    pub scaling: Scaling,
}

impl DropConnectConv2dConfig {
    /// # Panics
    /// If `prob` is not in 0..=1, or the groups do not divide the channels, or weights are to be
    /// standardized, which the classic scaling at test would be lost in.
    pub fn init(&self, device: &Device) -> DropConnectConv2d {
        check_prob("DropConnectConv2d", self.prob);
        assert!(
            !self.conv.standardize,
            "DropConnectConv2d: expected a convolution without standardized weights, got standardize = \
             true"
        );
        let Conv2d {
            weight,
            bias,
            stride,
            kernel_size,
            dilation,
            groups,
            padding,
            ..
        } = self.conv.init(device);
        DropConnectConv2d {
            weight,
            bias,
            stride,
            kernel_size,
            dilation,
            groups,
            padding,
            prob: self.prob,
            mask_bias: self.mask_bias,
            scaling: self.scaling,
        }
    }
}

/// Sets weights of a convolution to zero at random: one mask for the batch and for all positions.
///
/// | | noise drawn (training, Monte Carlo) | noise off (test) |
/// |---|---|---|
/// | inverted | conv(x, W⋆M / (1 − prob), b⋆m / (1 − prob)) | conv(x, W, b) |
/// | classic | conv(x, W⋆M, b⋆m) | conv(x, W·(1 − prob), b·(1 − prob)) |
///
/// with masks as in [`DropConnectLinear`](super::DropConnectLinear). The mean of the output over masks
/// is the output at test; of what follows a non-linearity it is not. Weights are named and laid out as
/// in [`Conv2d`].
///
/// Source: Wan, Zeiler, Zhang, LeCun, Fergus, "Regularization of Neural Networks using DropConnect"
/// (2013).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct DropConnectConv2d {
    /// `[C_out, C/groups, height, width]`.
    pub weight: Param<Tensor<4>>,
    /// `[C_out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// From one output position to the next.
    pub stride: [usize; 2],
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// From one place of the kernel to the next.
    pub dilation: [usize; 2],
    /// Groups of channels.
    pub groups: usize,
    /// Zeros around the image.
    #[module(skip)]
    pub padding: PaddingConfig2d,
    /// The probability of dropping a weight.
    pub prob: f64,
    /// Whether biases are masked as well.
    pub mask_bias: bool,
    /// Where the mean is kept right.
    #[module(skip)]
    pub scaling: Scaling,
}

impl DropConnectConv2d {
    /// # Shapes
    /// As [`Conv2d::forward`].
    ///
    /// # Panics
    /// As [`Conv2d::forward`].
    pub fn forward(&self, input: Tensor<4>, pass: &Pass) -> Tensor<4> {
        let key = pass.next_noise();
        let child = |name| key.map(|key| key.child(name));
        let dtype = input.dtype();
        let weight = noisy(
            &self.weight,
            child("weight"),
            (self.prob, self.scaling),
            dtype,
        );
        let bias = self.bias.as_ref().map(|bias| {
            let prob = if self.mask_bias { self.prob } else { 0.0 };
            noisy(bias, child("bias"), (prob, self.scaling), dtype)
        });
        pass.observing("drop_connect_conv2d", input, |input| {
            self.conv().forward_with(input, weight, bias)
        })
    }

    /// The convolution with the mean weights, which computes what this layer does at test.
    pub fn into_conv2d(self) -> Conv2d {
        let (prob, scaling) = (self.prob, self.scaling);
        let bias_prob = if self.mask_bias { prob } else { 0.0 };
        let Conv2d { weight, bias, .. } = self.conv();
        Conv2d {
            weight: mean_parameter(weight, prob, scaling),
            bias: bias.map(|bias| mean_parameter(bias, bias_prob, scaling)),
            ..self.conv()
        }
    }

    /// The convolution without a mask: it shares the parameters.
    fn conv(&self) -> Conv2d {
        Conv2d {
            weight: self.weight.clone(),
            bias: self.bias.clone(),
            stride: self.stride,
            kernel_size: self.kernel_size,
            dilation: self.dilation,
            groups: self.groups,
            padding: self.padding.clone(),
            standardize: false,
        }
    }
}

impl ModuleDisplay for DropConnectConv2d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        self.conv()
            .custom_content(content)?
            .add("prob", &self.prob)
            .optional()
    }
}
