//! A linear layer with a mask over its weights.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Initializer, Module, ModuleDisplay, Param};
use burn::nn;
use burn::tensor::{Device, Tensor, module};
use evenkeel_kernels::{self as kernels, DropConnect, Scaling};
use evenkeel_random::Key;

use super::PreActivation;
use super::mean_weights::{mean_parameter, noisy};
use crate::noise::{Sharing, check_prob, widened};
use crate::{Pass, backend};

/// Configuration of a [`DropConnectLinear`] layer.
#[derive(Config, Debug)]
pub struct DropConnectLinearConfig {
    /// Features in.
    pub d_input: usize,
    /// Features out.
    pub d_output: usize,
    /// The probability of *dropping* a weight, in 0..=1: 1 − the paper's p.
    pub prob: f64,
    /// Whether a value per output is added.
    #[config(default = true)]
    pub bias: bool,
    /// Whether biases are masked as well, as in the paper.
    #[config(default = true)]
    pub mask_bias: bool,
    /// Keep the mean right in training (inverted), or as the paper does, at test (classic).
    #[config(default = "Scaling::Inverted")]
    pub scaling: Scaling,
    /// One mask for the batch, which costs little; or, as in the paper, one for each example, which
    /// draws as many words as the layer has products.
    #[config(default = "Sharing::Batch")]
    pub sharing: Sharing,
    /// How weights are drawn; [`initialize`](crate::initialize) draws them by path instead.
    #[config(default = "Initializer::KaimingUniform{gain:1.0/3.0_f64.sqrt(),fan_out_only:false}")]
    pub initializer: Initializer,
}

impl DropConnectLinearConfig {
    /// # Panics
    /// If `prob` is not in 0..=1.
    pub fn init(&self, device: &Device) -> DropConnectLinear {
        let linear = nn::LinearConfig::new(self.d_input, self.d_output)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone());
        self.init_from(linear.init(device))
    }

    /// With the parameters of Burn's layer, their ids included. Inverted, the test's outputs stay what
    /// they were; classic, they become 1 − `prob` times that.
    ///
    /// # Panics
    /// If `prob` is not in 0..=1, or the layer's parameters are not of this configuration.
    pub fn init_from(&self, linear: nn::Linear) -> DropConnectLinear {
        check_prob("DropConnectLinear", self.prob);
        let nn::Linear { weight, bias } = linear;
        assert_eq!(
            (weight.dims(), bias.is_some()),
            ([self.d_input, self.d_output], self.bias),
            "DropConnectLinear: expected weights and a bias (or none) as configured"
        );
        DropConnectLinear {
            weight,
            bias,
            prob: self.prob,
            mask_bias: self.mask_bias,
            scaling: self.scaling,
            sharing: self.sharing,
        }
    }
}

/// Sets weights to zero at random.
///
/// For input x `[..., in]`, weight W `[in, out]` and bias b `[out]`, with M and m masks that are 0 with
/// probability `prob` and 1 otherwise, independently per weight (and per example, where masks are not
/// shared):
///
/// | | noise drawn (training, Monte Carlo) | noise off (test) |
/// |---|---|---|
/// | inverted | y = (x·(W⋆M) + b⋆m) / (1 − prob) | y = x·W + b |
/// | classic | y = x·(W⋆M) + b⋆m | y = (x·W + b)·(1 − prob) |
///
/// Biases that are not masked are not scaled either. The mean of y over masks is y at test; of what
/// follows a non-linearity it is not. For that there are two better averages: Monte Carlo
/// ([`monte_carlo`](crate::monte_carlo)), and the paper's, [`pre_activation`](Self::pre_activation), a
/// Gaussian of y's moments to draw from. `prob = 1` gives zeros.
///
/// With a mask for each example, that of an example is shared by its positions, all dimensions between
/// the first and the last; on the CPU no masked weight is stored, forward or backward. On other
/// backends examples go one by one and autodiff keeps the masked weights of each.
///
/// Weights are named and laid out as in Burn's `Linear`.
///
/// Source: Wan, Zeiler, Zhang, LeCun, Fergus, "Regularization of Neural Networks using DropConnect"
/// (2013).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct DropConnectLinear {
    /// `[in, out]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// The probability of dropping a weight.
    pub prob: f64,
    /// Whether biases are masked as well.
    pub mask_bias: bool,
    /// Where the mean is kept right.
    #[module(skip)]
    pub scaling: Scaling,
    /// What shares a mask.
    #[module(skip)]
    pub sharing: Sharing,
}

impl DropConnectLinear {
    /// # Shapes
    /// - input: `[..., in]`; with a mask for each example `[N, ..., in]`, rank 2 or more
    /// - output: `[..., out]`
    ///
    /// # Panics
    /// If the input's last dimension is not the layer's, or an input of rank 1 has no examples.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        self.check(&input);
        let dtype = input.dtype();
        pass.observing("drop_connect_linear", input, |input| {
            let x = widened(input);
            let output = match (pass.next_noise(), self.sharing) {
                (Some(key), Sharing::Example) if self.prob != 0.0 => self.by_example(x, key),
                (key, _) => {
                    let child = |name| key.map(|key| key.child(name));
                    let dropping = (self.prob, self.scaling);
                    let weight = noisy(&self.weight, child("weight"), dropping, dtype);
                    let bias = self.bias.as_ref().map(|bias| {
                        let prob = if self.mask_bias { self.prob } else { 0.0 };
                        noisy(bias, child("bias"), (prob, self.scaling), dtype)
                    });
                    linear(x, weight, bias)
                }
            };
            output.cast(dtype)
        })
    }

    /// With x in the type it is computed in.
    fn by_example<const D: usize>(&self, x: Tensor<D>, key: Key) -> Tensor<D> {
        let dims = x.dims();
        assert!(
            D >= 2,
            "DropConnectLinear: expected an input [N, ..., in] to have a mask for each of N examples, \
             got {dims:?}"
        );
        let [inputs, outputs] = self.weight.dims();
        let mut shape = dims;
        shape[D - 1] = outputs;
        if shape.contains(&0) {
            return Tensor::zeros(shape, (&x.device(), x.dtype()));
        }
        let (examples, positions) = (dims[0], dims[1..D - 1].iter().product());
        let mask = |name| kernels::Dropout::new(key.child(name), self.prob, self.scaling);
        let connect = DropConnect {
            dropout: mask("weight"),
            examples,
            positions,
            inputs,
            outputs,
        };
        let dtype = x.dtype();
        let weight = self.weight.val().cast(dtype);
        let x = x.reshape([examples, positions, inputs]);
        let mut y = backend::drop_connect(x, weight, connect);
        if let Some(bias) = &self.bias {
            let bias = bias.val().cast(dtype).reshape([1, 1, outputs]);
            y = y + if self.mask_bias {
                backend::dropout(bias.expand([examples, 1, outputs]), mask("bias"))
            } else {
                bias
            };
        }
        y.reshape(shape)
    }

    /// Mean and variance of the output over masks, by which the paper approximates it at test: with v =
    /// p·(1 − p) (classic) or p/(1 − p) (inverted) for p = `prob`,
    ///
    /// ```text
    /// mean = the output at test        variance = v · (x²·W² + b²)
    /// ```
    ///
    /// squares being by element, and b² left out where biases are not masked. At p = 1, where the
    /// output in training is zero, both are zero (but for a bias that is not masked).
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn pre_activation<const D: usize>(&self, input: Tensor<D>) -> PreActivation<D> {
        self.check(&input);
        let (p, dtype) = (self.prob, input.dtype());
        let x = widened(input);
        let wide = x.dtype();
        let (share, v) = match self.scaling {
            _ if p == 1.0 => (0.0, 0.0),
            Scaling::Inverted => (1.0, p / (1.0 - p)),
            Scaling::Classic => (1.0 - p, p * (1.0 - p)),
        };
        let weight = self.weight.val().cast(wide);
        let bias = self.bias.as_ref().map(|bias| bias.val().cast(wide));
        let (bias_share, bias_v) = if self.mask_bias {
            (share, v)
        } else {
            (1.0, 0.0)
        };
        let mean = linear(
            x.clone(),
            weight.clone().mul_scalar(share),
            bias.clone().map(|bias| bias.mul_scalar(bias_share)),
        );
        let variance = linear(
            x.square(),
            weight.square().mul_scalar(v),
            bias.map(|bias| bias.square().mul_scalar(bias_v)),
        );
        PreActivation {
            mean: mean.cast(dtype),
            variance: variance.cast(dtype),
        }
    }

    /// Burn's layer with the mean weights, which computes what this one does at test.
    pub fn into_linear(self) -> nn::Linear {
        let (prob, scaling) = (self.prob, self.scaling);
        let bias_prob = if self.mask_bias { prob } else { 0.0 };
        nn::Linear {
            weight: mean_parameter(self.weight, prob, scaling),
            bias: self
                .bias
                .map(|bias| mean_parameter(bias, bias_prob, scaling)),
        }
    }

    fn check<const D: usize>(&self, input: &Tensor<D>) {
        let [inputs, _] = self.weight.dims();
        assert_eq!(
            input.dims()[D - 1],
            inputs,
            "DropConnectLinear: expected an input [..., {inputs}], got {:?}",
            input.dims()
        );
    }
}

/// x·weight + bias. An empty product is made without Burn's, which on the CPU ends in a segmentation
/// fault (0.22.1).
fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let mut shape = x.dims();
    shape[D - 1] = weight.dims()[1];
    if shape.contains(&0) {
        return Tensor::zeros(shape, (&x.device(), x.dtype()));
    }
    module::linear(x, weight, bias)
}

impl ModuleDisplay for DropConnectLinear {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [d_input, d_output] = self.weight.dims();
        content
            .add("d_input", &d_input)
            .add("d_output", &d_output)
            .add("bias", &self.bias.is_some())
            .add("prob", &self.prob)
            .add_debug_attribute("sharing", &self.sharing)
            .optional()
    }
}
