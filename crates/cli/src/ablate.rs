//! `evenkeel ablate`: trainings as processes of their own, some at a time.
//!
//! A child stops, with a checkpoint, when its standard input ends: on a signal to this process, and also if
//! this process is killed. So no training outlives its ablation, and none loses more than a step.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_lab::Recipe;
use evenkeel_lab::ablate::{ARM_SETS, Ablation, Arm, Job, Standing, arm, arms_of_file};
use evenkeel_record::write_atomic;

use crate::args::{AblateArgs, DeviceKind};
use crate::compare::print;
use crate::exit::{DONE, Failure, interrupted};
use crate::say::tell;
use crate::train::{recipe_text, stop_on_signals};

pub fn run(args: &AblateArgs) -> Result<ExitCode, Failure> {
    // Before any training: whether there is such a device.
    crate::device::device(args.device)?;
    let stop = stop_on_signals()?;
    let ablation = ablation(args)?;
    let jobs = ablation.jobs();
    let done = jobs
        .iter()
        .map(Job::standing)
        .collect::<Result<Vec<_>, _>>()?;
    let is_open = |standing: &Standing| !matches!(standing, Standing::Finished(_));
    let open: VecDeque<Job> = jobs
        .iter()
        .zip(&done)
        .filter(|(_, standing)| is_open(standing))
        .map(|(job, _)| job.clone())
        .collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // A GPU serves one training at a time best.
    let usual = if args.device == DeviceKind::Cpu {
        cores
    } else {
        1
    };
    let at_a_time = args.jobs.map_or(usual, usize::from).min(open.len()).max(1);
    let threads = args.threads.map_or((cores / at_a_time).max(1), usize::from);
    tell(&format!(
        "{} runs in {}: {} to do, {at_a_time} at a time, threads of each: {threads}",
        jobs.len(),
        ablation.folder().display(),
        open.len()
    ));
    let pool = Pool {
        total: open.len(),
        open: Mutex::new(open),
        finished: Mutex::new(0),
        threads,
        device: format!("{:?}", args.device).to_lowercase(),
        folder: ablation.folder().to_owned(),
        stop: &stop,
        started: Instant::now(),
    };
    pool.work(at_a_time)?;
    if stop.load(Ordering::Relaxed) {
        tell(&format!(
            "interrupted; the same command goes on with what is missing in {}",
            ablation.folder().display()
        ));
        return Ok(interrupted());
    }
    let comparison = ablation.compare()?;
    let folder = ablation.folder();
    comparison.write(&folder.join("comparison.json"))?;
    write_atomic(
        &folder.join("comparison.csv"),
        comparison.to_csv().as_bytes(),
    )?;
    let report = folder.join("report.html");
    evenkeel_report::write_comparison(&comparison, &report)?;
    print(&comparison, args.json)?;
    tell(&format!("report: {}", report.display()));
    match comparison.arms.iter().all(|arm| arm.seeds.is_empty()) {
        true => Err(Failure::run("all runs failed")),
        false => Ok(DONE),
    }
}

fn ablation(args: &AblateArgs) -> Result<Ablation, Failure> {
    let (text, place) = recipe_text(&args.recipe)?;
    let mut settings = args.settings.clone();
    if let Some(source) = &args.data {
        settings.push(format!("data.source={source}"));
    }
    let recipe = Recipe::parse(&text, &place, &settings)?;
    let mut arms = match &args.arms {
        None => vec![Arm {
            name: "recipe".into(),
            settings: Vec::new(),
        }],
        Some(name) => match ARM_SETS.iter().find(|set| set.name == name) {
            Some(set) => set.arms(&recipe)?,
            None => arms_of_file(Path::new(name))?,
        },
    };
    for text in &args.arm {
        arms.push(arm(text)?);
    }
    let stem = |name: &str| {
        let stem = Path::new(name).file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    };
    let of_arms = args.arms.as_deref().map_or_else(|| "arms".into(), stem);
    let name = format!("{}-{of_arms}", stem(&args.recipe));
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("ablations").join(&name));
    let title = format!("{}: {of_arms}", stem(&args.recipe));
    let (ablation, notes) =
        Ablation::new(&title, &text, &place, &settings, arms, args.seeds, &folder)?;
    for note in notes {
        tell(&format!("note: {note}"));
    }
    Ok(ablation)
}

/// Runs jobs, some at a time.
struct Pool<'a> {
    open: Mutex<VecDeque<Job>>,
    finished: Mutex<usize>,
    total: usize,
    threads: usize,
    device: String,
    folder: PathBuf,
    stop: &'a AtomicBool,
    started: Instant,
}

/// How long a run may stay locked: its process was told to stop, and does after a step.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);

impl Pool<'_> {
    fn work(&self, at_a_time: usize) -> Result<(), Failure> {
        let worker = || -> Result<(), Failure> {
            while !self.stopped() {
                let next = self
                    .open
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                let Some(job) = next else { break };
                if let Err(failure) = self.job(&job) {
                    // The others have nothing to wait for.
                    self.stop.store(true, Ordering::Relaxed);
                    return Err(failure);
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(worker)).collect();
            let results = workers.into_iter().map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(Failure::run("a worker of the ablation panicked")))
            });
            // All are joined before the first failure is told.
            results.collect::<Vec<_>>().into_iter().collect()
        })
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Trains, or goes on, until the run is finished or has failed.
    fn job(&self, job: &Job) -> Result<(), Failure> {
        self.wait_for_lock(job)?;
        let resume = match job.standing()? {
            Standing::Finished(_) => return Ok(()),
            Standing::Missing => false,
            // A failure may have been a full disk; a divergence comes again, and soon.
            Standing::Unfinished | Standing::Failed(_) => true,
        };
        let name = job.folder.path().file_name().unwrap_or_default();
        let log = self.folder.join("logs").join(name).with_extension("log");
        let mut child = self.start(job, resume, &log)?;
        let input = child.stdin.take();
        let status = self.wait(&mut child, input)?;
        if self.stopped() {
            return Ok(());
        }
        let what = match job.standing()? {
            Standing::Finished(run) => {
                let accuracy = run
                    .results
                    .map_or(f64::NAN, |results| results.test_accuracy);
                format!("{:.2} %", 100.0 * accuracy)
            }
            Standing::Failed(why) => format!("failed: {why}"),
            Standing::Missing | Standing::Unfinished => {
                return Err(Failure::run(format!(
                    "{}: the training ended ({status}) without a result: {}",
                    job.name,
                    last_line(&log)
                )));
            }
        };
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        *finished += 1;
        tell(&format!(
            "{}: {what}  {} of {}{}",
            job.name,
            *finished,
            self.total,
            self.left(*finished)
        ));
        Ok(())
    }

    /// By the pace so far.
    fn left(&self, finished: usize) -> String {
        if finished == self.total {
            return String::new();
        }
        let pace = self.started.elapsed().as_secs_f64() / finished as f64;
        let left = pace * (self.total - finished) as f64;
        format!(
            ", {} left",
            indicatif::HumanDuration(Duration::from_secs_f64(left))
        )
    }

    /// A process of an ablation that was killed may still write its last checkpoint.
    fn wait_for_lock(&self, job: &Job) -> Result<(), Failure> {
        let begun = Instant::now();
        while job.folder.path().exists() && !self.stopped() {
            match job.folder.lock() {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => thread::sleep(PAUSE),
            }
        }
        Ok(())
    }

    fn start(&self, job: &Job, resume: bool, log: &Path) -> Result<Child, Failure> {
        let told = |problem: std::io::Error| {
            Failure::run(format!("{}: cannot be started: {problem}", job.name))
        };
        // Makes the folder too.
        write_atomic(log, b"")?;
        let mut command = Command::new(std::env::current_exe().map_err(told)?);
        command.args(["train", "--stop-with-input", "--workers", "0"]);
        command.args([
            "--threads",
            &self.threads.to_string(),
            "--device",
            &self.device,
        ]);
        if resume {
            command.arg("--resume").arg(job.folder.path());
        } else {
            let name = job.folder.path().file_name().unwrap_or_default();
            let mut recipe = self.folder.join("recipes").join(name).into_os_string();
            recipe.push(".toml");
            write_atomic(Path::new(&recipe), job.recipe.to_toml().as_bytes())?;
            command.arg(&recipe).arg("--out").arg(job.folder.path());
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(log).map_err(told)?)
            .spawn()
            .map_err(told)
    }

    /// Closes the child's input when it is to stop.
    fn wait(
        &self,
        child: &mut Child,
        mut input: Option<std::process::ChildStdin>,
    ) -> Result<ExitStatus, Failure> {
        loop {
            if let Some(status) = child.try_wait().map_err(Failure::run)? {
                return Ok(status);
            }
            if self.stopped() {
                input.take();
            }
            thread::sleep(PAUSE);
        }
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.trim_end()
        .lines()
        .next_back()
        .unwrap_or("no message")
        .to_owned()
}
