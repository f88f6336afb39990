//! A finished run's model for deployment: its batch norms folded into the layers before them.

use std::path::PathBuf;

use burn::tensor::Device;
use evenkeel_nn::Fold;
use evenkeel_nn::fold::FoldingError;
use evenkeel_record::{RunFolder, write_atomic};

use crate::evaluate::{Measured, OpenRun};
use crate::{Error, weights};

/// What folding did.
#[derive(Clone, Debug)]
pub struct FoldedRun {
    /// The folded model: `folded.safetensors`, the convolutions and linear layers with biases and without
    /// norms.
    pub path: PathBuf,
    /// What each norm's folding costs in precision at most, and the norm's path.
    pub errors: Vec<(String, FoldingError)>,
    /// The run's model on its test data.
    pub before: Measured,
    /// The folded model on the same.
    pub after: Measured,
}

impl FoldedRun {
    /// The largest change of a probability on the test data.
    pub fn largest_change(&self) -> f64 {
        let pairs = self
            .before
            .probabilities
            .iter()
            .zip(&self.after.probabilities);
        pairs.fold(0.0, |largest, (before, after)| {
            (before - after).abs().max(largest)
        })
    }
}

/// Folds the batch norms of a finished run's model, writes the folded model beside it and measures both.
///
/// # Errors
/// As [`evaluate_run`](crate::evaluate::evaluate_run); and if the model has no batch norms: says where.
pub fn fold_run(folder: &RunFolder, workers: usize, device: &Device) -> Result<FoldedRun, Error> {
    let run = OpenRun::open(folder, None, device)?;
    let evaluator = run.evaluator(workers)?;
    let before = evaluator.measure(&run.model)?;
    let folded = run
        .model
        .fold()
        .map_err(|refused| Error::Unfit(refused.to_string()))?;
    let after = evaluator.measure(&folded.model)?;
    let path = folder.path().join("folded.safetensors");
    let bytes = weights::to_safetensors(&folded.model).map_err(|problem| Error::Weights {
        path: path.clone(),
        problem,
    })?;
    write_atomic(&path, &bytes)?;
    Ok(FoldedRun {
        path,
        errors: folded.errors,
        before,
        after,
    })
}
