//! Mean and variance of tensors that come one after another.

use burn::tensor::Tensor;

use crate::backend::computed_in;

/// Mean and variance over draws, element by element, of which none is kept.
///
/// Source: Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products" (1962).
#[derive(Clone, Debug)]
pub struct Moments<const D: usize> {
    draws: u64,
    mean: Tensor<D>,
    /// Σ (x − mean)².
    squares: Tensor<D>,
}

impl<const D: usize> Moments<D> {
    /// Of one draw.
    pub fn of(draw: Tensor<D>) -> Self {
        let mean = draw.without_autodiff();
        let dtype = computed_in(mean.dtype());
        let mean = mean.cast(dtype);
        Self {
            draws: 1,
            squares: mean.zeros_like(),
            mean,
        }
    }

    /// With one draw more.
    #[must_use]
    pub fn and(self, draw: Tensor<D>) -> Self {
        let draw = draw.without_autodiff().cast(self.mean.dtype());
        let draws = self.draws + 1;
        let from_old = draw.clone() - self.mean.clone();
        let mean = self.mean + from_old.clone().mul_scalar(1.0 / draws as f64);
        let from_new = draw - mean.clone();
        Self {
            draws,
            mean,
            squares: self.squares + from_old * from_new,
        }
    }

    /// How many draws.
    pub fn draws(&self) -> u64 {
        self.draws
    }

    /// The mean of each element: in `f32` for half precision.
    pub fn mean(&self) -> Tensor<D> {
        self.mean.clone()
    }

    /// The unbiased variance of each element over draws; of one draw it is zero.
    pub fn variance(&self) -> Tensor<D> {
        let freedom = self.draws.saturating_sub(1).max(1);
        self.squares.clone().mul_scalar(1.0 / freedom as f64)
    }
}
