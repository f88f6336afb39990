//! Trainings as processes of their own, some at a time.
//!
//! A child stops, with a checkpoint, when its standard input ends: on a signal to this process, and also if
//! this process is killed. So no training outlives its parent, and none loses more than a step.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_lab::ablate::{Job, Standing};
use evenkeel_record::write_atomic;

use crate::args::{DeviceKind, JobArgs};
use crate::exit::Failure;
use crate::say::tell;

/// How many at a time, and on how many threads each.
pub fn share_out(args: &JobArgs, open: usize) -> (usize, usize) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // A GPU serves one training at a time best.
    let usual = if args.device == DeviceKind::Cpu {
        cores
    } else {
        1
    };
    let at_a_time = args.jobs.map_or(usual, usize::from).min(open).max(1);
    let threads = args.threads.map_or((cores / at_a_time).max(1), usize::from);
    (at_a_time, threads)
}

/// A device's name on the command line.
pub fn device_name(device: DeviceKind) -> String {
    format!("{device:?}").to_lowercase()
}

/// Trains what is not finished yet. The caller asks `stop` whether it was stopped before the end.
pub fn train_all(
    jobs: &[Job],
    folder: &Path,
    args: &JobArgs,
    stop: &AtomicBool,
) -> Result<(), Failure> {
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
    let (at_a_time, threads) = share_out(args, open.len());
    tell(&format!(
        "{} runs in {}: {} to do, {at_a_time} at a time, threads of each: {threads}",
        jobs.len(),
        folder.display(),
        open.len()
    ));
    let pool = Pool {
        total: open.len(),
        open: Mutex::new(open),
        finished: Mutex::new(0),
        threads,
        device: device_name(args.device),
        folder: folder.to_owned(),
        stop,
        started: Instant::now(),
    };
    pool.work(at_a_time)
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
                    .unwrap_or_else(|_| Err(Failure::run("a worker panicked")))
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

    /// A process of a parent that was killed may still write its last checkpoint.
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
