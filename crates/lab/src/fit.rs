//! Training a recipe into a run's folder: seeded, resumable to the same bits.

use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use evenkeel_record::{Line, Run, RunFolder, Status};

use crate::Error;
use crate::checkpoint::Checkpoints;
use crate::data::Source;
use crate::provenance;
use crate::recipe::Recipe;
use crate::session::Session;
use crate::sitting::Sitting;

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
        /// The mean cross-entropy of the epoch so far, without label smoothing.
        loss: f64,
        /// The accuracy of the epoch so far, on augmented images under noise.
        accuracy: f64,
        /// Training examples a second in this epoch, waiting for batches included.
        images_per_s: f64,
        /// Its line in the metrics.
        line: &'a Line,
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

/// Trains `recipe` into a new folder. The folder is locked meanwhile: no other process can train
/// the same run.
///
/// # Errors
/// If the recipe, its data or the folder are not fit for it, or the training diverges.
pub fn fit(
    recipe: &Recipe,
    folder: &RunFolder,
    options: &FitOptions<'_>,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, Error> {
    recipe.validate()?;
    // Reading the data can take long.
    folder.expect_no_run()?;
    let recipe = as_recorded(recipe)?;
    let session = Session::open(&recipe, options)?;
    let training = session.fresh()?;
    let run = session.record(&training);
    let _lock = folder.create()?;
    // Before anything else, so that a kill leaves a run to resume, or nothing in the way.
    folder.write_run(&run)?;
    Sitting::new(&session, folder, training)?.train(run, on_event)
}

/// Goes on with an interrupted (or killed) run from its last checkpoint, to bitwise the same
/// weights as if it had never stopped; from the start if there is no checkpoint yet.
///
/// # Errors
/// If another process is training the run, the data are no longer those that it began with, or
/// anything of the folder cannot be read.
pub fn resume(
    folder: &RunFolder,
    options: &FitOptions<'_>,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, Error> {
    let run = folder.read_run()?;
    if run.status == Status::Finished {
        return Ok(Outcome::AlreadyFinished(Box::new(run)));
    }
    let _lock = folder.lock()?;
    // Whoever had the lock may have gone on to the end.
    let run = folder.read_run()?;
    if run.status == Status::Finished {
        return Ok(Outcome::AlreadyFinished(Box::new(run)));
    }
    let recipe = recipe_of(&run, folder)?;
    let session = Session::open(&recipe, options)?;
    provenance::expect_same(&run, &session.data, &session.preparation)?;
    let training = Checkpoints::new(folder.checkpoint()).load(session.fresh()?)?;
    Sitting::new(&session, folder, training)?.train(run, on_event)
}

/// The recipe as its run records it: its data's path holds wherever `resume` and `eval` are called from.
pub(crate) fn as_recorded(recipe: &Recipe) -> Result<Recipe, Error> {
    let mut recipe = recipe.clone();
    let source: Source = recipe.data.source.parse()?;
    recipe.data.source = source.absolute().to_string();
    Ok(recipe)
}

/// The recipe that a run's folder records.
pub fn recipe_of(run: &Run, folder: &RunFolder) -> Result<Recipe, Error> {
    let place = folder.run_json().display().to_string();
    Ok(Recipe::parse(&run.recipe, &place, &[])?)
}
