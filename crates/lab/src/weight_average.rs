//! An average of the weights over the steps or epochs, with norm statistics of its own.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::kind::BridgeTensor;

use crate::model::Model;
use crate::weights;

/// w̄ ← d·w̄ + (1 − d)·w, on a plain device, where the rule says how much is kept.
///
/// Running statistics of norms are values of the model like others and are averaged with them, but never
/// used so: averaged statistics do not describe the averaged weights' activations.
/// [`Pass::recalibrate`](evenkeel_nn::Pass::recalibrate) overwrites them, in a copy, each time before the
/// average is evaluated or saved.
#[derive(Clone)]
pub(crate) struct WeightAverage {
    rule: Rule,
    pub model: Model,
}

/// Which weights an average is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// Of all steps, the last counting most. Early on the average would remember the random start, so d rises
    /// to `keep`: at step t it is min(keep, (1 + t)/(10 + t)).
    Exponential { keep: f64 },
    /// Of the ends of epochs from this one on (counted from 1), all alike: d is n/(n + 1) after n of them. Up
    /// to there it is the last epoch's weights.
    ///
    /// Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging Weights Leads to Wider Optima and
    /// Better Generalization" (2018).
    Stochastic { from: u64, epoch_steps: u64 },
}

impl Rule {
    /// d after `step` steps; `None` if nothing is averaged in.
    fn keep(self, step: u64) -> Option<f64> {
        match self {
            Self::Exponential { keep } => {
                Some(keep.min((1.0 + step as f64) / (10.0 + step as f64)))
            }
            Self::Stochastic { from, epoch_steps } => {
                let done = step + 1;
                done.is_multiple_of(epoch_steps).then(|| {
                    let before = (done / epoch_steps).saturating_sub(from) as f64;
                    before / (before + 1.0)
                })
            }
        }
    }
}

impl WeightAverage {
    pub fn new(model: &Model, rule: Rule) -> Self {
        Self {
            rule,
            model: model.valid(),
        }
    }

    /// The average that a checkpoint recorded.
    pub fn with_record(self, bytes: Vec<u8>) -> Result<Self, String> {
        let model = weights::from_record(self.model, bytes)?;
        Ok(Self { model, ..self })
    }

    /// Averages in the weights after `step` steps.
    pub fn update(&mut self, model: &Model, step: u64) {
        let Some(keep) = self.rule.keep(step) else {
            return;
        };
        let mut current = Collector {
            weights: HashMap::new(),
        };
        model.visit(&mut current);
        let mut mixer = Mixer {
            keep,
            current: current.weights,
        };
        self.model = self.model.clone().map(&mut mixer);
    }
}

struct Collector {
    weights: HashMap<ParamId, BridgeTensor>,
}

impl ModuleVisitor for Collector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.weights
            .insert(param.id, param.val().without_autodiff().into_bridge());
    }
}

struct Mixer {
    keep: f64,
    current: HashMap<ParamId, BridgeTensor>,
}

impl ModuleMapper for Mixer {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(current) = self.current.remove(&param.id) else {
            return param;
        };
        let current = Tensor::<D>::from_bridge(current);
        param.map(|average| average.mul_scalar(self.keep) + current.mul_scalar(1.0 - self.keep))
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;
    use crate::model::Mlp;

    /// A net whose only weight is this.
    fn net(weight: f32, like: Option<&Model>) -> Model {
        let device = Device::flex().autodiff();
        let model = like.cloned().unwrap_or_else(|| {
            let linear = LinearConfig::new(1, 1).with_bias(false);
            Model::Mlp(Mlp {
                blocks: Vec::new(),
                head: linear.init(&device),
                drop_connect: 0.0,
            })
        });
        let Model::Mlp(mut net) = model else {
            panic!("a dense net")
        };
        net.head.weight = net
            .head
            .weight
            .map(|_| Tensor::from_data([[weight]], &device));
        Model::Mlp(net)
    }

    #[test]
    fn averages_by_hand() {
        let start = net(1.0, None);
        let mut average = WeightAverage::new(&start, Rule::Exponential { keep: 0.25 });
        // d is min(0.25, (1 + t)/(10 + t)): 1/10, 2/11, 3/12, then 0.25.
        let mut expected = 1.0;
        for (step, (weight, keep)) in [(3.0, 0.1), (-2.0, 2.0 / 11.0), (5.0, 0.25), (8.0, 0.25)]
            .into_iter()
            .enumerate()
        {
            average.update(&net(weight, Some(&start)), step as u64);
            expected = keep * expected + (1.0 - keep) * f64::from(weight);
            let Model::Mlp(net) = &average.model else {
                panic!("a dense net")
            };
            let found = net.head.weight.val().into_scalar::<f64>();
            assert!((found - expected).abs() < 1e-6, "{found} and {expected}");
        }
    }
    #[test]
    fn ends_of_epochs_are_averaged_alike() {
        let start = net(1.0, None);
        let rule = Rule::Stochastic {
            from: 2,
            epoch_steps: 3,
        };
        let mut average = WeightAverage::new(&start, rule);
        // Weights are t at the end of step t = 0, 1, ...; epochs end at 2, 5, 8, 11.
        for (step, expected) in [
            (0, 1.0),
            (1, 1.0),
            (2, 2.0),
            (3, 2.0),
            (5, 5.0),
            (8, 6.5),
            (10, 6.5),
            (11, 8.0),
        ] {
            average.update(&net(step as f32, Some(&start)), step);
            let Model::Mlp(net) = &average.model else {
                panic!("a dense net")
            };
            let found = net.head.weight.val().into_scalar::<f64>();
            assert!(
                (found - expected).abs() < 1e-6,
                "{step}: {found}, {expected}"
            );
        }
    }
}
