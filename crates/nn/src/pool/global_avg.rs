//! Global average pooling.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::backend;

/// The mean of each channel: y\[n, c\] = mean over all positions of x\[n, c, ...\].
///
/// It replaces a fully connected layer on top of a convolutional net by one that has no parameters
/// to overfit with, and accepts any image size. The same in training and at test.
///
/// Source: Lin, Chen, Yan, "Network In Network" (2013).
#[derive(Module, Debug, Default)]
pub struct GlobalAvgPool;

impl GlobalAvgPool {
    /// # Shapes
    /// - input: `[N, C, ...]`, any number of positions but zero
    /// - output: `[N, C]`
    ///
    /// # Panics
    /// If the input has fewer than two dimensions, or no positions to average.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<2> {
        let dims = input.dims();
        assert!(
            D >= 2 && dims[2..].iter().all(|&size| size > 0),
            "GlobalAvgPool: expected an input [examples, channels, positions...] with at least \
             one position, got {dims:?}"
        );
        backend::global_avg_pool(input)
    }
}
