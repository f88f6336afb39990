//! What dropout, spatial dropout and DropPath share: a mask over runs of elements.

use burn::tensor::Tensor;
use evenkeel_kernels::{self as kernels, Scaling};

use super::widened;
use crate::{Pass, backend};

/// Multiplies runs of consecutive elements by 0 or what keeps the mean right.
pub(super) struct Mask {
    /// As observers know it.
    pub layer: &'static str,
    pub prob: f64,
    pub scaling: Scaling,
    /// Elements that are dropped together.
    pub run: usize,
}

impl Mask {
    /// The input under the mask, or its mean where noise is off; + the residual.
    ///
    /// # Panics
    /// If the residual is not of the input's shape.
    pub fn apply<const D: usize>(
        self,
        input: Tensor<D>,
        residual: Option<Tensor<D>>,
        pass: &Pass,
    ) -> Tensor<D> {
        let Self {
            layer,
            prob,
            scaling,
            run,
        } = self;
        if let Some(residual) = &residual {
            assert_eq!(
                residual.dims(),
                input.dims(),
                "{layer}: expected a residual of the input's shape, to be added to it"
            );
        }
        pass.observing(layer, input, |x| match (pass.next_noise(), residual) {
            (Some(key), residual) if prob != 0.0 => {
                let mask = kernels::Dropout::new(key, prob, scaling).over_runs_of(run);
                match residual {
                    Some(residual) => backend::dropout_add(x, residual, mask),
                    None => backend::dropout(x, mask),
                }
            }
            (_, residual) => {
                let share = match scaling {
                    Scaling::Classic => 1.0 - prob,
                    Scaling::Inverted => 1.0,
                };
                average(x, share, residual)
            }
        })
    }
}

/// x·share + residual.
fn average<const D: usize>(x: Tensor<D>, share: f64, residual: Option<Tensor<D>>) -> Tensor<D> {
    let dtype = x.dtype();
    match residual {
        None if share == 1.0 => x,
        None => x.mul_scalar(share),
        Some(residual) if share == 1.0 => (widened(x) + widened(residual)).cast(dtype),
        Some(residual) => (widened(x).mul_scalar(share) + widened(residual)).cast(dtype),
    }
}
