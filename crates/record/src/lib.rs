//! What a run writes and a report reads: plain data and atomic files.
//!
//! A run is one folder:
//!
//! | file | content |
//! |---|---|
//! | `run.json` | [`Run`]: recipe as resolved, versions, machine, seed, results |
//! | `metrics.jsonl` | one [`Line`] a step and one an epoch |
//! | `evaluation.json` | [`Evaluation`]: confusion, mistakes, augmented pictures |
//! | `averaging/NAME.json` | an [`Averaging`] each: what an average at test does |
//! | `model.safetensors` | the trained model, with PyTorch's parameter names |
//! | `checkpoint/` | what `--resume` goes on from, and the best model |
//! | `tensorboard/` | where it was asked for, the same metrics as event files |
//! | `probe.json` | [`Probe`]: what instruments measured, if they were asked to |
//! | `doctor.json` | [`Diagnosis`]: what is wrong with the run, if that was asked for |
//! | `report.html` | all of it to look at |
//! | `.lock` | locked while a process trains the run |
#![forbid(unsafe_code)]

mod averaging;
mod comparison;
mod error;
mod evaluation;
mod files;
mod folder;
mod lock;
mod machine;
mod metrics;
mod number;
mod probe;
mod quality;
mod run;
mod search;
mod tensorboard;

pub use averaging::{AverageOf, Averaging, CurvePoint, Disagreement, Verdict};
pub use comparison::{Arm, Comparison, Difference, EpochMean, Pairs};
pub use error::Error;
pub use evaluation::{Evaluation, Mistake, Picture, SheetRow};
pub use files::{read_limited, write_atomic};
pub use folder::RunFolder;
pub use lock::RunLock;
pub use machine::{Machine, peak_memory};
pub use metrics::{Line, MetricsLog, read_metrics};
pub use probe::{
    Check, Curve, Diagnosis, Figure, Finding, Instrument, Point, Probe, Reading, Severity,
};
pub use quality::{Estimate, Quality, ReliabilityBin, p_in_words};
pub use run::{DataSummary, Preparation, Results, Run, Status, Versions};
pub use search::{Candidate, ClassHarm, FoundOperation, NamedDifference, Search};
pub use tensorboard::EventFile;
