//! Measuring a model: loss, accuracy, confusion, mistakes; averaging over views of each image.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use evenkeel_augment::{Loader, LoaderOptions};
use evenkeel_nn::Pass;
use evenkeel_record::{Preparation, RunFolder, Status};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::data::{Dataset, Kind, Source, Split};
use crate::examples::Use;
use crate::fit::recipe_of;
use crate::model::Model;
use crate::{examples, provenance, weights};

/// The views of each image that a prediction is averaged over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Views {
    /// The image itself.
    #[default]
    None,
    /// The image and its mirror image: the mean of the two probabilities. Good for nets trained
    /// with flips; it hurts others.
    Flip,
}

/// What a model does on a set of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The mean cross-entropy of the averaged probabilities, without label smoothing.
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
    views: Vec<Loader>,
    classes: usize,
    features: usize,
    device: Device,
}

const BATCH: usize = 256;

/// A batch size near [`BATCH`] that leaves no single example as the last batch: a norm that
/// recomputes its statistics would have one value to compute them from.
fn batch_size(examples: usize) -> usize {
    (BATCH..BATCH + examples)
        .find(|size| examples % size != 1)
        .unwrap_or(BATCH)
}

const MOST_MISTAKES: usize = 24;

impl Evaluator {
    /// Over `split`, prepared as training prepared it but without augmentation.
    pub fn new(
        split: &Split,
        kind: &Kind,
        classes: usize,
        preparation: &Preparation,
        views: Views,
        workers: usize,
        device: &Device,
    ) -> Result<Self, Error> {
        let pipelines = match views {
            Views::None => vec![Vec::new()],
            Views::Flip => vec![Vec::new(), vec![examples::mirrored(kind)?]],
        };
        let options = LoaderOptions {
            batch_size: batch_size(split.len()),
            workers,
            prefetch: 2 * workers,
            shuffle: None,
            drop_last: false,
        };
        let loaders = pipelines.into_iter().map(|operations| {
            let examples = examples::prepare(split, kind, preparation, operations, 0, Use::Test)?;
            Ok(Loader::new(examples, options.clone())?)
        });
        Ok(Self {
            views: loaders.collect::<Result<_, Error>>()?,
            classes,
            features: kind.shape().iter().product(),
            device: device.clone().without_autodiff(),
        })
    }

    /// The mean probabilities `[examples × classes]` over all views, and the labels.
    pub fn probabilities(&self, model: &Model) -> Result<(Vec<f64>, Vec<u32>), Error> {
        let mut mean = Vec::new();
        let mut labels = Vec::new();
        for (view, loader) in self.views.iter().enumerate() {
            let mut position = 0;
            for batch in loader.epoch(0, 0) {
                let batch = batch?;
                let shape = [batch.labels.len(), self.features];
                let x = TensorData::new(batch.features, shape);
                let logits = model.forward(Tensor::from_data(x, &self.device), &Pass::test());
                let probabilities = softmax(logits, 1).into_data();
                let values = probabilities
                    .iter::<f64>()
                    .map(|p| p / self.views.len() as f64);
                if view == 0 {
                    mean.extend(values);
                    labels.extend(batch.labels);
                } else {
                    for value in values {
                        mean[position] += value;
                        position += 1;
                    }
                }
            }
        }
        Ok((mean, labels))
    }

    /// Measures `model`, which must be on the evaluator's plain device.
    pub fn measure(&self, model: &Model) -> Result<Measured, Error> {
        let (probabilities, labels) = self.probabilities(model)?;
        Ok(measure(probabilities, labels, self.classes))
    }

    /// Runs one epoch of batches of this split through `forward`, for recomputing statistics.
    pub(crate) fn batches(&self, mut forward: impl FnMut(Tensor<2>)) -> Result<(), Error> {
        for batch in self.views[0].epoch(0, 0) {
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
    views: Views,
    workers: usize,
    device: &Device,
) -> Result<Measured, Error> {
    let (model, evaluator) = open_run(folder, source, views, workers, device)?;
    evaluator.measure(&model)
}

/// A finished run's model, and what measures it.
pub(crate) fn open_run(
    folder: &RunFolder,
    source: Option<&Source>,
    views: Views,
    workers: usize,
    device: &Device,
) -> Result<(Model, Evaluator), Error> {
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
            let data = Dataset::open_with(&recipe.data.source.parse()?, &recipe.images())?;
            let data = match recipe.data.validation {
                0.0 => data,
                share => data.hold_out(share, recipe.seed)?,
            };
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
    let evaluator = Evaluator::new(
        &test,
        &data.kind,
        classes,
        &run.preparation,
        views,
        workers,
        &device,
    )?;
    Ok((model, evaluator))
}

fn measure(probabilities: Vec<f64>, labels: Vec<u32>, classes: usize) -> Measured {
    let mut confusion = vec![vec![0; classes]; classes];
    let mut mistakes = Vec::new();
    let mut loss = 0.0;
    let mut correct = 0_usize;
    for (index, (row, &truth)) in probabilities.chunks_exact(classes).zip(&labels).enumerate() {
        // The first of equals, as PyTorch's argmax; a NaN row predicts class 0.
        let predicted = (1..classes).fold(0, |best, k| if row[k] > row[best] { k } else { best });
        let likelihood = row[truth as usize];
        // Bounds the logarithm; written so that NaN stays NaN, which `f64::max` would hide.
        loss -= if likelihood < f64::MIN_POSITIVE {
            f64::MIN_POSITIVE
        } else {
            likelihood
        }
        .ln();
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
    use evenkeel_nn::{NormKind, initialize};

    use super::*;
    use crate::data::Images;
    use crate::model::ModelRecipe;

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
    fn flips_average_the_image_and_its_mirror_image() {
        let (height, width, examples) = (4, 5, 7);
        let kind = Kind::Images {
            height,
            width,
            channels: 1,
        };
        let split = |mirrored: bool| {
            let pixel = |i: usize| {
                let (row, column) = (i / width, i % width);
                let column = if mirrored { width - 1 - column } else { column };
                ((row * width + column) * 73 % 251) as u8
            };
            Split::Images(Images {
                bytes: height * width,
                pixels: (0..examples * height * width).map(pixel).collect(),
                labels: (0..examples as u32).map(|i| i % 3).collect(),
            })
        };
        let preparation = Preparation {
            mean: vec![0.4],
            deviation: vec![0.3],
        };
        let device = Device::flex();
        let recipe = ModelRecipe::Mlp {
            hidden: vec![6],
            norm: NormKind::None,
            dropout: 0.0,
        };
        let model = initialize(recipe.build(&kind, 3, &device).unwrap(), 1);
        let measure = |mirrored, views| {
            Evaluator::new(&split(mirrored), &kind, 3, &preparation, views, 0, &device)
                .and_then(|evaluator| evaluator.measure(&model))
                .unwrap()
                .probabilities
        };
        let (plain, mirrored) = (measure(false, Views::None), measure(true, Views::None));
        assert!(
            plain
                .iter()
                .zip(&mirrored)
                .any(|(a, b)| (a - b).abs() > 1e-3)
        );
        let flipped = measure(false, Views::Flip);
        assert_eq!(flipped.len(), 3 * examples);
        for ((found, a), b) in flipped.iter().zip(&plain).zip(&mirrored) {
            assert!((found - (a + b) / 2.0).abs() < 1e-7, "{found}, {a}, {b}");
        }
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
