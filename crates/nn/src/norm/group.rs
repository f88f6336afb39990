//! Group normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};
use evenkeel_kernels::{Activation, RowNorm, RowStatistics};

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
/// [instance norm](crate::InstanceNorm).
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
        let norm = RowNorm {
            shape: rows::of_channels("GroupNorm", &input, self.num_groups, self.num_channels),
            statistics: RowStatistics::Deviation,
            epsilon: self.epsilon,
            activation: self.activation,
        };
        let affine = Affine {
            scale: self.weight.as_ref(),
            shift: self.bias.as_ref(),
        };
        rows::forward("group_norm", input, norm, affine, pass)
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
            .add_debug_attribute("activation", &self.activation)
            .optional()
    }
}
