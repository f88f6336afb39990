//! Redundancy: the accuracy of parts of the net, chosen at random.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use evenkeel_nn::{Norm, NormKind, Norms, Pass, is_linear};
use evenkeel_random::Key;

use super::instrument::{Estimate, curve, over};
use super::modes::accuracy;
use super::score::scores;
use super::subject::Subject;
use super::{Measured, Told};
use crate::Error;
use crate::model::{Model, Nonlinearity};

/// Random parts of each size.
const PARTS: u64 = 12;
const EXAMPLES: usize = 512;
const SHARES: [f64; 7] = [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let model = &subject.recipe.model;
    if model.activation() != Nonlinearity::Relu {
        return Ok(Told::Unfit(
            "channels are dropped by scaling what a ReLU receives, and the net has another activation".into(),
        ));
    }
    if model.norm() == NormKind::BatchUnscaled {
        return Ok(Told::Unfit(
            "channels are dropped in the scales and shifts of norms, which this net's lack".into(),
        ));
    }
    let batches = subject.batches(&subject.clean(&subject.data.test, EXAMPLES))?;
    let whole = scores(&subject.model, &batches, |_| Pass::test());
    let key = Key::from_seed(subject.recipe.seed).child("parts");
    let mut points = Vec::new();
    let mut halves = Vec::new();
    for share in SHARES {
        let accuracies: Vec<f64> = (0..if share == 1.0 { 1 } else { PARTS })
            .map(|part| {
                let part = thinned(&subject.model, share, key.at((1e4 * share) as u64).at(part));
                scores(&part, &batches, |_| Pass::test()).accuracy()
            })
            .collect();
        let estimate = if share == 1.0 {
            accuracy(&whole)
        } else {
            Estimate::mean(&accuracies)
        };
        if share == 0.5 {
            halves = accuracies;
        }
        points.push((share, estimate));
    }
    let spread = halves
        .iter()
        .copied()
        .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], a| {
            [low.min(a), high.max(a)]
        });
    let half = points[1].1;
    let mut readings: Vec<_> = points
        .iter()
        .map(|(share, estimate)| {
            estimate.reading(format!("{:.0} % of the channels kept", 100.0 * share), "")
        })
        .collect();
    readings.push(Estimate::exact(spread[0]).reading(format!("worst of {PARTS} halves"), ""));
    readings.push(Estimate::exact(spread[1]).reading(format!("best of {PARTS} halves"), ""));
    Ok(Told::Measured(Measured {
        meaning: format!(
            "A random half of the channels keeps {:.1} % of {:.1} % accuracy: dropout's promise is that any half \
             works.",
            100.0 * half.value,
            100.0 * whole.accuracy()
        ),
        readings,
        figures: vec![over(
            "Accuracy of random parts",
            "share of the channels kept",
            "test accuracy",
            false,
            vec![curve("mean of random parts", points.into_iter())],
        )],
    }))
}

/// The model with a random share of each hidden layer's channels, the others set to zero and the kept ones
/// divided by the share: what dropout would do with one mask for all examples. A channel is dropped where
/// its values are scaled last: in the norm's γ and β, or, without a norm, in the layer's weights and bias. At
/// least one channel of a layer is kept.
pub(crate) fn thinned(model: &Model, share: f64, key: Key) -> Model {
    let mut model = model.clone();
    let mut norms = 0;
    model.visit_norms(&mut |path, norm| {
        norms += 1;
        let (scale, shift) = match norm {
            Norm::Batch(norm) => (&mut norm.weight, &mut norm.bias),
            Norm::Group(norm) => (&mut norm.weight, &mut norm.bias),
            Norm::Layer(norm) => (&mut norm.weight, &mut norm.bias),
            Norm::Instance(norm) => (&mut norm.weight, &mut norm.bias),
        };
        for param in [scale, shift] {
            *param = param.take().map(|param| {
                let factors = factors(param.dims()[0], share, key.child(path));
                scaled(param, 0, factors)
            });
        }
    });
    if norms > 0 {
        // The dense layer of a head has no norm.
        if let Model::ConvNet(net) = &mut model
            && let Some(dense) = &mut net.dense
        {
            let factors = factors(dense.weight.dims()[1], share, key.child("dense"));
            dense.bias = dense
                .bias
                .take()
                .map(|bias| scaled(bias, 0, factors.clone()));
            dense.weight = scaled(dense.weight.clone(), 1, factors);
        }
        return model;
    }
    let mut layers = Layers::default();
    model.visit(&mut layers);
    model.map(&mut Thin {
        share,
        key,
        last: layers.weights,
        layer: 0,
        linear: false,
    })
}

/// With the slices along an axis multiplied by these factors.
fn scaled<const D: usize>(
    param: Param<Tensor<D>>,
    axis: usize,
    factors: Vec<f32>,
) -> Param<Tensor<D>> {
    let mut shape = [1; D];
    shape[axis] = factors.len();
    param.map(|values| {
        let factors = Tensor::from_data(TensorData::new(factors, shape), &values.device());
        values * factors
    })
}

/// 1/share or 0 for each channel.
fn factors(channels: usize, share: f64, key: Key) -> Vec<f32> {
    let kept = ((share * channels as f64).round() as usize).clamp(1, channels);
    let mut order: Vec<usize> = (0..channels).collect();
    key.draws().shuffle(&mut order);
    let mut factors = vec![0.0; channels];
    for &channel in &order[..kept] {
        factors[channel] = (channels as f64 / kept as f64) as f32;
    }
    factors
}

/// Counts the matrices and filters.
#[derive(Default)]
struct Layers {
    weights: usize,
}

impl burn::module::ModuleVisitor for Layers {
    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        self.weights += usize::from(D > 1);
    }
}

/// Thins the output of each layer but the last, the classifier.
struct Thin {
    share: f64,
    key: Key,
    last: usize,
    layer: usize,
    linear: bool,
}

impl ModuleMapper for Thin {
    fn enter_module(&mut self, _: &str, container: &str) {
        self.linear = is_linear(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // A bias comes after its weight.
        if D > 1 {
            self.layer += 1;
        }
        if self.layer == self.last {
            return param;
        }
        let dims = param.dims();
        let axis = if D == 2 && self.linear { 1 } else { 0 };
        let factors = factors(dims[axis], self.share, self.key.at(self.layer as u64));
        scaled(param, axis, factors)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use evenkeel_nn::{NormKind, initialize};

    use super::*;
    use crate::data::Kind;
    use crate::model::ModelRecipe;

    #[test]
    fn a_layer_of_copies_is_wholly_redundant() {
        let kind = Kind::Table {
            columns: vec!["a".into(), "b".into()],
        };
        let device = Device::flex();
        for norm in [NormKind::None, NormKind::Batch] {
            let recipe = ModelRecipe::Mlp {
                hidden: vec![8],
                norm,
                dropout: 0.0,
                activation: Default::default(),
                drop_connect: 0.0,
            };
            let model = initialize(recipe.build(&kind, 2, &device).unwrap(), 3);
            let Model::Mlp(mut net) = model else {
                panic!("a dense net")
            };
            // All hidden units alike: any half, scaled by two, is the whole.
            net.blocks[0].linear.weight = net.blocks[0]
                .linear
                .weight
                .clone()
                .map(|w| w.slice([0..2, 0..1]).repeat_dim(1, 8));
            net.head.weight = net
                .head
                .weight
                .clone()
                .map(|w| w.slice([0..1, 0..2]).repeat_dim(0, 8));
            let model = Model::Mlp(net);
            let x = Tensor::<2>::from_floats([[1.0, 2.0], [-3.0, 0.5], [0.3, -0.2]], &device);
            let whole = model.forward(x.clone(), &Pass::test());
            for part in 0..4 {
                let half = thinned(&model, 0.5, Key::from_seed(1).at(part))
                    .forward(x.clone(), &Pass::test());
                let difference = (half - whole.clone()).abs().max().into_scalar::<f32>();
                assert!(difference < 1e-5, "{norm:?} {difference}");
            }
            let none = thinned(&model, 1.0, Key::from_seed(1)).forward(x.clone(), &Pass::test());
            assert_eq!(none.into_data(), whole.into_data());
        }
        assert_eq!(
            factors(8, 0.5, Key::from_seed(2))
                .iter()
                .filter(|f| **f == 2.0)
                .count(),
            4
        );
    }
}
