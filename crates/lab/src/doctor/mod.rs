//! What is wrong with a run: each check is a statement that holds for every sound run, measured.
//!
//! The statements follow from what a training is, not from a list of known mistakes. A run is a function of
//! its recipe, so what it logged must follow from it again. What is measured at test must be measurable
//! again. A norm's running statistics must be those of its batches. Noise must be new each time, and the net
//! must meet at test what it met in training, but for the noise. Labels must follow from the examples, and
//! augmentation must not change them. Whatever breaks one of these is found, known or not.

mod augmentation;
mod data;
mod evaluation;
mod learning;
mod noise;
mod replay;
mod settings;
mod statistics;

use burn::tensor::Device;
use evenkeel_record::{Check, Diagnosis, Finding, RunFolder, Severity};

use crate::Error;
use crate::probe::Subject;

/// What a check came to.
enum Outcome {
    /// It was looked at; nothing if all is well.
    Found(Vec<Finding>),
    /// It cannot be looked at in this run, and why.
    Skipped(String),
}

impl Outcome {
    fn skipped(why: &str) -> Result<Self, Error> {
        Ok(Self::Skipped(why.into()))
    }
}

impl From<Option<Finding>> for Outcome {
    fn from(finding: Option<Finding>) -> Self {
        Self::Found(finding.into_iter().collect())
    }
}

struct Statement {
    name: &'static str,
    holds: &'static str,
    check: fn(&Subject) -> Result<Outcome, Error>,
}

const STATEMENTS: [Statement; 14] = [
    Statement {
        name: "evaluation",
        holds: "the recorded accuracies and losses are those of the saved model in test mode",
        check: evaluation::check,
    },
    Statement {
        name: "replay",
        holds: "the training's first steps, repeated from the recipe, give the logged losses",
        check: replay::check,
    },
    Statement {
        name: "norm statistics",
        holds: "running statistics are those of the training's batches",
        check: statistics::check,
    },
    Statement {
        name: "mode gap",
        holds: "noise leaves the variance that norms see as it is",
        check: statistics::check_shift,
    },
    Statement {
        name: "training conditions",
        holds: "the last epoch's logged losses are what the model gives under the recipe's noise",
        check: noise::check_conditions,
    },
    Statement {
        name: "fresh noise",
        holds: "views shown in the first epoch are no better known than new views of the same examples",
        check: noise::check_repetition,
    },
    Statement {
        name: "noise layers",
        holds: "noise layers drop the share that they say, keep the mean, and draw anew each step",
        check: noise::check_layers,
    },
    Statement {
        name: "learning",
        holds: "every parameter was trained, most units are alive, and the net knows more than chance",
        check: learning::check,
    },
    Statement {
        name: "settings",
        holds: "norms have values enough, decay is on weights alone, averages have time to settle",
        check: settings::check,
    },
    Statement {
        name: "leakage",
        holds: "no test example was trained on",
        check: data::check_leakage,
    },
    Statement {
        name: "labels",
        holds: "near examples have the same label more often than chance",
        check: data::check_labels,
    },
    Statement {
        name: "preparation",
        holds: "the net's numbers have mean 0 and deviation 1 over the training data",
        check: data::check_preparation,
    },
    Statement {
        name: "data shift",
        holds: "within a class, test examples look like training examples",
        check: data::check_shift,
    },
    Statement {
        name: "augmentation",
        holds: "augmentation leaves a class what it is",
        check: augmentation::check,
    },
];

/// Examines a finished run. Changes nothing in it.
///
/// # Errors
/// If the run is not finished, or its model or data cannot be read.
pub fn examine(folder: &RunFolder, workers: usize, device: &Device) -> Result<Diagnosis, Error> {
    let subject = Subject::open(folder, workers, device)?;
    let mut diagnosis = Diagnosis::default();
    for Statement { name, holds, check } in STATEMENTS {
        let skipped = match check(&subject)? {
            Outcome::Found(findings) => {
                diagnosis.findings.extend(findings);
                None
            }
            Outcome::Skipped(why) => Some(why),
        };
        diagnosis.checks.push(Check {
            name: name.into(),
            holds: holds.into(),
            skipped,
        });
    }
    // Stable: among equals in the order of the statements.
    diagnosis.findings.sort_by_key(|finding| finding.severity);
    Ok(diagnosis)
}

/// A finding of a check.
fn finding(
    severity: Severity,
    check: &str,
    title: impl Into<String>,
    evidence: impl Into<String>,
    cause: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding {
        severity,
        check: check.into(),
        title: title.into(),
        evidence: evidence.into(),
        cause: cause.into(),
        remedy: remedy.into(),
    }
}
