//! A dense net.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use evenkeel_nn::fold::{Folded, Refused, fold_linear, foldable};
use evenkeel_nn::{Dropout, DropoutConfig, Fold, Norm, NormKind, Norms, Pass};

use super::{Nonlinearity, fold_blocks, linear, normalize_and_activate, visit_norms_of_blocks};

/// Linear → norm → activation → dropout.
#[derive(Module, Debug)]
pub struct DenseBlock {
    /// Without a bias where a norm follows, whose shift replaces it.
    pub linear: Linear,
    /// The norm, with a ReLU fused into it.
    pub norm: Option<Norm>,
    /// On the activations.
    pub dropout: Dropout,
    /// What follows the norm.
    #[module(skip)]
    pub nonlinearity: Nonlinearity,
    /// The probability of dropping a weight of the linear layer.
    pub drop_connect: f64,
}

/// Dense blocks → linear.
#[derive(Module, Debug)]
pub struct Mlp {
    /// The hidden layers.
    pub blocks: Vec<DenseBlock>,
    /// To the classes.
    pub head: Linear,
    /// The probability of dropping a weight of the head.
    pub drop_connect: f64,
}

impl Mlp {
    pub(super) fn build(
        inputs: usize,
        hidden: &[usize],
        norm: NormKind,
        nonlinearity: Nonlinearity,
        [dropout, drop_connect]: [f64; 2],
        classes: usize,
        device: &Device,
    ) -> Self {
        let mut before = inputs;
        let blocks = hidden.iter().map(|&after| {
            let linear = LinearConfig::new(before, after).with_bias(norm == NormKind::None);
            before = after;
            DenseBlock {
                linear: linear.init(device),
                norm: norm.init(after, nonlinearity.fused(), device),
                dropout: DropoutConfig::new(dropout).init(),
                nonlinearity,
                drop_connect,
            }
        });
        Self {
            blocks: blocks.collect(),
            head: LinearConfig::new(before, classes).init(device),
            drop_connect,
        }
    }

    /// # Shapes
    /// - features: `[N, inputs]`
    /// - output: logits `[N, classes]`
    pub fn forward(&self, features: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let mut x = features;
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, &pass.scope(&format!("blocks.{index}")));
        }
        linear(&self.head, self.drop_connect, x, &pass.scope("head"))
    }
}

impl Norms for Mlp {
    fn visit_norms(&mut self, visit: &mut dyn FnMut(&str, &mut Norm)) {
        let norms = self.blocks.iter_mut().map(|block| block.norm.as_mut());
        visit_norms_of_blocks(norms, visit);
    }
}

impl Fold for Mlp {
    fn fold(self) -> Result<Folded<Self>, Refused> {
        let blocks = fold_blocks(self.blocks, |mut block| {
            let (linear, error) = fold_linear(&block.linear, foldable(block.norm.as_ref())?)?;
            (block.linear, block.norm) = (linear, None);
            Ok((block, error))
        })?;
        Ok(blocks.map(|blocks| Self { blocks, ..self }))
    }
}

impl DenseBlock {
    fn forward(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let x = linear(&self.linear, self.drop_connect, x, pass);
        let x = normalize_and_activate(self.norm.as_ref(), x, self.nonlinearity, pass);
        self.dropout.forward(x, pass)
    }
}
