//! `evenkeel search`: trials as lines to processes of their own, then the comparison as trainings.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_lab::ablate::Ablation;
use evenkeel_lab::search::{
    Method, Outcome, Perform, Search, Settings, Space, Standing, Trial, conclude, final_arms,
};
use evenkeel_lab::{Error, Recipe};
use evenkeel_record::{Comparison, Search as Record, write_atomic};
use indicatif::{HumanDuration, ProgressBar};
use serde_json::json;

use crate::args::{JobArgs, SearchArgs, SearchMethod};
use crate::exit::{DONE, Failure, interrupted};
use crate::pool::{device_name, share_out, train_all};
use crate::progress::bar;
use crate::say::{say, tell};
use crate::train::{folder_of_now, recipe_text, stop_on_signals};
use crate::trial::Answer;

pub fn run(args: &SearchArgs) -> Result<ExitCode, Failure> {
    // Before any trial: whether there is such a device.
    crate::device::device(args.jobs.device)?;
    let stop = stop_on_signals()?;
    let mut search = match &args.resume {
        Some(folder) => Search::open(folder)?,
        None => {
            let folder = args
                .out
                .clone()
                .unwrap_or_else(|| folder_of_now("searches"));
            Search::begin(&folder, &settings(args)?)?
        }
    };
    let folder = search.folder().to_owned();
    tell(&format!("search in {}", folder.display()));
    let mut workers = Workers::new(&args.jobs, search.nets(), &stop);
    let mut progress = Progress::new();
    let finding = match search.run(&mut workers, &mut |standing| progress.show(standing)) {
        Err(Error::Stopped) => return Ok(stopped(&folder)),
        finding => finding?,
    };
    progress.finish();
    // Their memory is for the comparison's trainings.
    drop(workers);
    let settings = search.settings();
    let policy = folder.join("policy.toml");
    if let Some(text) = finding.pipeline(settings)? {
        write_atomic(&policy, text.as_bytes())?;
    }
    let (record, report) = (folder.join("search.json"), folder.join("report.html"));
    write(&conclude(settings, &finding, None)?, &record, &report)?;

    let recipe = settings.recipe()?.to_toml();
    let (ablation, notes) = Ablation::new(
        "The policy found against the usual ones",
        &recipe,
        "the search's recipe",
        &[],
        final_arms(settings, &finding)?,
        settings.seeds,
        &folder.join("comparison"),
    )?;
    for note in notes {
        tell(&format!("note: {note}"));
    }
    train_all(&ablation.jobs(), ablation.folder(), &args.jobs, &stop)?;
    if stop.load(Ordering::Relaxed) {
        return Ok(stopped(&folder));
    }
    let comparison: Comparison = ablation.compare()?;
    let result = conclude(settings, &finding, Some(comparison))?;
    write(&result, &record, &report)?;
    match args.json {
        true => print_json(&folder, &result)?,
        false => print(&result, &policy, &report)?,
    }
    Ok(DONE)
}

fn settings(args: &SearchArgs) -> Result<Settings, Failure> {
    let (text, place) = recipe_text(&args.recipe)?;
    let mut changes = args.settings.clone();
    if let Some(source) = &args.source {
        changes.push(format!("data.source={source}"));
    }
    let mut recipe = Recipe::parse(&text, &place, &changes)?;
    recipe.data.source = absolute(&recipe.data.source)?;
    let space = match &args.space {
        Some(path) => Space::read(path)?,
        None => Space::default(),
    };
    Ok(Settings {
        method: match args.method {
            SearchMethod::Density => Method::Density,
            SearchMethod::Controller => Method::Controller,
            SearchMethod::Grid => Method::Grid,
            SearchMethod::Halving => Method::Halving,
            SearchMethod::Random => Method::Random,
        },
        space,
        seed: args.seed,
        budget_seconds: args.budget,
        candidates: args.candidates,
        folds: args.folds,
        validation: args.validation.as_deref().map(absolute).transpose()?,
        images: args.images,
        draws: args.draws,
        seeds: args.seeds,
        ..Settings::of(&recipe)
    })
}

/// A source as it is found from anywhere: a search may be gone on with from another folder.
fn absolute(source: &str) -> Result<String, Failure> {
    let source: evenkeel_lab::data::Source = source.parse()?;
    Ok(source.absolute().to_string())
}

fn stopped(folder: &Path) -> ExitCode {
    tell(&format!(
        "interrupted; go on with\n  evenkeel search --resume {}",
        folder.display()
    ));
    interrupted()
}

fn write(result: &Record, record: &Path, report: &Path) -> Result<(), Failure> {
    result.write(record)?;
    evenkeel_report::write_search(result, report)?;
    Ok(())
}

fn print(result: &Record, policy: &Path, report: &Path) -> Result<(), Failure> {
    if let Some(comparison) = &result.comparison {
        crate::compare::print(comparison, false)?;
    }
    for harm in &result.harms {
        let whom = match harm.altogether {
            true => "left out altogether",
            false => "not done to it",
        };
        say(&format!(
            "{} harms {}: {:+.1} points of its accuracy; {whom}",
            harm.operation,
            harm.class,
            100.0 * harm.difference.value
        ))?;
    }
    for operation in result.operations.iter().take(5) {
        let strength = operation.strength.map_or_else(String::new, |strength| {
            format!(", {:.0} % of its strength", 100.0 * strength)
        });
        say(&format!(
            "{}: {:.0} % of the views{strength}",
            operation.name,
            100.0 * operation.share
        ))?;
    }
    say(&format!(
        "{} candidates in {}",
        result.candidates.len(),
        HumanDuration(Duration::from_secs_f64(result.seconds.max(0.0)))
    ))?;
    say(&result.verdict)?;
    if policy.exists() {
        say(&format!("policy: {}", policy.display()))?;
    }
    say(&format!("report: {}", report.display()))
}

fn print_json(folder: &Path, result: &Record) -> Result<(), Failure> {
    let operations: Vec<_> = result
        .operations
        .iter()
        .map(|operation| {
            json!({
                "name": operation.name,
                "share": operation.share,
                "strength": operation.strength,
            })
        })
        .collect();
    let arms = result
        .comparison
        .iter()
        .flat_map(|comparison| &comparison.arms);
    let arms: Vec<_> = arms
        .map(|arm| json!({ "name": arm.name, "test_accuracy": arm.test_accuracy }))
        .collect();
    let json = json!({
        "search": folder.display().to_string(),
        "candidates": result.candidates.len(),
        "trials": result.trials,
        "seconds": result.seconds,
        "scoring_seconds": result.scoring_seconds,
        "training_seconds": result.training_seconds,
        "operations": operations,
        "harms": result.harms,
        "arms": arms,
        "differences": result.differences,
        "recommended": result.recommended,
        "verdict": result.verdict,
    });
    say(&json.to_string())
}

/// What a search shows while it runs: a bar on a terminal, a line a round elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    last: (&'static str, u64),
    /// Lines of trainings that have no candidates to count.
    told: Instant,
}

const BAR: &str = "{bar:30} {pos}/{len}  {msg}";
const PAUSE: Duration = Duration::from_secs(20);

impl Progress {
    fn new() -> Self {
        Self {
            bar: std::io::stderr().is_terminal().then(|| bar(BAR)),
            last: ("", 0),
            told: Instant::now(),
        }
    }

    fn show(&mut self, standing: &Standing) {
        let Standing {
            stage,
            trials,
            candidates: [scored, most],
            best,
            seconds: [seconds, budget],
        } = standing;
        let best = best.as_deref().unwrap_or("none yet");
        let spent = HumanDuration(Duration::from_secs_f64(seconds.max(0.0)));
        let left = match (scored, most) {
            (0, _) => format!(
                "at most {}",
                HumanDuration(Duration::from_secs_f64(*budget))
            ),
            (scored, most) => {
                let by_pace = seconds / *scored as f64 * most.saturating_sub(*scored) as f64;
                let left = by_pace.min((budget - seconds).max(0.0));
                HumanDuration(Duration::from_secs_f64(left)).to_string()
            }
        };
        let message = format!("{stage}, {trials} trials, best {best}; {spent} spent, {left} left");
        match &self.bar {
            Some(bar) => {
                bar.set_length(*most);
                bar.set_position(*scored);
                bar.set_message(message);
            }
            None if self.last != (stage, *scored) || self.told.elapsed() > PAUSE => {
                tell(&format!("{scored}/{most}  {message}"));
                self.told = Instant::now();
            }
            None => {}
        }
        self.last = (stage, *scored);
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Processes that do trials, kept from round to round with what they have read.
struct Workers<'a> {
    at_a_time: usize,
    threads: usize,
    device: String,
    nets: PathBuf,
    stop: &'a AtomicBool,
    processes: Vec<Process>,
}

/// One of them. It ends with its input.
struct Process {
    child: Mutex<Child>,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

const PATIENCE: Duration = Duration::from_millis(100);

impl<'a> Workers<'a> {
    fn new(args: &JobArgs, nets: PathBuf, stop: &'a AtomicBool) -> Self {
        let (at_a_time, threads) = share_out(args, usize::MAX);
        Self {
            at_a_time,
            threads,
            device: device_name(args.device),
            nets,
            stop,
            processes: Vec::new(),
        }
    }

    fn start(&self) -> Result<Process, String> {
        let start = || -> std::io::Result<Process> {
            let mut child = Command::new(std::env::current_exe()?)
                .arg("trial")
                .arg("--nets")
                .arg(&self.nets)
                .args(["--threads", &self.threads.to_string()])
                .args(["--device", &self.device])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (input, output) = (child.stdin.take(), child.stdout.take());
            let pipes = input.zip(output).ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(Process {
                child: Mutex::new(child),
                pipes: Mutex::new((pipes.0, BufReader::new(pipes.1))),
            })
        };
        start().map_err(|error| format!("a process for trials cannot be started: {error}"))
    }
}

impl Process {
    fn perform(&self, trial: &Trial) -> Result<Outcome, String> {
        let ended = |error: std::io::Error| {
            format!("a process that did a trial ended before it had told anything ({error})")
        };
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, output) = &mut *pipes;
        let line = serde_json::to_string(trial).map_err(|error| error.to_string())?;
        writeln!(input, "{line}")
            .and_then(|()| input.flush())
            .map_err(ended)?;
        let mut answer = String::new();
        let read = output.read_line(&mut answer).map_err(ended)?;
        if read == 0 {
            return Err(ended(std::io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&answer) {
            Ok(Answer::Outcome(outcome)) => Ok(outcome),
            Ok(Answer::Error(error)) => Err(error),
            Err(error) => Err(format!("a process's answer to a trial is none: {error}")),
        }
    }

    fn kill(&self) {
        // It may have ended by itself.
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Perform for Workers<'_> {
    fn perform(
        &mut self,
        trials: Vec<Trial>,
        done: &mut dyn FnMut(usize, Outcome) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        let wanted = self.at_a_time.min(trials.len());
        while self.processes.len() < wanted {
            let process = self.start().map_err(Error::Unfit)?;
            self.processes.push(process);
        }
        let count = trials.len();
        let open: Mutex<VecDeque<(usize, Trial)>> =
            Mutex::new(trials.into_iter().enumerate().collect());
        let (send, receive) = mpsc::channel();
        let result = thread::scope(|scope| {
            for process in &self.processes[..wanted] {
                let (open, send) = (&open, send.clone());
                scope.spawn(move || {
                    loop {
                        let next = open
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .pop_front();
                        let Some((index, trial)) = next else { break };
                        if send.send((index, process.perform(&trial))).is_err() {
                            break;
                        }
                    }
                });
            }
            let result = self.gather(count, &receive, done);
            if result.is_err() {
                open.lock().unwrap_or_else(PoisonError::into_inner).clear();
                // Whoever waits for an answer of theirs goes on.
                self.processes.iter().for_each(Process::kill);
            }
            result
        });
        if result.is_err() {
            self.processes.clear();
        }
        result
    }
}

impl Workers<'_> {
    fn gather(
        &self,
        count: usize,
        receive: &mpsc::Receiver<(usize, Result<Outcome, String>)>,
        done: &mut dyn FnMut(usize, Outcome) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            match receive.recv_timeout(PATIENCE) {
                Ok((index, Ok(outcome))) => {
                    done(index, outcome)?;
                    left -= 1;
                }
                // An interrupt from the terminal ends the processes too.
                Ok((_, Err(_))) if self.stop.load(Ordering::Relaxed) => return Err(Error::Stopped),
                Ok((_, Err(problem))) => return Err(Error::Unfit(problem)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Unfit("all processes for trials ended".into()));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Workers<'_> {
    fn drop(&mut self) {
        self.processes.iter().for_each(Process::kill);
    }
}
