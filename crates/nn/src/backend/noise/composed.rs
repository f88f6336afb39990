//! Noise composed of Burn's operations.

use burn::tensor::{Element, FloatDType, Shape, Tensor, TensorData};
use evenkeel_kernels::{Dropout, Float};

use crate::backend::composed::widened;
use crate::backend::computed_in;

/// The mask is computed on the host, so that it is the same bits as the kernels'.
pub(super) fn dropout<const D: usize>(x: Tensor<D>, dropout: Dropout) -> Tensor<D> {
    let dtype = x.dtype();
    let mask = match computed_in(dtype) {
        FloatDType::F64 => mask::<f64>(x.shape(), dropout),
        _ => mask::<f32>(x.shape(), dropout),
    };
    let mask = Tensor::from_data(mask, (&x.device(), computed_in(dtype).into()));
    (widened(x, dtype) * mask).cast(dtype)
}

fn mask<F: Float + Element>(shape: Shape, dropout: Dropout) -> TensorData {
    let ones = vec![F::from_f64(1.0); shape.num_elements()];
    TensorData::new(evenkeel_kernels::dropout(&ones, &dropout, 0), shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend as kernels;
    use crate::backend::composed::testing::random;
    use evenkeel_kernels::Scaling;
    use evenkeel_random::Key;

    #[test]
    fn masks_are_the_kernels_bit_for_bit() {
        let mask = Dropout::new(Key::from_seed(3), 0.4, Scaling::Inverted);
        let x = random([5, 7, 3], 1);
        let fused = kernels::dropout(x.clone(), mask).into_data();
        dropout(x, mask).into_data().assert_eq(&fused, true);
    }

    #[test]
    fn half_precision_too() {
        let mask = Dropout::new(Key::from_seed(3), 0.4, Scaling::Inverted);
        for dtype in [FloatDType::F16, FloatDType::BF16, FloatDType::F64] {
            let x = || random([16, 3, 9], 1).cast(dtype);
            let (found, expected) = (dropout(x(), mask), kernels::dropout(x(), mask));
            found.into_data().assert_eq(&expected.into_data(), true);
        }
    }
}
