//! Measuring a model as it is used: one view of each example, in test mode.

use burn::tensor::{Device, Tensor, TensorData};
use evenkeel_augment::{Loader, LoaderOptions};
use evenkeel_nn::Pass;
use evenkeel_record::{Preparation, Run, RunFolder, Status};

use crate::Error;
use crate::data::{Dataset, Kind, Source, Split};
use crate::examples::Use;
use crate::fit::recipe_of;
use crate::model::Model;
use crate::recipe::Recipe;
use crate::{examples, provenance, weights};

/// What a model does on a set of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// The share of examples whose most probable class is the right one.
    pub accuracy: f64,
    /// `[truth][predicted]` counts.
    pub confusion: Vec<Vec<u64>>,
    /// The wrong predictions, most confident first.
    pub mistakes: Vec<Mistake>,
    /// The probabilities, example after example.
    pub probabilities: Vec<f64>,
    /// The class of each example.
    pub labels: Vec<u32>,
}

/// One wrong prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mistake {
    /// The example's index.
    pub index: usize,
    /// Its class.
    pub truth: u32,
    /// The class predicted.
    pub predicted: u32,
    /// The probability given to it.
    pub confidence: f64,
}

/// Evaluates models on one split, in test mode.
pub struct Evaluator {
    loader: Loader,
    classes: usize,
    features: usize,
    device: Device,
}

const BATCH: usize = 256;

/// A batch size near [`BATCH`] that leaves no single example as the last batch: a norm that
/// recomputes its statistics would have one value to compute them from.
pub(crate) fn batch_size(examples: usize) -> usize {
    (BATCH..BATCH + examples)
        .find(|size| examples % size != 1)
        .unwrap_or(BATCH)
}

const MOST_MISTAKES: usize = 24;

/// All examples in order, once.
pub(crate) fn loader_options(batch_size: usize, workers: usize) -> LoaderOptions {
    LoaderOptions {
        batch_size,
        workers,
        prefetch: 2 * workers,
        shuffle: None,
        drop_last: false,
    }
}

/// A tensor's values, row after row.
pub(crate) fn numbers(tensor: Tensor<2>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// exp(z) over its sum: the probabilities of one example's logits.
pub(crate) fn softmax(logits: &[f64]) -> impl Iterator<Item = f64> {
    // Before the exponential, lest it overflow; a NaN stays one.
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
    logits.iter().map(move |logit| (logit - most).exp() / sum)
}

impl Evaluator {
    /// Over `split`, prepared as training prepared it but without augmentation.
    pub fn new(
        split: &Split,
        kind: &Kind,
        classes: usize,
        preparation: &Preparation,
        workers: usize,
        device: &Device,
    ) -> Result<Self, Error> {
        let examples = examples::prepare(split, kind, preparation, Vec::new(), 0, Use::Test)?;
        let options = loader_options(batch_size(split.len()), workers);
        Ok(Self {
            loader: Loader::new(examples, options)?,
            classes,
            features: kind.shape().iter().product(),
            device: device.clone().without_autodiff(),
        })
    }

    /// The probabilities `[examples × classes]`, and the labels.
    pub fn probabilities(&self, model: &Model) -> Result<(Vec<f64>, Vec<u32>), Error> {
        let mut probabilities = Vec::new();
        let mut labels = Vec::new();
        for batch in self.loader.epoch(0, 0) {
            let batch = batch?;
            let shape = [batch.labels.len(), self.features];
            let x = Tensor::from_data(TensorData::new(batch.features, shape), &self.device);
            let logits = numbers(model.forward(x, &Pass::test()));
            for row in logits.chunks_exact(self.classes) {
                probabilities.extend(softmax(row));
            }
            labels.extend(batch.labels);
        }
        Ok((probabilities, labels))
    }

    /// Measures `model`, which must be on the evaluator's plain device.
    pub fn measure(&self, model: &Model) -> Result<Measured, Error> {
        let (probabilities, labels) = self.probabilities(model)?;
        Ok(measure(probabilities, labels, self.classes))
    }

    /// Runs one epoch of batches of this split through `forward`, for recomputing statistics.
    pub(crate) fn batches(&self, mut forward: impl FnMut(Tensor<2>)) -> Result<(), Error> {
        for batch in self.loader.epoch(0, 0) {
            let batch = batch?;
            let shape = [batch.labels.len(), self.features];
            forward(Tensor::from_data(
                TensorData::new(batch.features, shape),
                &self.device,
            ));
        }
        Ok(())
    }
}

/// Measures a finished run's model on its own test data, or on the test data of another source with
/// the same kind of examples: prepared by the run's statistics, labelled by the run's classes.
pub fn evaluate_run(
    folder: &RunFolder,
    source: Option<&Source>,
    workers: usize,
    device: &Device,
) -> Result<Measured, Error> {
    let run = OpenRun::open(folder, source, device)?;
    run.evaluator(workers)?.measure(&run.model)
}

/// A finished run's model, and what it is measured on.
pub(crate) struct OpenRun {
    pub run: Run,
    pub recipe: Recipe,
    pub model: Model,
    /// What is evaluated on, labelled by the run's classes.
    pub test: Split,
    /// What its examples are.
    pub kind: Kind,
    /// A plain one.
    pub device: Device,
}

impl OpenRun {
    /// With the run's own test data, or those of another source with the same kind of examples.
    pub fn open(
        folder: &RunFolder,
        source: Option<&Source>,
        device: &Device,
    ) -> Result<Self, Error> {
        let run = folder.read_run()?;
        if run.status != Status::Finished {
            return Err(Error::Unfinished {
                folder: folder.path().to_owned(),
                failure: run.failure,
            });
        }
        let recipe = recipe_of(&run, folder)?;
        let data = match source {
            Some(source) => Dataset::open_with(source, &recipe.other_images())?,
            None => {
                let data = recipe.open_data()?;
                provenance::expect_same_test(&run, &data)?;
                data
            }
        };
        if data.kind.shape() != run.data.shape {
            return Err(Error::Unfit(format!(
                "the run's examples are of shape {:?}, those of {} are of {:?}; expected the same",
                run.data.shape,
                data.name,
                data.kind.shape()
            )));
        }
        if data.kind.columns() != run.data.columns {
            return Err(Error::Unfit(format!(
                "the run's columns are {}, those of {} are {}; expected the same in the same order",
                run.data.columns.join(", "),
                data.name,
                data.kind.columns().join(", ")
            )));
        }
        let class = |name: &String| {
            let index = run.data.classes.iter().position(|known| known == name);
            index.map(|index| index as u32).ok_or_else(|| {
                let known = run.data.classes.join(", ");
                Error::Unfit(format!(
                    "{}: class `{name}` is none of the run's: {known}",
                    data.name
                ))
            })
        };
        let renamed = data
            .classes
            .iter()
            .map(class)
            .collect::<Result<Vec<_>, Error>>()?;
        let test = data.test.relabelled(&renamed);
        let classes = run.data.classes.len();
        let device = device.clone().without_autodiff();
        let model = recipe
            .model
            .build(&data.kind, classes, &device)
            .map_err(Error::Unfit)?;
        let model = weights::from_safetensors(model, &folder.model())?;
        Ok(Self {
            run,
            recipe,
            model,
            test,
            kind: data.kind,
            device,
        })
    }

    /// What measures the model as it is used.
    pub fn evaluator(&self, workers: usize) -> Result<Evaluator, Error> {
        Evaluator::new(
            &self.test,
            &self.kind,
            self.run.data.classes.len(),
            &self.run.preparation,
            workers,
            &self.device,
        )
    }
}

/// The first of equals, as PyTorch's argmax; of NaN the first.
pub(crate) fn most_probable(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}

/// −ln p, where p is at least the smallest normal number; written so that NaN stays NaN, which `f64::max`
/// would hide.
pub(crate) fn likelihood_loss(probability: f64) -> f64 {
    -if probability < f64::MIN_POSITIVE {
        f64::MIN_POSITIVE
    } else {
        probability
    }
    .ln()
}

pub(crate) fn measure(probabilities: Vec<f64>, labels: Vec<u32>, classes: usize) -> Measured {
    let mut confusion = vec![vec![0; classes]; classes];
    let mut mistakes = Vec::new();
    let mut loss = 0.0;
    let mut correct = 0_usize;
    for (index, (row, &truth)) in probabilities.chunks_exact(classes).zip(&labels).enumerate() {
        let predicted = most_probable(row);
        loss += likelihood_loss(row[truth as usize]);
        confusion[truth as usize][predicted] += 1;
        if predicted == truth as usize {
            correct += 1;
        } else {
            let predicted = u32::try_from(predicted).expect("classes are counted in u32");
            let confidence = row[predicted as usize];
            mistakes.push(Mistake {
                index,
                truth,
                predicted,
                confidence,
            });
        }
    }
    mistakes.sort_by(|a, b| {
        b.confidence
            .total_cmp(&a.confidence)
            .then(a.index.cmp(&b.index))
    });
    mistakes.truncate(MOST_MISTAKES);
    let count = labels.len().max(1) as f64;
    Measured {
        loss: loss / count,
        accuracy: correct as f64 / count,
        confusion,
        mistakes,
        probabilities,
        labels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_is_of_one_example() {
        for examples in 2..2000 {
            let size = batch_size(examples);
            assert!(
                examples % size != 1 && size >= BATCH,
                "{examples} by {size}"
            );
        }
        assert_eq!((batch_size(0), batch_size(1)), (BATCH, BATCH));
        assert_eq!((batch_size(256), batch_size(257)), (256, 257));
    }

    #[test]
    fn measures_by_hand() {
        let probabilities = vec![0.7, 0.3, 0.4, 0.6, 0.9, 0.1];
        let measured = measure(probabilities, vec![0, 0, 1], 2);
        assert_eq!(measured.confusion, [[1, 1], [1, 0]]);
        assert!((measured.accuracy - 1.0 / 3.0).abs() < 1e-12);
        let loss = -(0.7_f64.ln() + 0.4_f64.ln() + 0.1_f64.ln()) / 3.0;
        assert!((measured.loss - loss).abs() < 1e-12);
        let first = Mistake {
            index: 2,
            truth: 1,
            predicted: 0,
            confidence: 0.9,
        };
        assert_eq!(measured.mistakes[0], first);
    }
}
