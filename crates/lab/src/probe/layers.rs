//! What the layers of a forward received and returned.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use evenkeel_nn::{Observation, Observer, Pass};

/// One layer of one forward.
pub(crate) struct Seen {
    /// Its scope and kind; with a number where the same comes again.
    pub name: String,
    /// The kind, such as `batch_norm`.
    pub kind: &'static str,
    /// Of the input: examples, channels, positions.
    pub shape: Vec<usize>,
    /// `[examples, values]`.
    pub input: Tensor<2>,
    pub output: Tensor<2>,
}

#[derive(Default)]
struct Collector(Mutex<(Vec<Seen>, HashMap<String, usize>)>);

impl Observer for Collector {
    fn observe(&self, observation: Observation<'_>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (seen, counts) = &mut *held;
        let name = match observation.path {
            "" => observation.layer.to_owned(),
            path => format!("{path} {}", observation.layer),
        };
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        let name = match *count {
            1 => name,
            again => format!("{name} {again}"),
        };
        seen.push(Seen {
            name,
            kind: observation.layer,
            shape: observation.shape.to_vec(),
            input: observation.input,
            output: observation.output,
        });
    }
}

/// The layers of one forward, in order, and what `forward` returns.
pub(crate) fn observe<T>(pass: Pass, forward: impl FnOnce(&Pass) -> T) -> (T, Vec<Seen>) {
    let collector = Arc::new(Collector::default());
    let returned = forward(&pass.observed_by(Arc::clone(&collector) as Arc<dyn Observer>));
    let mut held = collector.0.lock().unwrap_or_else(PoisonError::into_inner);
    (returned, std::mem::take(&mut held.0))
}

/// The mean over the positions of each channel of each example: `[examples][channels]`.
pub(crate) fn channel_means(values: &Tensor<2>, shape: &[usize]) -> Vec<Vec<f64>> {
    let (examples, channels) = (shape[0], shape[1]);
    let positions = shape[2..].iter().product::<usize>();
    let means = values.clone().reshape([examples, channels, positions]);
    let means = means.mean_dim(2).into_data();
    let means: Vec<f64> = means.iter::<f64>().collect();
    means.chunks_exact(channels).map(<[f64]>::to_vec).collect()
}

/// Mean and biased variance of each channel over examples and positions.
pub(crate) fn channel_moments(values: &Tensor<2>, shape: &[usize]) -> Vec<(f64, f64)> {
    let (examples, channels) = (shape[0], shape[1]);
    let positions = shape[2..].iter().product::<usize>();
    let by_channel = values.clone().reshape([examples, channels, positions]);
    let by_channel = by_channel
        .swap_dims(0, 1)
        .reshape([channels, examples * positions]);
    let (variance, mean) = by_channel.var_mean_bias(1);
    let numbers = |tensor: Tensor<2>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
    numbers(mean).into_iter().zip(numbers(variance)).collect()
}
