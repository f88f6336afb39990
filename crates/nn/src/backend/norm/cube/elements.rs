//! The passes that write one element for each that they read.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use evenkeel_kernels::Activation;

use super::line::{Line, Places, activate};
use super::sums::Centring;
use super::{Backward, Inputs, Statistics};
use crate::backend::cube::{cubes, elems, empty, width};

/// y = activation((x − μ)·γ·r + β).
pub(super) fn output(
    inputs: &Inputs,
    statistics: &Statistics,
    activation: Activation,
) -> CubeTensor {
    let Inputs {
        geometry,
        x,
        scale,
        shift,
    } = inputs;
    let Statistics { mean, r } = statistics;
    let y = empty(x, x.shape(), x.dtype);
    let width = width(x, geometry.run);
    let [parameters, statistics] = geometry.widths(width);
    let (count, dim) = cubes(&x.client, geometry.elements() / width);
    output_kernel::launch(
        &x.client,
        count,
        dim,
        width,
        parameters,
        statistics,
        x.clone().into_buffer_arg(),
        mean.clone().into_buffer_arg(),
        r.clone().into_buffer_arg(),
        scale.clone().into_buffer_arg(),
        shift.clone().into_buffer_arg(),
        y.clone().into_buffer_arg(),
        geometry.places(),
        activation == Activation::Relu,
        elems(x.dtype),
    );
    y
}

/// The gradient by x: r·(g − mean of g − x̂·mean of (g·x̂)) with g = γ·d; r·g if the statistics are
/// constants.
pub(super) fn gradient(
    backward: &Backward,
    centring: Option<&Centring>,
    activation: Activation,
) -> CubeTensor {
    let Inputs { x, geometry, .. } = &backward.inputs;
    let dx = empty(x, x.shape(), x.dtype);
    let width = width(x, geometry.run);
    let [parameters, statistics] = geometry.widths(width);
    let (count, dim) = cubes(&x.client, geometry.elements() / width);
    let [dy, mean, r, scale, shift] = backward.arguments();
    let [mean_gradient, mean_product] = match centring {
        Some(centring) => [&centring.gradient, &centring.product],
        // A kernel has all its arguments; these are not read.
        None => [&backward.statistics.mean, &backward.statistics.r],
    };
    gradient_kernel::launch(
        &x.client,
        count,
        dim,
        width,
        parameters,
        statistics,
        x.clone().into_buffer_arg(),
        dy,
        mean,
        r,
        scale,
        shift,
        mean_gradient.clone().into_buffer_arg(),
        mean_product.clone().into_buffer_arg(),
        dx.clone().into_buffer_arg(),
        geometry.places(),
        centring.is_some(),
        activation == Activation::Relu,
        elems(x.dtype),
    );
    dx
}

/// Memory: each element is read once and written once, 8 bytes in `f32`.
#[cube(launch)]
fn output_kernel<E: Float, F: Float, N: Size, P: Size, M: Size>(
    x: &[Vector<E, N>],
    mean: &[Vector<F, M>],
    r: &[Vector<F, M>],
    scale: &[Vector<F, P>],
    shift: &[Vector<F, P>],
    y: &mut [Vector<E, N>],
    places: &Places,
    #[comptime] relu: bool,
    #[define(E, F)] _types: [ElemType; 2],
) {
    if ABSOLUTE_POS < x.len() {
        let element = ABSOLUTE_POS * N::value();
        let line = Line::<F, N>::at::<P, M>(element, places, mean, r, scale, shift);
        let output = line.output(Vector::cast_from(x[ABSOLUTE_POS]));
        y[ABSOLUTE_POS] = Vector::cast_from(activate(output, relu));
    }
}

/// Memory: x and dy are read once and dx is written once, 12 bytes an element in `f32`.
#[cube(launch)]
fn gradient_kernel<E: Float, F: Float, N: Size, P: Size, M: Size>(
    x: &[Vector<E, N>],
    dy: &[Vector<E, N>],
    mean: &[Vector<F, M>],
    r: &[Vector<F, M>],
    scale: &[Vector<F, P>],
    shift: &[Vector<F, P>],
    mean_gradient: &[Vector<F, M>],
    mean_product: &[Vector<F, M>],
    dx: &mut [Vector<E, N>],
    places: &Places,
    #[comptime] centred: bool,
    #[comptime] relu: bool,
    #[define(E, F)] _types: [ElemType; 2],
) {
    if ABSOLUTE_POS < x.len() {
        let element = ABSOLUTE_POS * N::value();
        let line = Line::<F, N>::at::<P, M>(element, places, mean, r, scale, shift);
        let x = Vector::<F, N>::cast_from(x[ABSOLUTE_POS]);
        let mut g = line.scale * line.gradient(x, Vector::cast_from(dy[ABSOLUTE_POS]), relu);
        if comptime!(centred) {
            let statistic = places.statistic(element) / M::value();
            let mean_gradient = Vector::<F, N>::cast_from(mean_gradient[statistic]);
            let mean_product = Vector::<F, N>::cast_from(mean_product[statistic]);
            g = g - mean_gradient - line.normalized(x) * mean_product;
        }
        dx[ABSOLUTE_POS] = Vector::cast_from(line.r * g);
    }
}
