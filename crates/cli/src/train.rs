//! `evenkeel train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evenkeel_lab::recipes::{self, BUILT_IN, built_in};
use evenkeel_lab::{FitOptions, Outcome, Recipe, fit, read_pipeline, resume};
use evenkeel_record::{EventFile, Run, RunFolder};
use serde_json::json;

use crate::args::TrainArgs;
use crate::device::{device, threads};
use crate::exit::{DONE, Failure, interrupted};
use crate::progress::Progress;
use crate::say::{say, tell};

pub fn run(args: &TrainArgs) -> Result<ExitCode, Failure> {
    let (device, device_name) = device(args.machine.device)?;
    let threads = threads(&args.machine)?;
    let stop = stop_on_signals()?;
    if args.stop_with_input {
        stop_with_input(&stop);
    }
    let options = FitOptions {
        workers: args.machine.workers.into(),
        threads,
        device,
        device_name,
        stop: &stop,
    };
    let (folder, recipe) = match &args.resume {
        Some(path) => (RunFolder::new(path), None),
        None => {
            let recipe = recipe(args)?;
            let folder = RunFolder::new(args.out.clone().unwrap_or_else(|| folder_of_now("runs")));
            (folder, Some(recipe))
        }
    };
    let mut progress = Progress::new();
    let mut events = args.tensorboard.then(|| Events::new(&folder));
    let mut show = |event: evenkeel_lab::Event<'_>| {
        if let Some(events) = &mut events {
            events.write(&event);
        }
        progress.show(event);
    };
    let outcome = match &recipe {
        Some(recipe) => fit(recipe, &folder, &options, &mut show),
        None => resume(&folder, &options, &mut show),
    };
    progress.finish();
    match outcome {
        Ok(Outcome::Finished(run)) => {
            let report = evenkeel_report::write(&folder)?;
            if args.json {
                print_json(&folder, &run)?;
            } else {
                print_summary(&folder, &run, &report)?;
            }
            Ok(DONE)
        }
        Ok(Outcome::AlreadyFinished(run)) => {
            tell(&format!(
                "{}: this run is finished; there is nothing to resume",
                folder.path().display()
            ));
            // A kill just after the training's end leaves a run without its report.
            if !folder.report().exists() {
                let report = evenkeel_report::write(&folder)?;
                tell(&format!(
                    "its report was missing and is written now: {}",
                    report.display()
                ));
            }
            if args.json {
                print_json(&folder, &run)?;
            }
            Ok(DONE)
        }
        Ok(Outcome::Interrupted { step, steps }) => {
            evenkeel_report::write(&folder)?;
            tell(&format!(
                "interrupted after step {step} of {steps}; go on with\n  evenkeel train --resume {}",
                folder.path().display()
            ));
            Ok(interrupted())
        }
        Err(error) => {
            // A failed run has a report too, where it got far enough to have a record.
            if folder.run_json().exists() && matches!(error, evenkeel_lab::Error::Diverged { .. }) {
                evenkeel_report::write(&folder)?;
            }
            Err(failure(args, error))
        }
    }
}

/// A recipe's data are not where it says on most machines.
fn failure(args: &TrainArgs, error: evenkeel_lab::Error) -> Failure {
    if let evenkeel_lab::Error::Data(error) = &error
        && args.data.is_none()
        && args.resume.is_none()
    {
        return Failure::run(format!(
            "{error}\nthe recipe names these data; name yours by --data (see `evenkeel data list`)"
        ));
    }
    error.into()
}

/// TensorBoard's event files of a training.
struct Events {
    folder: PathBuf,
    file: Option<EventFile>,
}

impl Events {
    fn new(folder: &RunFolder) -> Self {
        Self {
            folder: folder.tensorboard(),
            file: None,
        }
    }

    /// The training is worth more than its event file: where that cannot be written, it is given up with a note.
    fn write(&mut self, event: &evenkeel_lab::Event<'_>) {
        use evenkeel_lab::Event;
        let written = match event {
            Event::Ready { step, .. } => EventFile::create(&self.folder, *step).map(|file| {
                self.file = Some(file);
            }),
            Event::Step { line, .. } | Event::Epoch { line, .. } => match &mut self.file {
                Some(file) => file.append(line),
                None => Ok(()),
            },
        };
        if let Err(error) = written {
            self.file = None;
            tell(&format!("note: no more TensorBoard events: {error}"));
        }
    }
}

/// Sets the flag when the standard input ends.
fn stop_with_input(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        // An input that cannot be read is no reason to go on without whoever was to stop this.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        stop.store(true, Ordering::Relaxed);
    });
}

/// A flag that the first SIGINT or SIGTERM sets; the second ends the program at once.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Failure::run(format!("signals cannot be handled: {error}")))?;
    }
    Ok(stop)
}

/// The recipe named on the command line, or the default, with the flags applied as settings.
fn recipe(args: &TrainArgs) -> Result<Recipe, Failure> {
    let (text, place) = recipe_text(args.recipe.as_deref().unwrap_or(BUILT_IN[0].name))?;
    let mut settings = args.settings.clone();
    if let Some(source) = &args.data {
        settings.push(format!("data.source={source}"));
    }
    if let Some(epochs) = args.epochs {
        settings.push(format!("train.epochs={epochs}"));
    }
    if let Some(seed) = args.seed {
        settings.push(format!("seed={seed}"));
    }
    let mut recipe = Recipe::parse(&text, &place, &settings)?;
    if let Some(name) = &args.pipeline {
        let pipeline = read_pipeline(name)?;
        recipe.augment.operations = pipeline.operations;
        recipe.augment.exact = pipeline.exact;
    }
    Ok(recipe)
}

/// The text of a built-in recipe or of a file, and where it is from.
pub fn recipe_text(name: &str) -> Result<(String, String), Failure> {
    Ok(match built_in(name) {
        Some(recipes::BuiltIn { text, .. }) => {
            ((*text).to_owned(), format!("built-in recipe {name}"))
        }
        None => (read_recipe(name)?, name.to_owned()),
    })
}

const MOST_RECIPE_BYTES: u64 = 1 << 20;

fn read_recipe(name: &str) -> Result<String, Failure> {
    let path = Path::new(name);
    let wrong = |problem: String| {
        Failure::usage(format!(
            "recipe {name}: {problem}. Expected a TOML file, or one of {}",
            recipes::names()
        ))
    };
    let size = std::fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if size > MOST_RECIPE_BYTES {
        return Err(wrong(format!("{size} bytes are too many for a recipe")));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))
}

/// A folder named by the time in UTC, inside another.
pub fn folder_of_now(parent: &str) -> PathBuf {
    Path::new(parent).join(jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string())
}

fn print_json(folder: &RunFolder, run: &Run) -> Result<(), Failure> {
    let results = run.results.as_ref();
    let json = json!({
        // A path that is no Unicode has no place in JSON.
        "run": folder.path().display().to_string(),
        "train_accuracy": results.map(|r| r.train_accuracy),
        "test_accuracy": results.map(|r| r.test_accuracy),
        "train_loss": results.map(|r| r.train_loss),
        "test_loss": results.map(|r| r.test_loss),
        "epochs": results.map(|r| r.epochs),
        "steps": results.map(|r| r.steps),
        "seconds": results.map(|r| r.seconds),
        "images_per_s": results.map(|r| r.images_per_s),
        "peak_memory_bytes": results.and_then(|r| r.peak_memory_bytes),
        "seed": run.seed,
    });
    say(&json.to_string())
}

fn print_summary(folder: &RunFolder, run: &Run, report: &Path) -> Result<(), Failure> {
    let Some(results) = &run.results else {
        return Ok(());
    };
    let on = if run.data.held_out {
        "held-out"
    } else {
        "test"
    };
    say(&format!(
        "{on} accuracy {:.2} %, train accuracy {:.2} % (gap {:.2} points), {on} loss {:.4}",
        100.0 * results.test_accuracy,
        100.0 * results.train_accuracy,
        100.0 * (results.train_accuracy - results.test_accuracy),
        results.test_loss
    ))?;
    say(&format!(
        "{} epochs, {} steps in {:.0} s, {:.0} images/s in training",
        results.epochs, results.steps, results.seconds, results.images_per_s
    ))?;
    say(&format!("model:  {}", folder.model().display()))?;
    say(&format!("report: {}", report.display()))
}
