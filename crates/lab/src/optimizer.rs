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
