//! Tensors that are not contiguous: all layers read them, forward and backward, as what they show.

mod support;

use burn::tensor::{Tensor, TensorData, Tolerance};
use support::layers::{Layer, Ran, SHAPE, autodiff, layers};
use support::random_of;

/// Views of the shape of all inputs: transposed, cut out, repeated.
fn views() -> Vec<(&'static str, Tensor<4>)> {
    let device = autodiff();
    let [n, c, h, w] = SHAPE;
    let random = |shape| random_of(5, shape, &device);
    vec![
        ("swapped examples", random([c, n, h, w]).swap_dims(0, 1)),
        ("swapped columns", random([n, c, w, h]).swap_dims(2, 3)),
        ("channels last", random([n, h, w, c]).permute([0, 3, 1, 2])),
        ("some rows", random([n, c, h + 3, w]).narrow(2, 2, h)),
        (
            "some of all",
            random([n + 1, c + 2, h + 3, w + 4]).slice([1..n + 1, 1..c + 1, 2..h + 2, 3..w + 3]),
        ),
        ("repeated", random([1, c, 1, w]).expand(SHAPE)),
        ("one value", random([1, 1, 1, 1]).expand(SHAPE)),
    ]
}

fn data(ran: Ran) -> Vec<TensorData> {
    let mut data = vec![ran.output.into_data(), ran.input.into_data()];
    data.extend(ran.parameters.into_iter().map(Tensor::into_data));
    data
}

/// The same bits, but for what Burn's matrix product rounds.
#[track_caller]
fn assert_same(layer: &Layer, what: &str, found: &[TensorData], expected: &[TensorData]) {
    if layer.burn_product {
        for (found, expected) in found.iter().zip(expected) {
            found.assert_approx_eq(expected, Tolerance::<f32>::rel_abs(1e-5, 1e-5));
        }
    } else {
        assert_eq!(found, expected, "{}, {what}", layer.name);
    }
}

#[test]
fn inputs_and_parameters() {
    let device = autodiff();
    for layer in layers() {
        let parameters = layer.parameters(&device);
        let strided: Vec<_> = parameters
            .iter()
            .map(|parameter| {
                let pairs = Tensor::stack::<2>(vec![parameter.clone(), parameter.clone() + 1.0], 1);
                pairs.narrow(1, 0, 1).squeeze_dim::<1>(1)
            })
            .collect();
        for (name, view) in views() {
            assert_eq!(view.dims(), SHAPE);
            let copy = Tensor::from_data(view.to_data(), &device);
            let expected = data(layer.run(copy, &parameters));
            let found = data(layer.run(view, &strided));
            assert_same(&layer, name, &found, &expected);
        }
    }
}

/// The gradient that comes from above a layer is a view where what follows swapped or repeated.
#[test]
fn gradients_of_the_output() {
    let device = autodiff();
    for layer in layers() {
        let x = random_of(5, SHAPE, &device);
        let parameters = layer.parameters(&device);
        let run = |loss: &dyn Fn(Tensor<4>) -> Tensor<1>| {
            data(layer.run_with(x.clone(), &parameters, loss))
        };
        let g = |dims| random_of(6, dims, &device);
        let swapped = run(&|y| {
            let [n, c, h, w] = y.dims();
            (y.permute([3, 1, 0, 2]) * g([w, c, n, h])).sum()
        });
        let straight = run(&|y| {
            let [n, c, h, w] = y.dims();
            let g = g([w, c, n, h]).permute([2, 1, 3, 0]);
            (y * Tensor::from_data(g.into_data(), &device)).sum()
        });
        assert_same(&layer, "swapped", &swapped, &straight);
        let ones = run(&|y| {
            let ones = y.ones_like();
            (y * ones).sum()
        });
        assert_same(&layer, "repeated", &run(&|y| y.sum()), &ones);
    }
}
