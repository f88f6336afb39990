//! A residual addition with an activation against its definition, and its gradient.

mod support;

use evenkeel_kernels::{Activation, Float, add_activated, add_activated_backward};
use support::{bits, values, with_pools};

const SIZES: [usize; 6] = [0, 1, 15, 257, 40_000, 70_001];

fn check<T: Float>() {
    for len in SIZES {
        let [x, residual, dy]: [Vec<T>; 3] = [1, 2, 3].map(|seed| values(seed, len));
        for activation in [Activation::None, Activation::Relu] {
            let y = add_activated(&x, &residual, activation);
            let dx = add_activated_backward(&dy, &y, activation);
            assert_eq!([y.len(), dx.len()], [len; 2]);
            for i in 0..len {
                let sum = x[i] + residual[i];
                let passes = activation == Activation::None || sum.to_f64() > 0.0;
                let expected = if passes { [sum, dy[i]] } else { [T::ZERO; 2] };
                assert_eq!([y[i], dx[i]], expected, "{activation:?} at {i} of {len}");
            }
        }
    }
}

#[test]
fn matches_the_definition() {
    check::<f32>();
    check::<f64>();
}

#[test]
fn backward_is_the_derivative_of_forward() {
    let [x, residual, dy]: [Vec<f64>; 3] = [1, 2, 3].map(|seed| values(seed, 40));
    let loss = |x: &[f64]| -> f64 {
        let y = add_activated(x, &residual, Activation::Relu);
        y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
    };
    let y = add_activated(&x, &residual, Activation::Relu);
    let found = add_activated_backward(&dy, &y, Activation::Relu);
    let step = 1e-6;
    for i in 0..x.len() {
        let near = |by: f64| {
            let mut x = x.clone();
            x[i] += by;
            loss(&x)
        };
        let expected = (near(step) - near(-step)) / (2.0 * step);
        assert!(
            (found[i] - expected).abs() < 1e-6,
            "{i}: {} {expected}",
            found[i]
        );
    }
}

#[test]
fn not_a_number_passes() {
    let y = add_activated(&[f32::NAN, -1.0], &[1.0, f32::INFINITY], Activation::Relu);
    assert!(y[0].is_nan() && y[1] == f32::INFINITY);
    assert_eq!(
        add_activated_backward(&[2.0, 3.0], &y, Activation::Relu),
        [2.0, 3.0]
    );
}

#[test]
fn bits_do_not_depend_on_threads() {
    let [x, residual]: [Vec<f32>; 2] = [1, 2].map(|seed| values(seed, 70_001));
    with_pools(|| bits(&add_activated(&x, &residual, Activation::Relu)));
    with_pools(|| bits(&add_activated_backward(&x, &residual, Activation::Relu)));
}

#[test]
#[should_panic(expected = "residual: as long as x")]
fn a_residual_of_another_length_is_refused() {
    add_activated(&[1.0_f32; 3], &[1.0], Activation::Relu);
}

#[test]
#[should_panic(expected = "dy: as long as y")]
fn a_gradient_of_another_length_is_refused() {
    add_activated_backward(&[1.0_f32; 3], &[1.0], Activation::Relu);
}
