//! `evenkeel trial`: does a search's trials, for a parent process.
//!
//! A line of JSON on the standard input is a trial, a line on the standard output its outcome. The process ends with
//! its input, whatever it is at: nobody would read what it found.

use std::io::BufRead;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use evenkeel_lab::search::{Outcome, Trial, Worker};
use serde::{Deserialize, Serialize};

use crate::args::TrialArgs;
use crate::exit::{DONE, Failure};
use crate::say::say;

/// What comes back for a trial.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Outcome(Outcome),
    /// It cannot be done, and why.
    Error(String),
}

pub fn run(args: &TrialArgs) -> Result<ExitCode, Failure> {
    let (device, _) = crate::device::device(args.device)?;
    crate::device::use_threads(args.threads.into())?;
    let mut worker = Worker::new(&args.nets, &device, args.threads.into());
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if send.send(line).is_err() {
                return;
            }
        }
        std::process::exit(0);
    });
    for line in receive {
        let trial: Trial = serde_json::from_str(&line).map_err(Failure::run)?;
        let answer = match worker.perform(&trial) {
            Ok(outcome) => Answer::Outcome(outcome),
            Err(error) => Answer::Error(error.to_string()),
        };
        say(&serde_json::to_string(&answer).map_err(Failure::run)?)?;
    }
    Ok(DONE)
}
