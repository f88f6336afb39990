//! Noise composed of Burn's operations.
//!
//! Factors are computed on the host, so that they are the same bits as the kernels'; masks on GPUs are
//! a kernel's there, and DropBlock's are made of one.

#[cfg(feature = "cube")]
use burn::tensor::module::max_pool2d;
#[cfg(feature = "cube")]
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Element, FloatDType, Shape, Tensor, TensorData};
#[cfg(feature = "cube")]
use evenkeel_kernels::DropBlock;
use evenkeel_kernels::{self as kernels, DropConnect, Dropout, Factors, Float, Shares};

use super::Shake;
use crate::backend::composed::widened;
use crate::backend::computed_in;
#[cfg(feature = "cube")]
use crate::backend::has_cube_kernels;

pub(super) fn multiply<const D: usize>(x: Tensor<D>, factors: Factors) -> Tensor<D> {
    let dtype = x.dtype();
    #[cfg(feature = "cube")]
    if has_cube_kernels(&x) {
        match factors {
            Factors::Dropout(dropout) => return super::mask::mask(x, dropout, 0),
            Factors::Blocks(blocks) => {
                let factors = block_factors(&x, &blocks);
                return (widened(x, dtype) * factors).cast(dtype);
            }
            Factors::Gaussian(_) => {}
        }
    }
    let factors = beside(&x, &factors);
    (widened(x, dtype) * factors).cast(dtype)
}

/// DropBlock's factors on a GPU: where blocks begin is a mask, and what they cover the largest of what begins in a
/// block's reach before. Only the number of what is kept comes to the host.
#[cfg(feature = "cube")]
fn block_factors<const D: usize>(x: &Tensor<D>, blocks: &DropBlock) -> Tensor<D> {
    let [[height, width], [rows, columns]] = [blocks.image(), blocks.block()];
    let elements = x.shape().num_elements();
    let shape = [elements / (height * width), 1, height, width];
    let device = x.device().without_autodiff();
    let ones = Tensor::<4>::ones(shape, (&device, computed_in(x.dtype()).into()));
    let begins = ones.clone() - super::mask::mask(ones.clone(), blocks.beginnings(), 0);
    let whole = begins
        .narrow(2, 0, height - rows + 1)
        .narrow(3, 0, width - columns + 1);
    let around = [rows - 1, columns - 1].map(|side| (side, side));
    let reach = MaxPoolOptions::new([rows, columns]).with_stride([1, 1]);
    let kept = ones - max_pool2d(whole.pad(around, 0.0), reach);
    let count = kept.clone().int().sum().into_scalar::<i64>();
    let factor = match count {
        0 => 0.0,
        count => elements as f64 / count as f64,
    };
    Tensor::from_inner(kept.mul_scalar(factor).reshape(x.dims()))
}

pub(super) fn dropout_add<const D: usize>(
    x: Tensor<D>,
    residual: Tensor<D>,
    dropout: Dropout,
) -> Tensor<D> {
    let dtype = x.dtype();
    let masked = multiply(widened(x, dtype), Factors::Dropout(dropout));
    (widened(residual, dtype) + masked).cast(dtype)
}

pub(super) fn dropout_around<const D: usize>(
    x: Tensor<D>,
    dropout: Dropout,
    centre: f64,
    shift: f64,
) -> Tensor<D> {
    let dtype = x.dtype();
    let masked = multiply(widened(x, dtype) - centre, Factors::Dropout(dropout));
    (masked + shift).cast(dtype)
}

/// A mix by β, and what is missing to that by α as a constant, so that the gradient is β's.
pub(super) fn mix<const D: usize>(first: Tensor<D>, second: Tensor<D>, shake: Shake) -> Tensor<D> {
    let dtype = first.dtype();
    let [alpha, beta] = [shake.forward, shake.backward].map(|shares| shares_of(&first, &shares));
    let (first, second) = (widened(first, dtype), widened(second, dtype));
    let by = |share: Tensor<D>, first: Tensor<D>, second: Tensor<D>| {
        let rest = share.ones_like() - share.clone();
        first * share + second * rest
    };
    let forward = by(alpha, first.clone().detach(), second.clone().detach());
    let backward = by(beta, first, second);
    (backward.clone() + (forward - backward.detach())).cast(dtype)
}

/// The shares of an example each, or one of them all, to be spread over the elements of `x`.
fn shares_of<const D: usize>(x: &Tensor<D>, shares: &Shares) -> Tensor<D> {
    let runs = x.shape().num_elements() / shares.run();
    let mut dims = [1; D];
    dims[0] = runs;
    // Of nothing there are no runs.
    let dims = if runs == 0 { x.dims() } else { dims };
    let numbers: Vec<f64> = (0..runs).map(|run| shares.share(run)).collect();
    let dtype = computed_in(x.dtype());
    Tensor::from_data(TensorData::new(numbers, dims), (&x.device(), dtype.into()))
}

/// One example after another: each with masked weights of its own, which autodiff keeps.
pub(super) fn drop_connect(x: Tensor<3>, weight: Tensor<2>, connect: DropConnect) -> Tensor<3> {
    let (dtype, device) = (x.dtype(), x.device());
    let weight = widened(weight, dtype);
    let x = widened(x, dtype);
    let outputs = (0..connect.examples).map(|example| {
        let x = x.clone().narrow(0, example, 1).squeeze_dim::<2>(0);
        x.matmul(masked(weight.clone(), &OfExample { connect, example }))
    });
    let outputs: Vec<_> = outputs.collect();
    if outputs.is_empty() {
        return Tensor::zeros([0, connect.positions, connect.outputs], (&device, dtype));
    }
    Tensor::stack::<3>(outputs, 0).cast(dtype)
}

/// An example's weights.
fn masked(weight: Tensor<2>, of: &OfExample) -> Tensor<2> {
    #[cfg(feature = "cube")]
    if has_cube_kernels(&weight) {
        let first = of.first(weight.shape().num_elements());
        return super::mask::mask(weight, of.connect.dropout, first);
    }
    let mask = beside(&weight, of);
    weight * mask
}

/// What a kernel makes of nothing but a key.
trait FromKey {
    fn numbers<F: Float>(&self, count: usize) -> Vec<F>;
}

impl FromKey for Factors {
    fn numbers<F: Float>(&self, count: usize) -> Vec<F> {
        kernels::multiply(vec![F::ONE; count], self)
    }
}

struct OfExample {
    connect: DropConnect,
    example: usize,
}

impl OfExample {
    /// The first element of its mask, of this many.
    fn first(&self, count: usize) -> u64 {
        self.example as u64 * count as u64
    }
}

impl FromKey for OfExample {
    fn numbers<F: Float>(&self, count: usize) -> Vec<F> {
        let ones = vec![F::ONE; count];
        kernels::dropout(ones, &self.connect.dropout, self.first(count))
    }
}

/// As many numbers as `x` has elements, in its shape, on its device, in the type it is computed in.
fn beside<const D: usize>(x: &Tensor<D>, of: &impl FromKey) -> Tensor<D> {
    fn data<F: Float + Element>(of: &impl FromKey, shape: Shape) -> TensorData {
        TensorData::new(of.numbers::<F>(shape.num_elements()), shape)
    }
    let dtype = computed_in(x.dtype());
    let data = match dtype {
        FloatDType::F64 => data::<f64>(of, x.shape()),
        _ => data::<f32>(of, x.shape()),
    };
    Tensor::from_data(data, (&x.device(), dtype.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend as kernels;
    use crate::backend::composed::testing::random;
    use burn::tensor::Tolerance;
    use evenkeel_kernels::{DropBlock, GaussianDropout, Scaling};
    use evenkeel_random::Key;

    const KEY: Key = Key::from_seed(3);

    fn mask() -> Dropout {
        Dropout::new(KEY, 0.4, Scaling::Inverted)
    }

    fn factors() -> [Factors; 4] {
        [
            Factors::Dropout(mask()),
            Factors::Dropout(mask().over_runs_of(9)),
            Factors::Gaussian(GaussianDropout::new(KEY, 0.7)),
            Factors::Blocks(DropBlock::new(KEY, 0.3, 2, [3, 9])),
        ]
    }

    #[test]
    fn factors_are_the_kernels_bit_for_bit() {
        for factors in factors() {
            for dtype in [
                FloatDType::F32,
                FloatDType::F16,
                FloatDType::BF16,
                FloatDType::F64,
            ] {
                let x = || random([16, 3, 9], 1).cast(dtype);
                let (found, expected) = (multiply(x(), factors), kernels::multiply(x(), factors));
                found.into_data().assert_eq(&expected.into_data(), true);
            }
        }
    }

    /// Outputs and both gradients of an operation on two tensors.
    fn assert_agree<const D: usize, const E: usize>(
        shapes: ([usize; D], [usize; E]),
        composed: impl Fn(Tensor<D>, Tensor<E>) -> Tensor<D>,
        fused: impl Fn(Tensor<D>, Tensor<E>) -> Tensor<D>,
    ) {
        let (a, b) = (random(shapes.0, 1), random(shapes.1, 2));
        let run = |operation: &dyn Fn(Tensor<D>, Tensor<E>) -> Tensor<D>| {
            let y = operation(a.clone(), b.clone());
            let g = random(y.dims(), 4).detach();
            let gradients = (y.clone() * g).sum().backward();
            let (da, db) = (a.grad(&gradients).unwrap(), b.grad(&gradients).unwrap());
            [y.into_data(), da.into_data(), db.into_data()]
        };
        let (found, expected) = (run(&composed), run(&fused));
        for (found, expected) in found.iter().zip(&expected) {
            found.assert_approx_eq(expected, Tolerance::<f32>::rel_abs(1e-5, 1e-5));
        }
    }

    #[test]
    fn operations_on_two_tensors_agree() {
        let shape = [5, 3, 8];
        assert_agree(
            (shape, shape),
            |x, residual| dropout_add(x, residual, mask().over_runs_of(8)),
            |x, residual| kernels::dropout_add(x, residual, mask().over_runs_of(8)),
        );
        for (shape, run) in [(shape, 24), (shape, 120), ([5, 3, 0], 0)] {
            let shake = Shake {
                forward: Shares::new(KEY, run),
                backward: Shares::new(KEY.at(1), run),
            };
            assert_agree(
                (shape, shape),
                |first, second| mix(first, second, shake),
                |first, second| kernels::mix(first, second, shake),
            );
        }
        let connect = DropConnect {
            dropout: mask(),
            examples: 5,
            positions: 3,
            inputs: 8,
            outputs: 8,
        };
        assert_agree(
            (shape, [8, 8]),
            |x, weight| drop_connect(x, weight, connect),
            |x, weight| kernels::drop_connect(x, weight, connect),
        );
        assert_agree(
            (shape, shape),
            |x, other| dropout_around(x, mask(), -1.7, 0.3) + other,
            |x, other| kernels::dropout_around(x, mask(), -1.7, 0.3) + other,
        );
    }
}
