//! Losses and hits, example by example.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use evenkeel_nn::Pass;
use evenkeel_statistics::{Interval, Sample, wilson};

use super::subject::Batch;
use crate::model::Model;

/// How a net does on some examples, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scores {
    pub losses: Vec<f64>,
    pub predicted: Vec<u32>,
    pub labels: Vec<u32>,
}

/// The confidence of all intervals.
pub(crate) const CONFIDENCE: f64 = 0.95;

impl Scores {
    pub fn add(&mut self, logits: Tensor<2>, labels: &[u32]) {
        let classes = logits.dims()[1];
        let logarithms = log_softmax(logits, 1).into_data();
        let logarithms: Vec<f64> = logarithms.iter::<f64>().collect();
        for (row, &label) in logarithms.chunks_exact(classes).zip(labels) {
            let best = (1..classes).fold(0, |best, k| if row[k] > row[best] { k } else { best });
            self.losses.push(-row[label as usize]);
            self.predicted.push(best as u32);
            self.labels.push(label);
        }
    }

    pub fn loss(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len().max(1) as f64
    }

    pub fn loss_interval(&self) -> [f64; 2] {
        interval_of_mean(&self.losses)
    }

    pub fn hits(&self) -> u64 {
        let pairs = self.predicted.iter().zip(&self.labels);
        pairs
            .filter(|(predicted, label)| predicted == label)
            .count() as u64
    }

    pub fn accuracy(&self) -> f64 {
        self.hits() as f64 / self.labels.len().max(1) as f64
    }

    pub fn accuracy_interval(&self) -> [f64; 2] {
        ends(wilson(self.hits(), self.labels.len() as u64, CONFIDENCE))
    }

    /// The same of one class.
    pub fn of_class(&self, class: u32) -> Self {
        let mut part = Self::default();
        for i in (0..self.labels.len()).filter(|&i| self.labels[i] == class) {
            part.losses.push(self.losses[i]);
            part.predicted.push(self.predicted[i]);
            part.labels.push(class);
        }
        part
    }
}

/// Of a net under the passes that `pass` makes for each batch.
pub(crate) fn scores(model: &Model, batches: &[Batch], pass: impl Fn(u64) -> Pass) -> Scores {
    let mut scores = Scores::default();
    for (index, batch) in (0..).zip(batches) {
        scores.add(model.forward(batch.x.clone(), &pass(index)), &batch.labels);
    }
    scores
}

pub(crate) fn ends(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}

/// Student's interval of the mean; unbounded where one value tells nothing of the spread.
pub(crate) fn interval_of_mean(values: &[f64]) -> [f64; 2] {
    let interval = Sample::of(values).and_then(|sample| sample.interval(CONFIDENCE));
    interval.map_or([f64::NEG_INFINITY, f64::INFINITY], ends)
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// With the mean, the unbiased variance; 0 of one value.
pub(crate) fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, squares / values.len().saturating_sub(1).max(1) as f64)
}
