//! Pooling composed of Burn's operations.

use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Tensor, module};
use evenkeel_kernels::{AvgPool, Window};

use crate::backend::composed::{channels, widened};

pub(super) fn global_avg_pool<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    let dtype = x.dtype();
    channels(widened(x, dtype))
        .mean_dim(2)
        .squeeze_dim(2)
        .cast(dtype)
}

pub(super) fn max_pool(x: Tensor<4>, window: Window) -> Tensor<4> {
    let options = MaxPoolOptions::new(window.size)
        .with_stride(window.stride)
        .with_padding(window.padding);
    module::max_pool2d(x, options)
}

pub(super) fn avg_pool(x: Tensor<4>, pool: AvgPool) -> Tensor<4> {
    let options = AvgPoolOptions::new(pool.window.size)
        .with_stride(pool.window.stride)
        .with_padding(pool.window.padding)
        .with_count_include_pad(pool.count_padding);
    let dtype = x.dtype();
    module::avg_pool2d(widened(x, dtype), options).cast(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend as kernels;
    use crate::backend::composed::testing::{assert_agree, random};
    use burn::tensor::{FloatDType, Tolerance};

    #[test]
    fn pooling_agrees_with_the_kernels() {
        assert_agree(
            [2, 3, 4, 5],
            |x, _, _| global_avg_pool(x),
            |x, _, _| kernels::global_avg_pool(x),
        );
        let windows = [
            ([2, 2], [2, 2], [0, 0]),
            ([3, 3], [2, 1], [1, 0]),
            ([2, 4], [1, 3], [1, 2]),
        ];
        for (size, stride, padding) in windows {
            let window = Window {
                size,
                stride,
                padding,
            };
            assert_agree(
                [2, 3, 5, 7],
                |x, _, _| max_pool(x, window),
                |x, _, _| kernels::max_pool(x, window),
            );
            for count_padding in [true, false] {
                let pool = AvgPool {
                    window,
                    count_padding,
                };
                assert_agree(
                    [2, 3, 5, 7],
                    |x, _, _| avg_pool(x, pool),
                    |x, _, _| kernels::avg_pool(x, pool),
                );
            }
        }
    }

    #[test]
    fn half_precision_is_widened_for_the_computation() {
        for dtype in [FloatDType::F16, FloatDType::BF16, FloatDType::F64] {
            let x = || (random([16, 3, 9], 1) * 300.0).cast(dtype);
            let [found, expected] = [global_avg_pool(x()), kernels::global_avg_pool(x())];
            assert_eq!([found.dtype(), expected.dtype()], [dtype.into(); 2]);
            let [found, expected] = [found, expected].map(|t| t.cast(FloatDType::F32).into_data());
            found.assert_approx_eq(&expected, Tolerance::<f32>::rel_abs(1e-2, 1e-2));
        }
    }
}
