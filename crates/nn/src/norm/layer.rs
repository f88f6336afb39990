//! Layer and RMS normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};
use evenkeel_kernels::{Activation, RowNorm, RowStatistics, Rows};

use super::affine::{self, Affine};
use super::rows;
use crate::Pass;

/// Configuration of a [`LayerNorm`] layer. The defaults are PyTorch's.
#[derive(Config, Debug)]
pub struct LayerNormConfig {
    /// The number of values that are normalized together: the product of the last `dimensions`.
    pub num_features: usize,
    /// How many trailing dimensions are normalized together.
    #[config(default = 1)]
    pub dimensions: usize,
    /// Normalize over the channels of `[N, C, ...]`, at each position alone, instead of over the
    /// trailing dimensions (the norm of ConvNeXt; timm's `LayerNorm2d`).
    #[config(default = false)]
    pub channels_first: bool,
    /// Added to the variance inside the square root.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether the layer learns a scale γ per feature.
    #[config(default = true)]
    pub affine: bool,
    /// Whether, if affine, it learns a shift β per feature too.
    #[config(default = true)]
    pub bias: bool,
    /// Applied to the output in the same pass over memory.
    #[config(default = "Activation::None")]
    pub activation: Activation,
}

impl LayerNormConfig {
    /// A layer with γ = 1 and β = 0.
    ///
    /// # Panics
    /// If there are no features or dimensions, several dimensions are to be normalized channels
    /// first, or ε is not finite and positive.
    pub fn init(&self, device: &Device) -> LayerNorm {
        check_features("LayerNorm", self.num_features, self.dimensions);
        assert!(
            !self.channels_first || self.dimensions == 1,
            "LayerNorm: expected dimensions = 1 with channels_first, got {}",
            self.dimensions
        );
        rows::check_epsilon("LayerNorm", self.epsilon);
        LayerNorm {
            weight: affine::scale(self.affine, self.num_features, device),
            bias: affine::shift(self.affine && self.bias, self.num_features, device),
            num_features: self.num_features,
            dimensions: self.dimensions,
            channels_first: self.channels_first,
            epsilon: self.epsilon,
            activation: self.activation,
        }
    }
}

/// Normalizes each example by itself, over its features.
///
/// For the features x\[1..L\] of one example (one token), with their mean μ and biased variance σ²:
///
/// ```text
/// y[j] = activation( γ[j] · (x[j] − μ) / √(σ² + ε) + β[j] )
/// ```
///
/// The same in training and at test: no example sees another, so there is no noise and nothing to
/// average. γ and β are `weight` and `bias`, as in PyTorch; flat also where several dimensions are
/// normalized together.
///
/// Source: Ba, Kiros, Hinton, "Layer Normalization" (2016).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct LayerNorm {
    /// The learned scale γ `[L]`, if affine.
    pub weight: Option<Param<Tensor<1>>>,
    /// The learned shift β `[L]`, if affine.
    pub bias: Option<Param<Tensor<1>>>,
    num_features: usize,
    dimensions: usize,
    channels_first: bool,
    epsilon: f64,
    #[module(skip)]
    activation: Activation,
}

impl LayerNorm {
    /// # Shapes
    /// - input: `[..., L]` (or trailing dimensions whose product is L), or channels first
    ///   `[N, L, ...]`
    /// - output: the same
    ///
    /// # Panics
    /// If the input's dimensions are not these.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        let norm = |input: Tensor<D>| {
            let norm = RowNorm {
                shape: token_rows("LayerNorm", &input, self.num_features, self.dimensions),
                statistics: RowStatistics::Deviation,
                epsilon: self.epsilon,
                activation: self.activation,
            };
            let affine = Affine {
                scale: self.weight.as_ref(),
                shift: self.bias.as_ref(),
            };
            rows::normalize(input, norm, affine).0
        };
        pass.observing("layer_norm", input, |input| {
            if self.channels_first {
                assert!(
                    D >= 2 && input.dims()[1] == self.num_features,
                    "LayerNorm: expected an input [examples, {}, positions...], got {:?}",
                    self.num_features,
                    input.dims()
                );
                norm(input.movedim(1, D - 1)).movedim(D - 1, 1)
            } else {
                norm(input)
            }
        })
    }
}

/// Configuration of an [`RmsNorm`] layer.
#[derive(Config, Debug)]
pub struct RmsNormConfig {
    /// The number of values that are normalized together: the product of the last `dimensions`.
    pub num_features: usize,
    /// How many trailing dimensions are normalized together.
    #[config(default = 1)]
    pub dimensions: usize,
    /// Added to the mean square inside the root: Burn's default. PyTorch's is the distance from 1 to
    /// the next number, 1.2·10⁻⁷ in f32.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether the layer learns a scale γ per feature.
    #[config(default = true)]
    pub affine: bool,
}

impl RmsNormConfig {
    /// A layer with γ = 1.
    ///
    /// # Panics
    /// If there are no features or dimensions, or ε is not finite and positive.
    pub fn init(&self, device: &Device) -> RmsNorm {
        check_features("RmsNorm", self.num_features, self.dimensions);
        rows::check_epsilon("RmsNorm", self.epsilon);
        RmsNorm {
            weight: affine::scale(self.affine, self.num_features, device),
            num_features: self.num_features,
            dimensions: self.dimensions,
            epsilon: self.epsilon,
        }
    }
}

/// Divides each example by the root mean square of its features.
///
/// For the features x\[1..L\] of one example (one token):
///
/// ```text
/// y[j] = γ[j] · x[j] / √(mean of x² + ε)
/// ```
///
/// The same in training and at test. γ is `weight`, as in PyTorch.
///
/// Source: Zhang, Sennrich, "Root Mean Square Layer Normalization" (2019).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct RmsNorm {
    /// The learned scale γ `[L]`, if affine.
    pub weight: Option<Param<Tensor<1>>>,
    num_features: usize,
    dimensions: usize,
    epsilon: f64,
}

impl RmsNorm {
    /// # Shapes
    /// - input: `[..., L]`, or trailing dimensions whose product is L
    /// - output: the same
    ///
    /// # Panics
    /// If the input's dimensions are not these.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        let norm = RowNorm {
            shape: token_rows("RmsNorm", &input, self.num_features, self.dimensions),
            statistics: RowStatistics::RootMeanSquare,
            epsilon: self.epsilon,
            activation: Activation::None,
        };
        let affine = Affine {
            scale: self.weight.as_ref(),
            shift: None,
        };
        rows::forward("rms_norm", input, norm, affine, pass)
    }
}

fn check_features(layer: &str, features: usize, dimensions: usize) {
    assert!(
        features > 0 && dimensions > 0,
        "{layer}: expected at least one feature in at least one dimension, got num_features = \
         {features}, dimensions = {dimensions}"
    );
}

/// The last `dimensions` as rows.
fn token_rows<const D: usize>(
    layer: &str,
    input: &Tensor<D>,
    features: usize,
    dimensions: usize,
) -> Rows {
    let dims = input.dims();
    let trailing = D.checked_sub(dimensions).map(|first| &dims[first..]);
    assert!(
        trailing.is_some_and(|dims| dims.iter().product::<usize>() == features),
        "{layer}: expected an input whose last {dimensions} dimensions have {features} values in \
         all, got {dims:?}"
    );
    Rows {
        examples: dims[..D - dimensions].iter().product(),
        groups: 1,
        channels: features,
        positions: 1,
    }
}

impl ModuleDisplay for LayerNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        rows::display()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_features", &self.num_features)
            .add("dimensions", &self.dimensions)
            .add("channels_first", &self.channels_first)
            .add("epsilon", &self.epsilon)
            .add("affine", &self.weight.is_some())
            .add_debug_attribute("activation", &self.activation)
            .optional()
    }
}

impl ModuleDisplay for RmsNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        rows::display()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_features", &self.num_features)
            .add("dimensions", &self.dimensions)
            .add("epsilon", &self.epsilon)
            .add("affine", &self.weight.is_some())
            .optional()
    }
}
