//! The gradient of the loss at some weights, on the host, and steps against it.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use evenkeel_augment::Batch;
use evenkeel_nn::{Pass, cross_entropy};

use crate::model::Model;

/// The loss and its gradient at a model's weights, parameter by parameter in the model's order.
pub(crate) struct Gradient {
    pub loss: f64,
    pub parts: Vec<Part>,
}

/// Of one parameter.
pub(crate) struct Part {
    pub id: ParamId,
    /// Whether it is a matrix or filters.
    pub is_weight: bool,
    pub values: Vec<f64>,
}

impl Gradient {
    pub fn flat(&self) -> Vec<f64> {
        self.parts
            .iter()
            .flat_map(|part| part.values.iter().copied())
            .collect()
    }
}

struct Reader<'a> {
    gradients: &'a GradientsParams,
    parts: Vec<Part>,
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.parts.push(Part {
                id: param.id,
                is_weight: D > 1,
                values: gradient.into_data().iter::<f64>().collect(),
            });
        }
    }
}

/// Of a model on an autodiff device, on a batch, under a pass that leaves no trace.
pub(crate) fn gradient(model: &Model, batch: &Batch, pass: &Pass, smoothing: f64) -> Gradient {
    let device = model.devices()[0].clone();
    let count = batch.labels.len();
    let x = TensorData::new(
        batch.features.clone(),
        [count, batch.features.len() / count],
    );
    let labels: Vec<i64> = batch.labels.iter().map(|&label| i64::from(label)).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(labels, [count]), &device);
    let loss = cross_entropy(
        model.forward(Tensor::from_data(x, &device), pass),
        targets,
        smoothing,
    );
    let value = loss.clone().into_scalar::<f64>();
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    let mut reader = Reader {
        gradients: &gradients,
        parts: Vec::new(),
    };
    model.visit(&mut reader);
    Gradient {
        loss: value,
        parts: reader.parts,
    }
}

struct Mover<'a> {
    steps: HashMap<ParamId, &'a [f64]>,
    distance: f64,
}

impl ModuleMapper for Mover<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(step) = self.steps.remove(&param.id) else {
            return param;
        };
        let distance = self.distance;
        param.map(|weight| {
            let values: Vec<f32> = step.iter().map(|g| (distance * g) as f32).collect();
            let plain = weight.without_autodiff();
            let step = Tensor::from_data(TensorData::new(values, plain.dims()), &plain.device());
            Tensor::from_inner(plain - step).require_grad()
        })
    }
}

/// The model at w − distance·g, for the parameters of these parts of the gradient.
pub(crate) fn moved(model: &Model, parts: &[Part], distance: f64) -> Model {
    let steps = parts
        .iter()
        .map(|part| (part.id, &part.values[..]))
        .collect();
    model.clone().map(&mut Mover { steps, distance })
}

pub(crate) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt()
}
