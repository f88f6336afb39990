//! A net on the mean of a verse's word embeddings.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData, module};

use crate::text::NOTHING;

const WIDTH: usize = 64;

/// Embeddings → mean over the words → linear → ReLU → linear.
///
/// Source: Iyyer, Manjunatha, Boyd-Graber, Daumé, "Deep Unordered Composition Rivals Syntactic Methods for Text
/// Classification" (2015), whose word dropout is what masking is here: masked words are left out of the mean.
#[derive(Module, Debug)]
pub struct Net {
    embeddings: Param<Tensor<2>>,
    hidden: Linear,
    head: Linear,
}

/// Verses of one batch, filled up with [`NOTHING`] to one length.
pub struct Words {
    numbers: Tensor<2, Int>,
    /// 1/words where a word is, 0 elsewhere: `[verses, 1, length]`.
    weights: Tensor<3>,
}

impl Words {
    pub fn new(verses: &[Vec<u32>], device: &Device) -> Self {
        let length = verses.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let mut numbers = Vec::with_capacity(verses.len() * length);
        let mut weights = Vec::with_capacity(verses.len() * length);
        for verse in verses {
            let count = verse.iter().filter(|word| **word != NOTHING).count();
            for at in 0..length {
                let word = verse.get(at).copied().unwrap_or(NOTHING);
                numbers.push(i64::from(word));
                // A verse of which nothing is left has the mean 0.
                weights.push(if word == NOTHING {
                    0.0
                } else {
                    1.0 / count as f32
                });
            }
        }
        let rows = verses.len();
        Self {
            numbers: Tensor::from_data(TensorData::new(numbers, [rows, length]), device),
            weights: Tensor::from_data(TensorData::new(weights, [rows, 1, length]), device),
        }
    }
}

impl Net {
    pub fn new(words: usize, genres: usize, device: &Device) -> Self {
        Self {
            embeddings: Param::from_tensor(Tensor::zeros([words, WIDTH], device).require_grad()),
            hidden: LinearConfig::new(WIDTH, WIDTH).init(device),
            head: LinearConfig::new(WIDTH, genres).init(device),
        }
    }

    /// Logits `[verses, genres]`.
    pub fn forward(&self, words: &Words) -> Tensor<2> {
        let embedded = module::embedding(self.embeddings.val(), words.numbers.clone());
        let mean = words.weights.clone().matmul(embedded).squeeze_dim::<2>(1);
        self.head.forward(relu(self.hidden.forward(mean)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_nn::initialize;

    #[test]
    fn what_is_masked_is_left_out_of_the_mean() {
        let device = Device::flex();
        let net = initialize(Net::new(9, 3, &device.clone().autodiff()), 1).valid();
        let verses = [vec![5, 2, 7, 2], vec![3, 8], vec![0, 0, 0]];
        let masked = [vec![5, 0, 7, 0], vec![0, 8], vec![0]];
        let left = [vec![7, 5], vec![8], vec![]];
        let logits = |verses: &[Vec<u32>]| net.forward(&Words::new(verses, &device));
        let difference = |a: Tensor<2>, b: Tensor<2>| (a - b).abs().max().into_scalar::<f32>();
        assert!(difference(logits(&masked), logits(&left)) < 1e-6);
        assert!(difference(logits(&masked), logits(&verses)) > 1e-3);
        // The mean, by hand.
        let rows = net.embeddings.val();
        let mean = (rows.clone().slice_dim(0, 5..6) + rows.slice_dim(0, 7..8)) / 2.0;
        let expected = net.head.forward(relu(net.hidden.forward(mean)));
        assert!(difference(logits(&left[..1]), expected) < 1e-6);
    }
}
