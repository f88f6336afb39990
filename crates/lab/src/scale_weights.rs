//! The scale of a net's start.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::model::Model;

/// Multiplies all matrices and filters of a net that is to be trained; biases and norms stay.
pub(crate) fn scale_weights(model: Model, factor: f64) -> Model {
    struct Scale(f64);
    impl ModuleMapper for Scale {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D < 2 {
                return param;
            }
            let factor = self.0;
            param.map(|weight| {
                Tensor::from_inner(weight.without_autodiff().mul_scalar(factor)).require_grad()
            })
        }
    }
    model.map(&mut Scale(factor))
}
