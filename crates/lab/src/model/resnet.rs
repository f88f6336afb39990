//! ResNet-18: convolutions whose output is added to their input.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use evenkeel_nn::fold::{Folded, FoldingError, NotFoldable, Refused, fold_conv2d, foldable};
use evenkeel_nn::{
    Activation, Conv2d, Conv2dConfig, Dropout, DropoutConfig, Fold, GlobalAvgPool, MaxPool2d,
    MaxPool2dConfig, Norm, NormKind, Norms, Pass, add_activated, conv_norm,
};
use serde::{Deserialize, Serialize};

use crate::data::Kind;

/// What comes before the blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// One 3×3 convolution: for images of 32 pixels or so, which have nothing to lose.
    #[default]
    Small,
    /// The paper's, a 7×7 convolution and a 3×3 max pool, each halving the image: for 224 pixels.
    Large,
}

impl Stem {
    /// Times that the image's sides are halved, rounding up, before and in the blocks.
    pub(super) fn halvings(self) -> usize {
        match self {
            Self::Small => 3,
            Self::Large => 5,
        }
    }
}

/// Stages of blocks: each but the first halves the image and doubles the channels.
const STAGES: usize = 4;
/// Blocks of a stage: with two convolutions each, the first convolution and the linear layer, 18.
const BLOCKS: usize = 2;

/// Stem → four stages of two blocks → global average pool → dropout → linear.
///
/// Parameters are named as torchvision's `resnet18`, whose weights it loads if `width` is 64 and the stem
/// the large one.
///
/// Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (2015).
#[derive(Module, Debug)]
pub struct ResNet {
    /// The first convolution.
    pub conv1: Conv2d,
    /// Its norm, with the ReLU fused into it.
    pub bn1: Option<Norm>,
    /// In the large stem.
    pub maxpool: Option<MaxPool2d>,
    /// The first stage.
    pub layer1: Vec<BasicBlock>,
    /// The second.
    pub layer2: Vec<BasicBlock>,
    /// The third.
    pub layer3: Vec<BasicBlock>,
    /// The last.
    pub layer4: Vec<BasicBlock>,
    /// Averages over all positions.
    pub avgpool: GlobalAvgPool,
    /// On the pooled features.
    pub dropout: Dropout,
    /// To the classes.
    pub fc: Linear,
    /// Channels, height, width.
    input: [usize; 3],
}

/// relu(x + norm(conv(relu(norm(conv(x)))))), where x goes through a strided 1×1 convolution and a norm
/// if its shape changes.
#[derive(Module, Debug)]
pub struct BasicBlock {
    /// 3×3, with the stride.
    pub conv1: Conv2d,
    /// With the ReLU fused into it.
    pub bn1: Option<Norm>,
    /// 3×3.
    pub conv2: Conv2d,
    /// Without an activation: the sum comes first.
    pub bn2: Option<Norm>,
    /// What makes the input the output's shape.
    pub downsample: Option<(Conv2d, Option<Norm>)>,
}

/// A convolution that keeps the size but for the stride; without a bias where a norm follows.
fn conv(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    norm: NormKind,
    device: &Device,
) -> Conv2d {
    let zeros = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(zeros, zeros, zeros, zeros))
        .with_bias(norm == NormKind::None)
        .init(device)
}

/// The convolution, and the norm if there is one, as one.
fn convolve(conv: &Conv2d, norm: Option<&Norm>, x: Tensor<4>, pass: &Pass) -> Tensor<4> {
    match norm {
        Some(norm) => conv_norm(conv, norm, None, x, pass),
        None => conv.forward(x),
    }
}

/// [`convolve`], where the norm has a ReLU in it.
fn convolve_and_activate(
    conv: &Conv2d,
    norm: Option<&Norm>,
    x: Tensor<4>,
    pass: &Pass,
) -> Tensor<4> {
    let y = convolve(conv, norm, x, pass);
    if norm.is_some() {
        y
    } else {
        pass.observing("relu", y, relu)
    }
}

impl ResNet {
    pub(super) fn build(
        width: usize,
        stem: Stem,
        norm: NormKind,
        dropout: f64,
        data: &Kind,
        classes: usize,
        device: &Device,
    ) -> Self {
        let &Kind::Images {
            height,
            width: columns,
            channels,
        } = data
        else {
            unreachable!("the caller matched images");
        };
        let [conv1, maxpool] = match stem {
            Stem::Small => [(3, 1), (0, 0)],
            Stem::Large => [(7, 2), (3, 2)],
        };
        let mut before = width;
        let mut stage = |index: usize| {
            let after = width << index;
            let blocks = (0..BLOCKS).map(|block| {
                let stride = if index > 0 && block == 0 { 2 } else { 1 };
                BasicBlock::build(
                    [std::mem::replace(&mut before, after), after],
                    stride,
                    norm,
                    device,
                )
            });
            blocks.collect::<Vec<_>>()
        };
        Self {
            conv1: conv([channels, width], conv1.0, conv1.1, norm, device),
            bn1: norm.init(width, Activation::Relu, device),
            maxpool: (stem == Stem::Large).then(|| {
                MaxPool2dConfig::new([maxpool.0, maxpool.0])
                    .with_stride(Some([maxpool.1, maxpool.1]))
                    .with_padding([1, 1])
                    .init()
            }),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            avgpool: GlobalAvgPool,
            dropout: DropoutConfig::new(dropout).init(),
            fc: LinearConfig::new(width << (STAGES - 1), classes).init(device),
            input: [channels, height, columns],
        }
    }

    /// Channels after each stage.
    pub(super) fn widths(width: usize) -> Vec<usize> {
        (0..STAGES)
            .map(|stage| width.saturating_mul(1 << stage))
            .collect()
    }

    /// The number of parameters.
    pub(super) fn parameters(width: usize, stem: Stem, inputs: u128, classes: u128) -> u128 {
        let kernel = match stem {
            Stem::Small => 9,
            Stem::Large => 49,
        };
        let mut before = width as u128;
        let mut all = kernel * inputs * before + 2 * before;
        for (stage, after) in Self::widths(width).into_iter().enumerate() {
            let after = after as u128;
            // Two blocks of two convolutions, and the way around the first where its shape changes.
            all += 9 * before * after + 3 * 9 * after * after + 8 * after;
            if stage > 0 {
                all += before * after + 2 * after;
            }
            before = after;
        }
        all + (before + 1) * classes
    }

    /// # Shapes
    /// - features: `[N, channels·height·width]`
    /// - output: logits `[N, classes]`
    pub fn forward(&self, features: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let [channels, height, width] = self.input;
        let examples = features.dims()[0];
        self.forward_images(features.reshape([examples, channels, height, width]), pass)
    }

    /// The same for images of any size: the net is convolutional up to the average over all positions.
    ///
    /// # Shapes
    /// - images: `[N, channels, height, width]`
    /// - output: logits `[N, classes]`
    pub fn forward_images(&self, images: Tensor<4>, pass: &Pass) -> Tensor<2> {
        let bn1 = self.bn1.as_ref();
        let mut x = convolve_and_activate(&self.conv1, bn1, images, &pass.scope("bn1"));
        if let Some(pool) = &self.maxpool {
            x = pool.forward(x);
        }
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        for (stage, blocks) in (1..).zip(stages) {
            for (index, block) in blocks.iter().enumerate() {
                x = block.forward(x, &pass.scope(&format!("layer{stage}.{index}")));
            }
        }
        let x = self.avgpool.forward(x);
        self.fc
            .forward(self.dropout.forward(x, &pass.scope("dropout")))
    }

    fn stages_mut(&mut self) -> [(&'static str, &mut Vec<BasicBlock>); STAGES] {
        [
            ("layer1", &mut self.layer1),
            ("layer2", &mut self.layer2),
            ("layer3", &mut self.layer3),
            ("layer4", &mut self.layer4),
        ]
    }

    /// Each convolution with the norm behind it, and the norm's path.
    fn visit_pairs<E>(
        &mut self,
        mut visit: impl FnMut(&str, &mut Conv2d, &mut Option<Norm>) -> Result<(), E>,
    ) -> Result<(), E> {
        visit("bn1", &mut self.conv1, &mut self.bn1)?;
        for (stage, blocks) in self.stages_mut() {
            for (index, block) in blocks.iter_mut().enumerate() {
                let path = |norm: &str| format!("{stage}.{index}.{norm}");
                visit(&path("bn1"), &mut block.conv1, &mut block.bn1)?;
                visit(&path("bn2"), &mut block.conv2, &mut block.bn2)?;
                if let Some((conv, norm)) = &mut block.downsample {
                    visit(&path("downsample.1"), conv, norm)?;
                }
            }
        }
        Ok(())
    }
}

impl BasicBlock {
    fn build([before, after]: [usize; 2], stride: usize, norm: NormKind, device: &Device) -> Self {
        let changes = stride != 1 || before != after;
        Self {
            conv1: conv([before, after], 3, stride, norm, device),
            bn1: norm.init(after, Activation::Relu, device),
            conv2: conv([after, after], 3, 1, norm, device),
            bn2: norm.init(after, Activation::None, device),
            downsample: changes.then(|| {
                let conv = conv([before, after], 1, stride, norm, device);
                (conv, norm.init(after, Activation::None, device))
            }),
        }
    }

    fn forward(&self, x: Tensor<4>, pass: &Pass) -> Tensor<4> {
        let (bn1, bn2) = (self.bn1.as_ref(), self.bn2.as_ref());
        let y = convolve_and_activate(&self.conv1, bn1, x.clone(), &pass.scope("bn1"));
        let y = convolve(&self.conv2, bn2, y, &pass.scope("bn2"));
        let x = match &self.downsample {
            Some((conv, norm)) => convolve(conv, norm.as_ref(), x, &pass.scope("downsample")),
            None => x,
        };
        let pass = pass.scope("relu");
        if pass.is_observed() {
            pass.observing("relu", x + y, relu)
        } else {
            add_activated(y, x, Activation::Relu)
        }
    }
}

impl Norms for ResNet {
    fn visit_norms(&mut self, visit: &mut dyn FnMut(&str, &mut Norm)) {
        let visited: Result<(), std::convert::Infallible> = self.visit_pairs(|path, _, norm| {
            if let Some(norm) = norm {
                visit(path, norm);
            }
            Ok(())
        });
        let Ok(()) = visited;
    }
}

impl Fold for ResNet {
    fn fold(mut self) -> Result<Folded<Self>, Refused> {
        let mut errors: Vec<(String, FoldingError)> = Vec::new();
        self.visit_pairs(|path, conv, norm| {
            let fold = || -> Result<_, NotFoldable> { fold_conv2d(conv, foldable(norm.as_ref())?) };
            let (folded, error) = fold().map_err(|reason| Refused {
                path: path.to_owned(),
                reason,
            })?;
            (*conv, *norm) = (folded, None);
            errors.push((path.to_owned(), error));
            Ok(())
        })?;
        let model = self;
        Ok(Folded { model, errors })
    }
}
