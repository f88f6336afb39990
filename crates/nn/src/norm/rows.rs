//! What the norms by rows share.

use burn::module::DisplaySettings;
use burn::tensor::Tensor;
use evenkeel_kernels::{Activation, RowNorm, RowStatistics, Rows};

use super::affine::Affine;
use crate::backend;

pub(super) fn check_epsilon(layer: &str, epsilon: f64) {
    assert!(
        epsilon.is_finite() && epsilon > 0.0,
        "{layer}: expected a finite epsilon above 0, got {epsilon}"
    );
}

pub(super) fn forward<const D: usize>(
    input: Tensor<D>,
    shape: Rows,
    statistics: RowStatistics,
    epsilon: f64,
    activation: Activation,
    affine: Affine<'_>,
) -> Tensor<D> {
    let norm = RowNorm {
        shape,
        statistics,
        epsilon,
        activation,
    };
    let (scale, shift) = affine.or_identity(shape.parameters(), &input);
    backend::row_norm(input, scale, shift, norm)
}

pub(super) fn display() -> Option<DisplaySettings> {
    DisplaySettings::new()
        .with_new_line_after_attribute(false)
        .optional()
}
