//! Initial weights as a function of (seed, parameter path).

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Int, Tensor, TensorData};
use evenkeel_random::Key;

use crate::module_path::{ModulePath, Role, follow_path};

/// Draws every weight of `module` anew: a function of the seed and the parameter's path, so that a
/// layer added elsewhere changes no other layer's start, and two runs start at the same bits.
///
/// - Weights (rank 2 or more): uniform in ±1/√fan_in, PyTorch's default for linear and
///   convolutional layers (Kaiming uniform with a = √5). The fan-in of [`Linear`](burn::nn::Linear)
///   and [`DropConnectLinear`](crate::DropConnectLinear), which store `[in, out]`, is the first
///   dimension; of all others the product of all but the first.
/// - Biases of layers with weights: zero.
/// - Norm parameters and buffers: left as the layer made them.
///
/// Parameter ids are derived from the paths as well: Burn keys an optimizer's state by them, and
/// random ones would tie a checkpoint to the process that wrote it.
pub fn initialize<M: Module>(module: M, seed: u64) -> M {
    module.map(&mut Initializer {
        key: Key::from_seed(seed).child("initialize"),
        path: ModulePath::default(),
    })
}

struct Initializer {
    key: Key,
    path: ModulePath,
}

impl Initializer {
    /// Burn numbers parameters by 64 bits: those of the path's key.
    fn id(&self) -> ParamId {
        let [low, high] = Key::from_seed(0).child(&self.path.joined()).words();
        ParamId::from(u64::from(high) << 32 | u64::from(low))
    }

    /// The start of a parameter of this shape; `None` to leave it.
    fn start(&self, dims: &[usize]) -> Option<Vec<f32>> {
        let count = dims.iter().product();
        match self.path.role(dims.len()) {
            Role::Weight => {
                let fan_in = if self.path.is_linear() {
                    dims[0]
                } else {
                    dims[1..].iter().product()
                };
                let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
                let mut draws = self.key.child(&self.path.joined()).draws();
                Some(
                    (0..count)
                        .map(|_| draws.between(-bound, bound) as f32)
                        .collect(),
                )
            }
            Role::Bias => Some(vec![0.0; count]),
            Role::Norm | Role::Buffer => None,
        }
    }
}

impl ModuleMapper for Initializer {
    follow_path!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (_, tensor, mapper) = param.consume();
        let value = match self.start(&tensor.dims()) {
            Some(values) => {
                let data = TensorData::new(values, tensor.shape());
                let trained = tensor.is_require_grad();
                Tensor::from_data(data, (&tensor.device(), tensor.dtype()))
                    .set_require_grad(trained)
            }
            None => tensor,
        };
        Param::from_mapped_value(self.id(), value, mapper)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let (_, tensor, mapper) = param.consume();
        Param::from_mapped_value(self.id(), tensor, mapper)
    }
}
