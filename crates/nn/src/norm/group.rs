//! Group and instance normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};
use evenkeel_kernels::{Activation, RowStatistics, Rows};

use super::affine::{self, Affine};
use super::rows;
use crate::Pass;

/// Configuration of a [`GroupNorm`] layer. The defaults are PyTorch's.
#[derive(Config, Debug)]
pub struct GroupNormConfig {
    /// Groups of neighbouring channels.
    pub num_groups: usize,
    /// The number of channels, a multiple of the groups.
    pub num_channels: usize,
    /// Added to the variance inside the square root.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether the layer learns a scale γ and a shift β per channel.
    #[config(default = true)]
    pub affine: bool,
    /// Applied to the output in the same pass over memory.
    #[config(default = "Activation::None")]
    pub activation: Activation,
}

impl GroupNormConfig {
    /// A layer with γ = 1 and β = 0.
    ///
    /// # Panics
    /// If there are no groups or channels, the groups do not divide the channels, or ε is not finite
    /// and positive.
    pub fn init(&self, device: &Device) -> GroupNorm {
        let (groups, channels) = (self.num_groups, self.num_channels);
        assert!(
            groups > 0 && channels > 0 && channels.is_multiple_of(groups),
            "GroupNorm: expected groups that divide the channels, got {groups} groups of \
             {channels} channels"
        );
        rows::check_epsilon("GroupNorm", self.epsilon);
        GroupNorm {
            weight: affine::scale(self.affine, channels, device),
            bias: affine::shift(self.affine, channels, device),
            num_groups: groups,
            num_channels: channels,
            epsilon: self.epsilon,
            activation: self.activation,
        }
    }
}

/// Normalizes each example by itself, over groups of channels and all positions.
///
/// For input x of shape `[N, C, ...]` and channel c of group g, with μ\[n, g\] and σ²\[n, g\] the
/// mean and the biased variance over the example's values of that group:
///
/// ```text
/// y[n, c, ...] = activation( γ[c] · (x[n, c, ...] − μ[n, g]) / √(σ²[n, g] + ε) + β[c] )
/// ```
///
/// The same in training and at test, and for any size of batch: no example sees another. With one
/// group it is a layer norm over channels and positions, with as many groups as channels an
/// [instance norm](InstanceNorm).
///
/// Source: Wu, He, "Group Normalization" (2018).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct GroupNorm {
    /// The learned scale γ `[C]`, if affine.
    pub weight: Option<Param<Tensor<1>>>,
    /// The learned shift β `[C]`, if affine.
    pub bias: Option<Param<Tensor<1>>>,
    num_groups: usize,
    num_channels: usize,
    epsilon: f64,
    #[module(skip)]
    activation: Activation,
}

impl GroupNorm {
    /// # Shapes
    /// - input: `[N, C, ...]`
    /// - output: the same
    ///
    /// # Panics
    /// If the input's second dimension is not the number of channels.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        let shape = channel_rows("GroupNorm", &input, self.num_groups, self.num_channels);
        let affine = Affine {
            scale: self.weight.as_ref(),
            shift: self.bias.as_ref(),
        };
        let statistics = RowStatistics::Deviation;
        let output = rows::forward(
            input.clone(),
            shape,
            statistics,
            self.epsilon,
            self.activation,
            affine,
        );
        pass.observe("group_norm", &input, &output, None);
        output
    }
}

/// Configuration of an [`InstanceNorm`] layer. The defaults are PyTorch's.
#[derive(Config, Debug)]
pub struct InstanceNormConfig {
    /// The number of channels.
    pub num_features: usize,
    /// Added to the variance inside the square root.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether the layer learns a scale γ and a shift β per channel.
    #[config(default = false)]
    pub affine: bool,
    /// Applied to the output in the same pass over memory.
    #[config(default = "Activation::None")]
    pub activation: Activation,
}

impl InstanceNormConfig {
    /// A layer with γ = 1 and β = 0, learned if affine.
    ///
    /// # Panics
    /// If there are no channels, or ε is not finite and positive.
    pub fn init(&self, device: &Device) -> InstanceNorm {
        let channels = self.num_features;
        assert!(
            channels > 0,
            "InstanceNorm: expected at least one channel, got num_features = 0"
        );
        rows::check_epsilon("InstanceNorm", self.epsilon);
        InstanceNorm {
            weight: affine::scale(self.affine, channels, device),
            bias: affine::shift(self.affine, channels, device),
            num_features: channels,
            epsilon: self.epsilon,
            activation: self.activation,
        }
    }
}

/// Normalizes each channel of each example by itself, over its positions.
///
/// For input x of shape `[N, C, ...]`, with μ\[n, c\] and σ²\[n, c\] the mean and the biased variance
/// over the positions:
///
/// ```text
/// y[n, c, ...] = activation( γ[c] · (x[n, c, ...] − μ[n, c]) / √(σ²[n, c] + ε) + β[c] )
/// ```
///
/// It takes an image's contrast out of the net. The same in training and at test.
///
/// Source: Ulyanov, Vedaldi, Lempitsky, "Instance Normalization: The Missing Ingredient for Fast
/// Stylization" (2016).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct InstanceNorm {
    /// The learned scale γ `[C]`, if affine.
    pub weight: Option<Param<Tensor<1>>>,
    /// The learned shift β `[C]`, if affine.
    pub bias: Option<Param<Tensor<1>>>,
    num_features: usize,
    epsilon: f64,
    #[module(skip)]
    activation: Activation,
}

impl InstanceNorm {
    /// # Shapes
    /// - input: `[N, C, ...]`
    /// - output: the same
    ///
    /// # Panics
    /// If the input's second dimension is not the number of channels, or there is only one position
    /// (as in PyTorch: its deviation is zero, so the output would be β whatever the input).
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        let shape = channel_rows("InstanceNorm", &input, self.num_features, self.num_features);
        assert!(
            shape.positions != 1,
            "InstanceNorm: expected more than one position to compute statistics of, got input \
             {:?}. Use a group norm or a layer norm here",
            input.dims()
        );
        let affine = Affine {
            scale: self.weight.as_ref(),
            shift: self.bias.as_ref(),
        };
        let statistics = RowStatistics::Deviation;
        let output = rows::forward(
            input.clone(),
            shape,
            statistics,
            self.epsilon,
            self.activation,
            affine,
        );
        pass.observe("instance_norm", &input, &output, None);
        output
    }
}

/// `[N, C, ...]` with the channels in groups.
fn channel_rows<const D: usize>(
    layer: &str,
    input: &Tensor<D>,
    groups: usize,
    channels: usize,
) -> Rows {
    let dims = input.dims();
    assert!(
        D >= 2 && dims[1] == channels,
        "{layer}: expected an input [examples, {channels}, positions...], got {dims:?}"
    );
    Rows {
        examples: dims[0],
        groups,
        channels: channels / groups,
        positions: dims[2..].iter().product(),
    }
}

impl ModuleDisplay for GroupNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        rows::display()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_groups", &self.num_groups)
            .add("num_channels", &self.num_channels)
            .add("epsilon", &self.epsilon)
            .add("affine", &self.weight.is_some())
            .add_formatted(&format!("activation: {:?}", self.activation))
            .optional()
    }
}

impl ModuleDisplay for InstanceNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        rows::display()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_features", &self.num_features)
            .add("epsilon", &self.epsilon)
            .add("affine", &self.weight.is_some())
            .add_formatted(&format!("activation: {:?}", self.activation))
            .optional()
    }
}
