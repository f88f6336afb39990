//! Rows that a few units hold in their caches: statistics and output by one kernel.
//!
//! A team of units, a power of two, takes a row; a cube has as many teams as fit. Sums over a team go
//! by subgroup shuffles where the device has them, then through shared memory.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::Plane;
use cubecl::prelude::*;
use evenkeel_kernels::{Activation, RowNorm, RowStatistics};

use super::line::{Line, Places, activate, sum_of_lanes};
use super::parts::one_cube_each;
use super::{Backward, Inputs};
use crate::backend::cube::{UNITS, elem, elems, empty, width};

/// Elements of a row that is still in cache for its next reads.
const LONGEST: usize = 1 << 14;

pub(super) fn are_short(norm: &RowNorm) -> bool {
    norm.shape.row() <= LONGEST
}

/// How rows are divided among units.
struct Teams {
    /// Units of a team.
    team: usize,
    /// Units of it that add by shuffles.
    lanes: usize,
    /// Elements read at once.
    width: usize,
    /// Vectors of a row.
    row: usize,
}

/// Units that can add by shuffles: those of the smallest subgroup that the device may choose.
fn lanes(client: &Client) -> usize {
    let properties = client.properties();
    let plane = properties.hardware.plane_size_min as usize;
    let has_shuffles =
        properties.features.plane.contains(Plane::Ops) && plane.is_power_of_two() && plane <= UNITS;
    if has_shuffles { plane } else { 1 }
}

impl Teams {
    fn new(inputs: &Inputs, lanes: usize) -> Self {
        let width = width(&inputs.x, inputs.geometry.run);
        let row = inputs.geometry.count / width;
        // A team of one subgroup needs no barrier: more units only where each has much to do.
        let enough = if lanes > 1 { lanes } else { 32 };
        let team = row
            .next_power_of_two()
            .min(enough.max(row.div_ceil(8).next_power_of_two()))
            .min(UNITS);
        Self {
            team,
            lanes: lanes.min(team),
            width,
            row,
        }
    }

    fn cubes(&self, client: &Client, rows: usize) -> (CubeCount, CubeDim) {
        one_cube_each(client, rows.div_ceil(UNITS / self.team), UNITS)
    }
}

/// y, and μ and r of each row.
pub(super) fn forward(inputs: &Inputs, norm: &RowNorm) -> [CubeTensor; 3] {
    let teams = Teams::new(inputs, lanes(&inputs.x.client));
    forward_by(&teams, inputs, norm)
}

fn forward_by(teams: &Teams, inputs: &Inputs, norm: &RowNorm) -> [CubeTensor; 3] {
    let Inputs { x, geometry, .. } = inputs;
    let [parameters, _] = geometry.widths(teams.width);
    let y = empty(x, x.shape(), x.dtype);
    let [mean, r] = [(); 2].map(|()| empty(x, [geometry.statistics], inputs.wide()));
    let float = elem(inputs.wide());
    let (count, dim) = teams.cubes(&x.client, geometry.statistics);
    row_norm_kernel::launch(
        &x.client,
        count,
        dim,
        teams.width,
        parameters,
        x.clone().into_buffer_arg(),
        inputs.scale.clone().into_buffer_arg(),
        inputs.shift.clone().into_buffer_arg(),
        y.clone().into_buffer_arg(),
        mean.clone().into_buffer_arg(),
        r.clone().into_buffer_arg(),
        geometry.places(),
        teams.row,
        InputScalar::new(geometry.count as f64, float),
        InputScalar::new(norm.epsilon, float),
        teams.team,
        teams.lanes,
        norm.statistics == RowStatistics::RootMeanSquare,
        norm.activation == Activation::Relu,
        elems(x.dtype),
    );
    [y, mean, r]
}

/// The gradient by x.
pub(super) fn gradient(backward: &Backward, norm: &RowNorm) -> CubeTensor {
    let inputs = &backward.inputs;
    let teams = Teams::new(inputs, lanes(&inputs.x.client));
    gradient_by(&teams, backward, norm)
}

fn gradient_by(teams: &Teams, backward: &Backward, norm: &RowNorm) -> CubeTensor {
    let inputs = &backward.inputs;
    let Inputs { x, geometry, .. } = inputs;
    let [parameters, _] = geometry.widths(teams.width);
    let dx = empty(x, x.shape(), x.dtype);
    let (count, dim) = teams.cubes(&x.client, geometry.statistics);
    let [dy, mean, r, scale, shift] = backward.arguments();
    row_gradient_kernel::launch(
        &x.client,
        count,
        dim,
        teams.width,
        parameters,
        x.clone().into_buffer_arg(),
        dy,
        mean,
        r,
        scale,
        shift,
        dx.clone().into_buffer_arg(),
        geometry.places(),
        teams.row,
        InputScalar::new(geometry.count as f64, elem(inputs.wide())),
        teams.team,
        teams.lanes,
        norm.statistics == RowStatistics::RootMeanSquare,
        norm.activation == Activation::Relu,
        elems(x.dtype),
    );
    dx
}

/// The sum over a team, in each of its units. All units of a cube take part.
#[cube]
fn sum_of_team<F: Float>(
    value: F,
    shared: &mut Shared<[F]>,
    #[comptime] team: usize,
    #[comptime] lanes: usize,
) -> F {
    let mut sum = value;
    let mut mask = comptime!(lanes as u32 / 2);
    #[unroll]
    for _ in 0..comptime!(lanes.ilog2()) {
        sum += plane_shuffle_xor(sum, mask);
        comptime!(mask /= 2);
    }
    if comptime!(team > lanes) {
        let unit = UNIT_POS as usize;
        let local = unit % team;
        shared[unit] = sum;
        sync_cube();
        let mut distance = comptime!(team / 2).runtime();
        while distance >= lanes {
            if local < distance {
                shared[unit] = shared[unit] + shared[unit + distance];
            }
            sync_cube();
            distance /= 2;
        }
        sum = shared[unit - local];
        // Before the next sum is written.
        sync_cube();
    }
    sum
}

/// Memory: each element is read once from memory, twice more from cache, and written once: 8 bytes in
/// `f32`. The mean is taken around a value of the row, so that equal values have a deviation of 0, and
/// the deviation around the mean.
#[cube(launch)]
fn row_norm_kernel<E: Float, F: Float, N: Size, P: Size>(
    x: &[Vector<E, N>],
    scale: &[Vector<F, P>],
    shift: &[Vector<F, P>],
    y: &mut [Vector<E, N>],
    mean: &mut [F],
    reciprocal_deviation: &mut [F],
    places: &Places,
    row: usize,
    count: InputScalar,
    epsilon: InputScalar,
    #[comptime] team: usize,
    #[comptime] lanes: usize,
    #[comptime] around_zero: bool,
    #[comptime] relu: bool,
    #[define(E, F)] _types: [ElemType; 2],
) {
    let mut shared = Shared::<[F]>::new_slice(UNITS);
    let width = N::value();
    let count = count.get::<F>();
    let unit = UNIT_POS as usize;
    let local = unit % team;
    let index = CUBE_POS * comptime!(UNITS / team) + unit / team;
    // Teams without a row follow, since barriers are for all units, but write nothing.
    let active = index < mean.len();
    let start = select(active, index * row, 0);
    let end = select(active, start + row, 0);

    let mut center = F::new(0.0);
    if comptime!(!around_zero) {
        let first = F::cast_from(x[start].extract(0usize));
        let first = select(first.abs() <= F::max_value(), first, F::new(0.0));
        let mut sum = Vector::<F, N>::zeroed();
        let mut at = start + local;
        while at < end {
            sum += Vector::<F, N>::cast_from(x[at]) - Vector::new(first);
            at += team;
        }
        let sum = sum_of_team(sum_of_lanes(sum), &mut shared, team, lanes);
        center = first + sum / count;
    }
    let mut squares = Vector::<F, N>::zeroed();
    let mut at = start + local;
    while at < end {
        let distance = Vector::<F, N>::cast_from(x[at]) - Vector::new(center);
        squares += distance * distance;
        at += team;
    }
    let squares = sum_of_team(sum_of_lanes(squares), &mut shared, team, lanes);
    let r = F::new(1.0) / (squares / count + epsilon.get::<F>()).sqrt();
    if active && local == 0 {
        mean[index] = center;
        reciprocal_deviation[index] = r;
    }
    let mut at = start + local;
    while at < end {
        let parameter = places.parameter(at * width) / P::value();
        let line = Line::<F, N> {
            mean: Vector::new(center),
            r: Vector::new(r),
            scale: Vector::cast_from(scale[parameter]),
            shift: Vector::cast_from(shift[parameter]),
        };
        let output = line.output(Vector::cast_from(x[at]));
        y[at] = Vector::cast_from(activate(output, relu));
        at += team;
    }
}

/// Memory: x and dy are read once from memory, once more from cache, and dx is written once: 12 bytes
/// an element in `f32`.
#[cube(launch)]
fn row_gradient_kernel<E: Float, F: Float, N: Size, P: Size>(
    x: &[Vector<E, N>],
    dy: &[Vector<E, N>],
    mean: &[F],
    r: &[F],
    scale: &[Vector<F, P>],
    shift: &[Vector<F, P>],
    dx: &mut [Vector<E, N>],
    places: &Places,
    row: usize,
    count: InputScalar,
    #[comptime] team: usize,
    #[comptime] lanes: usize,
    #[comptime] around_zero: bool,
    #[comptime] relu: bool,
    #[define(E, F)] _types: [ElemType; 2],
) {
    let mut shared = Shared::<[F]>::new_slice(UNITS);
    let width = N::value();
    let count = count.get::<F>();
    let unit = UNIT_POS as usize;
    let local = unit % team;
    let index = CUBE_POS * comptime!(UNITS / team) + unit / team;
    let active = index < mean.len();
    let start = select(active, index * row, 0);
    let end = select(active, start + row, 0);
    let statistic = select(active, index, 0);
    let mean = Vector::<F, N>::new(mean[statistic]);
    let r = Vector::<F, N>::new(r[statistic]);

    let mut gradients = Vector::<F, N>::zeroed();
    let mut products = Vector::<F, N>::zeroed();
    let mut at = start + local;
    while at < end {
        let parameter = places.parameter(at * width) / P::value();
        let line = Line::<F, N> {
            mean,
            r,
            scale: Vector::cast_from(scale[parameter]),
            shift: Vector::cast_from(shift[parameter]),
        };
        let x = Vector::<F, N>::cast_from(x[at]);
        let g = line.scale * line.gradient(x, Vector::cast_from(dy[at]), relu);
        gradients += g;
        products += g * line.normalized(x);
        at += team;
    }
    let product = sum_of_team(sum_of_lanes(products), &mut shared, team, lanes) / count;
    let mut gradient = F::new(0.0);
    if comptime!(!around_zero) {
        gradient = sum_of_team(sum_of_lanes(gradients), &mut shared, team, lanes) / count;
    }
    let mut at = start + local;
    while at < end {
        let parameter = places.parameter(at * width) / P::value();
        let line = Line::<F, N> {
            mean,
            r,
            scale: Vector::cast_from(scale[parameter]),
            shift: Vector::cast_from(shift[parameter]),
        };
        let x = Vector::<F, N>::cast_from(x[at]);
        let g = line.scale * line.gradient(x, Vector::cast_from(dy[at]), relu);
        let centred = g - Vector::new(gradient) - line.normalized(x) * Vector::new(product);
        dx[at] = Vector::cast_from(line.r * centred);
        at += team;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Statistics;
    use super::super::line::Geometry;
    use super::*;
    use crate::backend::cube::gpu;
    use burn::backend::DispatchDevice;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::ops::into_data_sync;
    use evenkeel_kernels::Rows;
    use evenkeel_random::Key;

    fn numbers(tensor: CubeTensor) -> Vec<f32> {
        into_data_sync(tensor).iter::<f32>().collect()
    }

    /// CubeCL hides the subgroups of software adapters, which Mesa's has: so that shuffles are tested
    /// there, they are asked for without asking whether the device announces them.
    #[test]
    fn shuffles_and_shared_memory_agree() {
        let Some(device) = gpu::device("shuffles_and_shared_memory_agree") else {
            return;
        };
        let DispatchDevice::Cube(device) = device.as_dispatch() else {
            panic!("wgpu's devices are CubeCL's");
        };
        let plane = device.client().properties().hardware.plane_size_min as usize;
        for (row, statistics) in [
            (3, RowStatistics::Deviation),
            (32, RowStatistics::RootMeanSquare),
            (1000, RowStatistics::Deviation),
            (12_000, RowStatistics::Deviation),
        ] {
            let rows = Rows {
                examples: 37,
                groups: 1,
                channels: row,
                positions: 1,
            };
            let norm = RowNorm {
                shape: rows,
                statistics,
                epsilon: 1e-5,
                activation: Activation::Relu,
            };
            let tensor = |seed, size| {
                let mut draws = Key::from_seed(seed).draws();
                let values: Vec<_> = (0..size).map(|_| draws.normal() as f32).collect();
                CubeBackend::float_from_data(TensorData::new(values, [size]), device)
            };
            let run = |lanes| {
                let x = tensor(1, rows.len());
                let parameters = [2, 3].map(|seed| tensor(seed, row));
                let [scale, shift] = parameters;
                let inputs = Inputs::new(Geometry::rows(rows), x, scale, shift);
                let teams = Teams::new(&inputs, lanes);
                assert_eq!(teams.lanes > 1, lanes > 1);
                let [y, mean, r] = forward_by(&teams, &inputs, &norm);
                let backward = Backward {
                    inputs,
                    statistics: Statistics { mean, r },
                    dy: tensor(4, rows.len()),
                };
                [y, gradient_by(&teams, &backward, &norm)]
                    .map(numbers)
                    .concat()
            };
            for (i, (found, expected)) in run(plane).into_iter().zip(run(1)).enumerate() {
                assert!(
                    (found - expected).abs() <= 1e-5 * (1.0 + expected.abs()),
                    "row of {row}, {i}: {found}, expected {expected}"
                );
            }
        }
    }
}
