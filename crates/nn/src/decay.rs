//! Weight decay by role: the λR(W) of the loss L + λR(W), on weights and on nothing else.

use std::collections::BTreeSet;
use std::fmt;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::module_path::{ModulePath, Role, follow_path};

/// The penalty on a weight w, or its shrinkage at learning rate η.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// No decay.
    #[default]
    None,
    /// Coupled: R = ½Σw², its gradient λ·w added to the loss's (PyTorch's `weight_decay` of SGD).
    /// Where R is written Σw², λ is half of this one.
    L2 {
        /// λ.
        strength: f64,
    },
    /// R = Σ|w|, its gradient λ·sign(w) added to the loss's (0 at 0): drives weights to zero.
    /// Source: Tibshirani, "Regression Shrinkage and Selection via the Lasso" (1996).
    L1 {
        /// λ.
        strength: f64,
    },
    /// λ₁Σ|w| + ½λ₂Σw², both gradients added to the loss's.
    /// Source: Zou and Hastie, "Regularization and Variable Selection via the Elastic Net" (2005).
    ElasticNet {
        /// λ₁.
        l1: f64,
        /// λ₂.
        l2: f64,
    },
    /// w ← (1 − η·λ)·w beside the optimizer's step, untouched by momentum or adaptive rates.
    /// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2017).
    Decoupled {
        /// λ.
        strength: f64,
    },
}

impl Decay {
    /// λ₁ and λ₂ of the penalty that is part of the loss.
    fn coupled(self) -> Option<(f64, f64)> {
        let (l1, l2) = match self {
            Self::None | Self::Decoupled { .. } => (0.0, 0.0),
            Self::L2 { strength } => (0.0, strength),
            Self::L1 { strength } => (strength, 0.0),
            Self::ElasticNet { l1, l2 } => (l1, l2),
        };
        (l1 != 0.0 || l2 != 0.0).then_some((l1, l2))
    }
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "no decay"),
            Self::L2 { strength } => write!(f, "L2 {strength}"),
            Self::L1 { strength } => write!(f, "L1 {strength}"),
            Self::ElasticNet { l1, l2 } => write!(f, "L1 {l1} + L2 {l2}"),
            Self::Decoupled { strength } => write!(f, "decoupled {strength}"),
        }
    }
}

/// A [`Decay`] and the roles it applies to.
///
/// Decaying a bias or a norm's scale regularizes nothing that the next layer could not undo, and
/// moves what the net needs to centre its activations: both are excluded unless asked for. Frozen
/// parameters (Burn's `freeze()`, `no_grad()`) are not decayed either way.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightDecay {
    /// The penalty.
    pub decay: Decay,
    /// The roles that are decayed.
    pub roles: BTreeSet<Role>,
}

/// One line of [`WeightDecay::account`].
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The parameter's path, such as `blocks.0.conv.weight`.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its role.
    pub role: Role,
    /// Whether it is trained: `freeze()` and `no_grad()` stop that, and with it the decay.
    pub trained: bool,
    /// Whether it is decayed.
    pub decayed: bool,
}

/// Whether gradients are asked for; of what `valid()` took off autodiff, whether `train()` will.
fn is_trained<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    param.clone().train().val().is_require_grad()
}

impl WeightDecay {
    /// `decay` on weights; biases and norm parameters are excluded.
    pub fn new(decay: Decay) -> Self {
        Self {
            decay,
            roles: BTreeSet::from([Role::Weight]),
        }
    }

    /// Includes the parameters of a role.
    #[must_use]
    pub fn including(mut self, role: Role) -> Self {
        self.roles.insert(role);
        self
    }

    fn applies_to<const D: usize>(&self, role: Role, param: &Param<Tensor<D>>) -> bool {
        self.decay != Decay::None
            && role != Role::Buffer
            && self.roles.contains(&role)
            && is_trained(param)
    }

    /// Adds the gradient of λR(W) to `gradients`; call it between backward and the optimizer.
    /// Changes nothing for decoupled decay.
    #[must_use]
    pub fn add_to_gradients<M: Module>(
        &self,
        module: &M,
        gradients: GradientsParams,
    ) -> GradientsParams {
        let Some(strengths) = self.decay.coupled() else {
            return gradients;
        };
        let mut adder = GradientAdder {
            decay: self,
            path: ModulePath::default(),
            strengths,
            gradients,
        };
        module.visit(&mut adder);
        adder.gradients
    }

    /// Shrinks the weights by the factor 1 − η·λ; call it before the optimizer's step with the
    /// step's learning rate η. Changes nothing for coupled decay.
    #[must_use]
    pub fn shrink<M: Module>(&self, module: M, learning_rate: f64) -> M {
        let Decay::Decoupled { strength } = self.decay else {
            return module;
        };
        let factor = 1.0 - learning_rate * strength;
        module.map(&mut Shrinker {
            decay: self,
            path: ModulePath::default(),
            factor,
        })
    }

    /// The value of λR(W), what coupled decay adds to the loss; 0 for decoupled decay. Frozen
    /// parameters are no part of it.
    pub fn penalty<M: Module>(&self, module: &M) -> f64 {
        let Some(strengths) = self.decay.coupled() else {
            return 0.0;
        };
        let mut summer = Summer {
            decay: self,
            path: ModulePath::default(),
            strengths,
            penalty: 0.0,
        };
        module.visit(&mut summer);
        summer.penalty
    }

    /// What is decayed and what is not, parameter by parameter.
    pub fn account<M: Module>(&self, module: &M) -> Vec<Entry> {
        let mut accountant = Accountant {
            decay: self,
            path: ModulePath::default(),
            entries: Vec::new(),
        };
        module.visit(&mut accountant);
        accountant.entries
    }

    /// The account as lines to print: first a summary, then one line a parameter.
    pub fn describe<M: Module>(&self, module: &M) -> Vec<String> {
        let entries = self.account(module);
        let values = |decayed| -> usize {
            let chosen = entries
                .iter()
                .filter(|e| e.decayed == decayed && e.role != Role::Buffer);
            chosen
                .map(|entry| entry.shape.iter().product::<usize>())
                .sum()
        };
        let (decayed, spared) = (values(true), values(false));
        let summary = format!("{}: {decayed} values decayed, {spared} not", self.decay);
        let trained = entries.iter().filter(|entry| entry.role != Role::Buffer);
        let lines = trained.map(|entry| {
            let Entry {
                path,
                shape,
                role,
                trained,
                decayed,
            } = entry;
            let verdict = match (decayed, trained) {
                (true, _) => self.decay.to_string(),
                (false, true) => "not decayed".into(),
                (false, false) => "frozen, not decayed".into(),
            };
            format!("{path} {shape:?} ({role}): {verdict}")
        });
        std::iter::once(summary).chain(lines).collect()
    }
}

struct GradientAdder<'a> {
    decay: &'a WeightDecay,
    path: ModulePath,
    strengths: (f64, f64),
    gradients: GradientsParams,
}

impl ModuleVisitor for GradientAdder<'_> {
    follow_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.decay.applies_to(self.path.role(D), param) {
            return;
        }
        // A parameter that the loss did not reach does not move at all.
        let Some(mut gradient) = self.gradients.remove::<D>(param.id) else {
            return;
        };
        let value = param.val().without_autodiff();
        let (l1, l2) = self.strengths;
        if l2 != 0.0 {
            gradient = gradient + value.clone().mul_scalar(l2);
        }
        if l1 != 0.0 {
            gradient = gradient + value.sign().mul_scalar(l1);
        }
        self.gradients.register(param.id, gradient);
    }
}

struct Shrinker<'a> {
    decay: &'a WeightDecay,
    path: ModulePath,
    factor: f64,
}

impl ModuleMapper for Shrinker<'_> {
    follow_path!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.decay.applies_to(self.path.role(D), &param) {
            return param;
        }
        param.map(|value| {
            if !value.is_require_grad() {
                return value;
            }
            let shrunk = value.without_autodiff().mul_scalar(self.factor);
            Tensor::from_inner(shrunk).require_grad()
        })
    }
}

struct Summer<'a> {
    decay: &'a WeightDecay,
    path: ModulePath,
    strengths: (f64, f64),
    penalty: f64,
}

impl ModuleVisitor for Summer<'_> {
    follow_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.decay.applies_to(self.path.role(D), param) {
            return;
        }
        let (l1, l2) = self.strengths;
        for value in param.val().into_data().convert::<f64>().iter::<f64>() {
            self.penalty += l1 * value.abs() + 0.5 * l2 * value * value;
        }
    }
}

struct Accountant<'a> {
    decay: &'a WeightDecay,
    path: ModulePath,
    entries: Vec<Entry>,
}

impl ModuleVisitor for Accountant<'_> {
    follow_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let role = self.path.role(D);
        self.entries.push(Entry {
            path: self.path.joined(),
            shape: param.lazy_shape().to_vec(),
            role,
            trained: role != Role::Buffer && is_trained(param),
            decayed: self.decay.applies_to(role, param),
        });
    }
}
