//! The distributions of drawn parameters, by chi-squared against their definition. The seeds are
//! fixed: a right definition fails once in a thousand, and then always.
//!
//! What has a definition of its own is tested beside it.

use evenkeel_augment::{Normalize, Operation, Pipeline, Sample, Stream};
use serde_json::{Value, json};

const DRAWS: usize = 20_000;
const BINS: usize = 10;
/// What chi-squared with 9 degrees of freedom exceeds once in a thousand.
const LIMIT: f64 = 27.9;

/// What is drawn for images of 100×50, as it is recorded.
fn draws(operation: &Value) -> impl Iterator<Item = Value> {
    let operation: Operation = serde_json::from_value(operation.clone()).unwrap();
    let pipeline = Pipeline {
        operations: vec![operation],
        normalize: Normalize {
            mean: vec![],
            std: vec![],
        },
        exact: false,
    };
    (0..DRAWS).map(move |index| {
        let stream = Stream::new(5, Sample { epoch: 0, index });
        let drawn = pipeline.draw(100, 50, stream).unwrap();
        serde_json::to_value(&drawn[0]).unwrap()
    })
}

/// Checks that `shares`, each in 0..1, are uniform.
fn assert_uniform(what: &str, shares: impl Iterator<Item = f64>) {
    let mut counts = [0.0; BINS];
    for share in shares {
        assert!((0.0..=1.0).contains(&share), "{what}: {share}");
        counts[((share * BINS as f64) as usize).min(BINS - 1)] += 1.0;
    }
    let expected = (DRAWS / BINS) as f64;
    let chi: f64 = counts
        .iter()
        .map(|n| (n - expected).powi(2) / expected)
        .sum();
    assert!(chi < LIMIT, "{what}: {counts:?}");
}

#[test]
fn numbers_are_uniform_over_their_ranges() {
    for (operation, path, low, high) in [
        (
            json!({"op": "brightness", "factor": [0.5, 2.5]}),
            "/factor",
            0.5,
            2.5,
        ),
        (
            json!({"op": "contrast", "factor": [0.5, 2.5]}),
            "/factor",
            0.5,
            2.5,
        ),
        (
            json!({"op": "saturation", "factor": [0.5, 2.5]}),
            "/factor",
            0.5,
            2.5,
        ),
        (
            json!({"op": "sharpness", "factor": [0.5, 2.5]}),
            "/factor",
            0.5,
            2.5,
        ),
        (
            json!({"op": "hue", "shift": [-0.5, 0.25]}),
            "/shift",
            -0.5,
            0.25,
        ),
        (
            json!({"op": "rotate", "angle": [-10, 30]}),
            "/angle",
            -30.0,
            10.0,
        ),
        (
            json!({"op": "shear", "x": [-10, 30]}),
            "/shear/0",
            -10.0,
            30.0,
        ),
        (
            json!({"op": "shear", "y": [-10, 30]}),
            "/shear/1",
            -10.0,
            30.0,
        ),
        (
            json!({"op": "affine", "angle": [-10, 30]}),
            "/angle",
            -10.0,
            30.0,
        ),
        (
            json!({"op": "affine", "scale": [0.5, 2]}),
            "/scale",
            0.5,
            2.0,
        ),
        (
            json!({"op": "affine", "shear_x": [-10, 30]}),
            "/shear/0",
            -10.0,
            30.0,
        ),
        (
            json!({"op": "affine", "shear_y": [-10, 30]}),
            "/shear/1",
            -10.0,
            30.0,
        ),
        (
            json!({"op": "gaussian_blur", "kernel_size": 5, "sigma": [0.5, 2]}),
            "/sigma",
            0.5,
            2.0,
        ),
        (
            json!({"op": "gaussian_noise", "sigma": [3, 9]}),
            "/sigma",
            3.0,
            9.0,
        ),
    ] {
        let shares = draws(&operation).map(|drawn| {
            let found = drawn.pointer(path).and_then(Value::as_f64).unwrap();
            (found - low) / (high - low)
        });
        assert_uniform(&operation.to_string(), shares);
    }
}

#[test]
fn logarithms_of_gamma_are_uniform() {
    let gamma = json!({"op": "gamma", "gamma": [0.5, 2]});
    let shares = draws(&gamma).map(|drawn| (drawn["gamma"].as_f64().unwrap().log2() + 1.0) / 2.0);
    assert_uniform("gamma", shares);
}

#[test]
fn whole_numbers_are_equally_likely() {
    for (operation, path, least) in [
        (json!({"op": "posterize", "bits": [3, 7]}), "/bits", 3.0),
        (
            json!({"op": "solarize", "threshold": [252, 256]}),
            "/threshold",
            252.0,
        ),
        (
            json!({"op": "solarize_add", "addition": [7, 11]}),
            "/addition",
            7.0,
        ),
    ] {
        // Five numbers, two bins each.
        let half = |index: usize| (index % 2) as f64 / 10.0;
        let shares = draws(&operation).enumerate().map(|(index, drawn)| {
            let found = drawn.pointer(path).and_then(Value::as_f64).unwrap();
            (found - least) / 5.0 + half(index) + 0.05
        });
        assert_uniform(&operation.to_string(), shares);
    }
}

#[test]
fn moves_are_whole_pixels_whose_shares_are_uniform() {
    let moves = json!({"op": "translate", "x": [-0.3, 0.5], "y": [0, 1]});
    let affine = json!({"op": "affine", "translate": [0.4, 0.5]});
    for (operation, place, low, high) in [
        (&moves, 0, -30.0, 50.0),
        (&moves, 1, 0.0, 50.0),
        (&affine, 0, -40.0, 40.0),
        (&affine, 1, -25.0, 25.0),
    ] {
        // Undo the rounding by a known share of a pixel.
        let within = |index: usize| (index as f64 * 0.618).fract() - 0.5;
        let shares = draws(operation).enumerate().map(|(index, drawn)| {
            let found = drawn["translate"][place].as_f64().unwrap();
            assert_eq!(found, found.round());
            ((found + within(index) - low) / (high - low)).clamp(0.0, 1.0)
        });
        assert_uniform(&format!("{operation} {place}"), shares);
    }
}

#[test]
fn color_jitter_has_every_order_and_the_whole_strength() {
    let jitter = json!({
        "op": "color_jitter", "brightness": 0.4, "contrast": 2.0, "saturation": 0.1, "hue": 0.2
    });
    let mut orders = std::collections::HashMap::<Vec<String>, f64>::new();
    let mut shares = std::collections::HashMap::<String, Vec<f64>>::new();
    for drawn in draws(&jitter) {
        let steps = drawn["steps"].as_array().unwrap();
        let names = steps
            .iter()
            .map(|step| step["op"].as_str().unwrap().to_owned());
        *orders.entry(names.clone().collect()).or_default() += 1.0;
        for (name, step) in names.zip(steps) {
            let (key, low, high) = match name.as_str() {
                "brightness" => ("factor", 0.6, 1.4),
                "contrast" => ("factor", 0.0, 3.0),
                "saturation" => ("factor", 0.9, 1.1),
                _ => ("shift", -0.2, 0.2),
            };
            let share = (step[key].as_f64().unwrap() - low) / (high - low);
            shares.entry(name).or_default().push(share);
        }
    }
    assert_eq!(orders.len(), 24);
    let expected = DRAWS as f64 / 24.0;
    let chi: f64 = orders
        .values()
        .map(|n| (n - expected).powi(2) / expected)
        .sum();
    assert!(chi < 49.7, "{orders:?}"); // 23 degrees of freedom
    assert_eq!(shares.len(), 4);
    for (name, shares) in shares {
        assert_uniform(&name, shares.into_iter());
    }
}
