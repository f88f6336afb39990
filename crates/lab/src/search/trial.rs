//! A trial: a pure function of its description and the data, so that it can be done anywhere.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use evenkeel_augment::Loader;
use evenkeel_nn::Pass;
use evenkeel_random::Key;
use evenkeel_record::{Preparation, write_atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::policy::Policy;
use super::space::SubPolicy;
use crate::data::{Dataset, Images, Kind, Split, preparation};
use crate::evaluate::{
    Evaluator, batch_size, likelihood_loss, loader_options, most_probable, numbers, softmax,
};
use crate::examples::{self, Use};
use crate::figures::shown;
use crate::fit::FitOptions;
use crate::model::Model;
use crate::recipe::Recipe;
use crate::session::Session;
use crate::step::step;
use crate::{Error, weights};

/// What is to be done, on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The recipe that is trained, as TOML. Its data are opened for their training part only.
    pub recipe: String,
    /// What is not trained on but measured.
    pub held_out: HeldOut,
    /// What is told.
    pub task: Task,
}

/// The examples that a trial measures: never the test data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// The part of the training data that is left out: its number, of how many, by which seed.
    pub fold: Option<[u64; 3]>,
    /// A source whose training part is measured instead of the fold.
    pub validation: Option<String>,
}

/// What a trial tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// How the trained net does on the held-out examples.
    Train,
    /// How candidates match: for each, the loss of held-out images under it by the net that was trained without.
    Match {
        /// The candidates.
        candidates: Vec<SubPolicy>,
        /// Held-out images that are looked at, at most.
        images: usize,
        /// Views of each. What counts of an image is the best of its views: a candidate is good if it has views
        /// that the net knows better, and costs nothing for those that it does not.
        draws: u64,
        /// Of which images, and of the views.
        seed: u64,
    },
}

/// What a trial told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Of [`Task::Train`].
    Trained(Trained),
    /// Of [`Task::Match`].
    Matched(Matched),
    /// The training diverged: a result too.
    Diverged(String),
}

/// What a training told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// On the held-out examples.
    pub score: Score,
    /// The most probable class of each held-out example.
    pub predicted: Vec<u32>,
    /// By the clock.
    pub seconds: f64,
}

/// How candidates matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matched {
    /// Without any candidate.
    pub plain: Score,
    /// Under each candidate.
    pub candidates: Vec<Score>,
    /// Seconds of the net's training, in the trial that had to train it.
    pub training_seconds: Option<f64>,
    /// Seconds of scoring all candidates.
    pub scoring_seconds: f64,
}

/// How a net does on some examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The mean cross-entropy.
    pub loss: f64,
    /// The share whose most probable class is the right one.
    pub accuracy: f64,
}

/// Does trials, one after another, and keeps what the next may need again.
pub struct Worker {
    device: Device,
    threads: usize,
    /// Where the nets are kept that candidates are matched by.
    nets: PathBuf,
    matching: Option<(String, Matching)>,
}

/// What candidates are scored by.
struct Matching {
    model: Model,
    images: Split,
    labels: Vec<u32>,
    kind: Kind,
    preparation: Preparation,
    classes: usize,
    /// The model's, a plain one.
    device: Device,
    /// Without any candidate.
    plain: Score,
}

impl Outcome {
    /// Of a training, or how it diverged.
    pub(super) fn trained(self) -> Result<Result<Trained, String>, Error> {
        match self {
            Self::Trained(trained) => Ok(Ok(trained)),
            Self::Diverged(how) => Ok(Err(how)),
            Self::Matched(_) => Err(Self::mistaken()),
        }
    }

    /// Of candidates.
    pub(super) fn matched(self) -> Result<Matched, Error> {
        match self {
            Self::Matched(matched) => Ok(matched),
            Self::Diverged(how) => Err(diverged(&how)),
            Self::Trained(_) => Err(Self::mistaken()),
        }
    }

    fn mistaken() -> Error {
        Error::Unfit("the journal has the outcome of another task than the trial's".into())
    }
}

/// Where nothing can be said after a training that diverged.
pub(super) fn diverged(how: &str) -> Error {
    Error::Unfit(format!(
        "a training of the recipe diverged ({how}), so nothing can be said of policies for it; try a lower \
         optimizer.learning_rate"
    ))
}

impl Worker {
    /// With a folder for trained nets: they are functions of the trials too, so any worker can use them.
    pub fn new(nets: &Path, device: &Device, threads: usize) -> Self {
        Self {
            device: device.clone(),
            threads,
            nets: nets.to_owned(),
            matching: None,
        }
    }

    /// Does a trial.
    ///
    /// # Errors
    /// If the recipe or its data do not fit, or a file cannot be read or written.
    pub fn perform(&mut self, trial: &Trial) -> Result<Outcome, Error> {
        let recipe = Recipe::parse(&trial.recipe, "a trial's recipe", &[])?;
        match &trial.task {
            Task::Train => {
                let began = Instant::now();
                let data = trial.held_out.data(&recipe)?;
                let test = data.test.clone();
                let (kind, classes) = (data.kind.clone(), data.classes.len());
                let prepared = preparation(&data);
                let model = match self.train(&recipe, data)? {
                    Ok(model) => model,
                    Err(diverged) => return Ok(Outcome::Diverged(diverged)),
                };
                let evaluator = Evaluator::new(&test, &kind, classes, &prepared, 0, &self.device)?;
                let measured = evaluator.measure(&model)?;
                let rows = measured.probabilities.chunks_exact(classes);
                Ok(Outcome::Trained(Trained {
                    score: Score {
                        loss: measured.loss,
                        accuracy: measured.accuracy,
                    },
                    predicted: rows.map(|row| most_probable(row) as u32).collect(),
                    seconds: began.elapsed().as_secs_f64(),
                }))
            }
            Task::Match {
                candidates,
                images,
                draws,
                seed,
            } => {
                let key = format!("{}\n{:?}\n{images}\n{seed}", trial.recipe, trial.held_out);
                let mut training_seconds = None;
                if self
                    .matching
                    .as_ref()
                    .is_none_or(|(known, _)| *known != key)
                {
                    let began = Instant::now();
                    match self.matching(&recipe, trial, *images, *seed)? {
                        Ok((matching, trained)) => {
                            training_seconds = trained.then(|| began.elapsed().as_secs_f64());
                            self.matching = Some((key, matching));
                        }
                        Err(diverged) => return Ok(Outcome::Diverged(diverged)),
                    }
                }
                let (_, matching) = self.matching.as_ref().expect("set above");
                let began = Instant::now();
                let scores = candidates.iter().map(|candidate| {
                    matching.score(&Policy::of(vec![candidate.clone()]), *draws, *seed)
                });
                Ok(Outcome::Matched(Matched {
                    plain: matching.plain,
                    candidates: scores.collect::<Result<_, _>>()?,
                    training_seconds,
                    scoring_seconds: began.elapsed().as_secs_f64(),
                }))
            }
        }
    }

    /// The trained model on a plain device, or how its training diverged.
    fn train(&self, recipe: &Recipe, data: Dataset) -> Result<Result<Model, String>, Error> {
        let stop = AtomicBool::new(false);
        let options = FitOptions {
            workers: 0,
            threads: self.threads,
            device: self.device.clone(),
            device_name: "",
            stop: &stop,
        };
        let session = Session::with(recipe, &options, data, Instant::now())?;
        let mut training = session.fresh()?;
        for epoch in 0..recipe.train.epochs {
            for batch in session.loader.epoch(epoch, 0) {
                if let Err(loss) = step(&session, &mut training, batch?) {
                    let step = training.progress.step + 1;
                    return Ok(Err(format!("step {step}: the loss is {loss}")));
                }
            }
        }
        let model = training.evaluated(&session.evaluator(&session.data.train)?)?;
        let unreadable = |problem| Error::Weights {
            path: self.nets.clone(),
            problem,
        };
        let record = weights::to_record(&model).map_err(unreadable)?;
        Ok(match weights::not_finite(&record).map_err(unreadable)? {
            Some(name) => Err(weights::ruined(&name)),
            None => Ok(model),
        })
    }

    /// The net of a trial's recipe, from its file or trained now (then true), and the images that it judges.
    fn matching(
        &self,
        recipe: &Recipe,
        trial: &Trial,
        most: usize,
        seed: u64,
    ) -> Result<Result<(Matching, bool), String>, Error> {
        let data = trial.held_out.data(recipe)?;
        let Kind::Images {
            height,
            width,
            channels,
        } = data.kind
        else {
            return Err(Error::Unfit(
                "policies are for images, and the data is a table".into(),
            ));
        };
        let (kind, classes, prepared) = (data.kind.clone(), data.classes.len(), preparation(&data));
        let held_out = data.test.clone();
        let path = self.nets.join(format!(
            "{}.safetensors",
            digest(&format!("{}\n{:?}", trial.recipe, trial.held_out))
        ));
        let trained = !path.exists();
        if trained {
            let model = match self.train(recipe, data)? {
                Ok(model) => model,
                Err(diverged) => return Ok(Err(diverged)),
            };
            let bytes = weights::to_safetensors(&model).map_err(|problem| Error::Weights {
                path: path.clone(),
                problem,
            })?;
            write_atomic(&path, &bytes)?;
        }
        let device = self.device.clone().without_autodiff();
        let model = recipe.model.build(&kind, classes, &device);
        let model = weights::from_safetensors(model.map_err(Error::Unfit)?, &path)?;

        let mut chosen: Vec<usize> = (0..held_out.len()).collect();
        let key = Key::from_seed(seed).child("matched images");
        key.draws().shuffle(&mut chosen);
        chosen.truncate(most);
        chosen.sort_unstable();
        let labels: Vec<u32> = chosen.iter().map(|&i| held_out.labels()[i]).collect();
        let bytes = height * width * channels;
        let mut pixels = Vec::with_capacity(bytes * chosen.len());
        for &index in &chosen {
            let image = shown(&held_out, &kind, index).ok_or_else(|| {
                Error::Unfit(format!("held-out image {index} can no longer be read"))
            })?;
            pixels.extend_from_slice(image.pixels());
        }
        let mut matching = Matching {
            model,
            images: Split::Images(Images {
                bytes,
                pixels: pixels.into(),
                labels: labels.clone().into(),
            }),
            labels,
            kind,
            preparation: prepared,
            classes,
            device,
            plain: Score {
                loss: f64::NAN,
                accuracy: f64::NAN,
            },
        };
        matching.plain = matching.score(&Policy::default(), 1, seed)?;
        Ok(Ok((matching, trained)))
    }
}

impl HeldOut {
    /// The data that a recipe is trained on, with what is held out in the place of the test data.
    pub(super) fn data(&self, recipe: &Recipe) -> Result<Dataset, Error> {
        self.divide(recipe.open_data()?, recipe)
    }

    /// The recipe's data, divided so.
    pub(super) fn divide(&self, data: Dataset, recipe: &Recipe) -> Result<Dataset, Error> {
        let divided = match self.fold {
            Some([index, folds, seed]) => data.fold(index, folds, seed)?,
            None => data,
        };
        let Some(validation) = &self.validation else {
            // Without a fold nothing would be held out, and the test data would be measured.
            return match divided.held_out {
                true => Ok(divided),
                false => Err(Error::Unfit(
                    "a trial holds out a fold or has a validation source; this one has neither"
                        .into(),
                )),
            };
        };
        let other = Dataset::open_with(&validation.parse()?, &recipe.other_images())?;
        if other.kind != divided.kind || other.classes != divided.classes {
            return Err(Error::Unfit(format!(
                "the validation images are of shape {:?} in classes {}, those of {} are of {:?} in {}; expected the \
                 same",
                other.kind.shape(),
                other.classes.join(", "),
                divided.name,
                divided.kind.shape(),
                divided.classes.join(", ")
            )));
        }
        Ok(divided.evaluated_on(other.train))
    }
}

impl Matching {
    /// Of the held-out images under a policy; of each image, its best view.
    fn score(&self, policy: &Policy, draws: u64, seed: u64) -> Result<Score, Error> {
        let examples = examples::prepare(
            &self.images,
            &self.kind,
            &self.preparation,
            policy.operations(&[], self.classes as u32),
            seed,
            Use::Train { exact: false },
        )?;
        let count = self.labels.len();
        let loader = Loader::new(examples, loader_options(batch_size(count), 0))?;
        let features: usize = self.kind.shape().iter().product();
        let mut losses = vec![f64::INFINITY; count];
        let mut hits = vec![false; count];
        for draw in 0..draws {
            for batch in loader.epoch(draw, 0) {
                let batch = batch?;
                let shape = [batch.labels.len(), features];
                let x = Tensor::from_data(TensorData::new(batch.features, shape), &self.device);
                let logits = numbers(self.model.forward(x, &Pass::test()));
                let rows = logits.chunks_exact(self.classes);
                for ((row, &label), &sample) in rows.zip(&batch.labels).zip(&batch.samples) {
                    let probabilities: Vec<f64> = softmax(row).collect();
                    let loss = likelihood_loss(probabilities[label as usize]);
                    losses[sample] = losses[sample].min(loss);
                    hits[sample] |= most_probable(&probabilities) == label as usize;
                }
            }
        }
        let count = count.max(1) as f64;
        Ok(Score {
            loss: losses.iter().sum::<f64>() / count,
            accuracy: hits.iter().filter(|hit| **hit).count() as f64 / count,
        })
    }
}

/// A name for what a text describes.
fn digest(text: &str) -> String {
    let bytes = Sha256::digest(text.as_bytes());
    bytes[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
