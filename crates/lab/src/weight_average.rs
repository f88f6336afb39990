//! An exponential average of the weights over the steps, with norm statistics of its own.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::kind::BridgeTensor;

use crate::model::Model;
use crate::weights;

/// w̄ ← d·w̄ + (1 − d)·w after each step, on a plain device.
///
/// Early on the average would remember the random start, so d rises to `keep`: at step t it is
/// min(keep, (1 + t)/(10 + t)). Running statistics of norms are *not* averaged: those of one
/// model do not describe another's activations. They are recomputed for the averaged weights by
/// [`Pass::recalibrate`](evenkeel_nn::Pass::recalibrate) before they are used.
#[derive(Clone)]
pub(crate) struct WeightAverage {
    keep: f64,
    pub model: Model,
}

impl WeightAverage {
    pub fn new(model: &Model, keep: f64) -> Self {
        Self {
            keep,
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
        let keep = self.keep.min((1.0 + step as f64) / (10.0 + step as f64));
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
