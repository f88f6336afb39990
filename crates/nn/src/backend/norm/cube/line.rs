//! Where an element's statistics and parameters are, and the affine map that they make.

use cubecl::prelude::*;
use cubecl::std::FastDivmod;
use evenkeel_kernels::{Channels, Rows};

/// The geometry that all norms share. A slab is a run of `positions` elements with the same
/// parameters; element e is in slab i = e / positions, has parameters i mod `parameters` and
/// statistics (i / `channels`) mod `statistics`.
///
/// | norm | positions | parameters | channels | statistics |
/// |---|---|---|---|---|
/// | batch | S | C | 1 | C |
/// | by rows | positions | groups · channels | channels | examples · groups |
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub positions: usize,
    pub parameters: usize,
    pub channels: usize,
    pub statistics: usize,
    /// Elements that share statistics.
    pub count: usize,
    /// Elements side by side that a vector must not reach across: a slab; where slabs are single
    /// elements, the channels of an example (batch norm) or of a row.
    pub run: usize,
}

impl Geometry {
    pub fn batch(shape: Channels) -> Self {
        Self {
            positions: shape.s,
            parameters: shape.c,
            channels: 1,
            statistics: shape.c,
            count: shape.count(),
            run: if shape.s == 1 { shape.c } else { shape.s },
        }
    }

    pub fn rows(shape: Rows) -> Self {
        Self {
            positions: shape.positions,
            parameters: shape.parameters(),
            channels: shape.channels,
            statistics: shape.count(),
            count: shape.row(),
            run: if shape.positions == 1 {
                shape.channels
            } else {
                shape.positions
            },
        }
    }

    pub fn elements(&self) -> usize {
        self.count * self.statistics
    }

    /// How many parameters and statistics there are in a vector of `width` elements.
    pub fn widths(&self, width: usize) -> [usize; 2] {
        match (self.positions, self.channels) {
            (1, 1) => [width, width],
            (1, _) => [width, 1],
            _ => [1, 1],
        }
    }

    pub fn places(&self) -> PlacesLaunch {
        PlacesLaunch::new(
            self.positions,
            self.parameters,
            self.channels,
            self.statistics,
        )
    }
}

/// [`Geometry`] in a kernel.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Places {
    positions: FastDivmod<usize>,
    parameters: FastDivmod<usize>,
    channels: FastDivmod<usize>,
    statistics: FastDivmod<usize>,
}

#[cube]
impl Places {
    /// The index of an element's parameters.
    pub fn parameter(&self, element: usize) -> usize {
        self.parameters.modulo(self.positions.div(element))
    }

    /// The index of an element's statistics.
    pub fn statistic(&self, element: usize) -> usize {
        let group = self.channels.div(self.positions.div(element));
        self.statistics.modulo(group)
    }
}

/// The statistics and parameters of a vector of elements.
#[derive(CubeType)]
pub(super) struct Line<F: Float, N: Size> {
    pub mean: Vector<F, N>,
    /// The reciprocal deviation.
    pub r: Vector<F, N>,
    pub scale: Vector<F, N>,
    pub shift: Vector<F, N>,
}

#[cube]
impl<F: Float, N: Size> Line<F, N> {
    /// Of the elements from `element` on.
    pub fn at<P: Size, M: Size>(
        element: usize,
        places: &Places,
        mean: &[Vector<F, M>],
        r: &[Vector<F, M>],
        scale: &[Vector<F, P>],
        shift: &[Vector<F, P>],
    ) -> Line<F, N> {
        let parameter = places.parameter(element) / P::value();
        let statistic = places.statistic(element) / M::value();
        Line::<F, N> {
            mean: Vector::cast_from(mean[statistic]),
            r: Vector::cast_from(r[statistic]),
            scale: Vector::cast_from(scale[parameter]),
            shift: Vector::cast_from(shift[parameter]),
        }
    }

    /// y before the activation: (x − μ)·γ·r + β.
    pub fn output(&self, x: Vector<F, N>) -> Vector<F, N> {
        (x - self.mean) * (self.scale * self.r) + self.shift
    }

    /// x̂ = (x − μ)·r.
    pub fn normalized(&self, x: Vector<F, N>) -> Vector<F, N> {
        (x - self.mean) * self.r
    }

    /// The gradient by what the activation is applied to; its mask is computed again from x, by the
    /// forward's arithmetic.
    pub fn gradient(
        &self,
        x: Vector<F, N>,
        dy: Vector<F, N>,
        #[comptime] relu: bool,
    ) -> Vector<F, N> {
        if comptime!(relu) {
            let zero = Vector::<F, N>::zeroed();
            select_many(self.output(x).less_equal(&zero), zero, dy)
        } else {
            dy
        }
    }
}

/// The activation; `<=` is false for NaN, which passes.
#[cube]
pub(super) fn activate<F: Float, N: Size>(y: Vector<F, N>, #[comptime] relu: bool) -> Vector<F, N> {
    if comptime!(relu) {
        let zero = Vector::<F, N>::zeroed();
        select_many(y.less_equal(&zero), zero, y)
    } else {
        y
    }
}

/// The sum over a vector's lanes.
#[cube]
pub(super) fn sum_of_lanes<F: Float, N: Size>(values: Vector<F, N>) -> F {
    let mut sum = values.extract(0usize);
    #[unroll]
    for lane in 1..N::value() {
        sum += values.extract(lane);
    }
    sum
}
