//! The small zoo of nets that a recipe chooses from.

mod activation;
mod convnet;
mod mlp;
mod resnet;

pub use activation::Nonlinearity;
pub use convnet::ConvNet;
pub use mlp::{DenseBlock, Mlp};
pub use resnet::{BasicBlock, ResNet, Stem};

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use evenkeel_nn::fold::{Folded, FoldingError, NotFoldable, Refused};
use evenkeel_nn::{DropConnectLinearConfig, Fold, Norm, NormKind, Norms, Pass};
use serde::{Deserialize, Serialize};

use crate::data::Kind;
use convnet::Layers;

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
        norm: NormKind,
        /// What follows it.
        #[serde(default)]
        activation: Nonlinearity,
        /// Features of a dense layer on all positions, in place of the average over positions; 0 averages.
        #[serde(default)]
        dense: usize,
        /// The probability of dropping a value before the head.
        #[serde(default)]
        dropout: f64,
        /// The probability of dropping a weight of the head, and of the dense layer before it.
        #[serde(default)]
        drop_connect: f64,
    },
    /// [`Mlp`], for tables, and for images as rows of pixels.
    Mlp {
        /// Features after each hidden layer.
        hidden: Vec<usize>,
        /// The norm in each hidden layer.
        #[serde(default)]
        norm: NormKind,
        /// What follows it.
        #[serde(default)]
        activation: Nonlinearity,
        /// The probability of dropping a value after each hidden layer.
        #[serde(default)]
        dropout: f64,
        /// The probability of dropping a weight, of each layer.
        #[serde(default)]
        drop_connect: f64,
    },
    /// [`ResNet`] of 18 layers, for images.
    Resnet18 {
        /// Channels of the first stage; they double with each.
        #[serde(default = "usual_width")]
        width: usize,
        /// What comes before the blocks.
        #[serde(default)]
        stem: Stem,
        /// The norm behind each convolution.
        #[serde(default)]
        norm: NormKind,
        /// The probability of dropping a value before the head.
        #[serde(default)]
        dropout: f64,
    },
}

fn usual_width() -> usize {
    64
}

/// A net of the zoo.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a program has a few models, not many"
)]
pub enum Model {
    /// A convolutional net.
    ConvNet(ConvNet),
    /// A dense net.
    Mlp(Mlp),
    /// A residual net.
    ResNet(ResNet),
}

impl Model {
    /// Logits `[N, classes]` of features `[N, values]`: pixels in the order channel, row, column,
    /// or the columns of a table.
    pub fn forward(&self, features: Tensor<2>, pass: &Pass) -> Tensor<2> {
        match self {
            Self::ConvNet(net) => net.forward(features, pass),
            Self::Mlp(net) => net.forward(features, pass),
            Self::ResNet(net) => net.forward(features, pass),
        }
    }

    /// Logits `[N, classes]` of images `[N, channels, height, width]`: of the size that the net was built for,
    /// or any larger one if [`is_fully_convolutional`](Self::is_fully_convolutional).
    ///
    /// A larger image at once is the dense evaluation of Simonyan and Zisserman (2015): a net that ends in an
    /// average over all positions averages over all of its crops.
    pub fn forward_images(&self, images: Tensor<4>, pass: &Pass) -> Tensor<2> {
        match self {
            Self::ConvNet(net) => net.forward_images(images, pass),
            Self::Mlp(net) => net.forward(images.flatten(1, 3), pass),
            Self::ResNet(net) => net.forward_images(images, pass),
        }
    }

    /// Whether the net takes images of other sizes than it was built for.
    pub fn is_fully_convolutional(&self) -> bool {
        match self {
            Self::ConvNet(net) => net.dense.is_none(),
            Self::ResNet(_) => true,
            Self::Mlp(_) => false,
        }
    }
}

impl Norms for Model {
    fn visit_norms(&mut self, visit: &mut dyn FnMut(&str, &mut Norm)) {
        match self {
            Self::ConvNet(net) => net.visit_norms(visit),
            Self::Mlp(net) => net.visit_norms(visit),
            Self::ResNet(net) => net.visit_norms(visit),
        }
    }
}

impl Fold for Model {
    fn fold(self) -> Result<Folded<Self>, Refused> {
        match self {
            Self::ConvNet(net) => net.fold().map(|folded| folded.map(Self::ConvNet)),
            Self::Mlp(net) => net.fold().map(|folded| folded.map(Self::Mlp)),
            Self::ResNet(net) => net.fold().map(|folded| folded.map(Self::ResNet)),
        }
    }
}

/// The norm, with a ReLU fused into it, and the activation; without a norm the activation alone, which observers
/// are shown too.
fn normalize_and_activate<const D: usize>(
    norm: Option<&Norm>,
    x: Tensor<D>,
    nonlinearity: Nonlinearity,
    pass: &Pass,
) -> Tensor<D> {
    let x = match (norm, nonlinearity) {
        (Some(norm), _) => norm.forward(x, pass),
        (None, Nonlinearity::Relu) => pass.observing("relu", x, relu),
        (None, _) => x,
    };
    nonlinearity.rest(x, pass)
}

/// A dense layer, each of whose weights is dropped with this probability where noise is drawn. Its parameters are
/// those of the plain layer.
fn linear(layer: &Linear, drop_connect: f64, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
    if drop_connect == 0.0 {
        return layer.forward(x);
    }
    let [inputs, outputs] = layer.weight.dims();
    DropConnectLinearConfig::new(inputs, outputs, drop_connect)
        .with_bias(layer.bias.is_some())
        .init_from(layer.clone())
        .forward(x, pass)
}

/// A side of an image after so many pools.
fn pooled(side: usize, pools: usize) -> usize {
    (0..pools).fold(side, |side, _| side / 2)
}

/// Folds the norms of a net's blocks, in order, by `fold`.
fn fold_blocks<B>(
    blocks: Vec<B>,
    fold: impl Fn(B) -> Result<(B, FoldingError), NotFoldable>,
) -> Result<Folded<Vec<B>>, Refused> {
    let mut folded = Folded {
        model: Vec::with_capacity(blocks.len()),
        errors: Vec::new(),
    };
    for (index, block) in blocks.into_iter().enumerate() {
        let path = format!("blocks.{index}.norm");
        let (block, error) = fold(block).map_err(|reason| Refused {
            path: path.clone(),
            reason,
        })?;
        folded.model.push(block);
        folded.errors.push((path, error));
    }
    Ok(folded)
}

/// Of the blocks of a net, in order.
fn visit_norms_of_blocks<'a>(
    norms: impl Iterator<Item = Option<&'a mut Norm>>,
    visit: &mut dyn FnMut(&str, &mut Norm),
) {
    for (index, norm) in norms.enumerate() {
        if let Some(norm) = norm {
            visit(&format!("blocks.{index}.norm"), norm);
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
            } => ("widths", widths.clone(), dropout),
            Self::Mlp {
                hidden, dropout, ..
            } => ("hidden", hidden.clone(), dropout),
            Self::Resnet18 { width, dropout, .. } => ("width", ResNet::widths(*width), dropout),
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
        for &width in &widths {
            let check = self.norm().check(width);
            check.map_err(|problem| format!("norm: {problem}"))?;
        }
        for (name, probability) in [("dropout", *dropout), ("drop_connect", self.drop_connect())] {
            if !(0.0..=1.0).contains(&probability) {
                return Err(format!(
                    "{name}: expected a probability from 0 to 1, found {probability}"
                ));
            }
        }
        if let Self::Convnet { dense, .. } = self
            && *dense > MOST_FEATURES
        {
            return Err(format!(
                "dense: expected 0 to {MOST_FEATURES} features, found {dense}"
            ));
        }
        self.check_parameters(1, 1, 1)?;
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
    /// pixels of a dense net) go in, how many positions are left behind the pools, and how many classes come
    /// out.
    fn check_parameters(
        &self,
        inputs: usize,
        positions: usize,
        classes: usize,
    ) -> Result<(), String> {
        let (inputs, classes) = (inputs as u128, classes as u128);
        let (name, parameters) = match self {
            Self::Convnet {
                widths, dense: 0, ..
            } => ("widths", in_a_row(9, inputs, widths, classes)),
            Self::Convnet { widths, dense, .. } => {
                // The blocks end in the channels of one more, which is on all positions.
                let dense = *dense as u128;
                let last = widths.last().map_or(inputs, |last| *last as u128);
                let blocks = in_a_row(9, inputs, widths, 0);
                let head = (last * positions as u128 + 1) * dense + (dense + 1) * classes;
                ("dense", blocks + head)
            }
            Self::Mlp { hidden, .. } => ("hidden", in_a_row(1, inputs, hidden, classes)),
            Self::Resnet18 { width, stem, .. } => {
                ("width", ResNet::parameters(*width, *stem, inputs, classes))
            }
        };
        if parameters > MOST_PARAMETERS {
            return Err(format!(
                "{name}: expected a net of at most {MOST_PARAMETERS} parameters, found \
                 {parameters}; use fewer or narrower layers"
            ));
        }
        Ok(())
    }

    /// Refuses what leaves a norm nothing to divide by: one value for each of its statistics.
    ///
    /// # Errors
    /// Names the setting and what would do.
    pub(crate) fn check_statistics(&self, data: &Kind, batch_size: usize) -> Result<(), String> {
        if self.positions_of_last_norm(data) > 1 {
            return Ok(());
        }
        match self.norm() {
            norm if norm.is_batch() && batch_size == 1 => Err(
                "train.batch_size is 1, which gives the last batch norm of this net one value per \
                 channel; use at least 2, or model.norm = \"layer\" or \"none\""
                    .into(),
            ),
            NormKind::Instance => Err(
                "model.norm: an instance norm needs several positions, and the last one of this net \
                 has one; use \"batch\", \"layer\" or { group = 8 }"
                    .into(),
            ),
            _ => Ok(()),
        }
    }

    pub(crate) fn norm(&self) -> NormKind {
        match self {
            Self::Convnet { norm, .. } | Self::Mlp { norm, .. } | Self::Resnet18 { norm, .. } => {
                *norm
            }
        }
    }

    /// The same net with other norms.
    pub(crate) fn with_norm(mut self, other: NormKind) -> Self {
        let (Self::Convnet { norm, .. } | Self::Mlp { norm, .. } | Self::Resnet18 { norm, .. }) =
            &mut self;
        *norm = other;
        self
    }

    /// The probability that its noise drops a value.
    pub(crate) fn dropout(&self) -> f64 {
        match self {
            Self::Convnet { dropout, .. }
            | Self::Mlp { dropout, .. }
            | Self::Resnet18 { dropout, .. } => *dropout,
        }
    }

    /// The probability that its noise drops a weight.
    pub(crate) fn drop_connect(&self) -> f64 {
        match self {
            Self::Convnet { drop_connect, .. } | Self::Mlp { drop_connect, .. } => *drop_connect,
            Self::Resnet18 { .. } => 0.0,
        }
    }

    /// Whether a training pass draws noise.
    pub(crate) fn draws_noise(&self) -> bool {
        self.dropout() > 0.0 || self.drop_connect() > 0.0
    }

    /// What follows the norms.
    pub(crate) fn activation(&self) -> Nonlinearity {
        match self {
            Self::Convnet { activation, .. } | Self::Mlp { activation, .. } => *activation,
            Self::Resnet18 { .. } => Nonlinearity::Relu,
        }
    }

    /// Positions of one channel of one example where there are the fewest, at the last norm.
    pub(crate) fn positions_of_last_norm(&self, data: &Kind) -> usize {
        match (self, data) {
            (
                Self::Convnet {
                    widths, pool_after, ..
                },
                Kind::Images { height, width, .. },
            ) => {
                let pools = (0..widths.len().saturating_sub(1))
                    .filter(|block| pool_after.contains(block))
                    .count();
                pooled(*height, pools) * pooled(*width, pools)
            }
            (Self::Resnet18 { stem, .. }, Kind::Images { height, width, .. }) => {
                let halved =
                    |side: usize| (0..stem.halvings()).fold(side, |side, _| side.div_ceil(2));
                halved(*height) * halved(*width)
            }
            _ => 1,
        }
    }

    /// The net for this data, with Burn's own random start: see `evenkeel_nn::initialize`.
    ///
    /// # Errors
    /// If the net does not fit the data, or would have more than 100,000,000 parameters: says why,
    /// and what would fit.
    pub fn build(&self, data: &Kind, classes: usize, device: &Device) -> Result<Model, String> {
        let inputs = match (self, data) {
            (Self::Convnet { .. } | Self::Resnet18 { .. }, Kind::Images { channels, .. }) => {
                *channels
            }
            _ => data.shape().iter().product(),
        };
        let positions = match (self, data) {
            (Self::Convnet { pool_after, .. }, Kind::Images { height, width, .. }) => {
                let pools = pool_after.len();
                pooled(*height, pools) * pooled(*width, pools)
            }
            _ => 1,
        };
        self.check_parameters(inputs, positions, classes)
            .map_err(|problem| format!("model.{problem}"))?;
        match (self, data) {
            (
                Self::Convnet {
                    widths,
                    pool_after,
                    norm,
                    activation,
                    dense,
                    dropout,
                    drop_connect,
                },
                Kind::Images { .. },
            ) => {
                let layers = Layers {
                    norm: *norm,
                    nonlinearity: *activation,
                    dense: *dense,
                    dropout: *dropout,
                    drop_connect: *drop_connect,
                };
                ConvNet::build(widths, pool_after, &layers, data, classes, device)
                    .map(Model::ConvNet)
            }
            (
                Self::Resnet18 {
                    width,
                    stem,
                    norm,
                    dropout,
                },
                Kind::Images { .. },
            ) => Ok(Model::ResNet(ResNet::build(
                *width, *stem, *norm, *dropout, data, classes, device,
            ))),
            (Self::Convnet { .. } | Self::Resnet18 { .. }, Kind::Table { .. }) => Err(
                "model.kind: convolutions need images and the data is a table; use kind = \"mlp\""
                    .into(),
            ),
            (
                Self::Mlp {
                    hidden,
                    norm,
                    activation,
                    dropout,
                    drop_connect,
                },
                _,
            ) => Ok(Model::Mlp(Mlp::build(
                inputs,
                hidden,
                *norm,
                *activation,
                [*dropout, *drop_connect],
                classes,
                device,
            ))),
        }
    }
}

/// The parameters of layers in a row, each with this many weights a pair of channels.
fn in_a_row(weights: u128, inputs: u128, widths: &[usize], classes: u128) -> u128 {
    let mut before = inputs;
    let mut parameters = 0;
    for &after in widths {
        let after = after as u128;
        // The weights, and a norm's scale and shift.
        parameters += weights * before * after + 2 * after;
        before = after;
    }
    parameters + (before + 1) * classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;
    use evenkeel_nn::{expectation_gap, replace_batch_norms};

    use crate::probe::layers::observe;

    fn images(height: usize, width: usize) -> Kind {
        Kind::Images {
            height,
            width,
            channels: 1,
        }
    }

    fn convnet(widths: &[usize], pool_after: &[usize], norm: NormKind) -> ModelRecipe {
        ModelRecipe::Convnet {
            widths: widths.into(),
            pool_after: pool_after.into(),
            norm,
            activation: Nonlinearity::Relu,
            dense: 0,
            dropout: 0.0,
            drop_connect: 0.0,
        }
    }

    fn resnet(stem: Stem, norm: NormKind) -> ModelRecipe {
        ModelRecipe::Resnet18 {
            width: 4,
            stem,
            norm,
            dropout: 0.0,
        }
    }

    #[test]
    fn nets_too_large_are_refused_before_they_are_made() {
        let error = convnet(&[65_536, 65_536], &[], NormKind::Batch).validate();
        let error = error.unwrap_err();
        assert!(
            error.contains("widths: expected a net of at most 100000000")
                && error.contains("found 38655"),
            "{error}"
        );
        // Only the data's many pixels make this one too large.
        let dense = ModelRecipe::Mlp {
            hidden: vec![60_000],
            norm: NormKind::None,
            activation: Nonlinearity::Relu,
            dropout: 0.0,
            drop_connect: 0.0,
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
        let recipe = convnet(&[3, 5], &[], NormKind::Batch);
        let model = recipe.build(&images(4, 4), 2, &Device::flex()).unwrap();
        let buffers = 2 * (3 + 5);
        assert_eq!(model.num_params() - buffers, 9 * 3 + 6 + 9 * 15 + 10 + 12);
        // torchvision's has 11,689,512 with 1,000 classes and three channels.
        let large = ResNet::parameters(64, Stem::Large, 3, 1000);
        assert_eq!(large, 11_689_512);
        for stem in [Stem::Small, Stem::Large] {
            let model = resnet(stem, NormKind::Batch).build(&images(9, 8), 2, &Device::flex());
            // Of the stem's norm, four of the first stage and five of each other.
            let buffers = 2 * (4 + 4 * 4 + 5 * (8 + 16 + 32));
            let expected = ResNet::parameters(4, stem, 1, 2) as usize;
            assert_eq!(model.unwrap().num_params() - buffers, expected);
        }
    }

    #[test]
    fn the_last_norm_sees_the_fewest_positions() {
        let positions = |pool_after: &[usize], size: [usize; 2]| {
            convnet(&[1, 1, 1], pool_after, NormKind::Batch)
                .positions_of_last_norm(&images(size[0], size[1]))
        };
        assert_eq!(positions(&[], [4, 6]), 24);
        // The pool after the last block comes after its norm.
        assert_eq!(positions(&[2], [4, 6]), 24);
        assert_eq!(positions(&[0, 1], [5, 7]), 1);
    }

    #[test]
    fn one_value_for_a_statistic_is_refused() {
        let check = |norm, batch_size| {
            convnet(&[4, 4, 4], &[0, 1], norm).check_statistics(&images(5, 7), batch_size)
        };
        assert!(
            check(NormKind::Batch, 1)
                .unwrap_err()
                .contains("use at least 2")
        );
        assert!(check(NormKind::Batch, 2).is_ok());
        assert!(
            check(NormKind::Instance, 2)
                .unwrap_err()
                .contains("several positions")
        );
        for norm in [NormKind::Group(2), NormKind::Layer, NormKind::None] {
            assert_eq!(check(norm, 1), Ok(()));
        }
        assert_eq!(
            convnet(&[4], &[], NormKind::Instance).check_statistics(&images(5, 7), 1),
            Ok(())
        );
    }

    #[test]
    fn groups_must_divide_every_width() {
        let recipe = |widths| convnet(widths, &[], NormKind::Group(8));
        assert_eq!(recipe(&[8, 24]).validate(), Ok(()));
        let error = recipe(&[8, 20]).validate().unwrap_err();
        assert!(
            error.contains("norm: expected groups") && error.contains("8 groups of 20"),
            "{error}"
        );
    }

    #[test]
    fn every_norm_runs_and_can_become_a_group_norm() {
        let device = Device::flex();
        let x = Tensor::<2>::ones([3, 48], &device);
        for norm in [
            NormKind::Batch,
            NormKind::BatchUnscaled,
            NormKind::BatchL1,
            NormKind::BatchMax,
            NormKind::Group(2),
            NormKind::Layer,
            NormKind::Instance,
            NormKind::None,
        ] {
            for recipe in [
                convnet(&[4, 6], &[], norm),
                ModelRecipe::Mlp {
                    hidden: vec![4, 6],
                    norm,
                    activation: Nonlinearity::Relu,
                    dropout: 0.0,
                    drop_connect: 0.0,
                },
                resnet(Stem::Small, norm),
                resnet(Stem::Large, norm),
            ] {
                if recipe.check_statistics(&images(6, 8), 3).is_err() {
                    continue; // An instance norm of a dense net.
                }
                let mut model = recipe.build(&images(6, 8), 5, &device).unwrap();
                assert_eq!(model.forward(x.clone(), &Pass::train(0, 0)).dims(), [3, 5]);
                let shown = model.to_string();
                assert!(shown.contains("Linear"), "{shown}");
                let mut batch_norms = 0;
                model.visit_norms(&mut |_, norm| {
                    batch_norms += usize::from(norm.as_batch().is_some())
                });
                let expected = match (norm.is_batch(), &recipe) {
                    (true, ModelRecipe::Resnet18 { .. }) => 20,
                    (true, _) => 2,
                    (false, _) => 0,
                };
                assert_eq!(batch_norms, expected);
                assert_eq!(replace_batch_norms(&mut model, |_| 2), Ok(batch_norms));
                assert_eq!(model.forward(x.clone(), &Pass::train(0, 0)).dims(), [3, 5]);
                assert_eq!(replace_batch_norms(&mut model, |_| 2), Ok(0));
            }
        }
    }

    /// A net of one hidden unit by hand, with each activation: head·f(w·x + b).
    #[test]
    fn activations_are_what_they_say() {
        let kind = Kind::Table {
            columns: vec!["x".into()],
        };
        let device = Device::flex();
        let x = Tensor::<2>::from_floats([[-1.5], [0.0], [0.7], [2.0]], &device);
        type Function = fn(f64) -> f64;
        let cases: [(Nonlinearity, Function, &str); 3] = [
            (Nonlinearity::Relu, |x| x.max(0.0), "relu"),
            (
                Nonlinearity::Sigmoid,
                |x| 1.0 / (1.0 + (-x).exp()),
                "sigmoid",
            ),
            (Nonlinearity::Tanh, f64::tanh, "tanh"),
        ];
        for (activation, function, name) in cases {
            let recipe = ModelRecipe::Mlp {
                hidden: vec![1],
                norm: NormKind::None,
                activation,
                dropout: 0.0,
                drop_connect: 0.0,
            };
            let model = evenkeel_nn::initialize(recipe.build(&kind, 1, &device).unwrap(), 1);
            let Model::Mlp(net) = &model else {
                panic!("a dense net")
            };
            let number = |tensor: burn::tensor::TensorData| tensor.iter::<f64>().next().unwrap();
            let weight = number(net.blocks[0].linear.weight.val().into_data());
            let bias = number(
                net.blocks[0]
                    .linear
                    .bias
                    .as_ref()
                    .unwrap()
                    .val()
                    .into_data(),
            );
            let head = number(net.head.weight.val().into_data());
            let shift = number(net.head.bias.as_ref().unwrap().val().into_data());
            let (y, seen) = observe(Pass::test(), |pass| model.forward(x.clone(), pass));
            assert_eq!(seen[0].kind, name);
            for (x, y) in [-1.5, 0.0, 0.7, 2.0]
                .into_iter()
                .zip(y.into_data().iter::<f64>())
            {
                let expected = head * function(weight * x + bias) + shift;
                assert!((y - expected).abs() < 1e-6, "{name}: {y} and {expected}");
            }
        }
    }

    /// The pool of a block comes before what is not fused into its norm, which changes nothing.
    #[test]
    fn convolutions_go_on_through_any_activation() {
        let device = Device::flex();
        let x = Tensor::<2>::random([3, 48], Distribution::Normal(0.0, 1.0), &device);
        for norm in [NormKind::Batch, NormKind::Group(2), NormKind::None] {
            for activation in [Nonlinearity::Sigmoid, Nonlinearity::Tanh] {
                let recipe = ModelRecipe::Convnet {
                    widths: vec![4],
                    pool_after: vec![0],
                    norm,
                    activation,
                    dense: 0,
                    dropout: 0.0,
                    drop_connect: 0.0,
                };
                let model = recipe.build(&images(6, 8), 5, &device).unwrap();
                let Model::ConvNet(net) = evenkeel_nn::initialize(model, 2) else {
                    panic!("a convolutional net")
                };
                let found = net.forward(x.clone(), &Pass::test());
                let mut y = net.blocks[0].conv.forward(x.clone().reshape([3, 1, 6, 8]));
                if let Some(norm) = &net.blocks[0].norm {
                    y = norm.forward(y, &Pass::test());
                }
                let y = activation.rest(y, &Pass::test());
                let y = net.blocks[0].pool.as_ref().unwrap().forward(y);
                let expected = net.head.forward(net.pool.forward(y));
                let difference = (found - expected).abs().max().into_scalar::<f32>();
                assert!(difference < 1e-5, "{norm:?} {activation:?}: {difference}");
            }
        }
    }

    fn with_dense_head(norm: NormKind, drop_connect: f64) -> ModelRecipe {
        ModelRecipe::Convnet {
            widths: vec![4, 6],
            pool_after: vec![0, 1],
            norm,
            activation: Nonlinearity::Relu,
            dense: 7,
            dropout: 0.0,
            drop_connect,
        }
    }

    #[test]
    fn a_dense_head_sees_all_positions() {
        let device = Device::flex();
        let recipe = with_dense_head(NormKind::None, 0.0);
        let model = recipe.build(&images(6, 8), 5, &device).unwrap();
        assert!(!model.is_fully_convolutional());
        // Two pools leave 1×2 of 6×8; each convolution has a bias, which counts as a norm's shift does.
        let convolutions = 9 * 4 + 4 + 9 * 4 * 6 + 6;
        assert_eq!(model.num_params(), convolutions + (6 * 2 + 1) * 7 + 8 * 5);
        // The average over positions would not tell an image from its halves exchanged.
        let x = Tensor::<2>::random([2, 48], Distribution::Normal(0.0, 1.0), &device);
        assert_eq!(model.forward(x, &Pass::train(0, 0)).dims(), [2, 5]);
        let large = ModelRecipe::Convnet {
            widths: vec![64],
            pool_after: vec![],
            norm: NormKind::Batch,
            activation: Nonlinearity::Relu,
            dense: 4096,
            dropout: 0.0,
            drop_connect: 0.0,
        };
        let error = large.build(&images(32, 32), 10, &device).unwrap_err();
        assert!(
            error.contains("model.dense: expected a net of at most 100000000"),
            "{error}"
        );
    }

    /// Of the head's last layer, which is linear, the mean over masks is the test's output; at 0 nothing is drawn.
    #[test]
    fn dropped_weights_are_averaged_at_test() {
        let device = Device::flex();
        let x = Tensor::<2>::random([3, 48], Distribution::Normal(0.0, 1.0), &device);
        let of = |recipe: &ModelRecipe| {
            evenkeel_nn::initialize(recipe.build(&images(6, 8), 5, &device).unwrap(), 3)
        };
        let plain = of(&convnet(&[4, 6], &[0], NormKind::Group(2)));
        let mut recipe = convnet(&[4, 6], &[0], NormKind::Group(2));
        let ModelRecipe::Convnet { drop_connect, .. } = &mut recipe else {
            unreachable!()
        };
        *drop_connect = 0.4;
        assert!(recipe.draws_noise() && recipe.dropout() == 0.0);
        let dropping = of(&recipe);
        assert_eq!(
            dropping.forward(x.clone(), &Pass::test()).into_data(),
            plain.forward(x.clone(), &Pass::test()).into_data()
        );
        let gap = expectation_gap(2000, 1, |pass| dropping.forward(x.clone(), pass));
        assert!(gap.is_within_error(), "{gap}");
        let noise =
            |model: &Model, step| model.forward(x.clone(), &Pass::train(0, step)).into_data();
        assert_ne!(noise(&dropping, 0), noise(&dropping, 1));
        assert_eq!(noise(&plain, 0), noise(&plain, 1));
        let dense = of(&with_dense_head(NormKind::Batch, 0.4));
        assert_ne!(noise(&dense, 0), noise(&dense, 1));
        for wrong in [-0.1, 1.1, f64::NAN] {
            let error = with_dense_head(NormKind::Batch, wrong)
                .validate()
                .unwrap_err();
            assert!(
                error.contains("drop_connect: expected a probability"),
                "{error}"
            );
        }
    }

    /// After it, the blocks go on with a bias and a ReLU of their own.
    #[test]
    fn folding_keeps_what_the_net_computes() {
        let device = Device::flex();
        let x = Tensor::<2>::random([9, 48], Distribution::Normal(0.0, 1.0), &device);
        let mlp = ModelRecipe::Mlp {
            hidden: vec![5, 7],
            norm: NormKind::Batch,
            activation: Nonlinearity::Relu,
            dropout: 0.5,
            drop_connect: 0.0,
        };
        for recipe in [
            convnet(&[4, 6], &[0], NormKind::Batch),
            convnet(&[4, 6], &[0], NormKind::BatchUnscaled),
            convnet(&[4, 6], &[0], NormKind::BatchL1),
            with_dense_head(NormKind::Batch, 0.0),
            ModelRecipe::Convnet {
                widths: vec![4, 6],
                pool_after: vec![0],
                norm: NormKind::Batch,
                activation: Nonlinearity::Tanh,
                dense: 0,
                dropout: 0.0,
                drop_connect: 0.0,
            },
            mlp,
            resnet(Stem::Small, NormKind::Batch),
        ] {
            let model = recipe.build(&images(6, 8), 5, &device).unwrap();
            let model = evenkeel_nn::initialize(model, 1);
            for step in 0..20 {
                model.forward(x.clone() * 2.0 + 1.0, &Pass::train(0, step));
            }
            let expected = model.forward(x.clone(), &Pass::test());
            let folded = model.fold().unwrap();
            let first = match &recipe {
                ModelRecipe::Resnet18 { .. } => "bn1",
                _ => "blocks.0.norm",
            };
            assert_eq!(folded.errors[0].0, first);
            let found = folded.model.forward(x.clone(), &Pass::test());
            let difference = (found - expected).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-4, "{difference}");
            let refused = folded.model.fold().unwrap_err();
            assert_eq!(
                (refused.path.as_str(), refused.reason),
                (first, NotFoldable::NoNorm)
            );
        }
        let group = convnet(&[4, 6], &[], NormKind::Group(2)).build(&images(6, 8), 5, &device);
        let refused = group.unwrap().fold().unwrap_err().to_string();
        assert!(refused.contains("group norm"), "{refused}");
    }
}
