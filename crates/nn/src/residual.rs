//! What follows a residual branch.

use burn::tensor::Tensor;

use crate::Activation;
use crate::backend;

/// activation(`x` + `residual`), the end of a residual block, in one pass over memory on the CPU. For its backward it
/// keeps what it returns, and nothing else, where the addition and Burn's ReLU would keep the sum too.
///
/// The same in training and at test.
///
/// # Shapes
/// Both inputs and the output have one shape; the output has the type of `x`.
///
/// # Panics
/// If the shapes differ.
///
/// Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (2015).
pub fn add_activated<const D: usize>(
    x: Tensor<D>,
    residual: Tensor<D>,
    activation: Activation,
) -> Tensor<D> {
    let shapes = [x.dims(), residual.dims()];
    assert!(
        shapes[0] == shapes[1],
        "add_activated: expected two tensors of one shape, got {shapes:?}"
    );
    backend::add_activated(x, residual, activation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::composed::testing::random;
    use burn::tensor::activation::relu;
    use burn::tensor::{DType, FloatDType, TensorData};

    fn run(layer: impl Fn(Tensor<3>, Tensor<3>) -> Tensor<3>) -> Vec<TensorData> {
        let leaf = |seed| (random([3, 5, 7], seed) - 2.0).detach().require_grad();
        let [x, residual] = [1, 2].map(leaf);
        // The residual is used once more, as where it goes on into the next block.
        let y = layer(x.clone() * 2.0, residual.clone()) + residual.clone();
        let gradients = (y.clone() * random([3, 5, 7], 3).detach()).sum().backward();
        let of = |leaf: &Tensor<3>| leaf.grad(&gradients).unwrap().into_data();
        vec![of(&x), of(&residual), y.into_data()]
    }

    #[test]
    fn is_an_addition_and_an_activation() {
        let fused = |activation| move |x, residual| add_activated(x, residual, activation);
        assert_eq!(run(fused(Activation::Relu)), run(|x, r| relu(x + r)));
        assert_eq!(run(fused(Activation::None)), run(|x, r| x + r));
    }

    #[test]
    fn the_output_has_the_type_of_the_first() {
        let (x, residual) = (random([2, 3], 1), random([2, 3], 2));
        let half = x.clone().cast(FloatDType::F16);
        let y = add_activated(half, residual.clone(), Activation::Relu);
        assert_eq!(y.dtype(), DType::F16);
        let gradients = y.cast(FloatDType::F32).sum().backward();
        let ones = Tensor::<2>::ones([2, 3], &x.device().without_autodiff()).into_data();
        for leaf in [x, residual] {
            assert_eq!(leaf.grad(&gradients).unwrap().into_data(), ones);
        }
    }

    #[test]
    #[should_panic(expected = "expected two tensors of one shape, got [[2, 3], [2, 1]]")]
    fn shapes_that_differ_are_refused() {
        add_activated(random([2, 3], 1), random([2, 1], 2), Activation::Relu);
    }
}
