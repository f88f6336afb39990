//! Average pooling.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use evenkeel_kernels::{AvgPool, Window};

use crate::backend;

/// Configuration of an [`AvgPool2d`] layer: rows first, columns second in each pair.
#[derive(Config, Debug)]
pub struct AvgPool2dConfig {
    /// Positions under a window.
    pub kernel_size: [usize; 2],
    /// From one window to the next; the kernel size if not given, as in PyTorch and Burn.
    #[config(default = "None")]
    pub stride: Option<[usize; 2]>,
    /// Zeros around the image, at most half the kernel size.
    #[config(default = "[0, 0]")]
    pub padding: [usize; 2],
    /// Whether zeros around the image count: all windows are then divided by their size, otherwise by how many of
    /// their positions lie in the image.
    #[config(default = true)]
    pub count_include_pad: bool,
}

impl AvgPool2dConfig {
    /// The layer; it has no parameters. Whether the windows fit, the images decide: see
    /// [`AvgPool2d::forward`].
    pub fn init(&self) -> AvgPool2d {
        AvgPool2d {
            kernel_size: self.kernel_size,
            stride: self.stride.unwrap_or(self.kernel_size),
            padding: self.padding,
            count_include_pad: self.count_include_pad,
        }
    }
}

/// The mean under each window of an image:
///
/// ```text
/// y[n, c, i, j] = mean over a, b of x[n, c, i·stride − padding + a, j·stride − padding + b]
/// ```
///
/// with x zero outside the image. The gradient of a window goes to its positions in equal parts; the backward keeps
/// nothing. The same in training and at test.
///
/// Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998).
#[derive(Module, Debug)]
pub struct AvgPool2d {
    /// Positions under a window.
    pub kernel_size: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// Around the image.
    pub padding: [usize; 2],
    /// Whether zeros around the image count.
    pub count_include_pad: bool,
}

impl AvgPool2d {
    /// # Shapes
    /// - input: `[N, C, height, width]`
    /// - output: `[N, C, ⌊(height + 2·padding − kernel)/stride⌋ + 1, the same of width]`
    ///
    /// # Panics
    /// If the image is smaller than one window, or the window cannot be used: no positions or more
    /// than 256, a stride of 0, a padding of more than half the kernel.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let window = Window {
            size: self.kernel_size,
            stride: self.stride,
            padding: self.padding,
        };
        if let Err(problem) = window.output(backend::planes(&input.shape())) {
            panic!("AvgPool2d: {problem}, for an input {:?}", input.dims());
        }
        let pool = AvgPool {
            window,
            count_padding: self.count_include_pad,
        };
        backend::avg_pool(input, pool)
    }
}
