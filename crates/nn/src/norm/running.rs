//! Running statistics: how the norms that have them follow the batches.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::config::Config;
use burn::tensor::{Device, Float, Int, Tensor};
use evenkeel_kernels::Moments;

use crate::host::numbers;
use crate::{Buffer, Pass, StatisticsUpdate, backend};

/// How a norm averages the statistics of successive batches.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum RunningAverage {
    /// Exponential: running = (1 − m)·running + m·batch, with this m.
    Momentum(f64),
    /// The plain average over all batches seen.
    Cumulative,
}

impl RunningAverage {
    /// # Panics
    /// If the momentum is not in 0..=1.
    pub(super) fn check(self, layer: &str) {
        if let Self::Momentum(momentum) = self {
            assert!(
                (0.0..=1.0).contains(&momentum),
                "{layer}: expected a momentum in 0..=1, got {momentum}"
            );
        }
    }

    /// The share of the batch whose number, from 1, is asked for only if it matters.
    fn rate(self, number: impl FnOnce() -> i64) -> f64 {
        match self {
            Self::Momentum(momentum) => momentum,
            Self::Cumulative => 1.0 / number() as f64,
        }
    }
}

/// What a batch is described by: a mean and a biased variance per channel, of `count` values each.
pub(super) struct Batch {
    pub mean: Tensor<1>,
    pub variance: Tensor<1>,
    pub count: f64,
}

/// How the descriptions of batches become one of them all.
#[derive(Clone, Copy)]
pub(super) enum Pooling {
    /// Of all their values: means that differ add to the variance.
    Values,
    /// The average of means and of variances, as instance norm's are.
    Averages,
}

impl Pooling {
    fn merge(self, a: &Moments, b: &Moments) -> Moments {
        match self {
            Self::Values => a.merge(b),
            Self::Averages => {
                let count = a.count + b.count;
                Moments {
                    count,
                    mean: (a.count * a.mean + b.count * b.mean) / count,
                    m2: a.m2 + b.m2,
                }
            }
        }
    }
}

/// A norm's running statistics, where its fields hold them, and how they follow.
pub(super) struct Running<'a> {
    pub mean: &'a Buffer<Float>,
    pub variance: &'a Buffer<Float>,
    pub batches: &'a Buffer<Int>,
    pub pool: &'a Pool,
    pub average: RunningAverage,
    pub pooling: Pooling,
    /// Whether the unbiased variance is averaged.
    pub unbiased: bool,
}

impl Running<'_> {
    /// Mean and variance, in the type that tensors like `like` are computed in.
    pub fn statistics<const D: usize>(&self, like: &Tensor<D>) -> (Tensor<1>, Tensor<1>) {
        let device = like.device();
        let wide = backend::computed_in(like.dtype());
        let _together = self.pool.lock();
        let get = |buffer: &Buffer<Float>| buffer.get(&device).cast(wide);
        (get(self.mean), get(self.variance))
    }

    /// Mean and variance, for whoever computes with them on the host.
    pub fn on_the_host(&self) -> (Vec<f64>, Vec<f64>) {
        let _together = self.pool.lock();
        let get = |buffer: &Buffer<Float>| numbers(buffer.get(&buffer.device()));
        (get(self.mean), get(self.variance))
    }

    /// Does with a batch what the pass says; it is described only if somebody wants to know. A batch of
    /// no values leaves no trace.
    pub fn follow(&self, batch: impl FnOnce() -> Batch, pass: &Pass) {
        let take_in: fn(&Self, Batch, &Pass, &Device) = match pass.update() {
            StatisticsUpdate::Keep => return,
            StatisticsUpdate::Average => {
                |running, batch, _, device| running.average_in(batch, device)
            }
            StatisticsUpdate::AverageOverPass => Self::average_pass_in,
            StatisticsUpdate::Pool => Self::pool_in,
        };
        let batch = batch();
        if batch.count > 0.0 {
            let device = batch.mean.device().without_autodiff();
            take_in(self, batch, pass, &device);
        }
    }

    fn average_in(&self, batch: Batch, device: &Device) {
        let _alone = self.pool.lock();
        let batches = self.batches.get(device).add_scalar(1);
        let rate = self.average.rate(|| batches.clone().into_scalar());
        let correction = match self.unbiased {
            true => batch.count / (batch.count - 1.0),
            false => 1.0,
        };
        let follow = |running: &Buffer<Float>, batch: Tensor<1>| {
            let old = running.get(device);
            let dtype = old.dtype();
            let wide = backend::computed_in(dtype);
            let (old, batch) = (old.cast(wide), batch.without_autodiff().cast(wide));
            let new = old.mul_scalar(1.0 - rate) + batch.mul_scalar(rate);
            running.set(new.cast(dtype));
        };
        follow(self.mean, batch.mean);
        follow(self.variance, batch.variance.mul_scalar(correction));
        self.batches.set(batches);
    }

    /// As if all that this pass has shown so far were one batch: averaged into what was there before
    /// its first.
    fn average_pass_in(&self, batch: Batch, pass: &Pass, device: &Device) {
        let mut gathered = self.pool.lock();
        if gathered.pass != pass.identity() {
            gathered.before = Before {
                mean: numbers(self.mean.get(device)),
                variance: numbers(self.variance.get(device)),
                batches: self.batches.get(device).into_scalar::<i64>(),
            };
        }
        gathered.add(pass, batch, self.pooling);
        let before = &gathered.before;
        let batches = before.batches + 1;
        let rate = self.average.rate(|| batches);
        let average = |before: &[f64], now: Vec<f64>| -> Vec<f64> {
            let pairs = before.iter().zip(now);
            pairs
                .map(|(before, now)| (1.0 - rate) * before + rate * now)
                .collect()
        };
        let (means, variances) = self.pooled(&gathered.moments);
        self.write(
            &average(&before.mean, means),
            &average(&before.variance, variances),
            batches,
            device,
        );
    }

    /// Replaces what was there by the statistics of all that this pass has shown so far. Merging
    /// moments is exact where averaging variances is not.
    fn pool_in(&self, batch: Batch, pass: &Pass, device: &Device) {
        let mut gathered = self.pool.lock();
        gathered.add(pass, batch, self.pooling);
        let (means, variances) = self.pooled(&gathered.moments);
        self.write(&means, &variances, gathered.batches, device);
    }

    fn pooled(&self, moments: &[Moments]) -> (Vec<f64>, Vec<f64>) {
        let variance = match self.unbiased {
            true => Moments::variance_unbiased,
            false => Moments::variance,
        };
        (
            moments.iter().map(|moments| moments.mean).collect(),
            moments.iter().map(variance).collect(),
        )
    }

    fn write(&self, means: &[f64], variances: &[f64], batches: i64, device: &Device) {
        for (buffer, values) in [(self.mean, means), (self.variance, variances)] {
            let dtype = buffer.get(device).dtype();
            buffer.set(Tensor::from_data(values, (device, dtype)));
        }
        self.batches.set(Tensor::from_data([batches], device));
    }
}

/// What a pass that describes all of its batches together has gathered so far.
///
/// Whoever changes the running statistics holds its lock from the first read to the last write, and
/// whoever uses them while reading both: threads that share a layer lose no update.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Gathered>);

#[derive(Clone, Debug, Default)]
struct Gathered {
    pass: u64,
    batches: i64,
    moments: Vec<Moments>,
    before: Before,
}

/// The running statistics when the pass began.
#[derive(Clone, Debug, Default)]
struct Before {
    mean: Vec<f64>,
    variance: Vec<f64>,
    batches: i64,
}

impl Pool {
    /// A poisoned lock only says that another forward panicked: what is gathered is replaced whole.
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    /// Merges a batch's moments per channel; afresh if they are the first of this pass.
    fn add(&mut self, pass: &Pass, batch: Batch, pooling: Pooling) {
        let Batch {
            mean,
            variance,
            count,
        } = batch;
        let channels = numbers(mean).into_iter().zip(numbers(variance));
        let batch = channels.map(|(mean, variance)| Moments {
            count,
            mean,
            m2: variance * count,
        });
        if self.pass == pass.identity() {
            let merged = self.moments.iter().zip(batch);
            self.moments = merged.map(|(old, new)| pooling.merge(old, &new)).collect();
            self.batches += 1;
        } else {
            (self.pass, self.batches) = (pass.identity(), 1);
            self.moments = batch.collect();
        }
    }
}

impl Clone for Pool {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.lock().clone()))
    }
}
