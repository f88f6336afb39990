//! The small zoo of nets that a recipe chooses from.

mod convnet;
mod mlp;
mod resnet;

pub use convnet::ConvNet;
pub use mlp::{DenseBlock, Mlp};
pub use resnet::{BasicBlock, ResNet, Stem};

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use evenkeel_nn::fold::{Folded, FoldingError, NotFoldable, Refused};
use evenkeel_nn::{Fold, Norm, NormKind, Norms, Pass};
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
        norm: NormKind,
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
        norm: NormKind,
        /// The probability of dropping a value after each hidden layer.
        #[serde(default)]
        dropout: f64,
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
            Self::ConvNet(_) | Self::ResNet(_) => true,
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

/// The norm, with the ReLU fused into it; without a norm the ReLU alone, which observers are shown too.
fn normalize_and_activate<const D: usize>(
    norm: Option<&Norm>,
    x: Tensor<D>,
    pass: &Pass,
) -> Tensor<D> {
    match norm {
        Some(norm) => norm.forward(x, pass),
        None => observed_relu(x, pass),
    }
}

fn observed_relu<const D: usize>(x: Tensor<D>, pass: &Pass) -> Tensor<D> {
    if !pass.is_observed() {
        return relu(x);
    }
    let y = relu(x.clone());
    pass.observe("relu", &x, &y, None);
    y
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
        let (inputs, classes) = (inputs as u128, classes as u128);
        let (name, parameters) = match self {
            Self::Convnet { widths, .. } => ("widths", in_a_row(9, inputs, widths, classes)),
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
            NormKind::Batch if batch_size == 1 => Err(
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
                let halved = |side: usize| (0..pools).fold(side, |side, _| side / 2);
                halved(*height) * halved(*width)
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
                    dropout,
                },
                _,
            ) => Ok(Model::Mlp(Mlp::build(
                inputs, hidden, *norm, *dropout, classes, device,
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
    use evenkeel_nn::replace_batch_norms;

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
            dropout: 0.0,
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
                    dropout: 0.0,
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
                let expected = match (norm, &recipe) {
                    (NormKind::Batch, ModelRecipe::Resnet18 { .. }) => 20,
                    (NormKind::Batch, _) => 2,
                    _ => 0,
                };
                assert_eq!(batch_norms, expected);
                assert_eq!(replace_batch_norms(&mut model, |_| 2), Ok(batch_norms));
                assert_eq!(model.forward(x.clone(), &Pass::train(0, 0)).dims(), [3, 5]);
                assert_eq!(replace_batch_norms(&mut model, |_| 2), Ok(0));
            }
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
            dropout: 0.5,
        };
        for recipe in [
            convnet(&[4, 6], &[0], NormKind::Batch),
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
