//! The noise that a net was trained with, drawn again at test: masks, and the batches whose statistics its batch
//! norms used.
//!
//! Sources: Gal and Ghahramani, "Dropout as a Bayesian Approximation" (2016); Teye, Azizpour and Smith, "Bayesian
//! Uncertainty Estimation for Batch Normalized Deep Networks" (2018).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, Tensor};
use evenkeel_nn::Pass;
use evenkeel_record::RunFolder;

use super::AverageOptions;
use crate::Error;
use crate::model::{Model, ModelRecipe};
use crate::probe::Subject;

/// Which of the noise of training is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Noise {
    /// All that the net was trained with.
    #[default]
    All,
    /// The masks of dropout and DropConnect; batch norms use their running statistics.
    Masks,
    /// For each draw another training batch, whose statistics the batch norms use; nothing is dropped.
    Batches,
}

impl FromStr for Noise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "masks" => Ok(Self::Masks),
            "batches" => Ok(Self::Batches),
            other => Err(format!("expected all, masks or batches, found {other}")),
        }
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all noise",
            Self::Masks => "masks",
            Self::Batches => "batches",
        })
    }
}

const MOST_DRAWS: u64 = 10_000;

/// The net under each draw.
pub(super) struct Draws<'a> {
    seed: u64,
    count: u64,
    masks: bool,
    /// With the statistics of one training batch each; the net itself where they are the running ones.
    nets: Cow<'a, [Model]>,
}

impl<'a> Draws<'a> {
    /// Refuses what would draw nothing.
    pub fn check(model: &ModelRecipe, options: &AverageOptions) -> Result<(), Error> {
        let refuse =
            |problem: String| Err(Error::Unfit(format!("--mc {}: {problem}", options.draws)));
        if options.draws > MOST_DRAWS {
            return refuse(format!("expected at most {MOST_DRAWS} draws"));
        }
        let (masks, batches) = (model.draws_noise(), model.norm().is_batch());
        let problem = match options.noise {
            Noise::All if !masks && !batches => {
                "this net draws no noise (model.dropout and drop_connect are 0, model.norm is no batch norm)"
            }
            Noise::Masks if !masks => {
                "this net draws no masks (model.dropout and drop_connect are 0)"
            }
            Noise::Batches if !batches => {
                "this net has no batch norms, so training batches make no difference"
            }
            _ => return Ok(()),
        };
        match options.draws {
            0 => Ok(()),
            _ => refuse(format!(
                "{problem}, so all draws would be the same; train one with dropout, or average over views by --tta"
            )),
        }
    }

    /// By the running statistics; without draws, the net in test mode.
    pub fn new(model: &'a Model, seed: u64, count: u64, masks: bool) -> Self {
        Self {
            seed,
            count,
            masks,
            nets: Cow::Borrowed(std::slice::from_ref(model)),
        }
    }

    /// Of a run's net, with batches of the run's own training data if batch norms are to use them.
    pub fn of(
        model: &'a Model,
        recipe: &ModelRecipe,
        folder: &RunFolder,
        options: &AverageOptions,
        workers: usize,
        device: &Device,
    ) -> Result<Self, Error> {
        let &AverageOptions {
            draws, noise, seed, ..
        } = options;
        let masks = noise != Noise::Batches && recipe.draws_noise();
        let drawn = Self::new(model, seed, draws, masks && draws > 0);
        if draws == 0 || noise == Noise::Masks || !recipe.norm().is_batch() {
            return Ok(drawn);
        }
        let subject = Subject::open(folder, workers, device)?;
        let batches = subject.unseen_batches(seed)?.take(draws as usize);
        drawn.with_batches(model, batches.map(|batch| Ok(batch?.x)))
    }

    /// With the statistics of one of these batches for each draw, under the noise of that draw if there are masks.
    pub fn with_batches(
        self,
        model: &Model,
        batches: impl Iterator<Item = Result<Tensor<2>, Error>>,
    ) -> Result<Self, Error> {
        let net = |(draw, batch): (u64, Result<Tensor<2>, Error>)| {
            let pass = match self.masks {
                true => Pass::train(self.seed, draw).pool_statistics(),
                false => Pass::recalibrate(),
            };
            let net = model.clone();
            net.forward(batch?, &pass);
            Ok(net)
        };
        let nets: Vec<Model> = (0..).zip(batches).map(net).collect::<Result<_, Error>>()?;
        Ok(Self {
            nets: Cow::Owned(nets),
            ..self
        })
    }

    /// The net and its pass, draw by draw; once in test mode if there are no draws.
    pub fn passes(&self) -> impl Iterator<Item = (&Model, Pass)> {
        let nets = self.nets.iter().cycle();
        nets.zip(0..self.forwards()).map(|(net, draw)| {
            let pass = match self.masks {
                true => Pass::monte_carlo(self.seed, draw),
                false => Pass::test(),
            };
            (net, pass)
        })
    }

    /// Of a view.
    pub fn forwards(&self) -> u64 {
        self.count.max(1)
    }
}
