//! Norms by rows against their definition, for all shapes, element types, options and thread counts.

mod support;

use evenkeel_kernels::{
    Activation, Affine, Float, Gradients, RowForward, RowNorm, RowStatistics, Rows, reference,
    row_norm, row_norm_backward,
};
use support::{assert_close, bits, to_f64, unit, values, with_pools};

const EPSILON: f64 = 1e-5;

/// `[examples, groups, channels, positions]` of every class: no elements, single ones, odd, layer
/// norms short and long, few rows and many, instance and group norms with short and long channels.
const SHAPES: [[usize; 4]; 27] = [
    [0, 3, 5, 2],
    [3, 0, 5, 2],
    [3, 5, 0, 2],
    [3, 5, 2, 0],
    [1, 1, 1, 1],
    [1, 1, 2, 1],
    [2, 1, 1, 1],
    [3, 1, 5, 1],
    [7, 1, 16, 1],
    [5, 1, 31, 1],
    [700, 1, 33, 1],
    [70, 1, 768, 1],
    [9, 1, 4096, 1],
    [2, 1, 9001, 1],
    [1, 1, 40_000, 1],
    [65, 33, 1, 3],
    [66, 5, 1, 15],
    [5, 17, 1, 16],
    [2, 5, 3, 17],
    [9, 40, 1, 49],
    [33, 4, 9, 31],
    [3, 3, 43, 64],
    [2, 16, 1, 4101],
    [600, 4, 3, 5],
    [300, 4, 8, 40],
    [1, 2, 4, 9001],
    [40, 1, 17, 29],
];

fn shapes() -> impl Iterator<Item = Rows> {
    SHAPES.into_iter().map(shape)
}

fn shape([examples, groups, channels, positions]: [usize; 4]) -> Rows {
    Rows {
        examples,
        groups,
        channels,
        positions,
    }
}

struct Case<T> {
    norm: RowNorm,
    x: Vec<T>,
    dy: Vec<T>,
    scale: Vec<T>,
    shift: Vec<T>,
}

impl<T: Float> Case<T> {
    fn new(shape: Rows, statistics: RowStatistics, activation: Activation) -> Self {
        let norm = RowNorm {
            shape,
            statistics,
            epsilon: EPSILON,
            activation,
        };
        let mut case = Self {
            norm,
            x: values(1, shape.len()),
            dy: values(2, shape.len()),
            scale: values(3, shape.parameters()),
            shift: values(4, shape.parameters()),
        };
        case.leave_out_the_kink();
        case
    }

    /// No gradient flows where rounding could decide on which side of ReLU's kink a value is.
    fn leave_out_the_kink(&mut self) {
        let before = RowNorm {
            activation: Activation::None,
            ..self.norm
        };
        for (i, y) in self.reference(&before).output.iter().enumerate() {
            if y.abs() < 1e-3 {
                self.dy[i] = T::ZERO;
            }
        }
    }

    fn all(shape: Rows) -> impl Iterator<Item = Self> {
        use RowStatistics::{Deviation, RootMeanSquare};
        let options = [
            (Deviation, Activation::None),
            (Deviation, Activation::Relu),
            (RootMeanSquare, Activation::None),
            (RootMeanSquare, Activation::Relu),
        ];
        options
            .into_iter()
            .map(move |(statistics, activation)| Self::new(shape, statistics, activation))
    }

    fn affine(&self) -> Affine<'_, T> {
        Affine {
            scale: &self.scale,
            shift: &self.shift,
        }
    }

    fn reference(&self, norm: &RowNorm) -> reference::RowForward {
        let [x, scale, shift] = [&self.x, &self.scale, &self.shift].map(|values| to_f64(values));
        reference::row_norm(&x, &scale, &shift, norm)
    }

    fn reference_backward(&self) -> [Vec<f64>; 3] {
        let [x, dy, scale, shift] =
            [&self.x, &self.dy, &self.scale, &self.shift].map(|values| to_f64(values));
        reference::row_norm_backward(&x, &dy, &scale, &shift, &self.norm)
    }

    fn forward(&self) -> RowForward<T> {
        row_norm(&self.x, self.affine(), &self.norm)
    }

    fn backward(&self, forward: &RowForward<T>) -> Gradients<T> {
        let RowForward {
            mean,
            reciprocal_deviation,
            ..
        } = forward;
        row_norm_backward(
            &self.x,
            &self.dy,
            mean,
            reciprocal_deviation,
            self.affine(),
            &self.norm,
        )
    }

    fn row(&self, element: usize) -> usize {
        element / self.norm.shape.row()
    }

    fn check(&self) {
        let shape = self.norm.shape;
        let (found, expected) = (self.forward(), self.reference(&self.norm));
        let gradients = self.backward(&found);
        if shape.is_empty() {
            assert!(found.output.is_empty() && gradients.input.is_empty());
            assert_eq!(found.mean, vec![T::ZERO; shape.count()]);
            assert_eq!(gradients.scale, vec![T::ZERO; shape.parameters()]);
            assert_eq!(gradients.shift, vec![T::ZERO; shape.parameters()]);
            return;
        }
        let r = &expected.reciprocal_deviation;
        // Rounding of the input, at most 2, grows by γ·r, γ at most 2.
        let gain = |i: usize| 1.0 + 2.0 * r[self.row(i)];
        assert_close("output", &found.output, &expected.output, |i| {
            32.0 * unit::<T>() * gain(i)
        });
        // The second term is the rounding of the definition's own plain sums.
        let close = 16.0 * unit::<T>() + shape.row() as f64 * f64::EPSILON;
        assert_close("mean", &found.mean, &expected.mean, |_| close);
        assert_close("reciprocal", &found.reciprocal_deviation, r, |row| {
            32.0 * unit::<T>() * r[row].powi(3).max(1.0)
        });
        let [dx, dscale, dshift] = self.reference_backward();
        assert_close("dx", &gradients.input, &dx, |i| {
            64.0 * unit::<T>() * gain(i) * r[self.row(i)].max(1.0)
        });
        let steepest = r.iter().fold(1.0_f64, |most, r| most.max(*r));
        let count = (shape.examples * shape.positions) as f64;
        assert_close("dscale", &gradients.scale, &dscale, |_| {
            4.0 * unit::<T>() * (count + 8.0) * steepest + close * count
        });
        assert_close("dshift", &gradients.shift, &dshift, |_| {
            2.0 * unit::<T>() * (count + 8.0)
        });
    }

    fn bits(&self) -> Vec<u64> {
        let forward = self.forward();
        let gradients = self.backward(&forward);
        let mut all = bits(&forward.output);
        for part in [
            &forward.mean,
            &forward.reciprocal_deviation,
            &gradients.input,
            &gradients.scale,
            &gradients.shift,
        ] {
            all.extend(bits(part));
        }
        all
    }
}

#[test]
fn matches_the_definition_in_f32() {
    for case in shapes().flat_map(Case::<f32>::all) {
        case.check();
    }
}

#[test]
fn matches_the_definition_in_f64() {
    for case in shapes().flat_map(Case::<f64>::all) {
        case.check();
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for shape in shapes() {
        for case in Case::<f32>::all(shape) {
            with_pools(|| case.bits());
        }
    }
}

/// Central differences of the loss Σ y·dy, by every input, scale and shift.
#[test]
fn backward_is_the_derivative_of_forward() {
    for dims in [[3, 1, 5, 1], [2, 2, 3, 2], [2, 3, 1, 17], [1, 2, 2, 16]] {
        for case in Case::<f64>::all(shape(dims)) {
            let gradients = case.backward(&case.forward());
            let difference = |which: usize, i: usize| {
                let loss = |step: f64| {
                    let mut parts = [case.x.clone(), case.scale.clone(), case.shift.clone()];
                    parts[which][i] += step;
                    let [x, scale, shift] = &parts;
                    let affine = Affine { scale, shift };
                    let y = row_norm(x, affine, &case.norm);
                    let products = y.output.iter().zip(&case.dy).map(|(y, dy)| y * dy);
                    products.sum::<f64>()
                };
                (loss(1e-5) - loss(-1e-5)) / 2e-5
            };
            let found = [&gradients.input, &gradients.scale, &gradients.shift];
            for (which, found) in found.into_iter().enumerate() {
                for (i, found) in found.iter().enumerate() {
                    let numeric = difference(which, i);
                    assert!(
                        (found - numeric).abs() < 1e-6 * (1.0 + numeric.abs()),
                        "{dims:?} [{which}][{i}]: {found}, expected {numeric}"
                    );
                }
            }
        }
    }
}

/// A norm does not see its input's scale; with the mean subtracted, nor its shift.
#[test]
fn scale_and_shift_of_a_row_do_not_matter() {
    for dims in [[9, 1, 768, 1], [3, 4, 2, 49], [5, 7, 1, 3]] {
        for case in Case::<f64>::all(shape(dims)) {
            let shift = match case.norm.statistics {
                RowStatistics::Deviation => 3.0,
                RowStatistics::RootMeanSquare => 0.0,
            };
            let x: Vec<f64> = case.x.iter().map(|x| 1e4 * x + shift).collect();
            let norm = RowNorm {
                epsilon: 1e-30,
                ..case.norm
            };
            let output = |x: &[f64]| row_norm(x, case.affine(), &norm).output;
            assert_close("output", &output(&x), &output(&case.x), |_| 1e-9);
        }
    }
}

#[test]
fn a_large_mean_does_not_cancel() {
    for dims in [
        [40, 1, 768, 1],
        [2, 1, 9001, 1],
        [3, 4, 2, 49],
        [9, 4, 1, 784],
    ] {
        let mut case = Case::<f32>::new(shape(dims), RowStatistics::Deviation, Activation::None);
        for x in &mut case.x {
            *x += 1e4;
        }
        let (found, expected) = (case.forward(), case.reference(&case.norm));
        // The mean, as f32, is 2⁻¹¹ off at most; the deviation is near 1, γ at most 2.
        assert_close("output", &found.output, &expected.output, |_| 2e-3);
        let r = &expected.reciprocal_deviation;
        assert_close("reciprocal", &found.reciprocal_deviation, r, |_| 1e-5);
        let [dx, ..] = case.reference_backward();
        assert_close("dx", &case.backward(&found).input, &dx, |_| 1e-2);
    }
}

#[test]
fn a_constant_row_gives_exactly_the_shift() {
    for shape in shapes().filter(|shape| !shape.is_empty()) {
        for value in [0.1_f32, -1e30, 1e-30, 16_777_217.0] {
            let mut case = Case::<f32>::new(shape, RowStatistics::Deviation, Activation::None);
            case.x.fill(value);
            let found = case.forward();
            assert_eq!(found.mean, vec![value; shape.count()], "{shape:?}");
            for (i, y) in found.output.iter().enumerate() {
                let channel = case.row(i) % shape.groups * shape.channels
                    + i / shape.positions % shape.channels;
                assert_eq!(*y, case.shift[channel], "{shape:?}");
            }
        }
    }
}

/// Squares beyond what f32 holds.
#[test]
fn huge_values_have_finite_statistics() {
    for dims in [[9, 1, 768, 1], [3, 4, 2, 49]] {
        for mut case in Case::<f32>::all(shape(dims)) {
            for x in &mut case.x {
                *x *= 1e25;
            }
            let (found, expected) = (case.forward(), case.reference(&case.norm));
            assert_close("output", &found.output, &expected.output, |_| 1e-4);
        }
    }
}

/// As in PyTorch: an infinite value makes a row NaN, of a root mean square only itself (∞/∞, the
/// others 0).
#[test]
fn values_that_are_not_finite_stay_in_their_row() {
    for dims in [[70, 1, 19, 1], [9, 4, 3, 5], [5, 4, 2, 49], [2, 1, 9001, 1]] {
        for statistics in [RowStatistics::Deviation, RowStatistics::RootMeanSquare] {
            let clean = Case::<f32>::new(shape(dims), statistics, Activation::None);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut case = Case::<f32>::new(shape(dims), statistics, Activation::None);
                let at = case.x.len() - 2;
                case.x[at] = bad;
                let (found, expected) = (case.forward().output, clean.forward().output);
                let squares = statistics == RowStatistics::RootMeanSquare && !bad.is_nan();
                for i in 0..case.x.len() {
                    if case.row(i) != case.row(at) {
                        assert_eq!(found[i], expected[i]);
                    } else {
                        let zero = squares && i != at;
                        assert_eq!(found[i].is_nan(), !zero, "{dims:?} {statistics:?} {bad}");
                    }
                }
            }
        }
    }
}

const ROW: RowNorm = RowNorm {
    shape: Rows {
        examples: 2,
        groups: 1,
        channels: 2,
        positions: 1,
    },
    statistics: RowStatistics::Deviation,
    epsilon: EPSILON,
    activation: Activation::None,
};

#[test]
#[should_panic(expected = "affine.shift: expected one value for each of 2 channels")]
fn a_wrong_length_is_named() {
    let affine = Affine {
        scale: &[1.0; 2],
        shift: &[0.0; 3],
    };
    row_norm(&[1.0_f32; 4], affine, &ROW);
}

/// The product wraps around to the 2 elements given.
#[test]
#[should_panic(expected = "x: ")]
fn a_shape_beyond_memory_is_refused() {
    let affine = Affine {
        scale: &[1.0; 2],
        shift: &[0.0; 2],
    };
    let shape = Rows {
        examples: usize::MAX / 2 + 2,
        ..ROW.shape
    };
    row_norm(&[1.0_f32; 2], affine, &RowNorm { shape, ..ROW });
}
