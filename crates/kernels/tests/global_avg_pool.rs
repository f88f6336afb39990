//! Global average pooling against its definition, and its gradient.

mod support;

use evenkeel_kernels::{Float, global_avg_pool, global_avg_pool_backward, reference};
use support::{assert_close, bits, shape, shapes, to_f64, unit, values, with_pools};

fn check<T: Float>() {
    for shape in shapes().filter(|shape| shape.s > 0) {
        let x: Vec<T> = values(1, shape.len());
        let expected = reference::global_avg_pool(&to_f64(&x), shape);
        assert_close("y", &global_avg_pool(&x, shape), &expected, |_| {
            4.0 * unit::<T>() + shape.s as f64 * f64::EPSILON
        });
        let dy: Vec<T> = values(2, shape.n * shape.c);
        let expected = reference::global_avg_pool_backward(&to_f64(&dy), shape);
        let found = global_avg_pool_backward(&dy, shape);
        assert_close("dx", &found, &expected, |_| 4.0 * unit::<T>());
    }
}

#[test]
fn matches_the_definition_in_f32() {
    check::<f32>();
}

#[test]
fn matches_the_definition_in_f64() {
    check::<f64>();
}

#[test]
fn bits_do_not_depend_on_threads() {
    for shape in shapes() {
        let (x, dy) = (values::<f32>(1, shape.len()), values(2, shape.n * shape.c));
        with_pools(|| bits(&global_avg_pool(&x, shape)));
        with_pools(|| bits::<f32>(&global_avg_pool_backward(&dy, shape)));
    }
}

/// ⟨pool(x), dy⟩ = ⟨x, backward(dy)⟩: pooling is linear, and its gradient is its transpose.
#[test]
fn backward_is_the_transpose_of_forward() {
    for shape in shapes().filter(|shape| !shape.is_empty()) {
        let (x, dy): (Vec<f64>, Vec<f64>) = (values(1, shape.len()), values(2, shape.n * shape.c));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let forward = dot(&global_avg_pool(&x, shape), &dy);
        let backward = dot(&x, &global_avg_pool_backward(&dy, shape));
        assert!((forward - backward).abs() < 1e-9 * (1.0 + forward.abs()));
    }
}

#[test]
fn values_that_are_not_finite_stay_in_their_slab() {
    let shape = shape([2, 3, 70]);
    let mut x: Vec<f32> = values(3, shape.len());
    x[70] = f32::INFINITY;
    x[150] = f32::NAN;
    let y = global_avg_pool(&x, shape);
    assert!(y[1] == f32::INFINITY && y[2].is_nan());
    assert!([0, 3, 4, 5].into_iter().all(|i| y[i].is_finite()));
}

#[test]
fn a_mean_of_no_positions_is_nan() {
    let y: Vec<f32> = global_avg_pool(&[], shape([2, 3, 0]));
    assert!(y.len() == 6 && y.iter().all(|y| y.is_nan()));
    assert!(global_avg_pool_backward(&y, shape([2, 3, 0])).is_empty());
}

#[test]
#[should_panic(expected = "dy: expected [2, 3] values")]
fn a_wrong_length_is_named() {
    global_avg_pool_backward(&[1.0_f32; 5], shape([2, 3, 4]));
}
