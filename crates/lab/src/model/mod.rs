//! The small zoo of nets that a recipe chooses from.

mod convnet;
mod mlp;

pub use convnet::{ConvBlock, ConvNet};
pub use mlp::{DenseBlock, Mlp};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use evenkeel_nn::{Activation, BatchNorm, BatchNormConfig, Pass};
use serde::{Deserialize, Serialize};

use crate::data::Kind;

/// A net and its widths, as a recipe gives them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelRecipe {
    /// [`ConvNet`], for images.
    Convnet {
        /// Channels after each block.
        widths: Vec<usize>,
        /// Blocks, counted from 0, after which a 2×2 max pool halves the image.
        #[serde(default)]
        pool_after: Vec<usize>,
        /// The norm in each block.
        #[serde(default)]
        norm: Norm,
        /// The probability of dropping a value before the head.
        #[serde(default)]
        dropout: f64,
    },
    /// [`Mlp`], for tables, and for images as rows of pixels.
    Mlp {
        /// Features after each hidden layer.
        hidden: Vec<usize>,
        /// The norm in each hidden layer.
        #[serde(default)]
        norm: Norm,
        /// The probability of dropping a value after each hidden layer.
        #[serde(default)]
        dropout: f64,
    },
}

/// The norm of a net's blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Batch norm.
    #[default]
    Batch,
    /// None: the layers have biases instead.
    None,
}

impl Norm {
    /// The layer for this many features, with a ReLU in it; `None` without a norm.
    fn with_relu(self, features: usize, device: &Device) -> Option<BatchNorm> {
        let config = BatchNormConfig::new(features).with_activation(Activation::Relu);
        (self == Self::Batch).then(|| config.init(device))
    }
}

/// A net of the zoo.
#[derive(Module, Debug)]
pub enum Model {
    /// A convolutional net.
    ConvNet(ConvNet),
    /// A dense net.
    Mlp(Mlp),
}

impl Model {
    /// Logits `[N, classes]` of features `[N, values]`: pixels in the order channel, row, column,
    /// or the columns of a table.
    pub fn forward(&self, features: Tensor<2>, pass: &Pass) -> Tensor<2> {
        match self {
            Self::ConvNet(net) => net.forward(features, pass),
            Self::Mlp(net) => net.forward(features, pass),
        }
    }
}

const MOST_FEATURES: usize = 65_536;
const MOST_LAYERS: usize = 256;

impl ModelRecipe {
    pub(crate) fn validate(&self) -> Result<(), String> {
        let (name, widths, dropout) = match self {
            Self::Convnet {
                widths, dropout, ..
            } => ("widths", widths, dropout),
            Self::Mlp {
                hidden, dropout, ..
            } => ("hidden", hidden, dropout),
        };
        if widths.is_empty() || widths.len() > MOST_LAYERS {
            let found = widths.len();
            return Err(format!(
                "{name}: expected 1 to {MOST_LAYERS} layers, found {found}"
            ));
        }
        if let Some(width) = widths
            .iter()
            .find(|width| !(1..=MOST_FEATURES).contains(*width))
        {
            return Err(format!(
                "{name}: expected 1 to {MOST_FEATURES} each, found {width}"
            ));
        }
        if !(0.0..=1.0).contains(dropout) {
            return Err(format!(
                "dropout: expected a probability from 0 to 1, found {dropout}"
            ));
        }
        let Self::Convnet { pool_after, .. } = self else {
            return Ok(());
        };
        match pool_after.iter().find(|&&block| block >= widths.len()) {
            Some(block) => Err(format!(
                "pool_after: expected blocks from 0 to {}, found {block}",
                widths.len() - 1
            )),
            None => Ok(()),
        }
    }

    /// The net for this data, with Burn's own random start: see `evenkeel_nn::initialize`.
    ///
    /// # Errors
    /// If the net does not fit the data: says why, and what would.
    pub fn build(&self, data: &Kind, classes: usize, device: &Device) -> Result<Model, String> {
        match (self, data) {
            (
                Self::Convnet {
                    widths,
                    pool_after,
                    norm,
                    dropout,
                },
                Kind::Images { .. },
            ) => ConvNet::build(widths, pool_after, *norm, *dropout, data, classes, device)
                .map(Model::ConvNet),
            (Self::Convnet { .. }, Kind::Table { .. }) => Err(
                "model.kind: a convnet needs images and the data is a table; use kind = \"mlp\""
                    .into(),
            ),
            (
                Self::Mlp {
                    hidden,
                    norm,
                    dropout,
                },
                _,
            ) => {
                let inputs = data.shape().iter().product();
                Ok(Model::Mlp(Mlp::build(
                    inputs, hidden, *norm, *dropout, classes, device,
                )))
            }
        }
    }
}
