//! DropBlock: squares of feature maps are dropped.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use evenkeel_kernels::{self as kernels, Factors};

use super::check_prob;
use crate::{Pass, backend};

/// Configuration of a [`DropBlock`] layer.
#[derive(Config, Debug)]
pub struct DropBlockConfig {
    /// The share of elements that is *dropped*, about, in 0..=1: 1 − the paper's `keep_prob`. The paper
    /// raises it linearly from 0 over the training: set [`DropBlock::prob`] before each step.
    pub prob: f64,
    /// The side of the squares; where the feature map is smaller, its own side.
    #[config(default = "7")]
    pub block_size: usize,
}

impl DropBlockConfig {
    /// # Panics
    /// If `prob` is not in 0..=1 or the block size is 0.
    pub fn init(&self) -> DropBlock {
        check_prob("DropBlock", self.prob);
        assert!(
            self.block_size > 0,
            "DropBlock: expected a block size of at least 1, got 0"
        );
        DropBlock {
            prob: self.prob,
            block_size: self.block_size,
        }
    }
}

/// Sets squares of each feature map to zero at random: contiguous regions, since single positions are
/// guessed from their neighbours.
///
/// A square of b×b = `block_size`² begins, independently per example and channel, at each place where
/// it is whole inside the map, with the probability
///
/// ```text
/// γ = prob / b² · height·width / ((height − b + 1)·(width − b + 1))
/// ```
///
/// With m = 0 for what a square covers and 1 otherwise:
///
/// | noise drawn (training, Monte Carlo) | noise off (test) |
/// |---|---|
/// | y = x·m · elements of m / ones in m, over the whole batch | y = x |
///
/// The scale makes the mean of a constant exactly right; that of an element is right nearly, because it
/// depends on where in the map the element is. Squares overlap, so that less than `prob` is dropped
/// when much is. `prob = 1` gives zeros.
///
/// Source: Ghiasi, Lin, Le, "DropBlock: A Regularization Method for Convolutional Networks" (2018).
#[derive(Module, Debug)]
pub struct DropBlock {
    /// The share of elements that is dropped, about.
    pub prob: f64,
    /// The side of the squares.
    pub block_size: usize,
}

impl DropBlock {
    /// # Shapes
    /// - input: `[N, C, height, width]`
    /// - output: the same
    pub fn forward(&self, input: Tensor<4>, pass: &Pass) -> Tensor<4> {
        pass.observing("drop_block", input, |input| match pass.next_noise() {
            Some(key) if self.prob != 0.0 => {
                let [_, _, height, width] = input.dims();
                let image = [height, width];
                let blocks = kernels::DropBlock::new(key, self.prob, self.block_size, image);
                backend::multiply(input, Factors::Blocks(blocks))
            }
            _ => input,
        })
    }
}
