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
/// A run's files are read up to 1 GiB; the largest holds Adam's two moments, 8 bytes a parameter.
const MOST_PARAMETERS: u128 = 100_000_000;

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
        self.check_parameters(1, 1)?;
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

    /// Refuses nets of more than 100,000,000 parameters, given how many channels (or columns, or
    /// pixels of a dense net) go in and how many classes come out.
    fn check_parameters(&self, inputs: usize, classes: usize) -> Result<(), String> {
        let (name, positions, widths) = match self {
            Self::Convnet { widths, .. } => ("widths", 9, widths),
            Self::Mlp { hidden, .. } => ("hidden", 1, hidden),
        };
        let mut before = inputs as u128;
        let mut parameters = 0;
        for &after in widths {
            let after = after as u128;
            // The weights, and a norm's scale and shift.
            parameters += positions * before * after + 2 * after;
            before = after;
        }
        parameters += (before + 1) * classes as u128;
        if parameters > MOST_PARAMETERS {
            return Err(format!(
                "{name}: expected a net of at most {MOST_PARAMETERS} parameters, found \
                 {parameters}; use fewer or narrower layers"
            ));
        }
        Ok(())
    }

    /// How many values per channel the last batch norm sees of one example, which are the fewest;
    /// `None` without norms.
    pub(crate) fn values_per_norm(&self, data: &Kind) -> Option<usize> {
        match (self, data) {
            (Self::Convnet { norm, .. } | Self::Mlp { norm, .. }, _) if *norm == Norm::None => None,
            (
                Self::Convnet {
                    widths, pool_after, ..
                },
                Kind::Images { height, width, .. },
            ) => {
                let pools = (0..widths.len().saturating_sub(1))
                    .filter(|block| pool_after.contains(block))
                    .count();
                let halved = |side: usize| (0..pools).fold(side, |side, _| side / 2);
                Some(halved(*height) * halved(*width))
            }
            _ => Some(1),
        }
    }

    /// The net for this data, with Burn's own random start: see `evenkeel_nn::initialize`.
    ///
    /// # Errors
    /// If the net does not fit the data, or would have more than 100,000,000 parameters: says why,
    /// and what would fit.
    pub fn build(&self, data: &Kind, classes: usize, device: &Device) -> Result<Model, String> {
        let inputs = match (self, data) {
            (Self::Convnet { .. }, Kind::Images { channels, .. }) => *channels,
            _ => data.shape().iter().product(),
        };
        self.check_parameters(inputs, classes)
            .map_err(|problem| format!("model.{problem}"))?;
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
            ) => Ok(Model::Mlp(Mlp::build(
                inputs, hidden, *norm, *dropout, classes, device,
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(height: usize, width: usize) -> Kind {
        Kind::Images {
            height,
            width,
            channels: 1,
        }
    }

    fn convnet(widths: &[usize], pool_after: &[usize], norm: Norm) -> ModelRecipe {
        ModelRecipe::Convnet {
            widths: widths.into(),
            pool_after: pool_after.into(),
            norm,
            dropout: 0.0,
        }
    }

    #[test]
    fn nets_too_large_are_refused_before_they_are_made() {
        let error = convnet(&[65_536, 65_536], &[], Norm::Batch).validate();
        let error = error.unwrap_err();
        assert!(
            error.contains("widths: expected a net of at most 100000000")
                && error.contains("found 38655"),
            "{error}"
        );
        // Only the data's many pixels make this one too large.
        let dense = ModelRecipe::Mlp {
            hidden: vec![60_000],
            norm: Norm::None,
            dropout: 0.0,
        };
        dense.validate().unwrap();
        let error = dense
            .build(&images(64, 64), 10, &Device::flex())
            .unwrap_err();
        assert!(
            error.contains("model.hidden: expected a net of at most"),
            "{error}"
        );
    }

    #[test]
    fn the_count_bounds_what_is_built() {
        let recipe = convnet(&[3, 5], &[], Norm::Batch);
        let model = recipe.build(&images(4, 4), 2, &Device::flex()).unwrap();
        let buffers = 2 * (3 + 5);
        assert_eq!(model.num_params() - buffers, 9 * 3 + 6 + 9 * 15 + 10 + 12);
    }

    #[test]
    fn the_last_norm_sees_the_fewest_values() {
        let values = |pool_after: &[usize], size: [usize; 2]| {
            convnet(&[1, 1, 1], pool_after, Norm::Batch).values_per_norm(&images(size[0], size[1]))
        };
        assert_eq!(values(&[], [4, 6]), Some(24));
        // The pool after the last block comes after its norm.
        assert_eq!(values(&[2], [4, 6]), Some(24));
        assert_eq!(values(&[0, 1], [5, 7]), Some(1));
        let none = convnet(&[1], &[], Norm::None);
        assert_eq!(none.values_per_norm(&images(4, 4)), None);
    }
}
