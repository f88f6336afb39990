//! Batch norm against its definition, for all shapes, element types, options and thread counts.

mod support;

use evenkeel_kernels::{
    Activation, Affine, Channels, Float, Forward, Gradients, batch_norm_apply,
    batch_norm_apply_backward, batch_norm_gradient_of_sums, batch_norm_train,
    batch_norm_train_backward, channel_gradient_sums, channel_moments, reference,
};
use proptest::prelude::*;
use support::{assert_close, bits, shape, shapes, to_f64, unit, values, with_pools};

const EPSILON: f64 = 1e-5;

/// An input with all that goes with it.
struct Case<T> {
    shape: Channels,
    x: Vec<T>,
    dy: Vec<T>,
    affine: Option<[Vec<T>; 2]>,
    activation: Activation,
}

impl<T: Float> Case<T> {
    fn new(shape: Channels, affine: bool, activation: Activation) -> Self {
        let affine = affine.then(|| [values(3, shape.c), values(4, shape.c)]);
        let (x, dy) = (values(1, shape.len()), values(2, shape.len()));
        Self::of(shape, x, dy, affine, activation)
    }

    fn of(
        shape: Channels,
        x: Vec<T>,
        dy: Vec<T>,
        affine: Option<[Vec<T>; 2]>,
        activation: Activation,
    ) -> Self {
        let mut case = Self {
            shape,
            x,
            dy,
            affine,
            activation,
        };
        // No gradient flows where rounding could decide on which side of ReLU's kink a value is.
        for (i, y) in case.reference(Activation::None).output.iter().enumerate() {
            if y.abs() < 1e-3 {
                case.dy[i] = T::ZERO;
            }
        }
        case
    }

    /// A shape's cases: with and without affine, ReLU.
    fn all(shape: Channels) -> impl Iterator<Item = Self> {
        let options = [
            (true, Activation::Relu),
            (true, Activation::None),
            (false, Activation::Relu),
            (false, Activation::None),
        ];
        options
            .into_iter()
            .map(move |(affine, activation)| Self::new(shape, affine, activation))
    }

    fn affine(&self) -> Option<Affine<'_, T>> {
        let [scale, shift] = self.affine.as_ref()?;
        Some(Affine { scale, shift })
    }

    fn affine_f64(&self) -> [Vec<f64>; 2] {
        match &self.affine {
            Some(affine) => affine.each_ref().map(|values| to_f64(values)),
            None => [vec![1.0; self.shape.c], vec![0.0; self.shape.c]],
        }
    }

    fn reference(&self, activation: Activation) -> reference::BatchNorm {
        let [scale, shift] = self.affine_f64();
        let x = to_f64(&self.x);
        reference::batch_norm_train(&x, self.shape, &scale, &shift, EPSILON, activation)
    }

    fn reference_backward(&self) -> [Vec<f64>; 3] {
        let [scale, shift] = self.affine_f64();
        let (x, dy) = (to_f64(&self.x), to_f64(&self.dy));
        let activation = self.activation;
        reference::batch_norm_train_backward(
            &x, &dy, self.shape, &scale, &shift, EPSILON, activation,
        )
    }

    fn train(&self) -> Forward<T> {
        batch_norm_train(&self.x, self.shape, self.affine(), EPSILON, self.activation)
    }

    fn backward(&self, forward: &Forward<T>) -> Gradients<T> {
        batch_norm_train_backward(
            &self.x,
            &self.dy,
            self.shape,
            &forward.mean,
            &forward.reciprocal_deviation,
            self.affine(),
            self.activation,
        )
    }

    fn apply(&self, mean: &[T], r: &[T]) -> Vec<T> {
        batch_norm_apply(&self.x, self.shape, mean, r, self.affine(), self.activation)
    }

    fn apply_backward(&self, mean: &[T], r: &[T]) -> Gradients<T> {
        batch_norm_apply_backward(
            &self.x,
            &self.dy,
            self.shape,
            mean,
            r,
            self.affine(),
            self.activation,
        )
    }

    fn channel(&self, element: usize) -> usize {
        element / self.shape.s % self.shape.c
    }

    /// Rounding of channel c's input, 2⁻²⁴ of it, grows by γ·r.
    fn gain(&self, channel: usize, r: &[f64]) -> f64 {
        1.0 + self.affine_f64()[0][channel].abs() * r[channel]
    }

    fn check(&self) {
        self.check_train();
        self.check_apply();
        self.check_parts();
    }

    fn check_train(&self) {
        let found = self.train();
        let expected = self.reference(self.activation);
        if self.shape.is_empty() {
            assert!(found.output.is_empty() && found.mean.len() == self.shape.c);
            let gradients = self.backward(&found);
            assert!(gradients.input.is_empty());
            assert_eq!(gradients.scale, vec![T::ZERO; self.shape.c]);
            assert_eq!(gradients.shift, vec![T::ZERO; self.shape.c]);
            return;
        }
        let r: Vec<f64> = expected
            .variance
            .iter()
            .map(|v| 1.0 / (v + EPSILON).sqrt())
            .collect();
        let tolerance = |i| 32.0 * unit::<T>() * self.gain(self.channel(i), &r);
        assert_close("output", &found.output, &expected.output, tolerance);
        // The second term is the rounding of the definition's own plain sums.
        let close = 16.0 * unit::<T>() + self.shape.count() as f64 * f64::EPSILON;
        assert_close("mean", &found.mean, &expected.mean, |_| close);
        assert_close("variance", &found.variance, &expected.variance, |_| close);
        assert_close("reciprocal", &found.reciprocal_deviation, &r, |c| {
            32.0 * unit::<T>() * r[c].powi(3).max(1.0)
        });

        let [dx, dscale, dshift] = self.reference_backward();
        let gradients = self.backward(&found);
        // Gradients are large where the deviation is small: 1/deviation² twice over.
        let steep = |c: usize| self.gain(c, &r) * r[c].max(1.0);
        assert_close("dx", &gradients.input, &dx, |i| {
            64.0 * unit::<T>() * steep(self.channel(i))
        });
        let count = self.shape.count() as f64;
        assert_close("dscale", &gradients.scale, &dscale, |c| {
            4.0 * unit::<T>() * (count + 8.0) * r[c].max(1.0)
        });
        assert_close("dshift", &gradients.shift, &dshift, |_| {
            2.0 * unit::<T>() * (count + 8.0)
        });
    }

    fn check_apply(&self) {
        let mean: Vec<T> = values(5, self.shape.c);
        let r: Vec<T> = values(6, self.shape.c);
        let [scale, shift] = self.affine_f64();
        let (x, mean_f64, r_f64) = (to_f64(&self.x), to_f64(&mean), to_f64(&r));
        let apply = |activation| {
            reference::batch_norm_apply(
                &x, self.shape, &mean_f64, &r_f64, &scale, &shift, activation,
            )
        };
        let found = self.apply(&mean, &r);
        assert_close("apply", &found, &apply(self.activation), |_| {
            64.0 * unit::<T>()
        });

        let mut case = Self {
            shape: self.shape,
            x: self.x.clone(),
            dy: values(2, self.shape.len()),
            affine: self.affine.clone(),
            activation: self.activation,
        };
        for (dy, y) in case.dy.iter_mut().zip(apply(Activation::None)) {
            if y.abs() < 1e-3 {
                *dy = T::ZERO;
            }
        }
        let dy = to_f64(&case.dy);
        let [dx, dscale, dshift] = reference::batch_norm_apply_backward(
            &x,
            &dy,
            self.shape,
            &mean_f64,
            &r_f64,
            &scale,
            &shift,
            self.activation,
        );
        let gradients = case.apply_backward(&mean, &r);
        assert_close("apply dx", &gradients.input, &dx, |_| 16.0 * unit::<T>());
        let count = self.shape.count() as f64;
        assert_close("apply dscale", &gradients.scale, &dscale, |_| {
            8.0 * unit::<T>() * (count + 8.0)
        });
        assert_close("apply dshift", &gradients.shift, &dshift, |_| {
            2.0 * unit::<T>() * (count + 8.0)
        });
    }

    /// The bits of all results.
    /// The batch in two parts that are normalized together: what replicas do.
    fn check_parts(&self) {
        let Channels { n, c, s } = self.shape;
        let edge = n / 3;
        let parts = [0..edge, edge..n].map(|examples| {
            let shape = shape([examples.len(), c, s]);
            let elements = examples.start * c * s..examples.end * c * s;
            (shape, &self.x[elements.clone()], &self.dy[elements])
        });
        let whole = self.train();
        let (mean, r) = (&whole.mean, &whole.reciprocal_deviation);
        let [a, b] = parts.map(|(shape, x, _)| channel_moments(x, shape));
        for (channel, (a, b)) in a.iter().zip(&b).enumerate() {
            let merged = a.merge(b);
            let close = 16.0 * unit::<T>();
            assert!((merged.mean - mean[channel].to_f64()).abs() <= close);
            assert!((merged.variance() - whole.variance[channel].to_f64()).abs() <= close);
        }
        let [a, b] = parts.map(|(shape, x, dy)| {
            let affine = self.affine();
            channel_gradient_sums(x, dy, shape, mean, r, affine, self.activation)
        });
        let sums: Vec<_> = std::iter::zip(&a, &b)
            .map(|(a, b)| [a[0] + b[0], a[1] + b[1]])
            .collect();
        let count = self.shape.count() as f64;
        let dx: Vec<T> = parts
            .into_iter()
            .flat_map(|(shape, x, dy)| {
                let affine = self.affine();
                batch_norm_gradient_of_sums(
                    x,
                    dy,
                    shape,
                    mean,
                    r,
                    affine,
                    self.activation,
                    &sums,
                    count,
                )
            })
            .collect();
        let expected = to_f64(&self.backward(&whole).input);
        let r = to_f64(r);
        assert_close("dx of parts", &dx, &expected, |i| {
            let channel = self.channel(i);
            64.0 * unit::<T>() * self.gain(channel, &r) * r[channel].max(1.0)
        });
    }

    fn bits(&self) -> Vec<u64> {
        let train = self.train();
        let backward = self.backward(&train);
        let statistics = (&train.mean, &train.reciprocal_deviation);
        let apply = self.apply(statistics.0, statistics.1);
        let apply_backward = self.apply_backward(statistics.0, statistics.1);
        let moments = channel_moments(&self.x, self.shape);
        let moments: Vec<f64> = moments
            .iter()
            .flat_map(|m| [m.count, m.mean, m.m2])
            .collect();
        let mut all = bits(&moments);
        for part in [
            &train.output,
            &train.mean,
            &train.variance,
            &train.reciprocal_deviation,
            &backward.input,
            &backward.scale,
            &backward.shift,
            &apply,
            &apply_backward.input,
            &apply_backward.scale,
            &apply_backward.shift,
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
        let case = Case::<f32>::new(shape, true, Activation::Relu);
        with_pools(|| case.bits());
    }
}

#[test]
fn training_output_is_the_applied_output() {
    for shape in shapes() {
        let case = Case::<f32>::new(shape, true, Activation::Relu);
        let train = case.train();
        let apply = case.apply(&train.mean, &train.reciprocal_deviation);
        assert_eq!(bits(&train.output), bits(&apply), "{shape:?}");
    }
}

#[test]
fn moments_are_those_of_the_channel() {
    for shape in shapes().filter(|shape| !shape.is_empty()) {
        let case = Case::<f32>::new(shape, false, Activation::None);
        let expected = case.reference(Activation::None);
        let moments = channel_moments(&case.x, shape);
        let of = |value: fn(&evenkeel_kernels::Moments) -> f64| {
            moments.iter().map(value).collect::<Vec<f64>>()
        };
        assert_eq!(of(|m| m.count), vec![shape.count() as f64; shape.c]);
        assert_close("mean", &of(|m| m.mean), &expected.mean, |_| 1e-6);
        assert_close(
            "variance",
            &of(|m| m.variance()),
            &expected.variance,
            |_| 2e-6,
        );
    }
}

/// Central differences of the loss Σ y·dy, by every input, scale and shift.
#[test]
fn backward_is_the_derivative_of_forward() {
    for dims in [[3, 5, 7], [7, 3, 1], [2, 1, 20], [2, 17, 16], [1, 2, 3]] {
        for case in Case::<f64>::all(shape(dims)) {
            let gradients = case.backward(&case.train());
            let loss = |x: &[f64], affine: Option<[Vec<f64>; 2]>| {
                let affine = affine.as_ref();
                let affine = affine.map(|[scale, shift]| Affine { scale, shift });
                let y = batch_norm_train(x, case.shape, affine, EPSILON, case.activation).output;
                y.iter().zip(&case.dy).map(|(y, dy)| y * dy).sum::<f64>()
            };
            let difference = |nudged: &dyn Fn(f64) -> f64| (nudged(1e-5) - nudged(-1e-5)) / 2e-5;
            let tolerance = |value: f64| 1e-6 * (1.0 + value.abs());
            for i in 0..case.x.len() {
                let numeric = difference(&|step| {
                    let mut x = case.x.clone();
                    x[i] += step;
                    loss(&x, case.affine.clone())
                });
                let error = (gradients.input[i] - numeric).abs();
                assert!(error < tolerance(numeric), "{dims:?} dx[{i}] {numeric}");
            }
            let Some(affine) = &case.affine else { continue };
            for c in 0..case.shape.c {
                for (which, found) in [&gradients.scale, &gradients.shift].into_iter().enumerate() {
                    let numeric = difference(&|step| {
                        let mut affine = affine.clone();
                        affine[which][c] += step;
                        loss(&case.x, Some(affine))
                    });
                    let error = (found[c] - numeric).abs();
                    assert!(
                        error < tolerance(numeric),
                        "{dims:?} [{which}][{c}] {numeric}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_large_mean_does_not_cancel() {
    for dims in [[300, 40, 1], [40, 20, 49], [2, 3, 9001], [2, 20, 5000]] {
        let shape = shape(dims);
        let x: Vec<f32> = values::<f32>(7, shape.len())
            .iter()
            .map(|v| 1e4 + v)
            .collect();
        let dy = values(2, x.len());
        let case = Case::of(shape, x, dy, None, Activation::None);
        let (found, expected) = (case.train(), case.reference(Activation::None));
        // x − mean is 5e-4 off, by which each product g·(x − mean) is.
        let [dx, dscale, dshift] = case.reference_backward();
        let gradients = case.backward(&found);
        let count = shape.count() as f64;
        assert_close("dx", &gradients.input, &dx, |_| 5e-3);
        assert_close("dscale", &gradients.scale, &dscale, |_| 2e-3 * count);
        assert_close("dshift", &gradients.shift, &dshift, |_| 1e-5 * count);
        // The mean, as f32, is 2⁻¹¹ off at most; the deviation is near 1.
        assert_close("mean", &found.mean, &expected.mean, |_| 5e-4);
        assert_close("variance", &found.variance, &expected.variance, |_| 1e-5);
        assert_close("output", &found.output, &expected.output, |_| 1e-3);
    }
}

/// The first value is what sums are shifted by: a bad one must not spoil them.
#[test]
fn a_first_value_far_away_does_not_cancel() {
    for dims in [[300, 1, 1], [4, 1, 4096], [4, 17, 4096]] {
        let shape = shape(dims);
        let mut x: Vec<f32> = values(8, shape.len());
        x.iter_mut()
            .step_by(shape.count())
            .for_each(|first| *first = 1e4);
        let dy = values(2, x.len());
        let case = Case::of(shape, x, dy, None, Activation::None);
        let (found, expected) = (case.train(), case.reference(Activation::None));
        // x − mean is 5e-4 off, by which each product g·(x − mean) is.
        let [dx, dscale, dshift] = case.reference_backward();
        let gradients = case.backward(&found);
        let count = shape.count() as f64;
        assert_close("dx", &gradients.input, &dx, |_| 5e-3);
        assert_close("dscale", &gradients.scale, &dscale, |_| 2e-3 * count);
        assert_close("dshift", &gradients.shift, &dshift, |_| 1e-5 * count);
        assert_close("variance", &found.variance, &expected.variance, |c| {
            2e-5 * expected.variance[c]
        });
    }
}

#[test]
fn a_constant_channel_gives_exactly_the_shift() {
    for shape in shapes().filter(|shape| !shape.is_empty()) {
        for value in [0.1_f32, -1e30, 1e-30, 16_777_217.0] {
            let mut case = Case::<f32>::new(shape, true, Activation::None);
            case.x.fill(value);
            let found = case.train();
            assert_eq!(found.mean, vec![value; shape.c], "{shape:?}");
            assert_eq!(found.variance, vec![0.0; shape.c], "{shape:?}");
            let shift = &case.affine.as_ref().expect("made with it")[1];
            for (i, y) in found.output.iter().enumerate() {
                assert_eq!(*y, shift[case.channel(i)], "{shape:?}");
            }
            // All x̂ are 0: γ has no influence, and x only that of its own distance from the mean.
            let [dx, _, dshift] = case.reference_backward();
            let gradients = case.backward(&found);
            assert!(gradients.scale.iter().all(|&d| d == 0.0), "{shape:?}");
            let deviations = 1.0 / EPSILON.sqrt();
            assert_close("dx", &gradients.input, &dx, |_| 1e-4 * deviations);
            let count = shape.count() as f64;
            assert_close("dshift", &gradients.shift, &dshift, |_| 1e-5 * count);
        }
    }
}

/// NaN and infinity spoil their channel, through ReLU too, and no other.
/// Squares beyond what f32 holds.
#[test]
fn huge_values_have_finite_statistics() {
    for dims in [
        [70, 19, 1],
        [4100, 9, 1],
        [9, 19, 5],
        [5, 19, 49],
        [3, 2, 9001],
    ] {
        let mut case = Case::<f32>::new(shape(dims), false, Activation::None);
        for x in &mut case.x {
            *x *= 1e25;
        }
        let (found, expected) = (case.train(), case.reference(Activation::None));
        assert_close("mean", &found.mean, &expected.mean, |c| {
            1e-5 * expected.variance[c].sqrt()
        });
        assert_close("output", &found.output, &expected.output, |_| 1e-4);
    }
}

/// As PyTorch's, which adds up in double precision: infinities of one sign have an infinite mean.
#[test]
fn an_infinite_value_gives_an_infinite_mean() {
    for dims in [
        [70, 19, 1],
        [4100, 9, 1],
        [9, 19, 5],
        [5, 19, 49],
        [3, 2, 9001],
    ] {
        for at in [0, 1, 30] {
            let mut case = Case::<f32>::new(shape(dims), true, Activation::None);
            let place = (at * dims[1] * dims[2]) % case.x.len();
            case.x[place] = f32::NEG_INFINITY;
            let found = case.train();
            assert_eq!(found.mean[0], f32::NEG_INFINITY, "{dims:?} {at}");
            assert!(found.variance[0].is_nan() && found.mean[1].is_finite());
            let last = case.x.len() - dims[1] * dims[2];
            if last != place {
                case.x[last] = f32::INFINITY;
                assert!(case.train().mean[0].is_nan(), "{dims:?} {at}");
            }
        }
    }
}

#[test]
fn values_that_are_not_finite_stay_in_their_channel() {
    for dims in [
        [70, 19, 1],
        [9, 19, 5],
        [5, 19, 49],
        [3, 2, 9001],
        [2, 17, 4101],
    ] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let clean = Case::<f32>::new(shape(dims), true, Activation::Relu);
            let mut case = Case::<f32>::new(shape(dims), true, Activation::Relu);
            let at = case.x.len() - dims[2];
            case.x[at] = bad;
            let channel = case.channel(at);
            let (expected, found) = (clean.train(), case.train());
            let (expected_gradients, gradients) =
                (clean.backward(&expected), case.backward(&found));
            for i in 0..case.x.len() {
                if case.channel(i) == channel {
                    assert!(found.output[i].is_nan() && gradients.input[i].is_nan());
                } else {
                    assert_eq!(found.output[i], expected.output[i]);
                    assert_eq!(gradients.input[i], expected_gradients.input[i]);
                }
            }
            for c in 0..dims[1] {
                assert_eq!(found.variance[c].is_nan(), c == channel);
                assert_eq!(gradients.scale[c].is_nan(), c == channel);
            }
        }
    }
}

#[test]
fn a_nan_gradient_passes() {
    let mut case = Case::<f32>::new(shape([4, 20, 17]), true, Activation::None);
    case.dy[0] = f32::NAN;
    let gradients = case.backward(&case.train());
    assert!(gradients.input[0].is_nan() && gradients.scale[0].is_nan());
    assert!(gradients.shift[0].is_nan() && !gradients.shift[1].is_nan());
}

#[test]
#[should_panic(expected = "affine.shift: expected one value for each of 2 channels")]
fn a_wrong_length_is_named() {
    let affine = Some(Affine {
        scale: &[1.0; 2],
        shift: &[0.0; 3],
    });
    batch_norm_train(
        &[1.0_f32; 4],
        shape([2, 2, 1]),
        affine,
        EPSILON,
        Activation::None,
    );
}

#[test]
#[should_panic(expected = "dy: expected [2, 2, 1]")]
fn a_wrong_gradient_is_named() {
    let ones = [1.0_f32; 2];
    let none = Activation::None;
    batch_norm_train_backward(
        &[1.0; 4],
        &[1.0; 5],
        shape([2, 2, 1]),
        &ones,
        &ones,
        None,
        none,
    );
}

/// n·c·s wraps around to the 2 elements given.
#[test]
#[should_panic(expected = "x: ")]
fn a_shape_beyond_memory_is_refused() {
    let n = usize::MAX / 2 + 2;
    channel_moments(&[1.0_f32; 2], shape([n, 2, 1]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape_and_values_match(
        dims in [0..40_usize, 0..20_usize, 0..70_usize],
        seed: u64,
        deviation in 1e-2..1e2_f64,
        offset in -10.0..10.0_f64,
        affine: bool,
        relu: bool,
    ) {
        let shape = shape(dims);
        let x: Vec<f64> = values(seed, shape.len());
        let x = x.iter().map(|v| v * deviation + offset).collect();
        let activation = if relu { Activation::Relu } else { Activation::None };
        let affine = affine.then(|| [values(seed + 1, shape.c), values(seed + 2, shape.c)]);
        let dy = values(seed ^ 9, shape.len());
        let case = Case::of(shape, x, dy, affine, activation);
        let found = case.train();
        let expected = case.reference(activation);
        if !shape.is_empty() {
            assert_close("output", &found.output, &expected.output, |_| 1e-7);
            assert_close("variance", &found.variance, &expected.variance, |c| {
                1e-10 * (1.0 + expected.variance[c])
            });
            let [dx, ..] = case.reference_backward();
            let gradients = case.backward(&found);
            assert_close("dx", &gradients.input, &dx, |_| 1e-6);
        }
    }
}
