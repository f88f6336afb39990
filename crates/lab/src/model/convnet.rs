//! A plain convolutional net: the small relative of VGG.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use evenkeel_nn::fold::{Folded, Refused, fold_conv2d, foldable};
use evenkeel_nn::{
    ConvBlock, ConvBlockConfig, Dropout, DropoutConfig, Fold, GlobalAvgPool, MaxPool2dConfig, Norm,
    NormKind, Norms, Pass,
};

use super::{fold_blocks, visit_norms_of_blocks};
use crate::data::Kind;

/// Blocks → global average pool → dropout → linear.
#[derive(Module, Debug)]
pub struct ConvNet {
    /// 3×3 convolution → norm → ReLU → perhaps a 2×2 max pool.
    pub blocks: Vec<ConvBlock>,
    /// Averages over all positions: no fully connected layer to overfit with.
    pub pool: GlobalAvgPool,
    /// On the pooled features.
    pub dropout: Dropout,
    /// To the classes.
    pub head: Linear,
    /// Channels, height, width.
    input: [usize; 3],
}

impl ConvNet {
    pub(super) fn build(
        widths: &[usize],
        pool_after: &[usize],
        norm: NormKind,
        dropout: f64,
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
        let halvings = u32::try_from(pool_after.len()).unwrap_or(u32::MAX);
        let smallest = height.min(width).checked_shr(halvings).unwrap_or(0);
        if smallest == 0 {
            return Err(format!(
                "model.pool_after: {halvings} pools leave nothing of images of {height}×{width}; \
                 use fewer"
            ));
        }
        let mut before = channels;
        let blocks = widths.iter().enumerate().map(|(index, &after)| {
            let pool = pool_after
                .contains(&index)
                .then(|| MaxPool2dConfig::new([2, 2]));
            let block = ConvBlockConfig::new([before, after], [3, 3])
                .with_norm(norm)
                .with_pool(pool);
            before = after;
            block.init(device)
        });
        Ok(Self {
            blocks: blocks.collect(),
            pool: GlobalAvgPool,
            dropout: DropoutConfig::new(dropout).init(),
            head: LinearConfig::new(before, classes).init(device),
            input: [channels, height, width],
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

    /// The same for images of any size that the pools leave something of: the net is convolutional up to the
    /// average over all positions.
    ///
    /// # Shapes
    /// - images: `[N, channels, height, width]`
    /// - output: logits `[N, classes]`
    pub fn forward_images(&self, images: Tensor<4>, pass: &Pass) -> Tensor<2> {
        let mut x = images;
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, &pass.scope(&format!("blocks.{index}")));
        }
        let x = self
            .dropout
            .forward(self.pool.forward(x), &pass.scope("dropout"));
        self.head.forward(x)
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
