//! Every layer's gradients, through Burn's autodiff and in `f64`, against differences of its forward.

mod support;

use burn::tensor::{FloatDType, Tensor, TensorData};
use support::layers::{Layer, SHAPE, autodiff, input, layers};
use support::{plain, random_of};

const STEP: f64 = 1e-5;

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().iter::<f64>().collect()
}

fn tensor<const D: usize>(numbers: &[f64], shape: [usize; D]) -> Tensor<D> {
    let data = TensorData::new(numbers.to_vec(), shape);
    Tensor::from_data(data, (&plain(), FloatDType::F64.into()))
}

/// Σ y·g, the loss whose gradient [`Layer::run`] takes: `values` are the input, then the parameters.
fn loss(layer: &Layer, values: &[Vec<f64>]) -> f64 {
    let x = tensor(&values[0], SHAPE);
    let parameters: Vec<_> = values[1..]
        .iter()
        .map(|values| tensor(values, [values.len()]))
        .collect();
    let y = layer.forward(x, &parameters);
    let g = random_of(8, y.dims(), &plain()).sin();
    let products = numbers(y).into_iter().zip(numbers(g));
    products.map(|(y, g)| y * g).sum()
}

#[test]
fn gradients_are_the_differences() {
    // Of shake-shake the gradient is another's, which `noise.rs` has.
    for layer in layers()
        .into_iter()
        .filter(|layer| !layer.surrogate_gradient)
    {
        let x = input(&autodiff()).cast(FloatDType::F64);
        let parameters: Vec<_> = layer
            .parameters(&autodiff())
            .into_iter()
            .map(|parameter| parameter.cast(FloatDType::F64))
            .collect();
        let mut values = vec![numbers(x.clone())];
        values.extend(parameters.iter().cloned().map(numbers));
        let ran = layer.run(x, &parameters);
        let mut gradients = vec![numbers(ran.input)];
        gradients.extend(ran.parameters.into_iter().map(numbers));
        for (part, gradient) in gradients.iter().enumerate() {
            assert!(gradient.iter().any(|slope| slope.abs() > 1e-3));
            for (at, slope) in gradient.iter().enumerate() {
                let here = values[part][at];
                let mut moved_to = |value| {
                    values[part][at] = value;
                    loss(&layer, &values)
                };
                let difference = moved_to(here + STEP) - moved_to(here - STEP);
                moved_to(here);
                let measured = difference / (2.0 * STEP);
                assert!(
                    (measured - slope).abs() < 1e-7 * (1.0 + slope.abs()),
                    "{}, part {part}, value {at}: {slope}, the difference says {measured}",
                    layer.name
                );
            }
        }
    }
}
