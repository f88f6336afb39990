//! 2-d convolution: Burn's layer, with kernels of our own on the CPU.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Initializer, Module, ModuleDisplay, Param};
use burn::nn::{self, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use evenkeel_kernels::{self as kernels, Activation, RowNorm, RowStatistics, Rows};

use crate::backend::{self, computed_in};

/// Configuration of a [`Conv2d`] layer: the fields, defaults and meaning of Burn's, so that a model
/// changes one import.
#[derive(Config, Debug)]
pub struct Conv2dConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// From one output position to the next.
    #[config(default = "[1, 1]")]
    pub stride: [usize; 2],
    /// From one place of the kernel to the next.
    #[config(default = "[1, 1]")]
    pub dilation: [usize; 2],
    /// Output channels see only the input channels of their group.
    #[config(default = "1")]
    pub groups: usize,
    /// Zeros around the image.
    #[config(default = "PaddingConfig2d::Valid")]
    pub padding: PaddingConfig2d,
    /// Whether a value per output channel is added. A norm that follows has its own: leave it out
    /// there.
    #[config(default = true)]
    pub bias: bool,
    /// Whether the kernels of each output channel are standardized before they are used; not in Burn's.
    #[config(default = false)]
    pub standardize: bool,
    /// How weights are drawn; [`initialize`](crate::initialize) draws them by path instead.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/3.0_f64.sqrt(),fan_out_only:false}")]
    pub initializer: Initializer,
}

impl Conv2dConfig {
    /// # Panics
    /// If the groups do not divide the channels, or kernels of one value are to be standardized.
    pub fn init(&self, device: &Device) -> Conv2d {
        let [height, width] = self.kernel_size;
        assert!(
            !self.standardize || self.channels[0] / self.groups.max(1) * height * width > 1,
            "Conv2d: expected more than one weight for each output channel to standardize, got \
             channels {:?} in {} groups with a kernel of {:?}",
            self.channels,
            self.groups,
            self.kernel_size
        );
        let nn::conv::Conv2d { weight, bias, .. } =
            nn::conv::Conv2dConfig::new(self.channels, self.kernel_size)
                .with_groups(self.groups)
                .with_bias(self.bias)
                .with_initializer(self.initializer.clone())
                .init(device);
        Conv2d {
            weight,
            bias,
            stride: self.stride,
            kernel_size: self.kernel_size,
            dilation: self.dilation,
            groups: self.groups,
            padding: self.padding.clone(),
            standardize: self.standardize,
        }
    }
}

/// Added to the variance of a standardized kernel inside the square root, as in timm.
const STANDARDIZE_EPSILON: f64 = 1e-6;

/// Slides a kernel over an image. For input x `[N, C, height, width]`, weight
/// `[C_out, C/groups, a, b]` and bias `[C_out]`:
///
/// ```text
/// y[n, o, i, j] = bias[o] + Σ over c, a, b of weight[o, c, a, b]
///                 · x[n, c, i·stride + a·dilation − padding, j·stride + b·dilation − padding]
/// ```
///
/// with x zero outside the image and c over the group's channels (strictly a cross-correlation, as
/// in Burn and PyTorch). The same in training and at test. Weights are named and laid out as in
/// Burn and PyTorch.
///
/// On the CPU its results are the same bits for any number of threads.
///
/// With [`Conv2dConfig::standardize`], weight\[o\] is replaced in every forward by (weight\[o\] − μ) /
/// √(σ² + 10⁻⁶) with the mean μ and the biased variance σ² of its values, and the gradient flows through
/// both: it smooths the loss where group norm, which sees no batch, does not (Qiao, Wang, Liu, Shen,
/// Yuille, "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019). A
/// norm should follow, since the weights' own scale is lost.
///
/// Source: LeCun et al., "Backpropagation Applied to Handwritten Zip Code Recognition" (1989).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Conv2d {
    /// `[C_out, C/groups, height, width]`.
    pub weight: Param<Tensor<4>>,
    /// `[C_out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// From one output position to the next.
    pub stride: [usize; 2],
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// From one place of the kernel to the next.
    pub dilation: [usize; 2],
    /// Groups of channels.
    pub groups: usize,
    /// Zeros around the image.
    #[module(skip)]
    pub padding: PaddingConfig2d,
    /// Whether the kernels are standardized.
    pub standardize: bool,
}

impl Conv2d {
    /// # Shapes
    /// - input: `[N, C, height, width]`
    /// - output: `[N, C_out, ⌊(height + 2·padding − dilation·(a − 1) − 1)/stride⌋ + 1, the same of
    ///   width]`
    ///
    /// # Panics
    /// If the input's channels are not the layer's, or the kernel does not fit the padded image.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let bias = self.bias.as_ref().map(Param::val);
        self.forward_with(input, self.effective_weight(), bias)
    }

    /// With other weights and bias of the same shapes.
    pub(crate) fn forward_with(
        &self,
        input: Tensor<4>,
        weight: Tensor<4>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<4> {
        let conv = self.geometry(&input);
        backend::convolution(input, weight, bias, conv)
    }

    /// Of the convolution of this input.
    ///
    /// # Panics
    /// If the input's channels are not the layer's.
    pub(crate) fn geometry(&self, input: &Tensor<4>) -> kernels::Conv2d {
        let [examples, channels_in, height, width] = input.dims();
        let [channels_out, group_in, ..] = self.weight.dims();
        assert_eq!(
            channels_in,
            group_in * self.groups,
            "Conv2d: expected an input [examples, {}, height, width], got {:?}",
            group_in * self.groups,
            input.dims()
        );
        kernels::Conv2d {
            examples,
            channels: [channels_in, channels_out],
            image: [height, width],
            kernel: self.kernel_size,
            stride: self.stride,
            padding: self.padding([height, width]),
            dilation: self.dilation,
            groups: self.groups,
        }
    }

    /// The weight that the input is convolved with: standardized, if it is to be.
    pub fn effective_weight(&self) -> Tensor<4> {
        let weight = self.weight.val();
        if !self.standardize {
            return weight;
        }
        // Half precision would be rounded here, and again after the convolution.
        let dtype = computed_in(weight.dtype());
        let weight = weight.cast(dtype);
        let [channels_out, ..] = weight.dims();
        let row = weight.shape().num_elements() / channels_out;
        let norm = RowNorm {
            shape: Rows {
                examples: channels_out,
                groups: 1,
                channels: 1,
                positions: row,
            },
            statistics: RowStatistics::Deviation,
            epsilon: STANDARDIZE_EPSILON,
            activation: Activation::None,
        };
        let constant = |value: f64| Tensor::full([1], value, (&weight.device(), weight.dtype()));
        let (one, zero) = (constant(1.0), constant(0.0));
        let (standardized, ..) = backend::row_norm(weight, one, zero, norm);
        standardized
    }

    /// Zeros before and after an image of this size along each axis.
    fn padding(&self, image: [usize; 2]) -> [(usize, usize); 2] {
        // As many as keep ⌈image/stride⌉ positions, an odd one after the image: Burn's convention,
        // and ONNX's SAME_UPPER.
        let same = |axis: usize| {
            let positions = image[axis].div_ceil(self.stride[axis]);
            let reach = positions.saturating_sub(1) * self.stride[axis] + self.kernel_size[axis];
            let zeros = reach.saturating_sub(image[axis]);
            (zeros / 2, zeros - zeros / 2)
        };
        match self.padding {
            PaddingConfig2d::Valid => [(0, 0), (0, 0)],
            PaddingConfig2d::Same => [same(0), same(1)],
            PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
        }
    }
}

impl ModuleDisplay for Conv2d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [channels_out, group_in, ..] = self.weight.dims();
        content
            .add("channels_in", &(group_in * self.groups))
            .add("channels_out", &channels_out)
            .add_debug_attribute("kernel_size", &self.kernel_size)
            .add_debug_attribute("stride", &self.stride)
            .add_debug_attribute("dilation", &self.dilation)
            .add("groups", &self.groups)
            .add_debug_attribute("padding", &self.padding)
            .add("standardize", &self.standardize)
            .optional()
    }
}
