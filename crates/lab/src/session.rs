//! What a recipe needs to be trained: data as batches, and a net at its start.

use std::time::Instant;

use evenkeel_augment::{Loader, LoaderOptions, Operation};
use evenkeel_nn::initialize;
use evenkeel_record::{Preparation, Run};

use crate::checkpoint::{Progress, Training};
use crate::data::{Dataset, Split, preparation};
use crate::evaluate::Evaluator;
use crate::examples::Use;
use crate::fit::FitOptions;
use crate::optimizer::Optimizer;
use crate::recipe::Recipe;
use crate::scale_weights::scale_weights;
use crate::weight_average::{Rule, WeightAverage};
use crate::{Error, examples, figures};

pub(crate) struct Session<'a> {
    pub recipe: &'a Recipe,
    pub options: &'a FitOptions<'a>,
    pub data: Dataset,
    /// The recipe's, with numbers for the names of classes.
    pub operations: Vec<Operation>,
    pub preparation: Preparation,
    pub loader: Loader,
    pub started: Instant,
}

impl<'a> Session<'a> {
    pub fn open(recipe: &'a Recipe, options: &'a FitOptions<'a>) -> Result<Self, Error> {
        let started = Instant::now();
        Self::with(recipe, options, recipe.open_data()?, started)
    }

    /// Of data that are read already.
    pub fn with(
        recipe: &'a Recipe,
        options: &'a FitOptions<'a>,
        data: Dataset,
        started: Instant,
    ) -> Result<Self, Error> {
        let batch_size = recipe.train.batch_size;
        let check = recipe.model.check_statistics(&data.kind, batch_size);
        check.map_err(Error::Unfit)?;
        let preparation = preparation(&data);
        let classes = &data.classes;
        let operations = recipe.operations(classes)?;
        let examples = examples::prepare(
            &data.train,
            &data.kind,
            &preparation,
            operations.clone(),
            recipe.seed,
            Use::Train {
                exact: recipe.augment.exact,
            },
        )?;
        let mut loader = Loader::new(
            examples,
            LoaderOptions {
                batch_size,
                workers: options.workers,
                prefetch: 2 * options.workers,
                shuffle: Some(recipe.seed),
                drop_last: true,
            },
        )?;
        if let Some(mixing) = &recipe.augment.mix {
            loader = loader
                .mixed(mixing.clone(), classes.len(), recipe.seed)
                .map_err(|error| Error::Unfit(format!("augment.{error}")))?;
        }
        if loader.batches() == 0 {
            return Err(Error::Unfit(format!(
                "train.batch_size is {batch_size}, but there are only {} training examples; use a \
                 smaller one",
                data.train.len()
            )));
        }
        Ok(Self {
            recipe,
            options,
            data,
            operations,
            preparation,
            loader,
            started,
        })
    }

    /// Steps an epoch.
    pub fn epoch_steps(&self) -> u64 {
        self.loader.batches() as u64
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.recipe.train.epochs * self.epoch_steps()
    }

    /// Of the step after `step` completed ones.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.recipe.optimizer.learning_rate() * self.recipe.schedule.factor(step, self.steps())
    }

    /// A training before its first step.
    pub fn fresh(&self) -> Result<Training, Error> {
        let device = self.options.device.clone().autodiff();
        let classes = self.data.classes.len();
        let model = self.recipe.model.build(&self.data.kind, classes, &device);
        let mut model = initialize(model.map_err(Error::Unfit)?, self.recipe.seed);
        if self.recipe.train.start_scale != 1.0 {
            model = scale_weights(model, self.recipe.train.start_scale);
        }
        let average = self
            .weight_average()
            .map(|rule| WeightAverage::new(&model, rule));
        let optimizer = Optimizer::new(self.recipe);
        Ok(Training {
            model,
            optimizer,
            average,
            progress: Progress::default(),
        })
    }

    /// Which weights are averaged, if any are.
    fn weight_average(&self) -> Option<Rule> {
        let train = &self.recipe.train;
        let (keep, after) = (train.weight_average, train.swa_after);
        if keep > 0.0 {
            return Some(Rule::Exponential { keep });
        }
        (after > 0.0).then(|| Rule::Stochastic {
            from: (after * train.epochs as f64).ceil().max(1.0) as u64,
            epoch_steps: self.epoch_steps(),
        })
    }

    /// The run as recorded before the first step.
    pub fn record(&self, training: &Training) -> Run {
        figures::run(
            self.recipe,
            &self.data,
            &self.preparation,
            &training.model,
            training.optimizer.decay(),
            self.options,
        )
    }

    pub fn evaluator(&self, split: &Split) -> Result<Evaluator, Error> {
        Evaluator::new(
            split,
            &self.data.kind,
            self.data.classes.len(),
            &self.preparation,
            self.options.workers,
            &self.options.device,
        )
    }
}
