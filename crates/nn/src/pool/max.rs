//! Max pooling.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use evenkeel_kernels::Window;

use crate::backend;

/// Configuration of a [`MaxPool2d`] layer: rows first, columns second in each pair.
#[derive(Config, Debug)]
pub struct MaxPool2dConfig {
    /// Positions under a window.
    pub kernel_size: [usize; 2],
    /// From one window to the next; the kernel size if not given, as in PyTorch. (In Burn the
    /// default is the kernel size too.)
    #[config(default = "None")]
    pub stride: Option<[usize; 2]>,
    /// Positions around the image that windows may reach over, at most half the kernel size. No
    /// value there takes part.
    #[config(default = "[0, 0]")]
    pub padding: [usize; 2],
}

impl MaxPool2dConfig {
    /// The layer; it has no parameters. Whether the windows fit, the images decide: see
    /// [`MaxPool2d::forward`].
    pub fn init(&self) -> MaxPool2d {
        MaxPool2d {
            kernel_size: self.kernel_size,
            stride: self.stride.unwrap_or(self.kernel_size),
            padding: self.padding,
        }
    }
}

/// The largest value under each window of an image:
///
/// ```text
/// y[n, c, i, j] = max over a, b of x[n, c, i·stride − padding + a, j·stride − padding + b]
/// ```
///
/// NaN passes through. The gradient goes to the window's winner, the first of equal values; the
/// backward keeps one byte per output for that, and not the input. The same in training and at
/// test.
///
/// Source: Ranzato, Huang, Boureau, LeCun, "Unsupervised Learning of Invariant Feature Hierarchies
/// with Applications to Object Recognition" (2007).
#[derive(Module, Debug)]
pub struct MaxPool2d {
    /// Positions under a window.
    pub kernel_size: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// Around the image.
    pub padding: [usize; 2],
}

impl MaxPool2d {
    /// # Shapes
    /// - input: `[N, C, height, width]`
    /// - output: `[N, C, ⌊(height + 2·padding − kernel)/stride⌋ + 1, the same of width]`
    ///
    /// # Panics
    /// If the image is smaller than one window, or the window cannot be used: no positions or more
    /// than 256, a stride of 0, a padding of more than half the kernel.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let window = self.window();
        if let Err(problem) = window.output(backend::planes(&input.shape())) {
            panic!("MaxPool2d: {problem}, for an input {:?}", input.dims());
        }
        backend::max_pool(input, window)
    }

    pub(crate) fn window(&self) -> Window {
        Window {
            size: self.kernel_size,
            stride: self.stride,
            padding: self.padding,
        }
    }
}
