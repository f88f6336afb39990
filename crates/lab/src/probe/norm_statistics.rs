//! Running statistics against those of batches, norm by norm.

use burn::tensor::{Device, Tensor};
use evenkeel_nn::{BatchNorm, Norms, Pass};

use super::layers::observe;
use super::score::{mean, mean_and_variance};
use super::subject::Batch;
use crate::model::Model;

/// A batch norm's running statistics beside those of batches.
#[derive(Clone, Debug)]
pub(crate) struct NormStatistics {
    /// Such as `blocks.0.norm`.
    pub path: String,
    /// Batches that were averaged in, as the norm counts them.
    pub tracked: i64,
    /// Values of a channel in a batch.
    pub values: f64,
    /// One each.
    pub channels: Vec<Channel>,
}

/// One channel of a norm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    pub running_mean: f64,
    pub running_variance: f64,
    /// Of the batches' means: the mean, and the deviation from batch to batch.
    pub mean: f64,
    pub mean_deviation: f64,
    /// The same of the batches' variances, which are unbiased if the norm averages such.
    pub variance: f64,
}

impl Channel {
    /// The running mean's distance in deviations of the values.
    pub fn shift(&self) -> f64 {
        let distance = self.running_mean - self.mean;
        if distance == 0.0 {
            0.0
        } else {
            distance / self.variance.sqrt()
        }
    }

    /// The logarithm of the running variance in those of the batches; 0 where both are none.
    pub fn log_ratio(&self) -> f64 {
        if self.running_variance == self.variance {
            return 0.0;
        }
        (self.running_variance / self.variance).ln()
    }
}

impl NormStatistics {
    /// How far the running means are: root mean square over the channels, in deviations.
    pub fn shift(&self) -> f64 {
        mean(&self.of_channels(|channel| channel.shift().powi(2))).sqrt()
    }

    /// The mean logarithm of the variances' ratio.
    pub fn log_ratio(&self) -> f64 {
        mean(&self.of_channels(Channel::log_ratio))
    }

    pub fn of_channels(&self, value: impl Fn(&Channel) -> f64) -> Vec<f64> {
        let live = self
            .channels
            .iter()
            .filter(|channel| channel.variance > 0.0);
        live.map(value).filter(|value| value.is_finite()).collect()
    }

    /// The share r of their start (mean 0, variance 1) that is left in the running statistics, by least
    /// squares over the channels of running = r·start + (1 − r)·batches: a momentum that is too slow for
    /// the number of steps leaves it in means and variances alike, so the smaller of the two is told.
    pub fn share_of_start(&self) -> f64 {
        let share = |start: f64, running: fn(&Channel) -> f64, batches: fn(&Channel) -> f64| {
            let (mut products, mut squares) = (0.0, 0.0);
            for channel in &self.channels {
                let from_start = start - batches(channel);
                products += (running(channel) - batches(channel)) * from_start;
                squares += from_start * from_start;
            }
            if squares > 0.0 {
                products / squares
            } else {
                0.0
            }
        };
        let of_means = share(0.0, |c| c.running_mean, |c| c.mean);
        of_means.min(share(1.0, |c| c.running_variance, |c| c.variance))
    }

    /// How the running means scatter: mean over the channels of the squared distance from the batches'
    /// mean, in units of the variance of *one* batch's mean. Of an average with momentum m it is about
    /// m/(2 − m), of one batch 1.
    pub fn scatter(&self) -> f64 {
        let of_channel = |channel: &Channel| {
            ((channel.running_mean - channel.mean) / channel.mean_deviation).powi(2)
        };
        mean(&self.of_channels(of_channel))
    }

    /// Whether nothing was ever averaged in.
    pub fn is_untouched(&self) -> bool {
        self.channels
            .iter()
            .all(|channel| channel.running_mean == 0.0 && channel.running_variance == 1.0)
    }
}

/// The statistics of each batch norm of `model` over batches, each under the pass that `pass` makes for it
/// (a training pass with its noise, or one without), beside the running ones.
pub(crate) fn norm_statistics(
    model: &Model,
    batches: &[Batch],
    pass: impl Fn(u64) -> Pass,
) -> Vec<NormStatistics> {
    let mut norms = Vec::new();
    model.clone().visit_norms(&mut |path, norm| {
        if let Some(norm) = norm.as_batch() {
            norms.push((path.to_owned(), State::of(norm)));
        }
    });
    let Some(first) = batches.first() else {
        return Vec::new();
    };
    let (_, seen) = observe(Pass::test(), |pass| model.forward(first.x.clone(), pass));
    let values = seen
        .iter()
        .filter(|seen| seen.kind == "batch_norm")
        .map(|seen| (seen.shape[0] * seen.shape[2..].iter().product::<usize>()) as f64);
    let values: Vec<f64> = values.collect();
    let mut of_batches: Vec<Vec<State>> = vec![Vec::new(); norms.len()];
    let mut measured = model.clone();
    for (index, batch) in (0..).zip(batches) {
        // A pass of its own, so that what is pooled is this batch alone.
        measured.forward(batch.x.clone(), &pass(index).pool_statistics());
        let mut next = of_batches.iter_mut();
        measured.visit_norms(&mut |_, norm| {
            if let (Some(norm), Some(states)) = (norm.as_batch(), next.next()) {
                states.push(State::of(norm));
            }
        });
    }
    let norms = norms.into_iter().zip(of_batches).zip(values);
    norms
        .map(|(((path, running), batches), values)| NormStatistics {
            path,
            tracked: running.tracked,
            values,
            channels: (0..running.mean.len())
                .map(|channel| channel_of(&running, &batches, channel))
                .collect(),
        })
        .collect()
}

fn channel_of(running: &State, batches: &[State], channel: usize) -> Channel {
    let over = |value: fn(&State) -> &Vec<f64>| {
        let values: Vec<f64> = batches.iter().map(|state| value(state)[channel]).collect();
        mean_and_variance(&values)
    };
    let (mean, of_means) = over(|state| &state.mean);
    let (variance, _) = over(|state| &state.variance);
    Channel {
        running_mean: running.mean[channel],
        running_variance: running.variance[channel],
        mean,
        mean_deviation: of_means.sqrt(),
        variance,
    }
}

/// What a norm holds, on the host.
#[derive(Clone)]
struct State {
    mean: Vec<f64>,
    variance: Vec<f64>,
    tracked: i64,
}

impl State {
    fn of(norm: &BatchNorm) -> Self {
        let device = Device::flex();
        let numbers = |tensor: Tensor<1>| tensor.into_data().iter::<f64>().collect();
        Self {
            mean: numbers(norm.running_mean.get(&device)),
            variance: numbers(norm.running_var.get(&device)),
            tracked: norm.num_batches_tracked.get(&device).into_scalar::<i64>(),
        }
    }
}
