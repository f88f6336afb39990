//! One step of a training.

use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use evenkeel_augment::Batch;
use evenkeel_nn::{Pass, cross_entropy, soft_cross_entropy};

use crate::checkpoint::Training;
use crate::session::Session;

/// What a step told.
pub(crate) struct Stepped {
    /// The mean cross-entropy of the batch before the step, without smoothing.
    pub loss: f64,
    /// Before clipping, where there is clipping.
    pub gradient_norm: Option<f64>,
    /// Examples whose most probable class was the right one.
    pub correct: u64,
}

/// Moves the training on by one step: weights, optimizer, average, count.
///
/// # Errors
/// The loss, if it is not finite: then the training is where it was.
pub(crate) fn step(
    session: &Session<'_>,
    training: &mut Training,
    batch: Batch,
) -> Result<Stepped, f64> {
    let device = session.options.device.clone().autodiff();
    let step = training.progress.step;
    let learning_rate = session.learning_rate(step);
    training.progress.learning_rate = learning_rate;
    let examples = batch.labels.len();
    let features = batch.features.len() / examples;
    let x = TensorData::new(batch.features, [examples, features]);
    let labels: Vec<i64> = batch.labels.iter().map(|&label| i64::from(label)).collect();
    let targets = TensorData::new(labels, [examples]);
    let targets = Tensor::<1, Int>::from_data(targets, &device);

    let pass = Pass::train(session.recipe.seed, step);
    let logits = training.model.forward(Tensor::from_data(x, &device), &pass);
    let detached = logits.clone().without_autodiff();
    let smoothing = session.recipe.train.label_smoothing;
    let classes = logits.dims()[1];
    // Of a batch that was mixed, targets are shares of the classes.
    let soft = |smoothing: f64| {
        let targets = smoothed(&batch.targets, classes, smoothing);
        Tensor::<2>::from_data(TensorData::new(targets, [examples, classes]), &device)
    };
    let mixed = batch.mixed.is_some();
    let objective = match mixed {
        true => soft_cross_entropy(logits, soft(smoothing)),
        false => cross_entropy(logits, targets.clone(), smoothing),
    };
    let value = objective.clone().into_scalar::<f64>();
    if !value.is_finite() {
        return Err(value);
    }
    // What is logged is comparable with the test loss: without smoothing.
    let loss = if smoothing == 0.0 {
        value
    } else if mixed {
        let targets = soft(0.0).without_autodiff();
        soft_cross_entropy(detached.clone(), targets).into_scalar::<f64>()
    } else {
        cross_entropy(detached.clone(), targets.without_autodiff(), 0.0).into_scalar::<f64>()
    };
    let gradients = GradientsParams::from_grads(objective.backward(), &training.model);
    let model = training.model.clone();
    let done = training.optimizer.step(model, gradients, learning_rate);
    training.model = done.model;
    if let Some(average) = &mut training.average {
        average.update(&training.model, step);
    }
    training.progress.step += 1;

    let predicted = detached.argmax(1).into_data();
    let correct = predicted.iter::<i64>().zip(&batch.labels);
    let correct = correct
        .filter(|(predicted, label)| *predicted == i64::from(**label))
        .count();
    Ok(Stepped {
        loss,
        gradient_norm: done.gradient_norm,
        correct: correct as u64,
    })
}

/// Targets of which this share is spread evenly over the classes, as label smoothing does to one class.
fn smoothed(targets: &[f32], classes: usize, smoothing: f64) -> Vec<f32> {
    let (kept, spread) = (1.0 - smoothing, smoothing / classes as f64);
    let smooth = |&share: &f32| (kept * f64::from(share) + spread) as f32;
    targets.iter().map(smooth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothed_targets_are_those_of_label_smoothing() {
        assert_eq!(
            smoothed(&[1.0, 0.0, 0.25, 0.75], 2, 0.0),
            [1.0, 0.0, 0.25, 0.75]
        );
        assert_eq!(
            smoothed(&[0.0, 1.0, 0.0, 0.0], 4, 0.2),
            [0.05, 0.85, 0.05, 0.05]
        );
    }
}
