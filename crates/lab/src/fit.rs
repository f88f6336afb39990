//! The training loop: flat, seeded, resumable to the same bits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use evenkeel_augment::{Batch, Loader, LoaderOptions};
use evenkeel_nn::{Pass, cross_entropy, initialize};
use evenkeel_record::{
    Line, MetricsLog, Preparation, Results, Run, RunFolder, Status, peak_memory, write_atomic,
};

use crate::checkpoint::{Checkpoints, Progress, Sums, Training};
use crate::data::{Dataset, Source};
use crate::evaluate::{Evaluator, Measured, Views};
use crate::examples;
use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::recipe::Recipe;
use crate::weight_average::WeightAverage;
use crate::{Error, figures, weights};

/// How to run a training, as opposed to what to train: none of it changes the result's bits.
#[derive(Clone, Debug)]
pub struct FitOptions<'a> {
    /// Loader threads; 0 prepares batches on the training thread.
    pub workers: usize,
    /// Threads of the computation, for the record.
    pub threads: usize,
    /// Where to train.
    pub device: Device,
    /// Its name, for the record.
    pub device_name: &'a str,
    /// Set it (from a signal handler, say) to stop after the current step, with a checkpoint.
    pub stop: &'a AtomicBool,
}

/// What happens during a training, for whoever shows it.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The data are read and the net is built.
    Ready {
        /// The run as it will be recorded.
        run: &'a Run,
        /// Completed steps: above 0 after a resume.
        step: u64,
        /// Steps in all.
        steps: u64,
    },
    /// A step is done.
    Step {
        /// Completed steps.
        step: u64,
        /// The mean loss of the epoch so far.
        loss: f64,
        /// The accuracy of the epoch so far, on augmented images under noise.
        accuracy: f64,
        /// Training examples a second in this epoch.
        images_per_s: f64,
    },
    /// An epoch is done and evaluated.
    Epoch {
        /// Its line in the metrics.
        line: &'a Line,
        /// Epochs in all.
        epochs: u64,
    },
}

/// How a training ended, if not with an error.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All steps are done; the run with its results.
    Finished(Box<Run>),
    /// The run was finished before; nothing was done.
    AlreadyFinished(Box<Run>),
    /// Stopped as asked, after this many steps; `resume` goes on.
    Interrupted {
        /// Completed steps.
        step: u64,
        /// Steps in all.
        steps: u64,
    },
}

/// Trains `recipe` into a new folder.
pub fn fit(
    recipe: &Recipe,
    folder: &RunFolder,
    options: &FitOptions<'_>,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, Error> {
    recipe.validate()?;
    let session = Session::open(recipe, options)?;
    let run = session.record(folder)?;
    session.train(folder, run, on_event)
}

/// Goes on with an interrupted (or killed) run from its last checkpoint, to bitwise the same
/// weights as if it had never stopped; from the start if there is no checkpoint yet.
pub fn resume(
    folder: &RunFolder,
    options: &FitOptions<'_>,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, Error> {
    let run = folder.read_run()?;
    if run.status == Status::Finished {
        return Ok(Outcome::AlreadyFinished(Box::new(run)));
    }
    let recipe = recipe_of(&run, folder)?;
    Session::open(&recipe, options)?.train(folder, run, on_event)
}

/// The recipe that a run's folder records.
pub fn recipe_of(run: &Run, folder: &RunFolder) -> Result<Recipe, Error> {
    let place = folder.run_json().display().to_string();
    Ok(Recipe::parse(&run.recipe, &place, &[])?)
}

/// The device that has a recipe's net, trained or about to be.
pub(crate) struct Session<'a> {
    recipe: &'a Recipe,
    options: &'a FitOptions<'a>,
    data: Dataset,
    preparation: Preparation,
    loader: Loader,
}

impl<'a> Session<'a> {
    fn open(recipe: &'a Recipe, options: &'a FitOptions<'a>) -> Result<Self, Error> {
        let source: Source = recipe.data.source.parse()?;
        let mut data = Dataset::open(&source)?;
        if recipe.data.validation > 0.0 {
            data = data.hold_out(recipe.data.validation, recipe.seed)?;
        }
        let preparation = examples::preparation(&data);
        let operations = recipe.augment.operations.clone();
        let examples = examples::prepare(
            &data.train,
            &data.kind,
            &preparation,
            operations,
            recipe.seed,
        )?;
        let loader = Loader::new(
            examples,
            LoaderOptions {
                batch_size: recipe.train.batch_size,
                workers: options.workers,
                prefetch: 2 * options.workers,
                shuffle: Some(recipe.seed),
                drop_last: true,
            },
        )?;
        if loader.batches() == 0 {
            return Err(Error::Unfit(format!(
                "train.batch_size is {}, but there are only {} training examples; use a smaller one",
                recipe.train.batch_size,
                data.train.len()
            )));
        }
        Ok(Self {
            recipe,
            options,
            data,
            preparation,
            loader,
        })
    }

    fn steps(&self) -> u64 {
        self.recipe.train.epochs * self.loader.batches() as u64
    }

    fn fresh(&self) -> Result<Training, Error> {
        let device = self.options.device.clone().autodiff();
        let classes = self.data.classes.len();
        let model = self.recipe.model.build(&self.data.kind, classes, &device);
        let model = initialize(model.map_err(Error::Unfit)?, self.recipe.seed);
        let keep = self.recipe.train.weight_average;
        let average = (keep > 0.0).then(|| WeightAverage::new(&model, keep));
        let optimizer = Optimizer::new(self.recipe);
        Ok(Training {
            model,
            optimizer,
            average,
            progress: Progress::default(),
        })
    }

    /// The run as recorded before the first step.
    fn record(&self, folder: &RunFolder) -> Result<Run, Error> {
        let training = self.fresh()?;
        let run = figures::run(
            self.recipe,
            &self.data,
            &self.preparation,
            &training.model,
            training.optimizer.decay(),
            self.options,
        );
        folder.create()?;
        folder.write_run(&run)?;
        Ok(run)
    }

    fn evaluator(&self, split: &crate::data::Split) -> Result<Evaluator, Error> {
        Evaluator::new(
            split,
            &self.data.kind,
            self.data.classes.len(),
            &self.preparation,
            Views::None,
            self.options.workers,
            &self.options.device,
        )
    }

    fn train(
        &self,
        folder: &RunFolder,
        mut run: Run,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Outcome, Error> {
        let checkpoints = Checkpoints::new(folder.checkpoint());
        let mut training = checkpoints.load(self.fresh()?)?;
        let mut metrics = MetricsLog::resume(&folder.metrics(), training.progress.step)?;
        run.status = Status::Running;
        run.failure = None;
        folder.write_run(&run)?;
        let steps = self.steps();
        on_event(Event::Ready {
            run: &run,
            step: training.progress.step,
            steps,
        });

        let result = self.steps_from(&mut training, &checkpoints, &mut metrics, folder, on_event);
        let stopped = match result {
            Ok(stopped) => stopped,
            Err(error) => {
                run.status = Status::Failed;
                run.failure = Some(error.to_string());
                folder.write_run(&run)?;
                return Err(error);
            }
        };
        if stopped {
            run.status = Status::Interrupted;
            folder.write_run(&run)?;
            return Ok(Outcome::Interrupted {
                step: training.progress.step,
                steps,
            });
        }
        self.finish(folder, &mut run, &training)?;
        Ok(Outcome::Finished(Box::new(run)))
    }

    /// Trains from where `training` stands; true if it was asked to stop before the end.
    fn steps_from(
        &self,
        training: &mut Training,
        checkpoints: &Checkpoints,
        metrics: &mut MetricsLog,
        folder: &RunFolder,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<bool, Error> {
        let epoch_steps = self.loader.batches() as u64;
        let test = self.evaluator(&self.data.test)?;
        let train = self.evaluator(&self.data.train)?;
        let every = self.recipe.train.checkpoint_every;
        for epoch in training.progress.step / epoch_steps..self.recipe.train.epochs {
            let start = training.progress.step - epoch * epoch_steps;
            for batch in self.loader.epoch(epoch, start as usize) {
                let started = Instant::now();
                let line = self.step(training, batch?)?;
                let seconds = started.elapsed().as_secs_f64();
                let progress = &mut training.progress;
                progress.seconds += seconds;
                progress.sums.seconds += seconds;
                metrics.append(&line)?;
                let Sums {
                    loss,
                    correct,
                    examples,
                    seconds,
                } = progress.sums;
                on_event(Event::Step {
                    step: progress.step,
                    loss: loss / examples as f64,
                    accuracy: correct as f64 / examples as f64,
                    images_per_s: examples as f64 / seconds,
                });
                let within_epoch = !progress.step.is_multiple_of(epoch_steps);
                let stop = self.options.stop.load(Ordering::Relaxed);
                if within_epoch && (stop || every > 0 && progress.step.is_multiple_of(every)) {
                    checkpoints.save(training)?;
                }
                if within_epoch && stop {
                    return Ok(true);
                }
            }
            let line = self.end_epoch(training, epoch + 1, &test, &train, folder)?;
            metrics.append(&line)?;
            checkpoints.save(training)?;
            on_event(Event::Epoch {
                line: &line,
                epochs: self.recipe.train.epochs,
            });
            if self.options.stop.load(Ordering::Relaxed) && epoch + 1 < self.recipe.train.epochs {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn step(&self, training: &mut Training, batch: Batch) -> Result<Line, Error> {
        let device = self.options.device.clone().autodiff();
        let step = training.progress.step;
        let steps = self.steps();
        let learning_rate =
            self.recipe.optimizer.learning_rate() * self.recipe.schedule.factor(step, steps);
        let examples = batch.labels.len();
        let features = batch.features.len() / examples;
        let x = TensorData::new(batch.features, [examples, features]);
        let labels: Vec<i64> = batch.labels.iter().map(|&label| i64::from(label)).collect();
        let targets = TensorData::new(labels, [examples]);
        let targets = Tensor::<1, Int>::from_data(targets, &device);

        let pass = Pass::train(self.recipe.seed, step);
        let logits = training.model.forward(Tensor::from_data(x, &device), &pass);
        let predicted = logits.clone().without_autodiff().argmax(1).into_data();
        let loss = cross_entropy(logits, targets, self.recipe.train.label_smoothing);
        let value = loss.clone().into_scalar::<f64>();
        if !value.is_finite() {
            return Err(Error::Diverged {
                step: step + 1,
                steps,
                loss: value,
                learning_rate,
            });
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &training.model);
        let model = training.model.clone();
        let done = training.optimizer.step(model, gradients, learning_rate);
        training.model = done.model;
        if let Some(average) = &mut training.average {
            average.update(&training.model, step);
        }

        let correct = predicted.iter::<i64>().zip(&batch.labels);
        let correct = correct
            .filter(|(predicted, label)| *predicted == i64::from(**label))
            .count();
        let progress = &mut training.progress;
        progress.step += 1;
        progress.sums.loss += value * examples as f64;
        progress.sums.correct += correct as u64;
        progress.sums.examples += examples as u64;
        Ok(Line::Step {
            epoch: step / self.loader.batches() as u64 + 1,
            step: progress.step,
            loss: value,
            learning_rate,
            gradient_norm: done.gradient_norm,
        })
    }

    /// Evaluates, keeps the best model, and starts the next epoch's sums.
    fn end_epoch(
        &self,
        training: &mut Training,
        epoch: u64,
        test: &Evaluator,
        train: &Evaluator,
        folder: &RunFolder,
    ) -> Result<Line, Error> {
        let started = Instant::now();
        let model = evaluated(training, train)?;
        let measured = test.measure(&model)?;
        if training
            .progress
            .best
            .is_none_or(|(_, accuracy)| measured.accuracy > accuracy)
        {
            training.progress.best = Some((epoch, measured.accuracy));
            save_weights(&model, &folder.best_model())?;
        }
        training.progress.evaluation_seconds += started.elapsed().as_secs_f64();
        let sums = std::mem::take(&mut training.progress.sums);
        let steps = self.steps();
        let step = training.progress.step;
        Ok(Line::Epoch {
            epoch,
            step,
            train_loss: sums.loss / sums.examples as f64,
            train_accuracy: sums.correct as f64 / sums.examples as f64,
            test_loss: measured.loss,
            test_accuracy: measured.accuracy,
            learning_rate: self.recipe.optimizer.learning_rate()
                * self.recipe.schedule.factor(step - 1, steps),
            seconds: sums.seconds,
            images_per_s: sums.examples as f64 / sums.seconds,
        })
    }

    /// Writes the model, the final measurements and what the report shows.
    fn finish(&self, folder: &RunFolder, run: &mut Run, training: &Training) -> Result<(), Error> {
        let train = self.evaluator(&self.data.train)?;
        let model = evaluated(training, &train)?;
        save_weights(&model, &folder.model())?;
        let on_train = train.measure(&model)?;
        let on_test = self.evaluator(&self.data.test)?.measure(&model)?;
        folder.write_evaluation(&figures::evaluation(
            &self.data,
            &on_test,
            &self.recipe.augment.operations,
            self.recipe.seed,
        )?)?;
        run.results = Some(results(training, self.recipe, &on_train, &on_test));
        run.status = Status::Finished;
        folder.write_run(run)?;
        Ok(())
    }
}

/// The model that is evaluated and saved: the average of the weights where there is one, with
/// statistics recomputed over the clean training data; on a plain device.
fn evaluated(training: &Training, train: &Evaluator) -> Result<Model, Error> {
    let Some(average) = &training.average else {
        return Ok(training.model.valid());
    };
    let model = average.model.clone();
    let pass = Pass::recalibrate();
    train.batches(|x| {
        model.forward(x, &pass);
    })?;
    Ok(model)
}

fn save_weights(model: &Model, path: &std::path::Path) -> Result<(), Error> {
    let bytes = weights::to_safetensors(model).map_err(|problem| Error::Weights {
        path: path.to_owned(),
        problem,
    })?;
    Ok(write_atomic(path, &bytes)?)
}

fn results(training: &Training, recipe: &Recipe, train: &Measured, test: &Measured) -> Results {
    let Progress {
        step,
        best,
        seconds,
        evaluation_seconds,
        ..
    } = training.progress;
    let (best_epoch, best_test_accuracy) = best.unwrap_or((recipe.train.epochs, test.accuracy));
    let images = step as f64 * recipe.train.batch_size as f64;
    Results {
        train_loss: train.loss,
        train_accuracy: train.accuracy,
        test_loss: test.loss,
        test_accuracy: test.accuracy,
        best_epoch,
        best_test_accuracy,
        epochs: recipe.train.epochs,
        steps: step,
        seconds: seconds + evaluation_seconds,
        images_per_s: images / seconds,
        peak_memory_bytes: peak_memory(),
    }
}
