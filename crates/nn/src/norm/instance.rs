//! Instance normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Float, Int, Tensor};
use evenkeel_kernels::{Activation, RowNorm, RowStatistics, Rows};

use super::affine::{self, Affine};
use super::rows;
use super::running::{Batch, Pool, Pooling, Running, RunningAverage};
use crate::{Buffer, Pass, StatisticsSource, backend};

/// Configuration of an [`InstanceNorm`] layer. The defaults are PyTorch's.
#[derive(Config, Debug)]
pub struct InstanceNormConfig {
    /// The number of channels.
    pub num_features: usize,
    /// Added to the variance inside the square root.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Whether the layer learns a scale γ and a shift β per channel.
    #[config(default = false)]
    pub affine: bool,
    /// Whether running averages of the statistics are kept, and used at test.
    #[config(default = false)]
    pub track_running_stats: bool,
    /// How running statistics follow the batches.
    #[config(default = "RunningAverage::Momentum(0.1)")]
    pub average: RunningAverage,
    /// Applied to the output in the same pass over memory.
    #[config(default = "Activation::None")]
    pub activation: Activation,
}

impl InstanceNormConfig {
    /// A layer with γ = 1 and β = 0, learned if affine.
    ///
    /// # Panics
    /// If there are no channels, ε is not finite and positive, or the momentum is not in 0..=1.
    pub fn init(&self, device: &Device) -> InstanceNorm {
        let channels = self.num_features;
        assert!(
            channels > 0,
            "InstanceNorm: expected at least one channel, got num_features = 0"
        );
        rows::check_epsilon("InstanceNorm", self.epsilon);
        self.average.check("InstanceNorm");
        let state_device = device.clone().without_autodiff();
        let tracked = self.track_running_stats;
        let state = |start: f64| {
            tracked.then(|| Buffer::new(Tensor::full([channels], start, &state_device)))
        };
        InstanceNorm {
            weight: affine::scale(self.affine, channels, device),
            bias: affine::shift(self.affine, channels, device),
            running_mean: state(0.0),
            running_var: state(1.0),
            num_batches_tracked: tracked.then(|| Buffer::new(Tensor::zeros([1], &state_device))),
            pool: Pool::default(),
            average: self.average,
            num_features: channels,
            epsilon: self.epsilon,
            activation: self.activation,
        }
    }
}

/// Normalizes each channel of each example by itself, over its positions.
///
/// For input x of shape `[N, C, ...]`, with μ\[n, c\] and σ²\[n, c\] the mean and the biased variance
/// over the positions:
///
/// ```text
/// y[n, c, ...] = activation( γ[c] · (x[n, c, ...] − μ[n, c]) / √(σ²[n, c] + ε) + β[c] )
/// ```
///
/// It takes an image's contrast out of the net. The same in training and at test, unless running
/// statistics are tracked (as an option, for style normalization in nets that see batches): then a pass
/// with running statistics normalizes by these, and one that updates them averages the mean over the
/// examples of μ\[n, c\], and of the unbiased variance S/(S − 1)·σ²\[n, c\] over S positions, as PyTorch
/// does. (PyTorch's `num_batches_tracked` stays 0 in this layer; here it counts.)
///
/// Source: Ulyanov, Vedaldi, Lempitsky, "Instance Normalization: The Missing Ingredient for Fast
/// Stylization" (2016).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct InstanceNorm {
    /// The learned scale γ `[C]`, if affine.
    pub weight: Option<Param<Tensor<1>>>,
    /// The learned shift β `[C]`, if affine.
    pub bias: Option<Param<Tensor<1>>>,
    /// The running mean `[C]`, if tracked.
    pub running_mean: Option<Buffer<Float>>,
    /// The running variance `[C]`, if tracked.
    pub running_var: Option<Buffer<Float>>,
    /// The number of batches averaged in, `[1]`, if tracked.
    pub num_batches_tracked: Option<Buffer<Int>>,
    #[module(skip)]
    pool: Pool,
    #[module(skip)]
    average: RunningAverage,
    num_features: usize,
    epsilon: f64,
    #[module(skip)]
    activation: Activation,
}

impl InstanceNorm {
    /// # Shapes
    /// - input: `[N, C, ...]`
    /// - output: the same
    ///
    /// # Panics
    /// If the input's second dimension is not the number of channels; or if statistics of the input are
    /// used and there is only one position (as in PyTorch: its deviation is zero, so the output would be
    /// β whatever the input).
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        let shape = rows::of_channels("InstanceNorm", &input, self.num_features, self.num_features);
        let affine = Affine {
            scale: self.weight.as_ref(),
            shift: self.bias.as_ref(),
        };
        let Some(running) = self.running() else {
            return rows::forward("instance_norm", input, self.norm(shape), affine, pass);
        };
        let pass = &*pass.for_norm(running.mean.id());
        pass.observing("instance_norm", input, |input| match pass.statistics() {
            StatisticsSource::Batch => {
                let norm = self.norm(shape);
                let (output, mean, r) = rows::normalize(input, norm, affine);
                running.follow(|| self.average_over_examples(mean, r, norm), pass);
                output
            }
            StatisticsSource::Running | StatisticsSource::Mixed(_) => {
                let (scale, shift) = affine.or_identity(self.num_features, &input);
                let (mean, variance) = running.statistics(&input);
                let r = variance.add_scalar(self.epsilon).sqrt().recip();
                backend::batch_norm_apply(input, mean, r, scale, shift, self.activation)
            }
        })
    }

    fn norm(&self, shape: Rows) -> RowNorm {
        assert!(
            shape.positions != 1,
            "InstanceNorm: expected more than one position to compute statistics of, got {} examples of \
             {} channels with one. Use a group norm or a layer norm here",
            shape.examples,
            shape.groups
        );
        RowNorm {
            shape,
            statistics: RowStatistics::Deviation,
            epsilon: self.epsilon,
            activation: self.activation,
        }
    }

    /// The statistics of one batch: means over its examples of their means and unbiased variances.
    fn average_over_examples(&self, mean: Tensor<1>, r: Tensor<1>, norm: RowNorm) -> Batch {
        let Rows {
            examples,
            groups,
            positions,
            ..
        } = norm.shape;
        let average = |rows: Tensor<1>| -> Tensor<1> {
            rows.reshape([examples, groups]).mean_dim(0).squeeze_dim(0)
        };
        let count = if positions == 0 { 0 } else { examples };
        let positions = positions as f64;
        let variance = r.powi_scalar(-2).sub_scalar(norm.epsilon).clamp_min(0.0);
        Batch {
            mean: average(mean),
            variance: average(variance.mul_scalar(positions / (positions - 1.0))),
            count: count as f64,
        }
    }

    fn running(&self) -> Option<Running<'_>> {
        Some(Running {
            mean: self.running_mean.as_ref()?,
            variance: self.running_var.as_ref()?,
            batches: self.num_batches_tracked.as_ref()?,
            pool: &self.pool,
            average: self.average,
            pooling: Pooling::Averages,
            unbiased: false,
        })
    }
}

impl ModuleDisplay for InstanceNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        rows::display()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_features", &self.num_features)
            .add("epsilon", &self.epsilon)
            .add("affine", &self.weight.is_some())
            .add("track_running_stats", &self.running_mean.is_some())
            .add_debug_attribute("activation", &self.activation)
            .optional()
    }
}
