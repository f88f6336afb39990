//! A norm that a recipe chooses, and changing one for another.

use std::fmt;

use burn::module::{
    Content, Devices, DisplaySettings, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper,
    ModuleVisitor,
};
use burn::tensor::{Device, Tensor};
use evenkeel_kernels::Activation;
use serde::{Deserialize, Serialize};

use super::{
    BatchNorm, BatchNormConfig, Dispersion, GroupNorm, GroupNormConfig, InstanceNorm,
    InstanceNormConfig, LayerNorm, LayerNormConfig,
};
use crate::Pass;

/// Which norm the blocks of a model have: what a recipe names, as `"batch"` or `{ group = 8 }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// [`BatchNorm`].
    #[default]
    Batch,
    /// [`BatchNorm`] without scale and shift.
    BatchUnscaled,
    /// [`BatchNorm`] by mean absolute deviations: ℓ1 in place of ℓ2.
    BatchL1,
    /// [`BatchNorm`] by largest deviations: ℓ∞.
    BatchMax,
    /// [`GroupNorm`] with this many groups.
    Group(usize),
    /// [`LayerNorm`] over the channels, at each position alone.
    Layer,
    /// [`InstanceNorm`] with a learned scale and shift.
    Instance,
    /// None: the layers have biases instead.
    None,
}

impl NormKind {
    /// Whether it is a [`BatchNorm`]: its statistics are the batch's in training, and running ones at test.
    pub fn is_batch(self) -> bool {
        match self {
            Self::Batch | Self::BatchUnscaled | Self::BatchL1 | Self::BatchMax => true,
            Self::Group(_) | Self::Layer | Self::Instance | Self::None => false,
        }
    }

    /// Why there is no such norm of this many channels, if so.
    ///
    /// # Errors
    /// Says what would do.
    pub fn check(self, channels: usize) -> Result<(), String> {
        match self {
            Self::Group(groups) if groups == 0 || !channels.is_multiple_of(groups) => Err(format!(
                "expected groups that divide the channels, found {groups} groups of {channels} channels"
            )),
            _ => Ok(()),
        }
    }

    /// The layer of this many channels with its defaults, a scale and a shift unless it is unscaled, and this
    /// activation in it; `None` of no norm.
    ///
    /// # Panics
    /// If there are no channels, or the groups do not divide them.
    pub fn init(self, channels: usize, activation: Activation, device: &Device) -> Option<Norm> {
        Some(match self {
            Self::Batch | Self::BatchUnscaled | Self::BatchL1 | Self::BatchMax => {
                let dispersion = match self {
                    Self::BatchL1 => Dispersion::MeanAbsolute,
                    Self::BatchMax => Dispersion::Maximum,
                    _ => Dispersion::Deviation,
                };
                let config = BatchNormConfig::new(channels)
                    .with_affine(self != Self::BatchUnscaled)
                    .with_dispersion(dispersion)
                    .with_activation(activation);
                Norm::Batch(config.init(device))
            }
            Self::Group(groups) => {
                let config = GroupNormConfig::new(groups, channels).with_activation(activation);
                Norm::Group(config.init(device))
            }
            Self::Layer => {
                let config = LayerNormConfig::new(channels)
                    .with_channels_first(true)
                    .with_activation(activation);
                Norm::Layer(config.init(device))
            }
            Self::Instance => {
                let config = InstanceNormConfig::new(channels)
                    .with_affine(true)
                    .with_activation(activation);
                Norm::Instance(config.init(device))
            }
            Self::None => return None,
        })
    }
}

/// One of the norms for `[N, C, ...]`, chosen at run time.
///
/// In paths and saved files it is the norm itself: Burn's derived enums put the variant's name between
/// the field's and the parameter's, so that `norm.weight` would be `norm.Batch.weight`, and no longer
/// PyTorch's.
#[derive(Clone, Debug)]
pub enum Norm {
    /// Statistics over the batch.
    Batch(BatchNorm),
    /// Over groups of channels of each example.
    Group(GroupNorm),
    /// Over all channels at each position.
    Layer(LayerNorm),
    /// Over the positions of each channel of each example.
    Instance(InstanceNorm),
}

/// Does the same with whichever norm it is.
macro_rules! each {
    ($norm:expr, $inner:ident => $body:expr) => {
        match $norm {
            Norm::Batch($inner) => $body,
            Norm::Group($inner) => $body,
            Norm::Layer($inner) => $body,
            Norm::Instance($inner) => $body,
        }
    };
}

/// Remakes whichever norm it is.
macro_rules! remake {
    ($norm:expr, $inner:ident => $body:expr) => {
        match $norm {
            Norm::Batch($inner) => Norm::Batch($body),
            Norm::Group($inner) => Norm::Group($body),
            Norm::Layer($inner) => Norm::Layer($body),
            Norm::Instance($inner) => Norm::Instance($body),
        }
    };
}

impl Norm {
    /// # Shapes
    /// - input: `[N, C, ...]`
    /// - output: the same
    ///
    /// # Panics
    /// As the norm that it is.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        each!(self, norm => norm.forward(input, pass))
    }

    /// The batch norm, if it is one.
    pub fn as_batch(&self) -> Option<&BatchNorm> {
        match self {
            Self::Batch(norm) => Some(norm),
            _ => None,
        }
    }
}

impl Module for Norm {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        each!(self, norm => norm.visit(visitor));
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        remake!(self, norm => norm.map(mapper))
    }

    fn to_device(self, device: &Device) -> Self {
        remake!(self, norm => norm.to_device(device))
    }

    fn fork(self, device: &Device) -> Self {
        remake!(self, norm => norm.fork(device))
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        each!(self, norm => norm.collect_devices(devices))
    }

    fn materialize(self) -> Self {
        remake!(self, norm => norm.materialize())
    }

    fn valid(&self) -> Self {
        remake!(self, norm => norm.valid())
    }

    fn train(self) -> Self {
        remake!(self, norm => norm.train())
    }
}

impl ModuleDisplay for Norm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        each!(self, norm => norm.custom_settings())
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        each!(self, norm => norm.custom_content(content))
    }
}

impl ModuleDisplayDefault for Norm {
    fn content(&self, content: Content) -> Option<Content> {
        each!(self, norm => norm.content(content))
    }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, norm => norm.fmt(f))
    }
}

/// A model that shows its norms: what changing them needs, since Burn has no way to visit the layers of
/// a model.
pub trait Norms {
    /// Calls `visit` with each norm and its path, such as `blocks.0.norm`.
    fn visit_norms(&mut self, visit: &mut dyn FnMut(&str, &mut Norm));
}

/// Replaces every batch norm of a model by a group norm with `groups(channels)` groups, and returns how
/// many there were. Scale, shift, their ids (so an optimizer's state goes on), ε and activation are kept;
/// running statistics are dropped. Other norms stay.
///
/// What the net computes changes: train on, or train anew. A group norm does not depend on the batch,
/// which is why it replaces batch norm where batches are small (Wu, He, 2018).
///
/// # Errors
/// If the groups do not divide the channels of some norm: says which; none is replaced then.
pub fn replace_batch_norms(
    model: &mut impl Norms,
    groups: impl Fn(usize) -> usize,
) -> Result<usize, String> {
    let mut problem = Ok(());
    model.visit_norms(&mut |path, norm| {
        if let (Norm::Batch(norm), Ok(())) = (norm, &problem) {
            let channels = norm.num_features();
            let check = NormKind::Group(groups(channels)).check(channels);
            problem = check.map_err(|problem| format!("{path}: {problem}"));
        }
    });
    problem?;
    let mut replaced = 0;
    model.visit_norms(&mut |_, norm| {
        if let Norm::Batch(batch) = norm {
            *norm = Norm::Group(batch.to_group_norm(groups(batch.num_features())));
            replaced += 1;
        }
    });
    Ok(replaced)
}
