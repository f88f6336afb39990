//! Batch normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Float, Int, Tensor};
use evenkeel_kernels::{Activation, Moments};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::affine::{self, Affine};
use crate::backend::{self, Normalized};
use crate::{Buffer, Pass, StatisticsSource, StatisticsUpdate};

/// How a norm averages the statistics of successive batches.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum RunningAverage {
    /// Exponential: running = (1 − m)·running + m·batch, with this m.
    Momentum(f64),
    /// The plain average over all batches seen.
    Cumulative,
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
    /// If there are no features, ε is not finite and positive, or the momentum is not in 0..=1.
    pub fn init(&self, device: &Device) -> BatchNorm {
        let features = self.num_features;
        assert!(
            features > 0,
            "BatchNorm: expected at least one feature, got num_features = 0"
        );
        assert!(
            self.epsilon.is_finite() && self.epsilon > 0.0,
            "BatchNorm: expected a finite epsilon above 0, got {}",
            self.epsilon
        );
        if let RunningAverage::Momentum(momentum) = self.average {
            assert!(
                (0.0..=1.0).contains(&momentum),
                "BatchNorm: expected a momentum in 0..=1, got {momentum}"
            );
        }
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
        let observed = input.clone();
        let normalized = match pass.statistics() {
            StatisticsSource::Batch => self.forward_by_batch(input, pass),
            StatisticsSource::Running => self.forward_by_running(input),
        };
        let Normalized {
            output,
            mean,
            variance,
        } = normalized;
        pass.observe("batch_norm", &observed, &output, Some((&mean, &variance)));
        output
    }

    fn forward_by_batch<const D: usize>(&self, input: Tensor<D>, pass: &Pass) -> Normalized<D> {
        let dims = input.dims();
        let count = dims[0] * dims[2..].iter().product::<usize>();
        assert!(
            count != 1,
            "BatchNorm: expected more than one value per channel to compute statistics of the \
             batch, got input {dims:?}. Use a larger batch, drop the incomplete last batch, or \
             normalize by running statistics (Pass::test, Pass::freeze_statistics)"
        );
        let (scale, shift) = self.affine(&input);
        let normalized =
            backend::batch_norm_train(input, scale, shift, self.epsilon, self.activation);
        if count > 0 {
            let state_device = normalized.mean.device().without_autodiff();
            let mean = normalized.mean.clone().without_autodiff();
            let variance = normalized.variance.clone().without_autodiff();
            match pass.update() {
                StatisticsUpdate::Keep => {}
                StatisticsUpdate::Average => self.average_in(mean, variance, count, &state_device),
                StatisticsUpdate::Pool => {
                    self.pool_in(mean, variance, count, pass.identity(), &state_device);
                }
            }
        }
        normalized
    }

    fn forward_by_running<const D: usize>(&self, input: Tensor<D>) -> Normalized<D> {
        let (scale, shift) = self.affine(&input);
        let device = input.device();
        let (mean, variance) = {
            let _together = self.pool.lock();
            (
                self.running_mean.get(&device),
                self.running_var.get(&device),
            )
        };
        let wide = backend::computed_in(input.dtype());
        let (mean, variance) = (mean.cast(wide), variance.cast(wide));
        let reciprocal_deviation = variance.clone().add_scalar(self.epsilon).sqrt().recip();
        let output = backend::batch_norm_apply(
            input,
            mean.clone(),
            reciprocal_deviation,
            scale,
            shift,
            self.activation,
        );
        Normalized {
            output,
            mean,
            variance,
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

    fn average_in(&self, mean: Tensor<1>, variance: Tensor<1>, count: usize, device: &Device) {
        let _alone = self.pool.lock();
        let batches = self.num_batches_tracked.get(device).add_scalar(1);
        let rate = match self.average {
            RunningAverage::Momentum(momentum) => momentum,
            RunningAverage::Cumulative => 1.0 / batches.clone().into_scalar::<i64>() as f64,
        };
        let correction = if self.unbiased {
            count as f64 / (count as f64 - 1.0)
        } else {
            1.0
        };
        let follow = |running: &Buffer<Float>, batch: Tensor<1>| {
            let old = running.get(device);
            let dtype = old.dtype();
            let wide = backend::computed_in(dtype);
            let (old, batch) = (old.cast(wide), batch.cast(wide));
            let new = old.mul_scalar(1.0 - rate) + batch.mul_scalar(rate);
            running.set(new.cast(dtype));
        };
        follow(&self.running_mean, mean);
        follow(&self.running_var, variance.mul_scalar(correction));
        self.num_batches_tracked.set(batches);
    }

    /// Pools moments in f64 on the host: merging means and second moments is exact where
    /// averaging variances is not.
    fn pool_in(
        &self,
        mean: Tensor<1>,
        variance: Tensor<1>,
        count: usize,
        pass: u64,
        device: &Device,
    ) {
        let means = mean.into_data().convert::<f64>().try_into_vec::<f64>();
        let variances = variance.into_data().convert::<f64>().try_into_vec::<f64>();
        let (Ok(means), Ok(variances)) = (means, variances) else {
            unreachable!("data converted to f64 are f64");
        };
        let batch = means
            .into_iter()
            .zip(variances)
            .map(|(mean, variance)| Moments {
                count: count as f64,
                mean,
                m2: variance * count as f64,
            });
        let mut pool = self.pool.lock();
        pool.add(pass, batch);
        let pooled = &pool.moments;
        let variance = |moments: &Moments| {
            if self.unbiased {
                moments.variance_unbiased()
            } else {
                moments.variance()
            }
        };
        let means: Vec<f64> = pooled.iter().map(|moments| moments.mean).collect();
        let variances: Vec<f64> = pooled.iter().map(variance).collect();
        let write = |buffer: &Buffer<Float>, values: &[f64]| {
            let dtype = buffer.get(device).dtype();
            buffer.set(Tensor::from_data(values, (device, dtype)));
        };
        write(&self.running_mean, &means);
        write(&self.running_var, &variances);
        self.num_batches_tracked
            .set(Tensor::from_data([pool.batches as i64], device));
    }
}

/// The moments that a pass with [`StatisticsUpdate::Pool`] has gathered so far.
///
/// Whoever changes the running statistics holds its lock from the first read to the last write, and
/// whoever uses them while reading both: threads that share a layer lose no update.
#[derive(Debug, Default)]
struct Pool(Mutex<Gathered>);

#[derive(Clone, Debug, Default)]
struct Gathered {
    pass: u64,
    batches: u64,
    moments: Vec<Moments>,
}

impl Pool {
    /// A poisoned lock only says that another forward panicked: what is gathered is replaced whole.
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    /// Merges a batch's moments per channel; afresh if they are the first of this pass.
    fn add(&mut self, pass: u64, batch: impl Iterator<Item = Moments>) {
        if self.pass != pass {
            *self = Self {
                pass,
                batches: 1,
                moments: batch.collect(),
            };
            return;
        }
        let merged = self.moments.iter().zip(batch);
        self.moments = merged.map(|(old, new)| old.merge(&new)).collect();
        self.batches += 1;
    }
}

impl Clone for Pool {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.lock().clone()))
    }
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
            .add_formatted(&format!("average: {:?}", self.average))
            .add("affine", &self.weight.is_some())
            .add_formatted(&format!("activation: {:?}", self.activation))
            .optional()
    }
}
