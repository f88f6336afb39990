//! Half-precision storage: computed in `f32`, with statistics in `f32`; parameters, input and
//! state need not be of one type.

mod support;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{DType, FloatDType, Tensor};
use evenkeel_nn::{Activation, BatchNorm, BatchNormConfig, Pass};
use support::layers::{autodiff, input, layers};
use support::{assert_near, plain, random, running, values};

/// The types and the relative error of one rounding to them.
const HALVES: [(FloatDType, f32); 2] = [(FloatDType::F16, 4.9e-4), (FloatDType::BF16, 3.9e-3)];

struct Cast(FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| {
            let trained = value.is_require_grad();
            value.cast(self.0).detach().set_require_grad(trained)
        })
    }
}

fn layer() -> BatchNorm {
    BatchNormConfig::new(2)
        .with_activation(Activation::Relu)
        .init(&autodiff())
}

struct Ran {
    output: Tensor<3>,
    input: Tensor<3>,
    parameters: [Tensor<1>; 2],
}

/// Output and the gradients by input, γ and β, for a smooth gradient of the output.
fn run(layer: &BatchNorm, x: Tensor<3>, pass: &Pass) -> Ran {
    let x = x.detach().require_grad();
    let y = layer.forward(x.clone(), pass);
    let dy = random(y.dims(), &autodiff()).sin().cast(y.dtype());
    let gradients = (y.clone() * dy).sum().backward();
    let by = |param: &Option<Param<Tensor<1>>>| param.as_ref().unwrap().val().grad(&gradients);
    Ran {
        output: y,
        input: x.grad(&gradients).unwrap(),
        parameters: [&layer.weight, &layer.bias].map(|param| by(param).unwrap()),
    }
}

/// Deviation 300: its square, 90,000, is more than f16 holds.
fn wide_input(dtype: FloatDType) -> Tensor<3> {
    (random([16, 2, 9], &autodiff()) * 300.0).cast(dtype)
}

#[test]
fn statistics_are_those_of_the_same_values_in_f32() {
    for (dtype, _) in HALVES {
        let x = wide_input(dtype);
        let (half, full) = (layer(), layer());
        half.forward(x.clone(), &Pass::train(0, 0));
        full.forward(x.cast(FloatDType::F32), &Pass::train(0, 0));
        let ((mean, var), (full_mean, full_var)) = (running(&half), running(&full));
        assert!(full_var.iter().all(|var| *var > 1000.0), "{full_var:?}");
        assert_near("running mean", &mean, &full_mean, 1e-6);
        assert_near("running var", &var, &full_var, 1e-6);
        assert_eq!(half.running_var.get(&plain()).dtype(), DType::F32);
    }
}

#[test]
fn outputs_and_gradients_are_those_of_f32_rounded_once() {
    for (dtype, rounding) in HALVES {
        let x = wide_input(dtype);
        for pass in [Pass::train(0, 0), Pass::recalibrate(), Pass::test()] {
            let (half, full) = (layer(), layer());
            for layer in [&half, &full] {
                layer.forward(wide_input(dtype), &Pass::train(0, 0));
            }
            let found = run(&half, x.clone(), &pass);
            let expected = run(&full, x.clone().cast(FloatDType::F32), &pass);
            assert_eq!(found.output.dtype(), dtype.into());
            assert_eq!(found.input.dtype(), dtype.into());
            for gradient in &found.parameters {
                assert_eq!(gradient.dtype(), DType::F32, "the parameters' own type");
            }
            let near = |what: &str, found: Tensor<3>, expected: Tensor<3>, roundings: f32| {
                assert_near(
                    what,
                    &values(found),
                    &values(expected),
                    roundings * rounding,
                );
            };
            near("output", found.output, expected.output, 1.0);
            // The gradient of the output was rounded as well.
            let (dx, full_dx) = (found.input * 300.0, expected.input * 300.0);
            near("dx, in deviations", dx, full_dx, 4.0);
            for (found, expected) in found.parameters.into_iter().zip(expected.parameters) {
                assert_near(
                    "dγ or dβ",
                    &values(found),
                    &values(expected),
                    8.0 * rounding,
                );
            }
        }
    }
}

/// γ and β in f32 under half-precision or f64 activations, and the other way round.
#[test]
fn types_of_input_and_parameters_may_differ() {
    use FloatDType::{BF16, F16, F32, F64};
    for (parameters, input) in [
        (F32, F16),
        (F32, BF16),
        (F32, F64),
        (F16, F32),
        (BF16, F16),
        (F64, F32),
        (F16, F16),
        (F64, F64),
    ] {
        let mut layer = layer().map(&mut Cast(parameters));
        let before = layer.clone();
        let ran = run(&layer, wide_input(F32).cast(input), &Pass::train(0, 0));
        assert_eq!(ran.output.dtype(), input.into());
        assert_eq!(ran.input.dtype(), input.into());
        for gradient in ran.parameters {
            assert_eq!(gradient.dtype(), parameters.into());
        }
        for pass in [Pass::train(0, 1), Pass::test()] {
            let y = layer.forward(wide_input(F32).cast(input), &pass);
            let loss = (y.clone() * y).mean();
            let gradients = GradientsParams::from_grads(loss.backward(), &layer);
            layer = SgdConfig::new().init().step(0.125, layer, gradients);
        }
        let weight = |layer: &BatchNorm| layer.weight.as_ref().unwrap().val();
        assert_eq!(weight(&layer).dtype(), parameters.into());
        let (moved, start) = (values(weight(&layer)), values(weight(&before)));
        let moved_down = moved.iter().zip(&start).all(|(new, old)| new < old);
        assert!(moved_down, "{parameters:?} {input:?}: {moved:?}");
        let (_, var) = running(&layer);
        assert!(var.iter().all(|var| var.is_finite() && *var > 1000.0));
    }
}

/// With parameters in f32, and in the input's type: each layer on the same values as in f32.
#[test]
fn all_layers_round_once_and_return_the_type_that_they_were_given() {
    use FloatDType::F32;
    for (dtype, rounding) in HALVES {
        for layer in layers() {
            let half = |tensor: Tensor<1>| tensor.cast(dtype).cast(F32);
            let x = input(&autodiff()).cast(dtype);
            let rounded: Vec<_> = layer
                .parameters(&autodiff())
                .into_iter()
                .map(half)
                .collect();
            let expected = layer.run(x.clone().cast(F32), &rounded);
            let (output, dx) = (values(expected.output), values(expected.input));
            let dparameters: Vec<_> = expected.parameters.into_iter().map(values).collect();
            for parameters_in in [F32, dtype] {
                let parameters: Vec<_> = rounded
                    .iter()
                    .map(|parameter| parameter.clone().cast(parameters_in))
                    .collect();
                let ran = layer.run(x.clone(), &parameters);
                let types = [ran.output.dtype(), ran.input.dtype()];
                assert_eq!(types, [dtype.into(); 2], "{}", layer.name);
                assert_near(layer.name, &values(ran.output), &output, rounding);
                assert_near(layer.name, &values(ran.input), &dx, 8.0 * rounding);
                assert_eq!(ran.parameters.len(), dparameters.len());
                for (found, expected) in ran.parameters.into_iter().zip(&dparameters) {
                    assert_eq!(found.dtype(), parameters_in.into(), "{}", layer.name);
                    assert_near(layer.name, &values(found), expected, 8.0 * rounding);
                }
            }
        }
    }
}
