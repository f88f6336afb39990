//! A trained net and its data, as instruments look at them.

use burn::tensor::{Device, Tensor, TensorData};
use evenkeel_augment::{Loader, LoaderOptions, Operation};
use evenkeel_nn::Pass;
use evenkeel_record::{Line, Preparation, Run, RunFolder, Status};

use super::score::{Scores, scores};
use crate::data::{Dataset, Split};
use crate::evaluate::batch_size;
use crate::examples::Use;
use crate::fit::recipe_of;
use crate::model::Model;
use crate::recipe::Recipe;
use crate::{Error, examples, weights};

/// A finished run, opened.
pub struct Subject {
    pub(crate) run: Run,
    pub(crate) metrics: Vec<Line>,
    pub(crate) recipe: Recipe,
    /// Of training, with the data's classes in them.
    operations: Vec<Operation>,
    pub(crate) data: Dataset,
    /// On a plain device.
    pub(crate) model: Model,
    pub(crate) device: Device,
    pub(crate) workers: usize,
}

/// Examples as the net sees them.
#[derive(Clone)]
pub(crate) struct Batch {
    pub x: Tensor<2>,
    pub labels: Vec<u32>,
    /// Their indices in the split.
    pub samples: Vec<usize>,
}

/// Which examples, and how they are made.
#[derive(Clone)]
pub(crate) struct Views<'a> {
    pub split: &'a Split,
    pub preparation: &'a Preparation,
    pub operations: &'a [Operation],
    pub purpose: Use,
    /// Whose draws the operations make.
    pub epoch: u64,
    pub batch_size: usize,
    pub shuffle: Option<u64>,
    /// Whether the incomplete last batch is left out: its statistics are not those of a batch.
    pub drop_last: bool,
    /// Batches at most.
    pub most: usize,
}

impl Subject {
    /// Opens a finished run: its model, and the data that it names as they are now.
    ///
    /// # Errors
    /// If the run is not finished, or a file of it or its data cannot be read.
    pub fn open(folder: &RunFolder, workers: usize, device: &Device) -> Result<Self, Error> {
        let run = folder.read_run()?;
        if run.status != Status::Finished {
            return Err(Error::Unfinished {
                folder: folder.path().to_owned(),
                failure: run.failure,
            });
        }
        let recipe = recipe_of(&run, folder)?;
        let data = recipe.open_data()?;
        if data.kind.shape() != run.data.shape || data.classes != run.data.classes {
            return Err(Error::Unfit(format!(
                "the run's examples are of shape {:?} in {} classes, those of {} are of {:?} in {}; \
                 expected the same data",
                run.data.shape,
                run.data.classes.len(),
                data.name,
                data.kind.shape(),
                data.classes.len()
            )));
        }
        let operations = recipe.operations(&data.classes)?;
        let device = device.clone().without_autodiff();
        let model = recipe.model.build(&data.kind, data.classes.len(), &device);
        let model = weights::from_safetensors(model.map_err(Error::Unfit)?, &folder.model())?;
        Ok(Self {
            metrics: folder.read_metrics()?,
            run,
            recipe,
            operations,
            data,
            model,
            device,
            workers,
        })
    }

    /// Batches of these views.
    pub(crate) fn batches(&self, views: &Views<'_>) -> Result<Vec<Batch>, Error> {
        let loader = self.loader(views)?;
        let batches = loader.epoch(views.epoch, 0).take(views.most);
        batches.map(|batch| Ok(self.batch(batch?))).collect()
    }

    /// Training batches that the net has not seen, without end: which examples is a function of the seed, and the
    /// operations draw as in epochs after the last.
    pub(crate) fn unseen_batches(
        &self,
        seed: u64,
    ) -> Result<impl Iterator<Item = Result<Batch, Error>>, Error> {
        let mut views = self.as_trained(self.recipe.train.epochs, usize::MAX);
        views.shuffle = Some(seed);
        // Else there would be none.
        views.drop_last = views.split.len() >= views.batch_size;
        let loader = self.loader(&views)?;
        let epochs = (views.epoch..).map(move |epoch| loader.epoch(epoch, 0));
        Ok(epochs.flatten().map(|batch| Ok(self.batch(batch?))))
    }

    fn loader(&self, views: &Views<'_>) -> Result<Loader, Error> {
        let examples = examples::prepare(
            views.split,
            &self.data.kind,
            views.preparation,
            views.operations.to_vec(),
            self.recipe.seed,
            views.purpose,
        )?;
        let options = LoaderOptions {
            batch_size: views.batch_size,
            workers: self.workers,
            prefetch: 2 * self.workers,
            shuffle: views.shuffle,
            drop_last: views.drop_last,
        };
        Ok(Loader::new(examples, options)?)
    }

    fn batch(&self, batch: evenkeel_augment::Batch) -> Batch {
        let features: usize = self.data.kind.shape().iter().product();
        let x = TensorData::new(batch.features, [batch.labels.len(), features]);
        Batch {
            x: Tensor::from_data(x, &self.device),
            labels: batch.labels,
            samples: batch.samples,
        }
    }

    /// About `count` examples of a split as the net sees them at test: which ones is a function of the
    /// run's seed.
    pub(crate) fn clean<'a>(&'a self, split: &'a Split, count: usize) -> Views<'a> {
        let batch_size = batch_size(split.len());
        Views {
            split,
            preparation: &self.run.preparation,
            operations: &[],
            purpose: Use::Test,
            epoch: 0,
            batch_size,
            shuffle: Some(self.recipe.seed),
            drop_last: false,
            most: count.div_ceil(batch_size).max(1),
        }
    }

    /// The batches that training sees in an epoch, at most so many.
    pub(crate) fn as_trained(&self, epoch: u64, most: usize) -> Views<'_> {
        Views {
            split: &self.data.train,
            preparation: &self.run.preparation,
            operations: &self.operations,
            purpose: Use::Train {
                exact: self.recipe.augment.exact,
            },
            epoch,
            batch_size: self.recipe.train.batch_size,
            shuffle: Some(self.recipe.seed),
            drop_last: true,
            most,
        }
    }

    /// The recorded number of steps.
    pub(crate) fn steps(&self) -> u64 {
        self.run.results.as_ref().map_or(0, |results| results.steps)
    }

    /// A pass as in training after its end: what it draws was never drawn before, and nothing is changed.
    pub(crate) fn fresh_pass(&self, index: u64) -> Pass {
        Pass::train(self.recipe.seed, self.steps() + 1 + index).keep_statistics()
    }

    pub(crate) fn score(&self, batches: &[Batch], pass: impl Fn(u64) -> Pass) -> Scores {
        scores(&self.model, batches, pass)
    }
}
