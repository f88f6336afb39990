//! The max-norm constraint: no unit's incoming weights are longer than a limit.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::backend::computed_in;
use crate::module_path::{ModulePath, Role, follow_path};

/// Shortens the incoming weights w of every unit to w·min(1, `limit`/‖w‖₂): a projection, to be done
/// after each step of the optimizer.
///
/// It concerns weights ([`Role::Weight`]) that are trained; biases, norms' parameters and frozen weights
/// stay. A unit is an output: a column of the weights `[in, out]` of [`Linear`](burn::nn::Linear) and
/// [`DropConnectLinear`](crate::DropConnectLinear), a filter `[o, ..]` of a convolution.
///
/// It lets dropout train with high learning rates; limits of 3 to 4 are usual. Source: Srebro and
/// Shraibman, "Rank, Trace-Norm and Max-Norm" (2005); with dropout, Srivastava and others (2014).
///
/// # Panics
/// If the limit is not above 0.
#[must_use]
pub fn max_norm<M: Module>(module: M, limit: f64) -> M {
    assert!(
        limit > 0.0,
        "max_norm: expected a limit above 0, got {limit}"
    );
    module.map(&mut Projector {
        limit,
        path: ModulePath::default(),
    })
}

struct Projector {
    limit: f64,
    path: ModulePath,
}

impl Projector {
    fn project<const D: usize>(&self, weight: Tensor<D>) -> Tensor<D> {
        let dtype = weight.dtype();
        // Squares of half precision are sums of `f32`.
        let wide = weight.cast(computed_in(dtype));
        let mut squares = wide.clone().square();
        let incoming = if self.path.is_linear() { 0..1 } else { 1..D };
        for dim in incoming {
            squares = squares.sum_dim(dim);
        }
        // Weights of length 0: limit/0 is infinite, and the factor 1.
        let factor = squares.sqrt().recip().mul_scalar(self.limit).clamp_max(1.0);
        (wide * factor).cast(dtype)
    }
}

impl ModuleMapper for Projector {
    follow_path!();

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.path.role(D) != Role::Weight {
            return param;
        }
        param.map(|value| {
            if !value.is_require_grad() {
                return value;
            }
            Tensor::from_inner(self.project(value.without_autodiff())).require_grad()
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ParamId;
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, FloatDType, TensorData};

    use super::*;
    use crate::{BatchNorm, BatchNormConfig, DropConnectLinear, DropConnectLinearConfig};

    #[derive(Module, Debug)]
    struct Net {
        conv: Conv2d,
        norm: BatchNorm,
        linear: Linear,
        masked: DropConnectLinear,
        frozen: Linear,
    }

    fn net() -> Net {
        let device = Device::flex().autodiff();
        let mut net = Net {
            conv: Conv2dConfig::new([3, 5], [3, 3]).init(&device),
            norm: BatchNormConfig::new(5).init(&device),
            linear: LinearConfig::new(7, 4).init(&device),
            masked: DropConnectLinearConfig::new(7, 4, 0.5).init(&device),
            frozen: LinearConfig::new(7, 4).init(&device).no_grad(),
        };
        // Lengths on both sides of 1: columns times 0, 0.4, 1 and 5.
        let scale = Tensor::<2>::from_floats([[0.0, 0.4, 1.0, 5.0]], &device);
        net.linear.weight = net
            .linear
            .weight
            .map(|weight| (weight * scale).detach().require_grad());
        net
    }

    fn numbers<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f64> {
        let data = param.val().into_data().convert::<f64>();
        data.iter::<f64>().collect()
    }

    /// Each unit's incoming weights, of all weights laid out so.
    fn units(weights: &[f64], units: usize, inputs_first: bool) -> Vec<Vec<f64>> {
        let incoming = weights.len() / units;
        let at = |unit: usize, i: usize| match inputs_first {
            true => weights[i * units + unit],
            false => weights[unit * incoming + i],
        };
        (0..units)
            .map(|unit| (0..incoming).map(|i| at(unit, i)).collect())
            .collect()
    }

    #[track_caller]
    fn assert_projected(before: &[Vec<f64>], after: &[Vec<f64>], limit: f64) {
        let length = |unit: &[f64]| unit.iter().map(|w| w * w).sum::<f64>().sqrt();
        for (before, after) in before.iter().zip(after) {
            if length(before) <= limit {
                assert_eq!(before, after);
            } else {
                assert!((length(after) - limit).abs() < 1e-6 * limit);
                let factor = limit / length(before);
                for (before, after) in before.iter().zip(after) {
                    assert!((after - factor * before).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn units_are_shortened_and_nothing_else_changes() {
        let (before, limit) = (net(), 0.45);
        let after = max_norm(before.clone(), limit);
        let layers = [
            (
                numbers(&before.conv.weight),
                numbers(&after.conv.weight),
                5,
                false,
            ),
            (
                numbers(&before.linear.weight),
                numbers(&after.linear.weight),
                4,
                true,
            ),
            (
                numbers(&before.masked.weight),
                numbers(&after.masked.weight),
                4,
                true,
            ),
        ];
        for (before, after, count, inputs_first) in layers {
            assert_ne!(before, after);
            let [before, after] =
                [before, after].map(|weights| units(&weights, count, inputs_first));
            assert_projected(&before, &after, limit);
        }
        assert!(after.linear.weight.val().is_require_grad());
        assert_eq!(after.linear.weight.id, before.linear.weight.id);
        assert_eq!(
            numbers(&after.frozen.weight),
            numbers(&before.frozen.weight)
        );
        let biases = |net: &Net| numbers(net.linear.bias.as_ref().unwrap());
        assert_eq!(biases(&after), biases(&before));
        let scales = |net: &Net| numbers(net.norm.weight.as_ref().unwrap());
        assert_eq!(scales(&max_norm(before.clone(), 0.1)), scales(&before));
        // A projection: again changes nothing beyond rounding.
        let again = max_norm(after.clone(), limit * 1.000_001);
        assert_eq!(numbers(&again.conv.weight), numbers(&after.conv.weight));
    }

    /// 300² is more than `f16` holds.
    #[test]
    fn half_precision_is_squared_in_f32() {
        let device = Device::flex().autodiff();
        let mut linear = LinearConfig::new(4, 1).with_bias(false).init(&device);
        let weight = Tensor::<2>::from_data(TensorData::from([[300.0_f32]; 4]), &device);
        let weight = weight.cast(FloatDType::F16).detach().require_grad();
        linear.weight = Param::initialized(ParamId::new(), weight);
        assert_eq!(numbers(&max_norm(linear, 3.0).weight), [1.5; 4]);
    }

    #[test]
    #[should_panic(expected = "max_norm: expected a limit above 0, got 0")]
    fn a_limit_of_zero_is_refused() {
        let _ = max_norm(net(), 0.0);
    }
}
