//! Spatial dropout: whole channels are dropped.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use evenkeel_kernels::Scaling;

use super::check_prob;
use super::mask::Mask;
use crate::Pass;

/// Configuration of a [`SpatialDropout`] layer.
#[derive(Config, Debug)]
pub struct SpatialDropoutConfig {
    /// The probability of *dropping* a channel, in 0..=1.
    pub prob: f64,
    /// Where the mean is kept right.
    #[config(default = "Scaling::Inverted")]
    pub scaling: Scaling,
}

impl SpatialDropoutConfig {
    /// # Panics
    /// If `prob` is not in 0..=1.
    pub fn init(&self) -> SpatialDropout {
        check_prob("SpatialDropout", self.prob);
        SpatialDropout {
            prob: self.prob,
            scaling: self.scaling,
        }
    }
}

/// Sets whole channels of an example to zero at random: neighbouring positions of a feature map say
/// nearly the same, so that dropping some of them would leave what they say to the others.
///
/// With m = 0 with probability `prob` and 1 otherwise, independently per example n and channel c:
///
/// | | noise drawn (training, Monte Carlo) | noise off (test) |
/// |---|---|---|
/// | inverted | y\[n, c, ..\] = x\[n, c, ..\]·m\[n, c\] / (1 − prob) | y = x |
/// | classic | y\[n, c, ..\] = x\[n, c, ..\]·m\[n, c\] | y = x·(1 − prob) |
///
/// In both, the mean of the noisy output is the output at test. Without positions, `[N, C]`, it is
/// [`Dropout`](super::Dropout). `prob = 1` gives zeros. PyTorch's `Dropout1d`, `Dropout2d` and
/// `Dropout3d` of batches are this layer at rank 3, 4 and 5; a sequence `[N, T, C]` has its channels
/// last and needs them moved first (Keras's `SpatialDropout1D` expects them last).
///
/// Source: Tompson, Goroshin, Jain, LeCun, Bregler, "Efficient Object Localization Using Convolutional
/// Networks" (2015).
#[derive(Module, Debug)]
pub struct SpatialDropout {
    /// The probability of dropping a channel.
    pub prob: f64,
    /// Where the mean is kept right.
    #[module(skip)]
    pub scaling: Scaling,
}

impl SpatialDropout {
    /// # Shapes
    /// - input: `[N, C, ...]`, rank 2 or more
    /// - output: the same
    ///
    /// An input of rank 1, without channels, does not compile.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        const {
            assert!(D >= 2, "SpatialDropout: expected an input [N, C, ...]");
        }
        let mask = Mask {
            layer: "spatial_dropout",
            prob: self.prob,
            scaling: self.scaling,
            run: input.dims()[2..].iter().product(),
        };
        mask.apply(input, None, pass)
    }
}
