//! The sums of a backward over many cubes: Σd and Σd·x̂ with d the gradient before the activation.
//!
//! Partials are pairs (Σd, Σd·x̂) for each slab or column, added in an order that the shape and the
//! device decide: no atomics, the same bits each time.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use evenkeel_kernels::Activation;

use super::line::{Line, Places};
use super::parts::{COLUMNS, Columns, FINISHING, LEAST_SLAB, ROWS, Slabs, one_cube_each};
use super::{Backward, Inputs};
use crate::backend::cube::{UNITS, elem, elems, empty, width};

/// Partial sums of a backward. Those of parameter j are, for each of `examples` i, the
/// `of_channel` ones from (i · parameters + j) · `of_channel` on.
pub(super) struct Sums {
    partials: CubeTensor,
    examples: usize,
    of_channel: usize,
}

/// Sums over the statistics' elements, divided by their count.
pub(super) struct Centring {
    /// The mean of g = γ·d.
    pub gradient: CubeTensor,
    /// The mean of g·x̂.
    pub product: CubeTensor,
}

impl Sums {
    pub fn of(backward: &Backward, activation: Activation) -> Self {
        let geometry = backward.inputs.geometry;
        if geometry.positions < LEAST_SLAB {
            Self::by_columns(backward, activation)
        } else {
            // A batch norm's channel is spread over the examples; that of a norm by rows is summed
            // example by example, since each has its own statistics.
            let channels = geometry.statistics * geometry.channels;
            Self::by_slabs(backward, channels, activation)
        }
    }

    fn by_slabs(backward: &Backward, channels: usize, activation: Activation) -> Self {
        let inputs = &backward.inputs;
        let Inputs { x, geometry, .. } = inputs;
        let examples = geometry.elements() / geometry.positions / channels;
        let width = width(x, geometry.positions);
        let slabs = Slabs::new(examples, channels, geometry.positions / width);
        let of_channel = slabs.parts * width;
        let partials = empty(x, [channels * of_channel * 2], inputs.wide());
        let (count, dim) = one_cube_each(&x.client, channels * slabs.parts, UNITS);
        let [dy, mean, r, scale, shift] = backward.arguments();
        slab_sums_kernel::launch(
            &x.client,
            count,
            dim,
            width,
            x.clone().into_buffer_arg(),
            dy,
            mean,
            r,
            scale,
            shift,
            partials.clone().into_buffer_arg(),
            geometry.places(),
            slabs.channels,
            slabs.slab,
            slabs.of_channel(),
            slabs.length(),
            slabs.parts,
            activation == Activation::Relu,
            elems(x.dtype),
        );
        Self {
            partials,
            examples: channels / geometry.parameters,
            of_channel,
        }
    }

    fn by_columns(backward: &Backward, activation: Activation) -> Self {
        let inputs = &backward.inputs;
        let Inputs { x, geometry, .. } = inputs;
        let all_columns = geometry.parameters * geometry.positions;
        let width = width(x, geometry.run);
        let [parameters, statistics] = geometry.widths(width);
        let columns = Columns::new(geometry.elements() / all_columns, all_columns / width);
        let partials = empty(x, [all_columns * columns.parts * 2], inputs.wide());
        let (count, dim) = one_cube_each(&x.client, columns.cubes(), UNITS);
        let [dy, mean, r, scale, shift] = backward.arguments();
        column_sums_kernel::launch(
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
            partials.clone().into_buffer_arg(),
            geometry.places(),
            columns.rows,
            columns.columns,
            columns.length(),
            columns.parts,
            activation == Activation::Relu,
            elems(x.dtype),
        );
        Self {
            partials,
            examples: 1,
            of_channel: columns.parts * geometry.positions,
        }
    }

    /// The gradients of scale and shift: dγ = Σd·x̂ and dβ = Σd.
    pub fn parameters(&self, inputs: &Inputs) -> [CubeTensor; 2] {
        let parameters = inputs.geometry.parameters;
        let outputs = [(); 2].map(|()| empty(&inputs.x, [parameters], inputs.wide()));
        let [scale, shift] = outputs.clone().map(CubeTensor::into_buffer_arg);
        let (count, dim) = one_cube_each(&inputs.x.client, parameters, FINISHING);
        parameter_kernel::launch(
            &inputs.x.client,
            count,
            dim,
            self.partials.clone().into_buffer_arg(),
            scale,
            shift,
            self.examples,
            self.of_channel,
            elem(inputs.wide()),
        );
        outputs
    }

    /// What the input's gradient is centred by, where [`Self::of`] summed by statistics.
    pub fn centring(&self, inputs: &Inputs, around_zero: bool) -> Centring {
        let geometry = inputs.geometry;
        let statistics = geometry.statistics;
        let outputs = [(); 2].map(|()| empty(&inputs.x, [statistics], inputs.wide()));
        let [gradient, product] = outputs.clone().map(CubeTensor::into_buffer_arg);
        let (count, dim) = one_cube_each(&inputs.x.client, statistics, FINISHING);
        centring_kernel::launch(
            &inputs.x.client,
            count,
            dim,
            self.partials.clone().into_buffer_arg(),
            inputs.scale.clone().into_buffer_arg(),
            gradient,
            product,
            geometry.channels,
            self.of_channel,
            InputScalar::new(geometry.count as f64, elem(inputs.wide())),
            around_zero,
            elem(inputs.wide()),
        );
        let [gradient, product] = outputs;
        Centring { gradient, product }
    }
}

/// Adds pairs of units whose distance is a multiple of `nearest`, a tree of `units` leaves: complete
/// in the first `nearest` units.
#[cube]
fn add_units<F: Float, N: Size>(
    pair: (Vector<F, N>, Vector<F, N>),
    #[comptime] units: usize,
    #[comptime] nearest: usize,
) -> (Vector<F, N>, Vector<F, N>) {
    let mut gradients = Shared::<[Vector<F, N>]>::new_slice(units);
    let mut products = Shared::<[Vector<F, N>]>::new_slice(units);
    let unit = UNIT_POS as usize;
    gradients[unit] = pair.0;
    products[unit] = pair.1;
    sync_cube();
    let mut distance = comptime!(units / 2).runtime();
    while distance >= nearest {
        if unit < distance {
            gradients[unit] = gradients[unit] + gradients[unit + distance];
            products[unit] = products[unit] + products[unit + distance];
        }
        sync_cube();
        distance /= 2;
    }
    (gradients[unit], products[unit])
}

/// A cube takes a part of a channel. Each lane of a vector is a partial of its own.
///
/// Memory: x and dy are read once, 8 bytes an element in `f32`.
#[cube(launch)]
fn slab_sums_kernel<E: Float, F: Float, N: Size>(
    x: &[Vector<E, N>],
    dy: &[Vector<E, N>],
    mean: &[F],
    r: &[F],
    scale: &[F],
    shift: &[F],
    partials: &mut [F],
    places: &Places,
    channels: usize,
    slab: usize,
    of_channel: usize,
    length: usize,
    parts: usize,
    #[comptime] relu: bool,
    #[define(E, F)] _types: [ElemType; 2],
) {
    if CUBE_POS >= channels * parts {
        terminate!();
    }
    let width = N::value();
    let channel = CUBE_POS / parts;
    let start = CUBE_POS % parts * length;
    let end = min(start + length, of_channel);
    let parameter = places.parameter(channel * slab * width);
    let statistic = places.statistic(channel * slab * width);
    let line = Line::<F, N> {
        mean: Vector::new(mean[statistic]),
        r: Vector::new(r[statistic]),
        scale: Vector::new(scale[parameter]),
        shift: Vector::new(shift[parameter]),
    };
    let mut at = start + UNIT_POS as usize;
    let mut example = at / slab;
    let mut position = at % slab;
    let mut gradients = Vector::<F, N>::zeroed();
    let mut products = Vector::<F, N>::zeroed();
    while at < end {
        let index = (example * channels + channel) * slab + position;
        let x = Vector::<F, N>::cast_from(x[index]);
        let d = line.gradient(x, Vector::cast_from(dy[index]), relu);
        gradients += d;
        products += d * line.normalized(x);
        at += UNITS;
        example += UNITS / slab;
        position += UNITS % slab;
        if position >= slab {
            position -= slab;
            example += 1;
        }
    }
    let (gradients, products) = add_units((gradients, products), UNITS, 1usize);
    if UNIT_POS == 0 {
        #[unroll]
        for lane in 0..width {
            let partial = (CUBE_POS * width + lane) * 2;
            partials[partial] = gradients.extract(lane);
            partials[partial + 1] = products.extract(lane);
        }
    }
}

/// A cube takes [`COLUMNS`] vectors of columns and a part of the rows.
///
/// Memory: x and dy are read once, 8 bytes an element in `f32`.
#[cube(launch)]
fn column_sums_kernel<E: Float, F: Float, N: Size, P: Size, M: Size>(
    x: &[Vector<E, N>],
    dy: &[Vector<E, N>],
    mean: &[Vector<F, M>],
    r: &[Vector<F, M>],
    scale: &[Vector<F, P>],
    shift: &[Vector<F, P>],
    partials: &mut [F],
    places: &Places,
    rows: usize,
    columns: usize,
    length: usize,
    parts: usize,
    #[comptime] relu: bool,
    #[define(E, F)] _types: [ElemType; 2],
) {
    let width = N::value();
    let unit = UNIT_POS as usize;
    let part = CUBE_POS % parts;
    let column = CUBE_POS / parts * COLUMNS + unit % COLUMNS;
    let mut row = part * length + unit / COLUMNS;
    let end = select(column < columns, min((part + 1) * length, rows), 0);
    let mut gradients = Vector::<F, N>::zeroed();
    let mut products = Vector::<F, N>::zeroed();
    while row < end {
        let index = row * columns + column;
        let line = Line::<F, N>::at::<P, M>(index * width, places, mean, r, scale, shift);
        let x = Vector::<F, N>::cast_from(x[index]);
        let d = line.gradient(x, Vector::cast_from(dy[index]), relu);
        gradients += d;
        products += d * line.normalized(x);
        row += ROWS;
    }
    let (gradients, products) = add_units((gradients, products), UNITS, COLUMNS);
    if unit < COLUMNS && column < columns {
        #[unroll]
        for lane in 0..width {
            let partial = ((column * width + lane) * parts + part) * 2;
            partials[partial] = gradients.extract(lane);
            partials[partial + 1] = products.extract(lane);
        }
    }
}

/// A cube adds the partials of a parameter. Memory: 8 bytes a partial, of which there are few.
#[cube(launch)]
fn parameter_kernel<F: Float>(
    partials: &[F],
    scale: &mut [F],
    shift: &mut [F],
    examples: usize,
    of_channel: usize,
    #[define(F)] _type: ElemType,
) {
    let parameter = CUBE_POS;
    if parameter >= scale.len() {
        terminate!();
    }
    let mut gradients = Vector::<F, Const<1>>::zeroed();
    let mut products = Vector::<F, Const<1>>::zeroed();
    let mut at = UNIT_POS as usize;
    while at < examples * of_channel {
        let channel = at / of_channel * scale.len() + parameter;
        let partial = (channel * of_channel + at % of_channel) * 2;
        gradients += Vector::new(partials[partial]);
        products += Vector::new(partials[partial + 1]);
        at += FINISHING;
    }
    let (gradients, products) = add_units((gradients, products), FINISHING, 1usize);
    if UNIT_POS == 0 {
        scale[parameter] = products.extract(0usize);
        shift[parameter] = gradients.extract(0usize);
    }
}

/// A cube adds the partials of the channels that share statistics, times their γ.
#[cube(launch)]
fn centring_kernel<F: Float>(
    partials: &[F],
    scale: &[F],
    gradient: &mut [F],
    product: &mut [F],
    channels: usize,
    of_channel: usize,
    count: InputScalar,
    #[comptime] around_zero: bool,
    #[define(F)] _type: ElemType,
) {
    let statistic = CUBE_POS;
    if statistic >= gradient.len() {
        terminate!();
    }
    let mut gradients = Vector::<F, Const<1>>::zeroed();
    let mut products = Vector::<F, Const<1>>::zeroed();
    let mut at = UNIT_POS as usize;
    while at < channels * of_channel {
        let partial = statistic * channels * of_channel + at;
        let scale = scale[partial / of_channel % scale.len()];
        gradients += Vector::new(scale * partials[partial * 2]);
        products += Vector::new(scale * partials[partial * 2 + 1]);
        at += FINISHING;
    }
    let (gradients, products) = add_units((gradients, products), FINISHING, 1usize);
    if UNIT_POS == 0 {
        let count = count.get::<F>();
        if comptime!(around_zero) {
            gradient[statistic] = F::new(0.0);
        } else {
            gradient[statistic] = gradients.extract(0usize) / count;
        }
        product[statistic] = products.extract(0usize) / count;
    }
}
