//! Ablations: arms that change a recipe, each trained over the same seeds, compared with the first.
//!
//! A run of an arm is a function of its recipe and seed; runs of one seed see the same examples in the same
//! order. So an ablation has no state but its runs: what is finished is kept, what is not goes on.

mod arms;

use std::path::{Path, PathBuf};

use evenkeel_record::{Comparison, Pairs, Run, RunFolder, Status};

pub use arms::{ARM_SETS, Arm, ArmSet, arm, arms_of_file};

use crate::compare::{self, FinishedRun, Group, differences};
use crate::fit::as_recorded;
use crate::{Error, Recipe, RecipeError};

/// Arms over seeds, in a folder.
#[derive(Clone, Debug)]
pub struct Ablation {
    title: String,
    arms: Vec<(Arm, Vec<Recipe>)>,
    folder: PathBuf,
}

/// One run of an ablation.
#[derive(Clone, Debug)]
pub struct Job {
    /// The arm's name and the seed, for people.
    pub name: String,
    /// What to train.
    pub recipe: Recipe,
    /// Where.
    pub folder: RunFolder,
}

/// Where a run of an ablation stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Not begun.
    Missing,
    /// Begun, and to be gone on with.
    Unfinished,
    /// Done.
    Finished(Box<Run>),
    /// Ended by an error.
    Failed(String),
}

impl Ablation {
    /// The first arm is the baseline. Arms whose recipe is that of an arm before them are left out, with a note.
    ///
    /// # Errors
    /// If an arm's recipe is none, two arms have one name, or fewer than two are left, or there are no seeds.
    pub fn new(
        title: &str,
        text: &str,
        place: &str,
        settings: &[String],
        arms: Vec<Arm>,
        seeds: u64,
        folder: &Path,
    ) -> Result<(Self, Vec<String>), Error> {
        if !(1..=MOST_SEEDS).contains(&seeds) {
            return Err(Error::Unfit(format!(
                "--seeds {seeds}: expected 1 to {MOST_SEEDS}"
            )));
        }
        let mut kept: Vec<(Arm, Vec<Recipe>)> = Vec::new();
        let mut notes = Vec::new();
        for arm in arms {
            let all = [settings, &arm.settings].concat();
            let first = Recipe::parse(text, place, &all).map_err(|error| {
                Error::Recipe(RecipeError::new(
                    format!("arm {}", arm.name),
                    error.to_string(),
                ))
            })?;
            let first = as_recorded(&first)?;
            if let Some((same, _)) = kept.iter().find(|(_, recipes)| recipes[0] == first) {
                notes.push(format!(
                    "arm {} changes nothing beside arm {}: left out",
                    arm.name, same.name
                ));
                continue;
            }
            if kept
                .iter()
                .any(|(known, _)| slug(&known.name) == slug(&arm.name))
            {
                return Err(Error::Unfit(format!(
                    "arm {}: there is another of that name; expected names that differ in a letter or digit",
                    arm.name
                )));
            }
            let recipes = (0..seeds).map(|i| Recipe {
                seed: first.seed.wrapping_add(i),
                ..first.clone()
            });
            kept.push((arm, recipes.collect()));
        }
        if kept.len() < 2 {
            return Err(Error::Unfit(format!(
                "expected a baseline and one arm at least, found {}",
                kept.len()
            )));
        }
        let ablation = Self {
            title: title.to_owned(),
            arms: kept,
            folder: folder.to_owned(),
        };
        Ok((ablation, notes))
    }

    /// All runs: seed after seed, so that every arm has as many as the others whenever it is stopped.
    pub fn jobs(&self) -> Vec<Job> {
        let seeds = self.arms.first().map_or(0, |(_, recipes)| recipes.len());
        let of_seed = |index: usize| {
            self.arms
                .iter()
                .map(move |(arm, recipes)| (arm, &recipes[index]))
        };
        let all = (0..seeds).flat_map(of_seed);
        all.map(|(arm, recipe)| self.job(arm, recipe)).collect()
    }

    fn job(&self, arm: &Arm, recipe: &Recipe) -> Job {
        let name = format!("{}-seed-{}", slug(&arm.name), recipe.seed);
        Job {
            name: format!("{}, seed {}", arm.name, recipe.seed),
            recipe: recipe.clone(),
            folder: RunFolder::new(self.folder.join("runs").join(name)),
        }
    }

    /// The ablation's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the runs say that are finished by now.
    ///
    /// # Errors
    /// If a run's folder holds another run.
    pub fn compare(&self) -> Result<Comparison, Error> {
        let baseline = self.arms[0].1[0].to_table();
        let mut groups = Vec::new();
        let mut first: Option<Run> = None;
        for (arm, recipes) in &self.arms {
            let mut group = Group {
                name: arm.name.clone(),
                settings: differences(&baseline, &recipes[0].to_table()),
                runs: Vec::new(),
                failures: Vec::new(),
            };
            for recipe in recipes {
                let job = self.job(arm, recipe);
                match job.standing()? {
                    Standing::Finished(run) => {
                        if let Some(results) = run.results {
                            group.runs.push(FinishedRun {
                                seed: run.seed,
                                results,
                                metrics: job.folder.read_metrics()?,
                            });
                        }
                        first.get_or_insert(*run);
                    }
                    Standing::Failed(why) => {
                        group.failures.push(format!("seed {}: {why}", recipe.seed));
                    }
                    Standing::Missing | Standing::Unfinished => {}
                }
            }
            groups.push(group);
        }
        let source = &self.arms[0].1[0].data.source;
        Ok(Comparison {
            title: self.title.clone(),
            source: first
                .as_ref()
                .map_or(source, |run| &run.data.source)
                .clone(),
            held_out: first.as_ref().is_some_and(|run| run.data.held_out),
            pairs: Pairs::Seeds,
            machine: first.map(|run| run.machine),
            arms: compare::arms(&groups),
        })
    }
}

const MOST_SEEDS: u64 = 1000;

impl Job {
    /// Where it stands.
    ///
    /// # Errors
    /// If its folder holds a run of another recipe, or cannot be read.
    pub fn standing(&self) -> Result<Standing, Error> {
        if !self.folder.run_json().exists() {
            // What a kill left before there was a run.
            return Ok(Standing::Missing);
        }
        let run = self.folder.read_run()?;
        if run.recipe != self.recipe.to_toml() {
            return Err(Error::Unfit(format!(
                "{}: this run is of another recipe than the arm's; choose another folder with --out, or remove it",
                self.folder.path().display()
            )));
        }
        Ok(match (run.status, &run.failure) {
            (Status::Finished, _) => Standing::Finished(Box::new(run)),
            (Status::Failed, Some(why)) => Standing::Failed(why.clone()),
            _ => Standing::Unfinished,
        })
    }
}

/// A name as a folder's: letters, digits and hyphens.
fn slug(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_alphanumeric());
    let parts: Vec<String> = parts
        .filter(|part| !part.is_empty())
        .map(str::to_lowercase)
        .collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipes::BUILT_IN;

    fn new(arms: &[(&str, &[&str])], seeds: u64) -> Result<(Ablation, Vec<String>), Error> {
        let arms = arms.iter().map(|(name, settings)| Arm {
            name: (*name).into(),
            settings: settings.iter().map(|setting| (*setting).into()).collect(),
        });
        let settings = ["seed=5".to_owned()];
        Ablation::new(
            "t",
            BUILT_IN[0].text,
            "default",
            &settings,
            arms.collect(),
            seeds,
            Path::new("somewhere"),
        )
    }

    #[test]
    fn every_arm_has_the_same_seeds_one_after_the_other() {
        let arms: &[(&str, &[&str])] = &[
            ("recipe", &[]),
            ("No norm!", &["model.norm=none"]),
            ("same", &["train.label_smoothing=0.1"]),
        ];
        let (ablation, notes) = new(arms, 2).unwrap();
        assert_eq!(notes.len(), 1, "{notes:?}");
        let jobs = ablation.jobs();
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "recipe, seed 5",
                "No norm!, seed 5",
                "recipe, seed 6",
                "No norm!, seed 6"
            ]
        );
        assert!(jobs[1].folder.path().ends_with("runs/no-norm-seed-5"));
        assert_eq!(jobs[3].recipe.seed, 6);
        let comparison = ablation.compare().unwrap();
        assert_eq!(comparison.arms[1].settings, ["model.norm=\"none\""]);
        assert!(comparison.arms[1].seeds.is_empty());
    }

    #[test]
    fn what_is_no_ablation_is_told() {
        let base: (&str, &[&str]) = ("recipe", &[]);
        for (arms, expected) in [
            (vec![base], "found 1"),
            (
                vec![
                    base,
                    ("a b", &["train.epochs=2"]),
                    ("A-b", &["train.epochs=3"]),
                ],
                "another of that name",
            ),
            (vec![base, ("bad", &["train.epoch=2"])], "arm bad: "),
        ] {
            let error = new(&arms, 2).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let two: (&str, &[&str]) = ("two", &["train.epochs=2"]);
        let error = new(&[base, two], 0).err().unwrap().to_string();
        assert!(error.contains("--seeds 0"), "{error}");
    }
}
