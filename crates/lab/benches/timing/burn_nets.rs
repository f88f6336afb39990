//! The reference nets with Burn's own layers.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{self, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

/// The net of the peers' `train_step.py`, with Burn's own layers.
#[derive(Module, Debug)]
pub struct BurnNet {
    convs: Vec<Conv2d>,
    norms: Vec<BatchNorm>,
    pool: MaxPool2d,
    average: pool::AdaptiveAvgPool2d,
    head: Linear,
}

pub const WIDTHS: [usize; 4] = [32, 64, 64, 128];
pub const POOL_AFTER: [usize; 2] = [1, 2];

impl BurnNet {
    pub fn new(device: &Device) -> Self {
        let pairs = [1].into_iter().chain(WIDTHS).zip(WIDTHS);
        Self {
            convs: pairs
                .map(|(before, after)| conv([before, after], 3, 1, device))
                .collect(),
            norms: WIDTHS
                .map(|width| BatchNormConfig::new(width).init(device))
                .into(),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            average: pool::AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            head: LinearConfig::new(WIDTHS[3], 10).init(device),
        }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let examples = x.dims()[0];
        let mut x = x.reshape([examples, 1, 28, 28]);
        for (index, (conv, norm)) in self.convs.iter().zip(&self.norms).enumerate() {
            x = relu(norm.forward(conv.forward(x)));
            if POOL_AFTER.contains(&index) {
                x = self.pool.forward(x);
            }
        }
        self.head.forward(self.average.forward(x).flatten(1, 3))
    }
}

/// The lab's ResNet-18 with the small stem.
#[derive(Module, Debug)]
pub struct BurnResNet {
    stem: Conv2d,
    norm: BatchNorm,
    blocks: Vec<BurnBlock>,
    average: pool::AdaptiveAvgPool2d,
    head: Linear,
}

#[derive(Module, Debug)]
struct BurnBlock {
    convs: [Conv2d; 2],
    norms: [BatchNorm; 2],
    shortcut: Option<(Conv2d, BatchNorm)>,
}

fn conv(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Conv2d {
    let zeros = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(zeros, zeros, zeros, zeros))
        .with_bias(false)
        .init(device)
}

impl BurnBlock {
    fn new([before, after]: [usize; 2], stride: usize, device: &Device) -> Self {
        let norm = || BatchNormConfig::new(after).init(device);
        let shortcut = (stride > 1).then(|| (conv([before, after], 1, stride, device), norm()));
        Self {
            convs: [
                conv([before, after], 3, stride, device),
                conv([after, after], 3, 1, device),
            ],
            norms: [norm(), norm()],
            shortcut,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.norms[0].forward(self.convs[0].forward(x.clone())));
        let y = self.norms[1].forward(self.convs[1].forward(y));
        let x = match &self.shortcut {
            Some((conv, norm)) => norm.forward(conv.forward(x)),
            None => x,
        };
        relu(x + y)
    }
}

impl BurnResNet {
    pub fn new(device: &Device) -> Self {
        let stages = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)];
        let blocks = stages.into_iter().flat_map(|(before, after, stride)| {
            [
                BurnBlock::new([before, after], stride, device),
                BurnBlock::new([after, after], 1, device),
            ]
        });
        Self {
            stem: conv([3, 64], 3, 1, device),
            norm: BatchNormConfig::new(64).init(device),
            blocks: blocks.collect(),
            average: pool::AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            head: LinearConfig::new(512, 10).init(device),
        }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let examples = x.dims()[0];
        let x = x.reshape([examples, 3, 32, 32]);
        let mut x = relu(self.norm.forward(self.stem.forward(x)));
        for block in &self.blocks {
            x = block.forward(x);
        }
        self.head.forward(self.average.forward(x).flatten(1, 3))
    }
}
