//! Search for the augmentation policy that a data set wants, on its training data alone.
//!
//! A search is a function of its [`Settings`] and of what its [`Trial`]s tell; a trial is a function of its
//! description and the data. So trials can be done by any process, in any order, and a search that was killed is
//! begun anew with what its journal knows, to the same result.

mod children;
mod controller;
mod density;
mod grid;
mod halving;
mod journal;
mod policy;
mod random;
mod result;
mod safety;
mod space;
mod trial;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use evenkeel_random::Key;
use serde::{Deserialize, Serialize};

pub use policy::{Harm, Policy};
pub use result::{Finding, conclude, final_arms};
pub use space::{Space, SubPolicy};
pub use trial::{HeldOut, Matched, Outcome, Score, Task, Trained, Trial, Worker};

use crate::Error;
use crate::data::{Dataset, Kind, preparation};
use crate::figures::shown;
use crate::recipe::Recipe;
use journal::Journal;
use safety::Alone;

/// How candidates are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Nets that were trained without them score candidates on held-out images; a model of the scores proposes
    /// the next ones. Source: Lim et al., "Fast AutoAugment" (2019).
    Density,
    /// A policy gradient moves the distribution of policies towards those whose short trainings do well on
    /// held-out images. Source: Cubuk et al., "AutoAugment" (2019), without its recurrent net.
    Controller,
    /// Trainings with each count and strength of transforms. Source: Cubuk et al., "RandAugment" (2020).
    Grid,
    /// Many short trainings of whole recipes, the best third of them longer, and so on. Source: Jamieson and
    /// Talwalkar, "Non-stochastic Best Arm Identification" (2016).
    Halving,
    /// Short trainings with policies at random: the control.
    Random,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Density => "density matching",
            Self::Controller => "controller",
            Self::Grid => "grid",
            Self::Halving => "halving",
            Self::Random => "random",
        })
    }
}

/// What is searched for, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Of the program that began it.
    pub version: String,
    /// The recipe that policies are for, as TOML; its data are those of the search.
    pub recipe: String,
    /// How.
    pub method: Method,
    /// Among what.
    pub space: Space,
    /// The root of all randomness.
    pub seed: u64,
    /// No round of trials begins after so many seconds.
    pub budget_seconds: u64,
    /// Candidates, at most.
    pub candidates: u64,
    /// Parts of the training data, each held out from one net that scores candidates.
    pub folds: u64,
    /// Labelled images like those of the test, if there are any: candidates are scored on them instead.
    pub validation: Option<String>,
    /// Held-out images that a candidate is scored on.
    pub images: usize,
    /// Views of each.
    pub draws: u64,
    /// Runs of each arm of the final comparison.
    pub seeds: u64,
}

impl Settings {
    /// Of a recipe, everything else as usual.
    pub fn of(recipe: &Recipe) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            recipe: recipe.to_toml(),
            method: Method::Density,
            space: Space::default(),
            seed: 0,
            budget_seconds: 1800,
            candidates: 1000,
            folds: 5,
            validation: None,
            images: 500,
            draws: 4,
            seeds: 3,
        }
    }

    /// The recipe.
    pub fn recipe(&self) -> Result<Recipe, Error> {
        Ok(Recipe::parse(&self.recipe, "the search's recipe", &[])?)
    }

    /// The held-out examples of short and whole trainings: the validation source, or the first fold.
    fn held_out(&self) -> HeldOut {
        HeldOut {
            fold: match self.validation {
                Some(_) => None,
                None => Some([0, self.folds, self.seed]),
            },
            validation: self.validation.clone(),
        }
    }

    fn validate(&self, recipe: &Recipe) -> Result<(), Error> {
        let unfit = |problem: String| Err(Error::Unfit(problem));
        self.space
            .validate()
            .map_err(|problem| Error::Unfit(format!("space: {problem}")))?;
        if !(2..=100).contains(&self.folds) {
            return unfit(format!("--folds {}: expected 2 to 100", self.folds));
        }
        if !(3..=1000).contains(&self.seeds) {
            return unfit(format!(
                "--seeds {}: expected 3 to 1000: fewer tell nothing of the spread",
                self.seeds
            ));
        }
        if self.candidates == 0 || self.images == 0 || self.draws == 0 {
            return unfit("--candidates, --images and --draws: expected 1 at least".into());
        }
        if recipe.data.validation > 0.0 {
            return unfit(
                "data.validation: the search holds out what it needs itself; expected 0 in its recipe".into(),
            );
        }
        if recipe.data.train_examples > 0 {
            return unfit(format!(
                "data.train_examples = {}: which ones depends on the seed of a training, and the search compares \
                 trainings on the same; expected 0",
                recipe.data.train_examples
            ));
        }
        if let Some(name) = policy::has_policy(&recipe.augment.operations) {
            return unfit(format!(
                "augment.operations has a policy already ({name}); remove it: the search compares policies that \
                 are put there"
            ));
        }
        Ok(())
    }
}

/// Does trials. Any order will do, and any number at a time.
pub trait Perform {
    /// Does all of them, and tells `done` the number and the outcome of each when it is there.
    ///
    /// # Errors
    /// If one of them, or `done`, failed; or [`Error::Stopped`] if it was asked to stop.
    fn perform(
        &mut self,
        trials: Vec<Trial>,
        done: &mut dyn FnMut(usize, Outcome) -> Result<(), Error>,
    ) -> Result<(), Error>;
}

/// Where a search stands, for whoever shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What it is at.
    pub stage: &'static str,
    /// Trials that are done.
    pub trials: usize,
    /// Candidates that are scored, and the most that will be.
    pub candidates: [u64; 2],
    /// The best score so far, in words.
    pub best: Option<String>,
    /// Seconds so far, over all sittings, and the budget.
    pub seconds: [f64; 2],
}

/// A candidate and what it scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// In words.
    pub name: String,
    /// The policy.
    pub policy: Policy,
    /// What it changes in the recipe besides, as `key=value`.
    pub settings: Vec<String>,
    /// Of the same examples: the loss less that without any policy for density matching, the accuracy for others.
    pub score: f64,
}

/// What a method found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The winner; no layers if nothing was better than no policy.
    pub policy: Policy,
    /// What it changes in the recipe besides, as `key=value`.
    pub settings: Vec<String>,
    /// All candidates in their order.
    pub tried: Vec<Tried>,
    /// The score without any policy.
    pub plain: f64,
    /// Whether lower scores are better.
    pub lower_is_better: bool,
    /// Seconds of scoring a candidate, and of training with one, where they are known.
    pub seconds: [Option<f64>; 2],
}

/// One process's work on a search.
pub(crate) struct Sitting<'a> {
    pub settings: &'a Settings,
    /// Classes of the recipe's data.
    pub classes: u32,
    journal: &'a mut Journal,
    perform: &'a mut dyn Perform,
    tell: &'a mut dyn FnMut(&Standing),
    began: Instant,
    /// Seconds of the sittings before.
    before: f64,
    pub standing: Standing,
}

impl Sitting<'_> {
    /// The outcomes of these trials, in their order: known ones from the journal, the others done now.
    pub fn outcomes(&mut self, trials: &[Trial]) -> Result<Vec<Outcome>, Error> {
        let open: Vec<&Trial> = trials
            .iter()
            .filter(|trial| self.journal.outcome(trial).is_none())
            .collect();
        let mut written = Ok(());
        if !open.is_empty() {
            let Self {
                journal,
                perform,
                tell,
                began,
                before,
                standing,
                ..
            } = self;
            let todo = open.iter().map(|trial| (*trial).clone()).collect();
            let mut done = |index: usize, outcome: Outcome| {
                let at = *before + began.elapsed().as_secs_f64();
                journal.append(open[index], &outcome, at)?;
                standing.trials = journal.len();
                standing.seconds[0] = at;
                tell(standing);
                Ok(())
            };
            written = perform.perform(todo, &mut done);
        }
        written?;
        let outcomes = trials.iter().map(|trial| {
            let outcome = self.journal.outcome(trial);
            outcome.cloned().ok_or_else(|| {
                Error::Unfit("a trial has no outcome, though all are said to be done".into())
            })
        });
        outcomes.collect()
    }

    /// Whether the next round may begin: there is time left, or it began before an interruption.
    pub fn may_begin(&self, round: &[Trial]) -> bool {
        let begun = round
            .iter()
            .any(|trial| self.journal.outcome(trial).is_some());
        begun || self.seconds() < self.settings.budget_seconds as f64
    }

    /// Of the search, over all sittings.
    pub fn seconds(&self) -> f64 {
        self.standing.seconds[0].max(self.before)
    }

    /// Tells where it stands.
    pub fn tell(&mut self, stage: &'static str, scored: u64, most: u64, best: Option<String>) {
        self.standing.stage = stage;
        self.standing.candidates = [scored, most];
        self.standing.best = best.or_else(|| self.standing.best.take());
        (self.tell)(&self.standing);
    }

    /// A training of the recipe with a policy and other changes, for this share of its epochs.
    pub fn training(
        &self,
        policy: &Policy,
        harms: &[Harm],
        settings: &[String],
        share: f64,
        seed: u64,
    ) -> Result<Trial, Error> {
        let recipe = Recipe::parse(&self.settings.recipe, "the search's recipe", settings)?;
        let operations = policy.operations(harms, self.classes);
        let mut recipe = policy::with_operations(&recipe, policy::inserted(&recipe, operations));
        recipe.train.epochs = ((recipe.train.epochs as f64 * share).ceil() as u64).max(1);
        recipe.seed = seed;
        Ok(Trial {
            recipe: recipe.to_toml(),
            held_out: self.settings.held_out(),
            task: Task::Train,
        })
    }

    /// For a use that is named.
    pub fn key(&self, name: &str) -> Key {
        Key::from_seed(self.settings.seed)
            .child("search")
            .child(name)
    }
}

/// A search in its folder.
pub struct Search {
    folder: PathBuf,
    settings: Settings,
    journal: Journal,
}

impl Search {
    /// Begins a search in a folder.
    ///
    /// # Errors
    /// If the settings do not fit, or there is a search in the folder.
    pub fn begin(folder: &Path, settings: &Settings) -> Result<Self, Error> {
        settings.validate(&settings.recipe()?)?;
        Ok(Self {
            folder: folder.to_owned(),
            settings: settings.clone(),
            journal: Journal::create(folder, settings)?,
        })
    }

    /// Opens a search to go on with, or to look at.
    ///
    /// # Errors
    /// If there is none in the folder, or it is of another version of the program.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let (settings, journal) = Journal::open(folder)?;
        settings.validate(&settings.recipe()?)?;
        if settings.version != env!("CARGO_PKG_VERSION") {
            return Err(Error::Unfit(format!(
                "{}: this search was begun by version {}, whose trials may tell other things than those of version \
                 {}; go on with it by that one",
                folder.display(),
                settings.version,
                env!("CARGO_PKG_VERSION")
            )));
        }
        Ok(Self {
            folder: folder.to_owned(),
            settings,
            journal,
        })
    }

    /// What was asked for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where workers keep trained nets.
    pub fn nets(&self) -> PathBuf {
        self.folder.join("nets")
    }

    /// Runs it to its end, from wherever it stands.
    ///
    /// # Errors
    /// If a trial fails, or [`Error::Stopped`] if it was asked to stop; then it can be gone on with.
    pub fn run(
        &mut self,
        perform: &mut dyn Perform,
        tell: &mut dyn FnMut(&Standing),
    ) -> Result<Finding, Error> {
        let recipe = self.settings.recipe()?;
        let data = recipe.open_data()?;
        let Kind::Images { channels, .. } = data.kind else {
            return Err(Error::Unfit(format!(
                "{}: policies are for images, and this is a table",
                data.name
            )));
        };
        if let Some(validation) = &self.settings.validation {
            let other = Dataset::open_with(&validation.parse()?, &recipe.other_images())?;
            safety::expect_no_test_image(&data, &other, validation)?;
        }
        let (classes, preparation) = (data.classes.clone(), preparation(&data));
        let mut all = 0..data.train.len();
        let example = all.find_map(|index| shown(&data.train, &data.kind, index));
        let divided = self.settings.held_out().divide(data, &recipe)?;
        let labels = divided.test.labels().to_vec();
        drop(divided);
        let before = self.journal.seconds;
        let trials = self.journal.len();
        let mut sitting = Sitting {
            settings: &self.settings,
            classes: classes.len() as u32,
            journal: &mut self.journal,
            perform,
            tell,
            began: Instant::now(),
            before,
            standing: Standing {
                stage: "safety",
                trials,
                candidates: [0, self.settings.candidates],
                best: None,
                seconds: [before, self.settings.budget_seconds as f64],
            },
        };
        let space = self.settings.space.without(&[], channels == 1);
        let Alone { harms, gains } = safety::alone(&mut sitting, &space, &labels)?;
        let everywhere = safety::altogether(&harms, classes.len());
        let space = space.without(&everywhere, false);
        let found = match space.transforms.is_empty() {
            true => Found::default(),
            false => match self.settings.method {
                Method::Density => density::search(&mut sitting, &space, &gains)?,
                Method::Controller => controller::search(&mut sitting, &space, &harms)?,
                Method::Grid => grid::search(&mut sitting, &space, &harms)?,
                Method::Halving => halving::search(&mut sitting, &space, &harms)?,
                Method::Random => random::search(&mut sitting, &space, &harms)?,
            },
        };
        let seconds = sitting.seconds();
        Ok(Finding {
            found,
            harms,
            classes,
            trials: self.journal.len() as u64,
            seconds,
            preparation,
            example,
        })
    }
}

#[cfg(test)]
mod tests;
