//! A plain convolutional net: the small relative of VGG.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use evenkeel_nn::fold::{Folded, Refused, fold_conv2d, foldable};
use evenkeel_nn::{
    ConvBlock, ConvBlockConfig, Dropout, DropoutConfig, Fold, GlobalAvgPool, MaxPool2dConfig, Norm,
    NormKind, Norms, Pass,
};

use super::{
    Nonlinearity, fold_blocks, linear, normalize_and_activate, pooled, visit_norms_of_blocks,
};
use crate::data::Kind;

/// Blocks → global average pool → dropout → linear; with a dense head, blocks → linear → activation → dropout →
/// linear.
#[derive(Module, Debug)]
pub struct ConvNet {
    /// 3×3 convolution → norm → activation → perhaps a 2×2 max pool.
    pub blocks: Vec<ConvBlock>,
    /// Averages over all positions: no fully connected layer to overfit with.
    pub pool: GlobalAvgPool,
    /// On all positions, in place of the average over them.
    pub dense: Option<Linear>,
    /// On the features that the head sees.
    pub dropout: Dropout,
    /// To the classes.
    pub head: Linear,
    /// Channels, height, width.
    input: [usize; 3],
    /// What follows the norms.
    #[module(skip)]
    pub nonlinearity: Nonlinearity,
    /// The probability of dropping a weight of the layers behind the blocks.
    pub drop_connect: f64,
}

/// What the blocks and the head are made of.
pub(super) struct Layers {
    pub norm: NormKind,
    pub nonlinearity: Nonlinearity,
    /// Features of a dense layer on all positions; 0 averages over them.
    pub dense: usize,
    pub dropout: f64,
    pub drop_connect: f64,
}

impl ConvNet {
    pub(super) fn build(
        widths: &[usize],
        pool_after: &[usize],
        layers: &Layers,
        data: &Kind,
        classes: usize,
        device: &Device,
    ) -> Result<Self, String> {
        let &Kind::Images {
            height,
            width,
            channels,
        } = data
        else {
            unreachable!("the caller matched images");
        };
        let pools = pool_after.len();
        let [rows, columns] = [height, width].map(|side| pooled(side, pools));
        if rows.min(columns) == 0 {
            return Err(format!(
                "model.pool_after: {pools} pools leave nothing of images of {height}×{width}; \
                 use fewer"
            ));
        }
        let mut before = channels;
        let blocks = widths.iter().enumerate().map(|(index, &after)| {
            let pool = pool_after
                .contains(&index)
                .then(|| MaxPool2dConfig::new([2, 2]));
            let block = ConvBlockConfig::new([before, after], [3, 3])
                .with_norm(layers.norm)
                .with_activation(layers.nonlinearity.fused())
                .with_pool(pool);
            before = after;
            block.init(device)
        });
        let blocks = blocks.collect();
        let dense = (layers.dense > 0).then(|| {
            let inputs = before * rows * columns;
            before = layers.dense;
            LinearConfig::new(inputs, before).init(device)
        });
        Ok(Self {
            blocks,
            pool: GlobalAvgPool,
            dense,
            dropout: DropoutConfig::new(layers.dropout).init(),
            head: LinearConfig::new(before, classes).init(device),
            input: [channels, height, width],
            nonlinearity: layers.nonlinearity,
            drop_connect: layers.drop_connect,
        })
    }

    /// # Shapes
    /// - features: `[N, channels·height·width]`
    /// - output: logits `[N, classes]`
    pub fn forward(&self, features: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let [channels, height, width] = self.input;
        let examples = features.dims()[0];
        self.forward_images(features.reshape([examples, channels, height, width]), pass)
    }

    /// The same for images of any size that the pools leave something of, if the net is convolutional up to the
    /// average over all positions.
    ///
    /// # Shapes
    /// - images: `[N, channels, height, width]`
    /// - output: logits `[N, classes]`
    pub fn forward_images(&self, images: Tensor<4>, pass: &Pass) -> Tensor<2> {
        // The last block's output is averaged as it is made, where nothing comes between.
        let averages = self.dense.is_none() && self.nonlinearity.is_fused();
        let (blocks, last) = match self.blocks.split_last() {
            Some((last, blocks)) if averages => (blocks, Some(last)),
            _ => (&self.blocks[..], None),
        };
        let of_block = |index: usize| pass.scope(&format!("blocks.{index}"));
        let mut x = images;
        for (index, block) in blocks.iter().enumerate() {
            let pass = of_block(index);
            x = self.nonlinearity.rest(block.forward(x, &pass), &pass);
        }
        let x = match (&self.dense, last) {
            (None, Some(last)) => last.forward_averaged(x, &of_block(blocks.len())),
            (None, None) => self.pool.forward(x),
            (Some(dense), _) => {
                let pass = pass.scope("dense");
                let x = linear(dense, self.drop_connect, x.flatten(1, 3), &pass);
                normalize_and_activate(None, x, self.nonlinearity, &pass)
            }
        };
        let x = self.dropout.forward(x, &pass.scope("dropout"));
        linear(&self.head, self.drop_connect, x, &pass.scope("head"))
    }
}

impl Norms for ConvNet {
    fn visit_norms(&mut self, visit: &mut dyn FnMut(&str, &mut Norm)) {
        let norms = self.blocks.iter_mut().map(|block| block.norm.as_mut());
        visit_norms_of_blocks(norms, visit);
    }
}

impl Fold for ConvNet {
    fn fold(self) -> Result<Folded<Self>, Refused> {
        let blocks = fold_blocks(self.blocks, |mut block| {
            let (conv, error) = fold_conv2d(&block.conv, foldable(block.norm.as_ref())?)?;
            (block.conv, block.norm) = (conv, None);
            Ok((block, error))
        })?;
        Ok(blocks.map(|blocks| Self { blocks, ..self }))
    }
}
