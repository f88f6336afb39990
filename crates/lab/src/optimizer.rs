//! The step: decay by role, clipping by the global norm, Burn's optimizer.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Tensor, TensorData};
use evenkeel_nn::WeightDecay;

use crate::model::Model;
use crate::recipe::{OptimizerRecipe, Recipe};

pub(crate) struct Optimizer {
    inner: ModuleOptimizer,
    decay: WeightDecay,
    /// 0 does not clip.
    clip_norm: f64,
}

/// What a step did.
pub(crate) struct Step {
    pub model: Model,
    /// Before clipping; `None` where it was not needed.
    pub gradient_norm: Option<f64>,
}

impl Optimizer {
    pub fn new(recipe: &Recipe) -> Self {
        // Burn decays every parameter, so its own decay is off and ours goes by role.
        let inner = match recipe.optimizer {
            OptimizerRecipe::Sgd {
                momentum, nesterov, ..
            } => {
                let mut config = SgdConfig::new();
                if momentum > 0.0 {
                    config = config.with_momentum(Some(
                        MomentumConfig::new()
                            .with_momentum(momentum)
                            .with_dampening(0.0)
                            .with_nesterov(nesterov),
                    ));
                }
                config.init()
            }
            OptimizerRecipe::Adamw {
                beta1,
                beta2,
                epsilon,
                ..
            } => AdamWConfig::new()
                .with_beta_1(beta1 as f32)
                .with_beta_2(beta2 as f32)
                .with_epsilon(epsilon as f32)
                .with_weight_decay(0.0)
                .init(),
        };
        let decay = WeightDecay {
            decay: recipe.decay.penalty,
            roles: recipe.decay.roles.clone(),
        };
        Self {
            inner,
            decay,
            clip_norm: recipe.train.clip_norm,
        }
    }

    pub fn decay(&self) -> &WeightDecay {
        &self.decay
    }

    pub fn step(&mut self, model: Model, gradients: GradientsParams, learning_rate: f64) -> Step {
        let gradients = self.decay.add_to_gradients(&model, gradients);
        let (gradients, gradient_norm) = if self.clip_norm > 0.0 {
            let (gradients, norm) = clip(&model, gradients, self.clip_norm);
            (gradients, Some(norm))
        } else {
            (gradients, None)
        };
        let model = self.decay.shrink(model, learning_rate);
        Step {
            model: self.inner.step(learning_rate, model, gradients),
            gradient_norm,
        }
    }

    /// The state as bytes: momentum and moments by parameter id.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        self.inner
            .into_bytes()
            .map(|bytes| bytes.to_vec())
            .map_err(|error| error.to_string())
    }

    pub fn load_bytes(self, bytes: Vec<u8>) -> Result<Self, String> {
        let bytes = burn::tensor::Bytes::from_bytes_vec(bytes);
        let inner = self
            .inner
            .from_bytes(bytes)
            .map_err(|error| error.to_string())?;
        Ok(Self { inner, ..self })
    }
}

/// Scales the whole gradient so that its norm is at most `limit`. (Burn's own clipping goes tensor
/// by tensor, which changes the gradient's direction.)
fn clip(model: &Model, gradients: GradientsParams, limit: f64) -> (GradientsParams, f64) {
    let mut norm = Norm {
        gradients: &gradients,
        squares: 0.0,
    };
    model.visit(&mut norm);
    let norm = norm.squares.sqrt();
    // A gradient that is not finite must not be scaled into one that looks as if it were.
    if norm <= limit || !norm.is_finite() {
        return (gradients, norm);
    }
    let mut scaler = Scaler {
        gradients,
        factor: limit / norm,
    };
    model.visit(&mut scaler);
    (scaler.gradients, norm)
}

struct Norm<'a> {
    gradients: &'a GradientsParams,
    squares: f64,
}

impl ModuleVisitor for Norm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else {
            return;
        };
        // Summed here in order: Burn's full sum of a large tensor is not repeatable.
        let data: TensorData = gradient.into_data();
        self.squares += data.iter::<f64>().map(|value| value * value).sum::<f64>();
    }
}

struct Scaler {
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scaler {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients
                .register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;
    use evenkeel_nn::{Decay, Pass};
    use serde::Deserialize;

    use super::*;
    use crate::model::Mlp;
    use crate::recipes::BUILT_IN;

    /// A net of one linear layer, and Burn's layout of its weights: `[in, out]`.
    fn linear(weight: &[f64], bias: &[f64], device: &Device) -> Model {
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
        let mut head = LinearConfig::new(inputs, outputs).init(device);
        let data = TensorData::new(weight.to_vec(), [inputs, outputs]).convert::<f32>();
        head.weight = Param::from_tensor(Tensor::from_data(data, device));
        let data = TensorData::new(bias.to_vec(), [outputs]).convert::<f32>();
        head.bias = Some(Param::from_tensor(Tensor::from_data(data, device)));
        Model::Mlp(Mlp {
            blocks: Vec::new(),
            head,
            drop_connect: 0.0,
        })
    }

    fn parameters(model: &Model) -> Vec<f64> {
        let Model::Mlp(Mlp { head, .. }) = model else {
            panic!("a dense net")
        };
        let weight = head.weight.val().into_data();
        let bias = head.bias.as_ref().unwrap().val().into_data();
        weight.iter::<f64>().chain(bias.iter::<f64>()).collect()
    }

    fn recipe(settings: &[String]) -> Recipe {
        Recipe::parse(BUILT_IN[0].text, BUILT_IN[0].name, settings).unwrap()
    }

    #[derive(Deserialize)]
    struct File {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        decay: Decay,
        x: Vec<f64>,
        start: Parameters,
        end: Parameters,
    }

    #[derive(Deserialize)]
    struct Parameters {
        weight: Vec<f64>,
        bias: Vec<f64>,
    }

    /// Four steps of SGD with Nesterov momentum and L2, L1 and elastic net, and of AdamW, on mean(y²):
    /// as PyTorch's.
    #[test]
    fn steps_are_pytorchs() {
        let device = Device::flex().autodiff();
        let text = include_str!("../../../reference/fixtures/optimizer.json");
        let file: File = serde_json::from_str(text).unwrap();
        assert_eq!(file.cases.len(), 4);
        for case in file.cases {
            let sgd = "{ kind = \"sgd\", learning_rate = 0.2 }";
            let (penalty, optimizer) = match case.decay {
                Decay::L2 { strength } => (format!("kind = \"l2\", strength = {strength}"), sgd),
                Decay::L1 { strength } => (format!("kind = \"l1\", strength = {strength}"), sgd),
                Decay::ElasticNet { l1, l2 } => {
                    let penalty = format!("kind = \"elastic_net\", l1 = {l1}, l2 = {l2}");
                    (penalty, sgd)
                }
                Decay::Decoupled { strength } => (
                    format!("kind = \"decoupled\", strength = {strength}"),
                    "{ kind = \"adamw\", learning_rate = 0.2, beta2 = 0.99 }",
                ),
                Decay::None => panic!("no decay in the fixture"),
            };
            let recipe = recipe(&[
                format!("optimizer={optimizer}"),
                format!("decay.penalty={{ {penalty} }}"),
            ]);
            assert_eq!(recipe.decay.penalty, case.decay);
            let mut optimizer = Optimizer::new(&recipe);
            let mut model = linear(&case.start.weight, &case.start.bias, &device);
            let x = TensorData::new(case.x, [4, 3]).convert::<f32>();
            for _ in 0..4 {
                let y = model.forward(Tensor::from_data(x.clone(), &device), &Pass::test());
                let loss = (y.clone() * y).mean();
                let gradients = GradientsParams::from_grads(loss.backward(), &model);
                model = optimizer
                    .step(model, gradients, recipe.optimizer.learning_rate())
                    .model;
            }
            let expected = [case.end.weight, case.end.bias].concat();
            for (found, expected) in parameters(&model).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
            }
        }
    }

    /// For the loss Σ c·θ the gradient is c. Its norm is √(3² + 4² + 12² + 84²) = 85 over weights
    /// and bias together, by hand; tensor by tensor the two would be 13 and 84.
    #[test]
    fn clipping_is_by_the_norm_of_the_whole_gradient() {
        let device = Device::flex().autodiff();
        let gradient = [3.0, 4.0, -12.0, 84.0];
        for (limit, factor) in [(17.0, 0.2), (85.0, 1.0), (1000.0, 1.0)] {
            let recipe = recipe(&[
                "optimizer={ kind = \"sgd\", learning_rate = 1.0, momentum = 0.0, nesterov = false }"
                    .into(),
                "decay.penalty={ kind = \"none\" }".into(),
                format!("train.clip_norm={limit}"),
            ]);
            let model = linear(&[0.0, 0.0, 0.0], &[0.0], &device);
            // y = w·x + b for one example x: dy/dw = x, dy/db = 1.
            let x = TensorData::new(vec![3.0_f32 / 84.0, 4.0 / 84.0, -12.0 / 84.0], [1, 3]);
            let y = model.forward(Tensor::from_data(x, &device), &Pass::test());
            let loss = y.sum().mul_scalar(84.0);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            let step = Optimizer::new(&recipe).step(model, gradients, 1.0);
            let norm = step.gradient_norm.unwrap();
            assert!((norm - 85.0).abs() < 1e-4, "{norm}");
            // torch.nn.utils.clip_grad_norm_: min(1, limit/(norm + 1e-6)).
            let pytorch = (limit / (norm + 1e-6)).min(1.0);
            for (moved, gradient) in parameters(&step.model).iter().zip(gradient) {
                assert!(
                    (moved + factor * gradient).abs() < 1e-4,
                    "{moved} of {gradient}"
                );
                assert!(
                    (moved + pytorch * gradient).abs() < 1e-4,
                    "{moved} of {gradient}"
                );
            }
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_not_clipped_into_one_that_is() {
        let device = Device::flex().autodiff();
        let recipe = recipe(&["train.clip_norm=1.0".into()]);
        let model = linear(&[1.0], &[0.0], &device);
        let x = Tensor::from_data([[f32::INFINITY]], &device);
        let loss = model.forward(x, &Pass::test()).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let step = Optimizer::new(&recipe).step(model, gradients, 0.1);
        assert_eq!(step.gradient_norm, Some(f64::INFINITY));
        assert!(!parameters(&step.model)[0].is_finite());
    }
}
