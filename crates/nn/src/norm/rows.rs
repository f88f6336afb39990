//! What the norms by rows share.

use burn::module::DisplaySettings;
use burn::tensor::Tensor;
use evenkeel_kernels::{RowNorm, Rows};

use super::affine::Affine;
use crate::{Pass, backend};

pub(super) fn check_epsilon(layer: &str, epsilon: f64) {
    assert!(
        epsilon.is_finite() && epsilon > 0.0,
        "{layer}: expected a finite epsilon above 0, got {epsilon}"
    );
}

/// The forward of a norm by rows, shown to the pass as the output of a `layer`.
pub(super) fn forward<const D: usize>(
    layer: &'static str,
    input: Tensor<D>,
    norm: RowNorm,
    affine: Affine<'_>,
    pass: &Pass,
) -> Tensor<D> {
    pass.observing(layer, input, |input| normalize(input, norm, affine).0)
}

/// Also the mean and the reciprocal deviation of each row.
pub(super) fn normalize<const D: usize>(
    input: Tensor<D>,
    norm: RowNorm,
    affine: Affine<'_>,
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    let (scale, shift) = affine.or_identity(norm.shape.parameters(), &input);
    backend::row_norm(input, scale, shift, norm)
}

/// `[N, C, ...]` with the channels in groups.
pub(super) fn of_channels<const D: usize>(
    layer: &str,
    input: &Tensor<D>,
    groups: usize,
    channels: usize,
) -> Rows {
    let dims = input.dims();
    assert!(
        D >= 2 && dims[1] == channels,
        "{layer}: expected an input [examples, {channels}, positions...], got {dims:?}"
    );
    Rows {
        examples: dims[0],
        groups,
        channels: channels / groups,
        positions: dims[2..].iter().product(),
    }
}

pub(super) fn display() -> Option<DisplaySettings> {
    DisplaySettings::new()
        .with_new_line_after_attribute(false)
        .optional()
}
