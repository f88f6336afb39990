//! The training loop: flat, from wherever a training stands to its end or to a stop.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use evenkeel_augment::Batch;
use evenkeel_record::{
    Line, MetricsLog, Results, Run, RunFolder, Status, peak_memory, write_atomic,
};

use crate::checkpoint::{Checkpoints, Sums, Training};
use crate::evaluate::{Evaluator, Measured};
use crate::fit::{Event, Outcome};
use crate::model::Model;
use crate::session::Session;
use crate::step::step;
use crate::{Error, figures, weights};

/// One process's work on a run.
pub(crate) struct Sitting<'a> {
    session: &'a Session<'a>,
    folder: &'a RunFolder,
    checkpoints: Checkpoints,
    metrics: MetricsLog,
    training: Training,
    train: Evaluator,
    test: Evaluator,
    /// Seconds of the sittings before.
    before: f64,
}

impl<'a> Sitting<'a> {
    /// Goes on from where `training` stands.
    pub fn new(
        session: &'a Session<'a>,
        folder: &'a RunFolder,
        training: Training,
    ) -> Result<Self, Error> {
        Ok(Self {
            session,
            folder,
            checkpoints: Checkpoints::new(folder.checkpoint()),
            metrics: MetricsLog::resume(&folder.metrics(), training.progress.step)?,
            train: session.evaluator(&session.data.train)?,
            test: session.evaluator(&session.data.test)?,
            before: training.progress.seconds,
            training,
        })
    }

    /// Trains and keeps `run.json` at what is so.
    pub fn train(
        mut self,
        mut run: Run,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Outcome, Error> {
        run.status = Status::Running;
        run.failure = None;
        self.folder.write_run(&run)?;
        on_event(Event::Ready {
            run: &run,
            step: self.training.progress.step,
            steps: self.session.steps(),
        });
        let outcome = self.work(&mut run, on_event);
        if let Err(error) = &outcome {
            run.status = Status::Failed;
            run.failure = Some(error.to_string());
            // Where this fails too (a full disk), the first error is the one to tell.
            let _ = self.folder.write_run(&run);
        }
        outcome
    }

    fn work(
        &mut self,
        run: &mut Run,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Outcome, Error> {
        if self.all_steps(on_event)? {
            self.finish(run)?;
            return Ok(Outcome::Finished(Box::new(run.clone())));
        }
        run.status = Status::Interrupted;
        self.folder.write_run(run)?;
        Ok(Outcome::Interrupted {
            step: self.training.progress.step,
            steps: self.session.steps(),
        })
    }

    /// False if it was asked to stop before the end.
    fn all_steps(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<bool, Error> {
        let session = self.session;
        let epochs = session.recipe.train.epochs;
        let every = session.recipe.train.checkpoint_every;
        let epoch_steps = session.epoch_steps();
        for epoch in self.training.progress.step / epoch_steps..epochs {
            let start = self.training.progress.step - epoch * epoch_steps;
            // From the end of a step to the end of the next, so that waiting for a batch counts.
            let mut ended = Instant::now();
            for batch in session.loader.epoch(epoch, start as usize) {
                let line = self.step(batch?)?;
                let seconds = ended.elapsed().as_secs_f64();
                ended = Instant::now();
                let progress = &mut self.training.progress;
                progress.step_seconds += seconds;
                progress.sums.seconds += seconds;
                self.metrics.append(&line)?;
                let Sums {
                    loss,
                    correct,
                    examples,
                    seconds,
                } = progress.sums;
                let step = progress.step;
                on_event(Event::Step {
                    step,
                    loss: loss / examples as f64,
                    accuracy: correct as f64 / examples as f64,
                    images_per_s: examples as f64 / seconds,
                    line: &line,
                });
                let within_epoch = !step.is_multiple_of(epoch_steps);
                let stop = session.options.stop.load(Ordering::Relaxed);
                if within_epoch && (stop || every > 0 && step.is_multiple_of(every)) {
                    self.checkpoint()?;
                    ended = Instant::now();
                }
                if within_epoch && stop {
                    return Ok(false);
                }
            }
            let line = self.end_epoch(epoch + 1)?;
            self.metrics.append(&line)?;
            self.checkpoint()?;
            on_event(Event::Epoch {
                line: &line,
                epochs,
            });
            if session.options.stop.load(Ordering::Relaxed) && epoch + 1 < epochs {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn step(&mut self, batch: Batch) -> Result<Line, Error> {
        let session = self.session;
        let examples = batch.labels.len();
        let before = self.training.progress.step;
        let done = match step(session, &mut self.training, batch) {
            Ok(done) => done,
            Err(loss) => {
                // It is the loss of the weights before this step.
                self.checkpoints.remove(before)?;
                return Err(self.diverged(before + 1, format!("the loss is {loss}")));
            }
        };
        let progress = &mut self.training.progress;
        progress.sums.loss += done.loss * examples as f64;
        progress.sums.correct += done.correct;
        progress.sums.examples += examples as u64;
        Ok(Line::Step {
            epoch: before / session.epoch_steps() + 1,
            step: progress.step,
            loss: done.loss,
            learning_rate: progress.learning_rate,
            gradient_norm: done.gradient_norm,
        })
    }

    /// Evaluates, keeps the best model, and starts the next epoch's sums.
    fn end_epoch(&mut self, epoch: u64) -> Result<Line, Error> {
        let model = self.training.evaluated(&self.train)?;
        let measured = self.measure(&self.test, "test", &model)?;
        let best = self.training.progress.best;
        if best.is_none_or(|(_, accuracy)| measured.accuracy > accuracy) {
            self.training.progress.best = Some((epoch, measured.accuracy));
            save_weights(&model, &self.folder.best_model())?;
        }
        let progress = &mut self.training.progress;
        let sums = std::mem::take(&mut progress.sums);
        Ok(Line::Epoch {
            epoch,
            step: progress.step,
            train_loss: sums.loss / sums.examples as f64,
            train_accuracy: sums.correct as f64 / sums.examples as f64,
            test_loss: measured.loss,
            test_accuracy: measured.accuracy,
            learning_rate: progress.learning_rate,
            seconds: sums.seconds,
            images_per_s: sums.examples as f64 / sums.seconds,
        })
    }

    /// Writes the model, the final measurements and what the report shows.
    fn finish(&self, run: &mut Run) -> Result<(), Error> {
        let model = self.training.evaluated(&self.train)?;
        let on_train = self.measure(&self.train, "train", &model)?;
        let on_test = self.measure(&self.test, "test", &model)?;
        save_weights(&model, &self.folder.model())?;
        self.folder.write_evaluation(&figures::evaluation(
            &self.session.data,
            &on_test,
            &self.session.operations,
            self.session.recipe.seed,
        )?)?;
        run.results = Some(self.results(&on_train, &on_test));
        run.status = Status::Finished;
        self.folder.write_run(run)?;
        Ok(())
    }

    /// Measures what the last update left; a ruined model is an error, not a result.
    fn measure(&self, on: &Evaluator, name: &str, model: &Model) -> Result<Measured, Error> {
        let step = self.training.progress.step;
        let record = weights::to_record(model).map_err(|problem| self.unwritable(problem))?;
        if let Some(name) = weights::not_finite(&record).map_err(|e| self.unwritable(e))? {
            return Err(self.diverged(step, weights::ruined(&name)));
        }
        let measured = on.measure(model)?;
        if !measured.loss.is_finite() {
            let what = format!("the {name} loss is {}", measured.loss);
            return Err(self.diverged(step, what));
        }
        Ok(measured)
    }

    fn checkpoint(&mut self) -> Result<(), Error> {
        self.training.progress.seconds = self.seconds();
        match self.checkpoints.save(&self.training)? {
            None => Ok(()),
            Some(ruined) => Err(self.diverged(self.training.progress.step, ruined)),
        }
    }

    /// By the clock, over all sittings.
    fn seconds(&self) -> f64 {
        self.before + self.session.started.elapsed().as_secs_f64()
    }

    fn diverged(&self, step: u64, what: String) -> Error {
        Error::Diverged {
            step,
            steps: self.session.steps(),
            what,
            learning_rate: self.training.progress.learning_rate,
            kept: self.checkpoints.last(),
        }
    }

    fn unwritable(&self, problem: String) -> Error {
        Error::Weights {
            path: self.folder.model(),
            problem,
        }
    }

    fn results(&self, train: &Measured, test: &Measured) -> Results {
        let recipe = self.session.recipe;
        let progress = &self.training.progress;
        let epochs = recipe.train.epochs;
        let (best_epoch, best_test_accuracy) = progress.best.unwrap_or((epochs, test.accuracy));
        let images = progress.step as f64 * recipe.train.batch_size as f64;
        Results {
            train_loss: train.loss,
            train_accuracy: train.accuracy,
            test_loss: test.loss,
            test_accuracy: test.accuracy,
            best_epoch,
            best_test_accuracy,
            epochs,
            steps: progress.step,
            seconds: self.seconds(),
            images_per_s: images / progress.step_seconds,
            peak_memory_bytes: peak_memory(),
        }
    }
}

fn save_weights(model: &Model, path: &Path) -> Result<(), Error> {
    let bytes = weights::to_safetensors(model).map_err(|problem| Error::Weights {
        path: path.to_owned(),
        problem,
    })?;
    Ok(write_atomic(path, &bytes)?)
}

#[cfg(test)]
mod tests;
