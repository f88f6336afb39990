//! Norms with statistics per row: layer, RMS, instance and group norm.

mod elements;
mod slabs;

use std::borrow::Cow;

use multiversion::multiversion;

use super::Affine;
use super::batch::Gradients;
use super::moments::{Moments, RowSums, STRETCH};
use super::slabs::Centring;
use crate::activation::with_activation;
use crate::output::{Grid, build, build_over};
use crate::{Activation, Float};

/// A contiguous `[examples, groups, channels, positions]` whose rows are what a group holds of an
/// example, channels·positions values. Statistics are per row; γ and β per group and channel.
///
/// | norm | input | groups | channels | positions |
/// |---|---|---|---|---|
/// | layer, RMS | `[..., L]` | 1 | L | 1 |
/// | group | `[N, C, ...]` | G | C/G | all the rest |
/// | instance | `[N, C, ...]` | C | 1 | all the rest |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Examples (tokens, for a layer norm).
    pub examples: usize,
    /// Groups of channels.
    pub groups: usize,
    /// Channels of a group.
    pub channels: usize,
    /// Positions of a channel.
    pub positions: usize,
}

/// What a row is normalized by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowStatistics {
    /// Its mean μ and the deviation around it, √(mean of (x − μ)² + ε).
    Deviation,
    /// Its root mean square, √(mean of x² + ε), with μ = 0.
    RootMeanSquare,
}

/// A norm by rows, but for its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowNorm {
    /// What the rows are.
    pub shape: Rows,
    /// What they are normalized by.
    pub statistics: RowStatistics,
    /// ε.
    pub epsilon: f64,
    /// Applied to the output in the same pass over memory.
    pub activation: Activation,
}

/// What the forward returns.
#[derive(Clone, Debug, PartialEq)]
pub struct RowForward<T> {
    /// In the shape of the input.
    pub output: Vec<T>,
    /// μ, per row; 0 where it is not subtracted.
    pub mean: Vec<T>,
    /// r, the reciprocal of what a row is divided by.
    pub reciprocal_deviation: Vec<T>,
}

/// Elements that a thread takes at a time in the forward.
const CHUNK: usize = 1 << 15;
/// Elements of rows that are summed up before the first of them is normalized, and so found in cache.
const TOGETHER: usize = 1 << 12;
/// Below this many positions a channel is too short for a loop of its own.
const LEAST_SLAB: usize = 16;
/// Blocks of rows in the backward, at most: each has sums for the parameters' gradients.
const MOST_BLOCKS: usize = 32;
/// For each block that has sums per column, at least this many examples, so that the sums take less
/// memory than the output.
const EXAMPLES_FOR_SUMS: usize = 8;

impl Rows {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.count() * self.row()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of rows.
    pub fn count(&self) -> usize {
        self.examples * self.groups
    }

    /// Elements of a row.
    pub fn row(&self) -> usize {
        self.channels * self.positions
    }

    /// The number of channels over all groups: of values of γ and of β.
    pub fn parameters(&self) -> usize {
        self.groups * self.channels
    }

    /// Whether the parameters are spread to one an element of all groups, or used channel by channel.
    fn by_element(&self) -> bool {
        self.positions < LEAST_SLAB
    }

    /// Rows of a block in the backward. It depends on the shape alone, as the order of sums does.
    fn block(&self) -> usize {
        let most = if self.by_element() {
            (self.examples / EXAMPLES_FOR_SUMS).clamp(1, MOST_BLOCKS)
        } else {
            MOST_BLOCKS
        };
        self.count().div_ceil(most).max(1)
    }

    /// Elements of as many rows as are summed up together, at least one.
    fn together(&self) -> usize {
        (TOGETHER / self.row()).max(1) * self.row()
    }

    fn check(&self, argument: &str, found: usize) {
        let Self {
            examples,
            groups,
            channels,
            positions,
        } = *self;
        let expected = [groups, channels, positions]
            .iter()
            .try_fold(examples, |product, &size| product.checked_mul(size));
        assert_eq!(
            Some(found),
            expected,
            "{argument}: expected [{examples}, {groups}, {channels}, {positions}] values"
        );
    }

    fn check_affine<T>(&self, affine: Affine<'_, T>) {
        for (argument, found) in [
            ("affine.scale", affine.scale.len()),
            ("affine.shift", affine.shift.len()),
        ] {
            let parameters = self.parameters();
            assert_eq!(
                found, parameters,
                "{argument}: expected one value for each of {parameters} channels"
            );
        }
    }
}

/// y = activation((x − μ)·γ·r + β), with μ and r of each row.
///
/// Memory: with a row in cache for its second read, each element is read once and written once.
///
/// Sources: Ba, Kiros, Hinton, "Layer Normalization" (2016); Zhang, Sennrich, "Root Mean Square Layer
/// Normalization" (2019); Ulyanov, Vedaldi, Lempitsky, "Instance Normalization" (2016); Wu, He,
/// "Group Normalization" (2018).
///
/// # Panics
/// If a slice's length does not fit the shape.
pub fn row_norm<T: Float>(x: &[T], affine: Affine<'_, T>, norm: &RowNorm) -> RowForward<T> {
    let shape = norm.shape;
    shape.check("x", x.len());
    shape.check_affine(affine);
    let spread = elements::Spread::new(shape, affine);
    let chunk = (CHUNK / shape.row().max(1)).max(1) * shape.row().max(1);
    let (output, parts) = with_activation!(norm.activation, |activation| {
        build(
            Grid::chunks(shape.len(), chunk),
            |_, elements, writer| match &spread {
                Some(spread) => {
                    let rows = spread.rows(shape);
                    elements::write_output(x, elements, &rows, norm, activation, writer)
                }
                None => {
                    let rows = slabs::SlabRows { shape, affine };
                    slabs::write_output(x, elements, rows, norm, activation, writer)
                }
            },
        )
    });
    let (mean, reciprocal_deviation) = if shape.is_empty() {
        let (mean, r) = norm.statistics::<T>(&Moments::default(), 0.0);
        (vec![mean; shape.count()], vec![r; shape.count()])
    } else {
        parts.into_iter().flatten().unzip()
    };
    RowForward {
        output,
        mean,
        reciprocal_deviation,
    }
}

/// The gradients of [`row_norm`], given the one by its output. With d the gradient by the value
/// before the activation, g = γ·d, x̂ = (x − μ)·r and means over the row:
///
/// ```text
/// dβ = Σ d        dγ = Σ d·x̂        dx = r·(g − mean of g − x̂·mean of (g·x̂))
/// ```
///
/// with Σ over the examples and positions of a channel, and no mean of g where μ is not subtracted.
/// ReLU's mask is computed again from x, by the forward's arithmetic.
///
/// # Panics
/// If a slice's length does not fit the shape.
pub fn row_norm_backward<'a, T: Float>(
    x: &[T],
    dy: impl Into<Cow<'a, [T]>>,
    mean: &[T],
    reciprocal_deviation: &[T],
    affine: Affine<'_, T>,
    norm: &RowNorm,
) -> Gradients<T> {
    let (shape, dy) = (norm.shape, dy.into());
    shape.check("x", x.len());
    shape.check("dy", dy.len());
    for (argument, found) in [
        ("mean", mean.len()),
        ("reciprocal_deviation", reciprocal_deviation.len()),
    ] {
        let rows = shape.count();
        assert_eq!(
            found, rows,
            "{argument}: expected one value for each of {rows} rows"
        );
    }
    shape.check_affine(affine);
    let spread = elements::Spread::new(shape, affine);
    let count = shape.row() as f64;
    let input = |row: usize| RowInput {
        index: row,
        mean: mean[row],
        r: reciprocal_deviation[row],
        centring: move |sums: [f64; 2]| {
            let r = reciprocal_deviation[row].to_f64();
            let mean_gradient = match norm.statistics {
                RowStatistics::Deviation => sums[0] / count,
                RowStatistics::RootMeanSquare => 0.0,
            };
            Centring {
                mean_gradient: T::from_f64(mean_gradient),
                slope: T::from_f64(sums[1] * r * r / count),
            }
        },
    };
    let grid = Grid::chunks(shape.len(), shape.block() * shape.row().max(1));
    let (dx, blocks) = with_activation!(norm.activation, |activation| {
        build_over(dy, grid, |elements, dy, writer| match &spread {
            Some(spread) => {
                let rows = spread.rows(shape);
                elements::write_gradient(x, dy, elements, &rows, input, activation, writer)
            }
            None => {
                let rows = slabs::SlabRows { shape, affine };
                slabs::write_gradient(x, dy, elements, rows, input, activation, writer)
            }
        })
    });
    let mut sums = ParameterSums::none(shape.parameters());
    for block in &blocks {
        sums.add(block);
    }
    Gradients {
        input: dx,
        scale: sums.scale.into_iter().map(T::from_f64).collect(),
        shift: sums.shift.into_iter().map(T::from_f64).collect(),
    }
}

impl RowNorm {
    /// μ and r of each row of `x`, at the end of `statistics`.
    fn push_statistics<T: Float>(&self, x: &[T], statistics: &mut Vec<(T, T)>) {
        let len = self.shape.row();
        let rows = x.chunks_exact(len);
        if len > STRETCH {
            statistics.extend(rows.map(|x| self.statistics_of(x)));
            return;
        }
        let first = statistics.len();
        if push_statistics_of(self, &RowSums::of(x, len), statistics) {
            for (x, statistics) in rows.zip(&mut statistics[first..]) {
                *statistics = self.statistics_of(x);
            }
        }
    }

    /// Of a row.
    fn statistics_of<T: Float>(&self, x: &[T]) -> (T, T) {
        let moments = Moments::of(x);
        let square = self.square(&moments);
        match self.statistics {
            RowStatistics::RootMeanSquare if !square.is_finite() => {
                self.statistics(&moments, mean_square(x))
            }
            _ => self.statistics(&moments, square),
        }
    }

    /// What ε is added to.
    #[inline(always)]
    fn square(&self, moments: &Moments) -> f64 {
        match self.statistics {
            RowStatistics::Deviation => moments.variance(),
            RowStatistics::RootMeanSquare => moments.variance() + moments.mean * moments.mean,
        }
    }

    #[inline(always)]
    fn statistics<T: Float>(&self, moments: &Moments, square: f64) -> (T, T) {
        let mean = match self.statistics {
            RowStatistics::Deviation => moments.mean,
            RowStatistics::RootMeanSquare => 0.0,
        };
        let r = 1.0 / (square + self.epsilon).sqrt();
        (T::from_f64(mean), T::from_f64(r))
    }
}

/// Whether any overflowed, so that these are not those of the values.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn push_statistics_of<T: Float>(
    norm: &RowNorm,
    sums: &RowSums<T>,
    statistics: &mut Vec<(T, T)>,
) -> bool {
    let mut overflowed = false;
    statistics.extend(sums.moments().map(|moments| {
        let square = norm.square(&moments);
        overflowed |= moments.overflowed() | !square.is_finite();
        norm.statistics::<T>(&moments, square)
    }));
    overflowed
}

/// Of infinite values it is infinite, though their variance is not a number: divided by its root, the
/// finite ones become 0, as in PyTorch.
#[cold]
fn mean_square<T: Float>(x: &[T]) -> f64 {
    let squares = x.iter().map(|x| x.to_f64() * x.to_f64());
    squares.sum::<f64>() / x.len() as f64
}

/// What the backward knows of a row: its statistics, and how its Σg and Σg·(x − μ) become the
/// [`Centring`] of its gradient.
struct RowInput<T, C> {
    index: usize,
    mean: T,
    r: T,
    centring: C,
}

/// Σd·x̂ and Σd per channel (or element of all groups) over some rows.
struct ParameterSums {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl ParameterSums {
    fn none(count: usize) -> Self {
        Self {
            scale: vec![0.0; count],
            shift: vec![0.0; count],
        }
    }

    fn add(&mut self, other: &Self) {
        for (sums, others) in [
            (&mut self.scale, &other.scale),
            (&mut self.shift, &other.shift),
        ] {
            for (sum, other) in sums.iter_mut().zip(others) {
                *sum += other;
            }
        }
    }

    /// One value a channel, of one for each of its positions.
    fn over_positions(self, positions: usize) -> Self {
        if positions == 1 {
            return self;
        }
        let sums = |values: Vec<f64>| {
            let channels = values.chunks(positions);
            channels.map(|values| values.iter().sum()).collect()
        };
        Self {
            scale: sums(self.scale),
            shift: sums(self.shift),
        }
    }
}
