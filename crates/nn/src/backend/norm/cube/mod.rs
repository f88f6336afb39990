//! Norms on GPUs.
//!
//! Where elements with the same parameters lie side by side (`positions` of 16 and more), they are
//! read slab by slab; where they do not (tokens, dense nets), rows are read as columns. A backward is
//! sums, then the input's gradient: x and dy are read twice, since they need not fit a GPU's caches.

mod elements;
mod line;
mod moments;
mod parts;
mod rows;
mod sums;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;
use burn_fusion::{Fusion, FusionBackend};
use cubecl::prelude::BufferArg;
use evenkeel_kernels::{Activation, Channels, RowNorm, RowStatistics};

use super::{NormOperations, Normalization};
use crate::backend::computed_in;
use crate::backend::cube::{deferred, widened};
use crate::backend::flex::channels;
use line::Geometry;
use moments::moments;
use parts::LEAST_SLAB;
use sums::Sums;

/// What a norm is computed of: contiguous, the parameters in the type that x is computed in.
struct Inputs {
    geometry: Geometry,
    x: CubeTensor,
    scale: CubeTensor,
    shift: CubeTensor,
}

/// Mean and reciprocal deviation, in the type that x is computed in.
struct Statistics {
    mean: CubeTensor,
    r: CubeTensor,
}

/// What a backward is computed of.
struct Backward {
    inputs: Inputs,
    statistics: Statistics,
    dy: CubeTensor,
}

impl Inputs {
    fn new(geometry: Geometry, x: CubeTensor, scale: CubeTensor, shift: CubeTensor) -> Self {
        let x = into_contiguous(x);
        let [scale, shift] = [scale, shift].map(|tensor| widened(tensor, x.dtype));
        Self {
            geometry,
            x,
            scale,
            shift,
        }
    }

    /// The type that x is computed in.
    fn wide(&self) -> DType {
        computed_in(self.x.dtype).into()
    }
}

impl Backward {
    /// dy, mean, r, scale, shift.
    fn arguments(&self) -> [BufferArg; 5] {
        let Self {
            inputs,
            statistics,
            dy,
        } = self;
        [
            dy,
            &statistics.mean,
            &statistics.r,
            &inputs.scale,
            &inputs.shift,
        ]
        .map(|tensor| tensor.clone().into_buffer_arg())
    }
}

impl NormOperations for CubeBackend {
    fn channel_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let shape = channels(&x.shape());
        let inputs = Inputs::new(Geometry::batch(shape), x, scale, shift);
        let [mean, variance, r] = moments(&inputs.x, shape, epsilon, false, inputs.wide());
        let statistics = Statistics { mean, r };
        let y = elements::output(&inputs, &statistics, activation);
        (y, statistics.mean, variance, statistics.r)
    }

    fn channel_norm_apply(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let geometry = Geometry::batch(channels(&x.shape()));
        let inputs = Inputs::new(geometry, x, scale, shift);
        let statistics = Statistics {
            mean: widened(mean, inputs.x.dtype),
            r: widened(reciprocal_deviation, inputs.x.dtype),
        };
        elements::output(&inputs, &statistics, activation)
    }

    fn row_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: RowNorm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = Inputs::new(Geometry::rows(norm.shape), x, scale, shift);
        if rows::are_short(&norm) {
            let [y, mean, r] = rows::forward(&inputs, &norm);
            return (y, mean, r);
        }
        let as_channels = Channels {
            n: 1,
            c: norm.shape.count(),
            s: norm.shape.row(),
        };
        let around_zero = norm.statistics == RowStatistics::RootMeanSquare;
        let wide = inputs.wide();
        let [mean, _, r] = moments(&inputs.x, as_channels, norm.epsilon, around_zero, wide);
        let statistics = Statistics { mean, r };
        let y = elements::output(&inputs, &statistics, norm.activation);
        (y, statistics.mean, statistics.r)
    }

    fn norm_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        normalization: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let dtypes = [scale.dtype, shift.dtype];
        let (geometry, activation) = match normalization {
            Normalization::ByBatch(activation) | Normalization::ByConstants(activation) => {
                (Geometry::batch(channels(&x.shape())), activation)
            }
            Normalization::ByRows(norm) => (Geometry::rows(norm.shape), norm.activation),
        };
        let inputs = Inputs::new(geometry, x, scale, shift);
        let dtype = inputs.x.dtype;
        let backward = Backward {
            statistics: Statistics {
                mean: widened(mean, dtype),
                r: widened(reciprocal_deviation, dtype),
            },
            dy: into_contiguous(cast(gradient, dtype)),
            inputs,
        };
        let sums = Sums::of(&backward, activation);
        let centred = |around_zero| {
            let centring = sums.centring(&backward.inputs, around_zero);
            elements::gradient(&backward, Some(&centring), activation)
        };
        let dx = match normalization {
            Normalization::ByConstants(_) => elements::gradient(&backward, None, activation),
            Normalization::ByBatch(_) => centred(false),
            // The sums are by columns then, not by rows.
            Normalization::ByRows(norm) if geometry.positions < LEAST_SLAB => {
                rows::gradient(&backward, &norm)
            }
            Normalization::ByRows(norm) => {
                centred(norm.statistics == RowStatistics::RootMeanSquare)
            }
        };
        let [scale, shift] = sums.parameters(&backward.inputs);
        (dx, cast(scale, dtypes[0]), cast(shift, dtypes[1]))
    }
}

impl<B: FusionBackend + NormOperations> NormOperations for Fusion<B> {
    fn channel_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let statistic = (Shape::new([x.shape[1]]), computed_in(x.dtype).into());
        let outputs = [
            (x.shape(), x.dtype),
            statistic.clone(),
            statistic.clone(),
            statistic,
        ];
        let run = move |[x, scale, shift]: [FloatTensor<B>; 3]| {
            B::channel_norm(x, scale, shift, epsilon, activation).into()
        };
        deferred::<B, _, _>("evenkeel::channel_norm", [x, scale, shift], outputs, run).into()
    }

    fn channel_norm_apply(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let output = (x.shape(), x.dtype);
        let inputs = [x, mean, reciprocal_deviation, scale, shift];
        let run = move |[x, mean, r, scale, shift]: [FloatTensor<B>; 5]| {
            [B::channel_norm_apply(x, mean, r, scale, shift, activation)]
        };
        let [y] = deferred::<B, _, _>("evenkeel::channel_norm_apply", inputs, [output], run);
        y
    }

    fn row_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: RowNorm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let statistic = (
            Shape::new([norm.shape.count()]),
            computed_in(x.dtype).into(),
        );
        let outputs = [(x.shape(), x.dtype), statistic.clone(), statistic];
        let run =
            move |[x, scale, shift]: [FloatTensor<B>; 3]| B::row_norm(x, scale, shift, norm).into();
        deferred::<B, _, _>("evenkeel::row_norm", [x, scale, shift], outputs, run).into()
    }

    /// Each gradient has the shape and type of what it belongs to.
    fn norm_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        reciprocal_deviation: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        normalization: Normalization,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let outputs = [&x, &scale, &shift].map(|tensor| (tensor.shape(), tensor.dtype));
        let inputs = [x, gradient, mean, reciprocal_deviation, scale, shift];
        let run = move |[x, dy, mean, r, scale, shift]: [FloatTensor<B>; 6]| {
            B::norm_backward(x, dy, mean, r, scale, shift, normalization).into()
        };
        deferred::<B, _, _>("evenkeel::norm_backward", inputs, outputs, run).into()
    }
}
