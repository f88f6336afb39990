//! A dense net.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use evenkeel_nn::{BatchNorm, Dropout, DropoutConfig, Pass};

use super::Norm;

/// Linear → norm → ReLU → dropout.
#[derive(Module, Debug)]
pub struct DenseBlock {
    /// Without a bias where a norm follows, whose shift replaces it.
    pub linear: Linear,
    /// The norm, with the ReLU fused into it.
    pub norm: Option<BatchNorm>,
    /// On the activations.
    pub dropout: Dropout,
}

/// Dense blocks → linear.
#[derive(Module, Debug)]
pub struct Mlp {
    /// The hidden layers.
    pub blocks: Vec<DenseBlock>,
    /// To the classes.
    pub head: Linear,
}

impl Mlp {
    pub(super) fn build(
        inputs: usize,
        hidden: &[usize],
        norm: Norm,
        dropout: f64,
        classes: usize,
        device: &Device,
    ) -> Self {
        let mut before = inputs;
        let blocks = hidden.iter().map(|&after| {
            let linear = LinearConfig::new(before, after).with_bias(norm == Norm::None);
            before = after;
            DenseBlock {
                linear: linear.init(device),
                norm: norm.with_relu(after, device),
                dropout: DropoutConfig::new(dropout).init(),
            }
        });
        Self {
            blocks: blocks.collect(),
            head: LinearConfig::new(before, classes).init(device),
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
        self.head.forward(x)
    }
}

impl DenseBlock {
    fn forward(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let x = self.linear.forward(x);
        let x = match &self.norm {
            Some(norm) => norm.forward(x, pass),
            None => relu(x),
        };
        self.dropout.forward(x, pass)
    }
}
