//! Batch normalization.

use std::ops::Range;
use std::sync::Arc;

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Float, Int, Tensor};
use evenkeel_kernels::{Activation, BlockPool, ConvBlock, Moments};

use super::affine::{self, Affine};
use super::group::{GroupNorm, GroupNormConfig};
use super::replicas::{self, BatchPart, Replica};
use super::rows::check_epsilon;
use super::running::{Batch, Pool, Pooling, Running, RunningAverage};
use crate::backend::{self, ConvBlockOutput, Normalized};
use crate::{Buffer, Conv2d, Pass, StatisticsSource};

/// What a batch norm divides by: a measure of how far a channel's values x lie from their mean μ, scaled
/// to be the deviation σ if they are normal.
///
/// Sources: Hoffer, Banner, Golan, Soudry, "Norm Matters: Efficient and Accurate Normalization Schemes in
/// Deep Networks" (2018) for the constants; Santurkar, Tsipras, Ilyas, Madry, "How Does Batch
/// Normalization Help Optimization?" (2018), who find that all of them smooth the loss.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Dispersion {
    /// ℓ2, the usual: √(mean of (x − μ)²).
    Deviation,
    /// ℓ1: √(π/2) · mean of |x − μ|. Composed of Burn's operations, so slower.
    MeanAbsolute,
    /// ℓ∞: max of |x − μ| / √(2·ln n), of n values. Composed of Burn's operations, so slower.
    Maximum,
}

impl Dispersion {
    /// `[1, C, 1]` of x − μ as `[N, C, S]`.
    fn of(self, centred: Tensor<3>) -> Tensor<3> {
        let [n, _, s] = centred.dims();
        match self {
            Self::Deviation => centred.square().mean_dim(2).mean_dim(0).sqrt(),
            Self::MeanAbsolute => {
                let normal = std::f64::consts::FRAC_PI_2.sqrt();
                centred.abs().mean_dim(2).mean_dim(0).mul_scalar(normal)
            }
            Self::Maximum => {
                let normal = (2.0 * ((n * s) as f64).ln()).sqrt();
                centred.abs().max_dim(2).max_dim(0).div_scalar(normal)
            }
        }
    }
}

/// Configuration of a [`BatchNorm`] layer.
///
/// The defaults are PyTorch's; [`BatchNormConfig::keras`] gives Keras's.
#[derive(Config, Debug)]
pub struct BatchNormConfig {
    /// The number of channels (features of a dense net).
    pub num_features: usize,
    /// Added to the variance inside the square root.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// How running statistics follow the batches.
    #[config(default = "RunningAverage::Momentum(0.1)")]
    pub average: RunningAverage,
    /// Whether the layer learns a scale γ and a shift β per channel.
    #[config(default = true)]
    pub affine: bool,
    /// Whether the running variance averages the unbiased variances (PyTorch) or the biased ones.
    #[config(default = true)]
    pub unbiased: bool,
    /// What is divided by.
    #[config(default = "Dispersion::Deviation")]
    pub dispersion: Dispersion,
    /// Normalize a batch in parts of at least this many examples, each by its own statistics: the noise
    /// of small batches in a large one.
    #[config(default = "None")]
    pub ghost_size: Option<usize>,
    /// Applied to the output in the same pass over memory.
    #[config(default = "Activation::None")]
    pub activation: Activation,
}

impl BatchNormConfig {
    /// Keras's conventions: ε = 10⁻³, 0.99 of the running statistics kept, the biased variance.
    pub fn keras(num_features: usize) -> Self {
        Self::new(num_features)
            .with_epsilon(1e-3)
            .with_average(RunningAverage::Momentum(0.01))
            .with_unbiased(false)
    }

    /// A layer with γ = 1, β = 0, running mean 0 and running variance 1.
    ///
    /// # Panics
    /// If there are no features, ε is not finite and positive, the momentum is not in 0..=1, or the
    /// ghost size is 0.
    pub fn init(&self, device: &Device) -> BatchNorm {
        let features = self.num_features;
        assert!(
            features > 0,
            "BatchNorm: expected at least one feature, got num_features = 0"
        );
        check_epsilon("BatchNorm", self.epsilon);
        self.average.check("BatchNorm");
        assert!(
            self.ghost_size != Some(0),
            "BatchNorm: expected ghost batches of at least one example, got ghost_size = 0"
        );
        let state_device = device.clone().without_autodiff();
        BatchNorm {
            weight: affine::scale(self.affine, features, device),
            bias: affine::shift(self.affine, features, device),
            running_mean: Buffer::new(Tensor::zeros([features], &state_device)),
            running_var: Buffer::new(Tensor::ones([features], &state_device)),
            num_batches_tracked: Buffer::new(Tensor::zeros([1], &state_device)),
            pool: Pool::default(),
            num_features: features,
            epsilon: self.epsilon,
            average: self.average,
            unbiased: self.unbiased,
            dispersion: self.dispersion,
            ghost_size: self.ghost_size,
            activation: self.activation,
        }
    }
}

/// Normalizes each channel over the examples (and positions) of a batch.
///
/// For input x of shape `[N, C, ...]` and channel c, with μ\[c\] and σ²\[c\] the mean and the
/// biased variance over all x\[n, c, ...\]:
///
/// ```text
/// y[n, c, ...] = activation( γ[c] · (x[n, c, ...] − μ[c]) / √(σ²[c] + ε) + β[c] )
/// ```
///
/// - Statistics of the batch (training): the gradient flows through μ and σ². The running
///   statistics average μ and the *unbiased* variance (N·S/(N·S − 1)·σ²), as PyTorch's do, and are
///   written before `forward` returns.
/// - Running statistics (test): they are constants, and the layer is an affine map per channel.
/// - With [`BatchNormConfig::ghost_size`], a batch in training is normalized in ⌊N/size⌋ parts of equal
///   size, give or take one example, and the running statistics follow one part after another (Hoffer,
///   Hubara, Soudry, "Train Longer, Generalize Better", 2017).
/// - With another [`Dispersion`], σ is that, and `running_var` averages its square.
/// - Over [replicas](Pass::replica), μ and σ² are those of all replicas' parts together.
///
/// Which of the two, and whether the running statistics are updated, the [`Pass`] says; freezing
/// parameters or dropping autodiff changes neither. It sits between a linear or convolutional layer
/// (without bias: β replaces it) and the non-linearity, which can be fused into it.
///
/// Half-precision input is computed in `f32`: only the output and the input's gradient are rounded to
/// it, no statistics.
/// Threads may share a layer: each batch is averaged in whole, in the order in which they come.
///
/// Parameters and state are named as PyTorch's: `weight` (γ), `bias` (β), `running_mean`,
/// `running_var`, `num_batches_tracked`. `clone` copies the state.
///
/// Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
/// Internal Covariate Shift" (2015).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BatchNorm {
    /// The learned scale γ `[C]`, if affine.
    pub weight: Option<Param<Tensor<1>>>,
    /// The learned shift β `[C]`, if affine.
    pub bias: Option<Param<Tensor<1>>>,
    /// The running mean `[C]`.
    pub running_mean: Buffer<Float>,
    /// The running variance `[C]`.
    pub running_var: Buffer<Float>,
    /// The number of batches averaged in, `[1]`.
    pub num_batches_tracked: Buffer<Int>,
    #[module(skip)]
    pool: Pool,
    num_features: usize,
    epsilon: f64,
    #[module(skip)]
    average: RunningAverage,
    unbiased: bool,
    #[module(skip)]
    dispersion: Dispersion,
    #[module(skip)]
    ghost_size: Option<usize>,
    #[module(skip)]
    activation: Activation,
}

impl BatchNorm {
    /// # Shapes
    /// - input: `[N, C, ...]`, C the number of features
    /// - output: the same
    ///
    /// # Panics
    /// If the input's second dimension is not the number of features; or if statistics of the
    /// batch are asked for and there is only one value per channel (as in PyTorch: its deviation
    /// is zero, so the output would be β whatever the input).
    pub fn forward<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Tensor<D> {
        let dims = input.dims();
        assert!(
            D >= 2 && dims[1] == self.num_features,
            "BatchNorm: expected an input [examples, {}, positions...], got {dims:?}",
            self.num_features
        );
        let pass = &*pass.for_norm(self.running_mean.id());
        pass.observing_statistics("batch_norm", input, |input| match pass.statistics() {
            StatisticsSource::Batch => self.forward_by_batch(input, pass),
            StatisticsSource::Running => {
                let (mean, variance) = self.running().statistics(&input);
                self.apply(input, mean, variance)
            }
            StatisticsSource::Mixed(running) => {
                let statistics = self.running().statistics(&input);
                let (mean, variance) = self.mixed(&input, statistics, running);
                self.apply(input, mean, variance)
            }
        })
    }

    /// A [`ConvBlock`](crate::ConvBlock) with this norm, as one operation, where there is one for it.
    pub(crate) fn forward_block(
        &self,
        conv: &Conv2d,
        pool: Option<BlockPool>,
        input: &Tensor<4>,
        pass: &Pass,
    ) -> Option<Tensor<4>> {
        let pass = &*pass.for_norm(self.running_mean.id());
        let device = input.device();
        if conv.bias.is_some() || pass.is_observed() || !backend::has_kernels(device.clone()) {
            return None;
        }
        let geometry = conv.geometry(input);
        assert_eq!(
            geometry.channels[1], self.num_features,
            "BatchNorm: expected a convolution to as many channels as the norm has"
        );
        let block = ConvBlock {
            conv: geometry,
            epsilon: self.epsilon,
            activation: self.activation,
            pool,
        };
        match pass.statistics() {
            StatisticsSource::Batch
                if self.dispersion == Dispersion::Deviation
                    && pass.replicas().is_none()
                    && self.ghosts(geometry.examples).len() <= 1 =>
            {
                Some(self.train_block(conv, block, input.clone(), pass))
            }
            StatisticsSource::Running if device.clone().without_autodiff() == device => {
                let (mean, variance) = self.running().statistics(input);
                let (scale, shift) = self.affine(input);
                let scale = scale / variance.add_scalar(self.epsilon).sqrt();
                let bias = shift - mean * scale.clone();
                let weight = conv.effective_weight();
                let weight = weight.cast(scale.dtype()) * scale.reshape([-1, 1, 1, 1]);
                Some(backend::folded_block(input.clone(), weight, bias, block))
            }
            _ => None,
        }
    }

    fn train_block(
        &self,
        conv: &Conv2d,
        block: ConvBlock,
        input: Tensor<4>,
        pass: &Pass,
    ) -> Tensor<4> {
        let planes = block
            .convolved()
            .and_then(|planes| block.output().map(|_| planes));
        let planes = planes.unwrap_or_else(|problem| panic!("ConvBlock: {problem}"));
        let dims = [
            block.conv.examples,
            self.num_features,
            planes.height,
            planes.width,
        ];
        let count = values_per_channel(&dims);
        self.check_count(count, &dims);
        let (scale, shift) = self.affine(&input);
        let ConvBlockOutput {
            output,
            mean,
            variance,
        } = backend::conv_block(input, conv.effective_weight(), scale, shift, block);
        let batch = || Batch {
            mean: mean.clone(),
            variance: variance.clone(),
            count: count as f64,
        };
        self.running().follow(batch, pass);
        output
    }

    /// The number of channels.
    pub fn num_features(&self) -> usize {
        self.num_features
    }

    /// ε.
    pub(crate) fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// What the norm is fused with.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Running mean and variance, on the host.
    pub(crate) fn running_statistics(&self) -> (Vec<f64>, Vec<f64>) {
        self.running().on_the_host()
    }

    /// A group norm with the same parameters, ε and activation.
    ///
    /// # Panics
    /// If the groups do not divide the channels.
    pub(super) fn to_group_norm(&self, groups: usize) -> GroupNorm {
        let config = GroupNormConfig::new(groups, self.num_features)
            .with_epsilon(self.epsilon)
            .with_affine(false)
            .with_activation(self.activation);
        let mut norm = config.init(&self.running_mean.device());
        (norm.weight, norm.bias) = (self.weight.clone(), self.bias.clone());
        norm
    }

    fn forward_by_batch<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Forward<D> {
        if let Some(replica) = pass.replicas() {
            assert!(
                self.ghost_size.is_none() && self.dispersion == Dispersion::Deviation,
                "BatchNorm: expected neither ghost batches nor another dispersion than the deviation \
                 over replicas, got ghost_size {:?} and {:?}",
                self.ghost_size,
                self.dispersion
            );
            return self.forward_of_replica(input, replica, pass);
        }
        let ghosts = self.ghosts(input.dims()[0]);
        if ghosts.len() <= 1 {
            return self.forward_one_batch(input, pass);
        }
        let outputs = ghosts.into_iter().map(|examples| {
            let ghost = input.clone().slice_dim(0, examples);
            self.forward_one_batch(ghost, pass).0
        });
        (Tensor::cat(outputs.collect(), 0), None)
    }

    /// The examples of each ghost batch.
    fn ghosts(&self, examples: usize) -> Vec<Range<usize>> {
        let parts = match self.ghost_size {
            Some(size) => (examples / size).max(1),
            None => 1,
        };
        let edge = |part: usize| part * examples / parts;
        (0..parts).map(|part| edge(part)..edge(part + 1)).collect()
    }

    fn forward_one_batch<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Forward<D> {
        let dims = input.dims();
        let count = values_per_channel(&dims);
        self.check_count(count, &dims);
        let (scale, shift) = self.affine(&input);
        let Normalized {
            output,
            mean,
            variance,
        } = match self.dispersion {
            Dispersion::Deviation => {
                backend::batch_norm_train(input, scale, shift, self.epsilon, self.activation)
            }
            dispersion => {
                let measure = |centred| dispersion.of(centred);
                let epsilon = self.epsilon;
                backend::batch_norm_by(input, scale, shift, epsilon, self.activation, measure)
            }
        };
        let batch = || Batch {
            mean: mean.clone(),
            variance: variance.clone(),
            count: count as f64,
        };
        self.running().follow(batch, pass);
        (output, Some((mean, variance)))
    }

    fn check_count(&self, count: usize, dims: &[usize]) {
        assert!(
            count != 1,
            "BatchNorm: expected more than one value per channel to compute statistics of the \
             batch, got input {dims:?}. Use a larger batch, drop the incomplete last batch, or \
             normalize by running statistics (Pass::test, Pass::freeze_statistics)"
        );
    }

    /// By the statistics of all replicas' parts.
    fn forward_of_replica<const D: usize>(
        &self,
        input: Tensor<D>,
        replica: &Arc<dyn Replica>,
        pass: &Pass,
    ) -> Forward<D> {
        let dims = input.dims();
        let count = values_per_channel(&dims) as f64;
        let (mean, variance) = backend::channel_moments(input.clone().without_autodiff());
        let moments = replicas::whole_moments(replica.as_ref(), count, mean, variance);
        let count = moments.first().map_or(0.0, |moments| moments.count);
        self.check_count(count as usize, &dims);
        let device = input.device().without_autodiff();
        let of_all = |value: fn(&Moments) -> f64| -> Tensor<1> {
            let values: Vec<f64> = moments.iter().map(value).collect();
            Tensor::from_data(
                values.as_slice(),
                (&device, backend::computed_in(input.dtype()).into()),
            )
        };
        let (mean, variance) = (of_all(|m| m.mean), of_all(Moments::variance));
        let (scale, shift) = self.affine(&input);
        let reciprocal_deviation = variance.clone().add_scalar(self.epsilon).sqrt().recip();
        let part = BatchPart {
            count,
            activation: self.activation,
            replica: Arc::clone(replica),
        };
        let output = backend::batch_norm_of_part(
            input,
            mean.clone(),
            reciprocal_deviation,
            scale,
            shift,
            part,
        );
        let batch = || Batch {
            mean: mean.clone(),
            variance: variance.clone(),
            count,
        };
        self.running().follow(batch, pass);
        (output, Some((mean, variance)))
    }

    /// Between the running statistics and those of the batch.
    fn mixed<const D: usize>(
        &self,
        input: &Tensor<D>,
        (mean, variance): (Tensor<1>, Tensor<1>),
        running: f64,
    ) -> (Tensor<1>, Tensor<1>) {
        let input = input.clone().without_autodiff();
        let (batch_mean, batch_variance) = match self.dispersion {
            Dispersion::Deviation => backend::channel_moments(input),
            dispersion => backend::channel_dispersion(input, |centred| dispersion.of(centred)),
        };
        let mix = |of_running: Tensor<1>, of_batch: Tensor<1>| {
            let of_batch = of_batch.cast(of_running.dtype());
            let of_running = of_running.mul_scalar(running);
            let device = of_running.device();
            of_running + of_batch.mul_scalar(1.0 - running).to_device(&device)
        };
        (mix(mean, batch_mean), mix(variance, batch_variance))
    }

    /// By given statistics.
    fn apply<const D: usize>(
        &self,
        input: Tensor<D>,
        mean: Tensor<1>,
        variance: Tensor<1>,
    ) -> Forward<D> {
        let (scale, shift) = self.affine(&input);
        let reciprocal_deviation = variance.clone().add_scalar(self.epsilon).sqrt().recip();
        let output = backend::batch_norm_apply(
            input,
            mean.clone(),
            reciprocal_deviation,
            scale,
            shift,
            self.activation,
        );
        (output, Some((mean, variance)))
    }

    fn running(&self) -> Running<'_> {
        Running {
            mean: &self.running_mean,
            variance: &self.running_var,
            batches: &self.num_batches_tracked,
            pool: &self.pool,
            average: self.average,
            pooling: Pooling::Values,
            unbiased: self.unbiased && self.dispersion == Dispersion::Deviation,
        }
    }

    /// γ and β; ones and zeros where the layer is not affine.
    fn affine<const D: usize>(&self, input: &Tensor<D>) -> (Tensor<1>, Tensor<1>) {
        let affine = Affine {
            scale: self.weight.as_ref(),
            shift: self.bias.as_ref(),
        };
        affine.or_identity(self.num_features, input)
    }
}

/// An output, and the mean and biased variance per channel, if there is one of each.
type Forward<const D: usize> = (Tensor<D>, Option<(Tensor<1>, Tensor<1>)>);

fn values_per_channel(dims: &[usize]) -> usize {
    dims[0] * dims[2..].iter().product::<usize>()
}

impl ModuleDisplay for BatchNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_features", &self.num_features)
            .add("epsilon", &self.epsilon)
            .add_debug_attribute("average", &self.average)
            .add("affine", &self.weight.is_some())
            .add_debug_attribute("activation", &self.activation)
            .optional()
    }
}
