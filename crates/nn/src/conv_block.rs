//! Convolution → norm → activation → pooling: the block that convolutional nets are made of.

use burn::config::Config;
use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use evenkeel_kernels::{Activation, BlockPool};

use crate::{
    Conv2d, Conv2dConfig, GlobalAvgPool, MaxPool2d, MaxPool2dConfig, Norm, NormKind, Pass,
};

/// Configuration of a [`ConvBlock`].
#[derive(Config, Debug)]
pub struct ConvBlockConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// From one output position to the next.
    #[config(default = "[1, 1]")]
    pub stride: [usize; 2],
    /// From one place of the kernel to the next.
    #[config(default = "[1, 1]")]
    pub dilation: [usize; 2],
    /// Output channels see only the input channels of their group.
    #[config(default = "1")]
    pub groups: usize,
    /// Zeros around the image.
    #[config(default = "PaddingConfig2d::Same")]
    pub padding: PaddingConfig2d,
    /// The norm. With none, the convolution has a bias.
    #[config(default = "NormKind::Batch")]
    pub norm: NormKind,
    /// After the norm.
    #[config(default = "Activation::Relu")]
    pub activation: Activation,
    /// The max pooling at the end.
    #[config(default = "None")]
    pub pool: Option<MaxPool2dConfig>,
}

impl ConvBlockConfig {
    /// # Panics
    /// If the groups do not divide the channels, or those of a group norm do not.
    pub fn init(&self, device: &Device) -> ConvBlock {
        let conv = Conv2dConfig::new(self.channels, self.kernel_size)
            .with_stride(self.stride)
            .with_dilation(self.dilation)
            .with_groups(self.groups)
            .with_padding(self.padding.clone())
            .with_bias(self.norm == NormKind::None)
            .init(device);
        ConvBlock {
            conv,
            norm: self.norm.init(self.channels[1], self.activation, device),
            pool: self.pool.as_ref().map(MaxPool2dConfig::init),
            activation: self.activation,
        }
    }
}

/// y = pool(activation(norm(x ∗ weight))), for input x `[N, C, height, width]`.
///
/// In training and at test it does what its layers do one after another (see [`Conv2d`], [`Norm`],
/// [`MaxPool2d`]), within rounding. On the CPU, where the norm is a batch norm, it is one operation:
///
/// - In training the statistics are summed while the convolution's output is in cache, and norm, activation and
///   pooling are one pass. For the backward it keeps its input, the convolution's output and a byte for each pooled
///   value; what the norm gives is computed again where it is needed, and never stored.
/// - At test, on a device without autodiff, the running statistics are folded into the convolution: weight·γ/√(σ² + ε)
///   and a bias β − μ·γ/√(σ² + ε), in every forward anew; what is pooled is a few rows of the convolution's output
///   at a time, which is never whole in memory.
///
/// An observed pass runs layer after layer, so that the observer sees each.
///
/// Parameters are `conv.weight`, `norm.weight`, and so on.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// Without a bias where a norm follows, whose shift replaces it.
    pub conv: Conv2d,
    /// The norm, with the activation fused into it.
    pub norm: Option<Norm>,
    /// The pooling.
    pub pool: Option<MaxPool2d>,
    #[module(skip)]
    activation: Activation,
}

impl ConvBlock {
    /// # Shapes
    /// - input: `[N, C, height, width]`
    /// - output: `[N, C_out, height, width]` of the convolution's output, pooled
    ///
    /// # Panics
    /// As [`Conv2d`], the norm and [`MaxPool2d`].
    pub fn forward(&self, input: Tensor<4>, pass: &Pass) -> Tensor<4> {
        let pool = self.pool.as_ref();
        match &self.norm {
            Some(norm) => conv_norm(&self.conv, norm, pool, input, pass),
            None => {
                let x = self.conv.forward(input);
                let x = match self.activation {
                    Activation::None => x,
                    Activation::Relu => pass.observing("relu", x, relu),
                };
                pooled(pool, x)
            }
        }
    }

    /// [`forward`](Self::forward), followed by [`GlobalAvgPool`]: the end of a net without a dense head. Where the block
    /// is one operation, so is this: what is averaged is never stored in training, and at test not whole in memory unless
    /// its planes are large.
    ///
    /// # Shapes
    /// - input: `[N, C, height, width]`
    /// - output: `[N, C_out]`
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_averaged(&self, input: Tensor<4>, pass: &Pass) -> Tensor<2> {
        if let (Some(Norm::Batch(norm)), None) = (&self.norm, &self.pool) {
            let output = norm.forward_block(&self.conv, Some(BlockPool::GlobalAvg), &input, pass);
            if let Some(output) = output {
                let [examples, channels, _, _] = output.dims();
                return output.reshape([examples, channels]);
            }
        }
        GlobalAvgPool.forward(self.forward(input, pass))
    }
}

/// What a [`ConvBlock`] of these layers gives: for nets whose layers have other names.
///
/// # Panics
/// As [`Conv2d`], the norm and [`MaxPool2d`].
pub fn conv_norm(
    conv: &Conv2d,
    norm: &Norm,
    pool: Option<&MaxPool2d>,
    input: Tensor<4>,
    pass: &Pass,
) -> Tensor<4> {
    if let Norm::Batch(norm) = norm {
        let pool = pool.map(|pool| BlockPool::Max(pool.window()));
        if let Some(output) = norm.forward_block(conv, pool, &input, pass) {
            return output;
        }
    }
    pooled(pool, norm.forward(conv.forward(input), pass))
}

fn pooled(pool: Option<&MaxPool2d>, x: Tensor<4>) -> Tensor<4> {
    match pool {
        Some(pool) => pool.forward(x),
        None => x,
    }
}
