//! What to train and how: TOML, validated before anything runs.

use std::collections::BTreeSet;

use evenkeel_augment::{Mixing, Operation, name_classes};
use evenkeel_nn::Role;
use evenkeel_nn::decay::Decay;
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Error as DataError, ImageOptions, Source, Unreadable};
use crate::model::ModelRecipe;
use crate::{Error, Schedule, settings};

/// A whole training, as written in a recipe file. The net, the optimizer and the schedule must be
/// said; everything else has a default that does nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The root of all randomness: initial weights, order, augmentation, masks.
    #[serde(default)]
    pub seed: u64,
    /// Where the examples come from.
    pub data: DataRecipe,
    /// The net.
    pub model: ModelRecipe,
    /// Random views of the training images.
    #[serde(default)]
    pub augment: AugmentRecipe,
    /// The loop.
    pub train: TrainRecipe,
    /// The optimizer.
    pub optimizer: OptimizerRecipe,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// The λR(W) of the loss.
    #[serde(default)]
    pub decay: DecayRecipe,
}

/// The data of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// A source by name, as `evenkeel data list` shows them.
    pub source: String,
    /// The share of the training data held out and evaluated *instead of* the test data: recipes
    /// are chosen on it. 0 trains on everything and evaluates on the test data.
    #[serde(default)]
    pub validation: f64,
    /// How many of the training examples (of those that are not held out) are trained on, of each class in
    /// proportion; which ones is a function of the seed. 0 trains on all.
    #[serde(default)]
    pub train_examples: usize,
    /// What becomes of images of a folder that cannot be read.
    #[serde(default)]
    pub unreadable: Unreadable,
}

/// Operations applied, in order, to each training image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentRecipe {
    /// The operations.
    pub operations: Vec<Operation>,
    /// What brings each image of a folder to the size that the net sees at test; draws nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<Operation>,
    /// How the examples of a batch are mixed, and their targets with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mix: Option<Mixing>,
    /// Whether every picture is the one that its steps give one by one: see `Pipeline::exact`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
}

impl AugmentRecipe {
    /// Whether training shows mirror images: a net that never saw any may not know them at test.
    pub fn flips(&self) -> bool {
        fn any(operations: &[Operation]) -> bool {
            operations.iter().any(|operation| {
                let flip = matches!(operation, Operation::HorizontalFlip(_));
                flip || operation.nested().into_iter().any(any)
            })
        }
        any(&self.operations)
    }
}

/// The training loop of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRecipe {
    /// Passes over the training data.
    pub epochs: u64,
    /// What the initial matrices and filters are multiplied by.
    #[serde(default = "usual_start")]
    pub start_scale: f64,
    /// Examples a step. The incomplete last batch of an epoch is dropped.
    pub batch_size: usize,
    /// The share of each target spread evenly over all classes, in 0..1.
    #[serde(default)]
    pub label_smoothing: f64,
    /// The largest norm of the whole gradient; 0 does not clip.
    #[serde(default)]
    pub clip_norm: f64,
    /// Evaluate an exponential average of the weights that keeps this share of itself a step, with
    /// norm statistics recomputed for it; 0 evaluates the weights themselves.
    #[serde(default)]
    pub weight_average: f64,
    /// Evaluate the plain average of the weights at the ends of the epochs after this share of them (stochastic
    /// weight averaging, for schedules that do not end at 0), with norm statistics recomputed for it; 0 does
    /// not.
    #[serde(default)]
    pub swa_after: f64,
    /// Steps between checkpoints; 0 writes one an epoch.
    #[serde(default)]
    pub checkpoint_every: u64,
}

fn usual_start() -> f64 {
    1.0
}

impl TrainRecipe {
    /// Whether what is evaluated and saved is an average of weights, with statistics recomputed for it.
    pub(crate) fn averages_weights(&self) -> bool {
        self.weight_average > 0.0 || self.swa_after > 0.0
    }
}

/// The optimizer of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerRecipe {
    /// v ← μ·v + g; w ← w − η·(g + μ·v) with Nesterov, w − η·v without. No dampening, as PyTorch.
    Sgd {
        /// η at the schedule's peak.
        learning_rate: f64,
        /// μ.
        #[serde(default = "default_momentum")]
        momentum: f64,
        /// Nesterov's look-ahead.
        #[serde(default = "default_nesterov")]
        nesterov: bool,
    },
    /// Adam with bias correction; decay is the recipe's, so choose `decoupled` for AdamW.
    Adamw {
        /// η at the schedule's peak.
        learning_rate: f64,
        /// The first moment's memory.
        #[serde(default = "default_beta1")]
        beta1: f64,
        /// The second moment's memory.
        #[serde(default = "default_beta2")]
        beta2: f64,
        /// Added to the root of the second moment.
        #[serde(default = "default_adam_epsilon")]
        epsilon: f64,
    },
}

fn default_momentum() -> f64 {
    0.9
}
fn default_nesterov() -> bool {
    true
}
fn default_beta1() -> f64 {
    0.9
}
fn default_beta2() -> f64 {
    0.999
}
fn default_adam_epsilon() -> f64 {
    1e-8
}

impl OptimizerRecipe {
    /// The learning rate at the schedule's peak.
    pub fn learning_rate(&self) -> f64 {
        match *self {
            Self::Sgd { learning_rate, .. } | Self::Adamw { learning_rate, .. } => learning_rate,
        }
    }
}

/// The weight decay of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecayRecipe {
    /// The penalty.
    pub penalty: Decay,
    /// What it applies to.
    pub roles: BTreeSet<Role>,
}

impl Default for DecayRecipe {
    fn default() -> Self {
        Self {
            penalty: Decay::None,
            roles: BTreeSet::from([Role::Weight]),
        }
    }
}

/// What is wrong with a recipe: where, what was found, what was expected.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct RecipeError {
    place: String,
    problem: String,
}

impl RecipeError {
    pub(crate) fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

impl Recipe {
    /// Reads a recipe: `text` comes from `place` (a file's name, for errors), then `settings` of
    /// the form `section.key=value` are applied, then everything is validated.
    ///
    /// # Errors
    /// Says the line and the column where the text is wrong, the setting where that is, and the
    /// nearest known key where one is unknown.
    pub fn parse(text: &str, place: &str, settings: &[String]) -> Result<Self, RecipeError> {
        let mut table = text
            .parse::<toml::Table>()
            .map_err(|error| RecipeError::new(place, error.to_string().trim_end()))?;
        for setting in settings {
            settings::apply(&mut table, setting)?;
        }
        let recipe: Self = table
            .try_into()
            .map_err(|error| settings::explain(&error, text, place, settings))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// How images in files become examples.
    pub fn images(&self) -> ImageOptions {
        ImageOptions {
            test: self.augment.test.clone(),
            unreadable: self.data.unreadable,
            ..ImageOptions::default()
        }
    }

    /// The operations of the augmentation, with numbers for the names of classes.
    ///
    /// # Errors
    /// If a class is none of the data's: names the step, the field and the classes.
    pub(crate) fn operations(&self, classes: &[String]) -> Result<Vec<Operation>, Error> {
        name_classes(&self.augment.operations, classes)
            .map_err(|error| Error::Unfit(format!("augment.operations: {error}")))
    }

    /// Reads the recipe's data: what is held out, or left out, is.
    ///
    /// # Errors
    /// If they cannot be read, or there are too few.
    pub(crate) fn open_data(&self) -> Result<Dataset, Error> {
        let source: Source = self.data.source.parse()?;
        let mut data = Dataset::open_with(&source, &self.images())?;
        // What leaves too little is the recipe's fault, not the data's.
        let unfit = |error: DataError| Error::Unfit(error.to_string());
        if self.data.validation > 0.0 {
            let held_out = data.hold_out(self.data.validation, self.seed);
            data = held_out.map_err(unfit)?;
        }
        if self.data.train_examples > 0 {
            let kept = data.keep_train(self.data.train_examples, self.seed);
            data = kept.map_err(unfit)?;
        }
        Ok(data)
    }

    /// The same for other data than the recipe's: of their images that cannot be read, no record would
    /// tell, so the first is an error.
    pub(crate) fn other_images(&self) -> ImageOptions {
        ImageOptions {
            unreadable: Unreadable::Stop,
            ..self.images()
        }
    }

    /// The recipe as a table, with every default filled in.
    pub(crate) fn to_table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("a recipe has only string keys")
    }

    /// The recipe as TOML, with every default filled in.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a recipe has only string keys and finite depth")
    }

    /// Checks the source's name, and every number against its range.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let check = |place: &str, good: bool, found: String, expected: &str| {
            if good {
                Ok(())
            } else {
                Err(RecipeError::new(
                    place,
                    format!("expected {expected}, found {found}"),
                ))
            }
        };
        let share = |place: &str, value: f64| {
            let good = (0.0..1.0).contains(&value);
            check(place, good, value.to_string(), "a number from 0 to below 1")
        };
        let amount = |place: &str, value: f64| {
            let good = value.is_finite() && value >= 0.0;
            check(
                place,
                good,
                value.to_string(),
                "a finite number of at least 0",
            )
        };
        self.data
            .source
            .parse::<Source>()
            .map_err(|error| RecipeError::new(error.place, error.problem))?;
        share("data.validation", self.data.validation)?;
        share("train.label_smoothing", self.train.label_smoothing)?;
        share("train.weight_average", self.train.weight_average)?;
        share("train.swa_after", self.train.swa_after)?;
        check(
            "train.swa_after",
            self.train.swa_after == 0.0 || self.train.weight_average == 0.0,
            format!("train.weight_average = {} too", self.train.weight_average),
            "one average of the weights; set the other to 0",
        )?;
        amount("train.clip_norm", self.train.clip_norm)?;
        let TrainRecipe {
            epochs,
            batch_size,
            start_scale,
            ..
        } = self.train;
        check(
            "train.start_scale",
            start_scale.is_finite() && start_scale > 0.0,
            start_scale.to_string(),
            "a finite number above 0",
        )?;
        check(
            "train.epochs",
            (1..=1_000_000).contains(&epochs),
            epochs.to_string(),
            "1 to 1,000,000",
        )?;
        check(
            "train.batch_size",
            (1..=1_000_000).contains(&batch_size),
            batch_size.to_string(),
            "1 to 1,000,000",
        )?;
        let rate = self.optimizer.learning_rate();
        check(
            "optimizer.learning_rate",
            rate.is_finite() && rate > 0.0,
            rate.to_string(),
            "a finite number above 0",
        )?;
        match self.optimizer {
            OptimizerRecipe::Sgd {
                momentum, nesterov, ..
            } => {
                share("optimizer.momentum", momentum)?;
                check(
                    "optimizer.nesterov",
                    !nesterov || momentum > 0.0,
                    "true with momentum 0".into(),
                    "momentum above 0 to look ahead with, or nesterov = false",
                )?;
            }
            OptimizerRecipe::Adamw {
                beta1,
                beta2,
                epsilon,
                ..
            } => {
                share("optimizer.beta1", beta1)?;
                share("optimizer.beta2", beta2)?;
                check(
                    "optimizer.epsilon",
                    epsilon.is_finite() && epsilon > 0.0,
                    epsilon.to_string(),
                    "a finite number above 0",
                )?;
            }
        }
        match self.decay.penalty {
            Decay::None => {}
            Decay::L2 { strength } | Decay::L1 { strength } | Decay::Decoupled { strength } => {
                amount("decay.penalty.strength", strength)?;
            }
            Decay::ElasticNet { l1, l2 } => {
                amount("decay.penalty.l1", l1)?;
                amount("decay.penalty.l2", l2)?;
            }
        }
        check(
            "decay.roles",
            !self.decay.roles.contains(&Role::Buffer),
            "buffer".into(),
            "roles that are trained: weight, bias, norm",
        )?;
        self.schedule
            .validate()
            .map_err(|problem| RecipeError::new("schedule", problem))?;
        self.model
            .validate()
            .map_err(|problem| RecipeError::new("model", problem))
    }
}
