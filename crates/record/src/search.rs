//! `search.json`: what a search for an augmentation policy found, and how it compares.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::number::number;
use crate::{Comparison, Error, Estimate, Picture};

/// A finished search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Of this file: 1.
    pub format: u32,
    /// The data by name.
    pub source: String,
    /// The images that candidates were scored on, if not held out of the training data.
    pub validation: Option<String>,
    /// How candidates were found.
    pub method: String,
    /// Of the program.
    pub version: String,
    /// The root of all randomness.
    pub seed: u64,
    /// The seconds it might take.
    pub budget_seconds: u64,
    /// The seconds it took, over all sittings, without the final comparison.
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// Trials in all: trainings, and rounds of scoring.
    pub trials: u64,
    /// Every candidate, in order.
    pub candidates: Vec<Candidate>,
    /// The score without any candidate.
    #[serde(deserialize_with = "number")]
    pub plain: f64,
    /// Whether scores are losses less that without a candidate; otherwise they are accuracies.
    pub lower_is_better: bool,
    /// Seconds of scoring a candidate.
    pub scoring_seconds: Option<f64>,
    /// Seconds of training a net.
    pub training_seconds: Option<f64>,
    /// What the policy found does, most frequent first.
    pub operations: Vec<FoundOperation>,
    /// What else it changes in the recipe, as `key=value`.
    pub settings: Vec<String>,
    /// What harms which class, and is therefore not done to it.
    pub harms: Vec<ClassHarm>,
    /// The policy against the usual ones, trained from scratch on all training data.
    pub comparison: Option<Comparison>,
    /// Of the policy against the baselines, by name.
    pub differences: Vec<NamedDifference>,
    /// The arm that the comparison speaks for.
    pub recommended: String,
    /// Why, in a few sentences.
    pub verdict: String,
}

/// One candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// In words.
    pub name: String,
    /// What it scored.
    #[serde(deserialize_with = "number")]
    pub score: f64,
}

/// One operation of the policy found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundOperation {
    /// Its name.
    pub name: String,
    /// How often it is done to an image, on average.
    #[serde(deserialize_with = "number")]
    pub share: f64,
    /// The mean of its strengths, as shares of the greatest; none where there is no more and less.
    pub strength: Option<f64>,
    /// The mean score of the candidates with it less that of those without.
    pub gain: Estimate,
    /// A training image.
    pub original: Option<Picture>,
    /// The same under the operation.
    pub views: Vec<Picture>,
}

/// An operation that harms a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassHarm {
    /// The operation.
    pub operation: String,
    /// The class by name.
    pub class: String,
    /// The accuracy of trainings with the operation less that without, on the held-out images that are of the class or
    /// that either net takes for it.
    pub difference: Estimate,
    /// These images, in all of these trainings.
    pub examples: u64,
    /// Whether it was left out for all classes.
    pub altogether: bool,
}

/// The accuracy of the policy found less that of another arm, over the seeds of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedDifference {
    /// The other arm.
    pub baseline: String,
    /// The mean difference.
    pub accuracy: Estimate,
    /// Of the paired t test; none where there is too little to test.
    pub p_value: Option<f64>,
}

impl Search {
    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        crate::folder::write_json(path, self)
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(path: &Path) -> Result<Self, Error> {
        crate::folder::read_json(path)
    }
}
