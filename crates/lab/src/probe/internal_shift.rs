//! Internal covariate shift: how a layer's gradient changes when the layers before it are updated.

use evenkeel_augment::Batch;
use evenkeel_nn::{Decay, Pass, Role, WeightDecay};

use super::gradient::{Gradient, distance, gradient, moved, norm};
use super::instrument::{Estimate, by_place, over_layers};
use super::short::{norm_name, norms, reached, train};
use super::subject::Subject;
use super::{Measured, Told};
use crate::Error;
use crate::model::Model;

/// Steps between two places of the training where it is measured.
const EVERY: u64 = 8;

/// ‖g′ − g‖/‖g‖ and the cosine between g and g′, for each layer's weights: g its gradient as all layers
/// are, g′ after the parameters before it moved by −rate·gradient, on the same batch under the same noise.
///
/// Source: Santurkar, Tsipras, Ilyas, Mądry, "How Does Batch Normalization Help Optimization?" (2018), for a
/// step of plain gradient descent.
pub(crate) fn internal_shift(
    model: &Model,
    batch: &Batch,
    pass: impl Fn() -> Pass,
    rate: f64,
    smoothing: f64,
) -> Vec<(f64, f64)> {
    let before = gradient(model, batch, &pass(), smoothing);
    let weights = |gradient: &Gradient| -> Vec<usize> {
        (0..gradient.parts.len())
            .filter(|&i| gradient.parts[i].is_weight)
            .collect()
    };
    let of_layer = weights(&before).into_iter().map(|index| {
        let updated = moved(model, &before.parts[..index], rate);
        let after = gradient(&updated, batch, &pass(), smoothing);
        let (g, there) = (&before.parts[index].values, &after.parts[index].values);
        let product: f64 = g.iter().zip(there).map(|(a, b)| a * b).sum();
        (
            distance(there, g) / norm(g),
            product / (norm(g) * norm(there)),
        )
    });
    of_layer.collect()
}

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let account = WeightDecay::new(Decay::None).account(&subject.model);
    let layers: Vec<String> = account
        .iter()
        .filter(|entry| entry.role == Role::Weight)
        .map(|entry| {
            let path = entry.path.trim_end_matches(".weight");
            // The first name is that of the kind of net.
            path.split_once('.')
                .map_or(path, |(_, path)| path)
                .to_owned()
        })
        .collect();
    let mut readings = Vec::new();
    let (mut distances, mut cosines) = (Vec::new(), Vec::new());
    let mut means = Vec::new();
    for kind in norms(subject) {
        let mut recipe = subject.recipe.clone();
        recipe.model = recipe.model.with_norm(kind);
        let mut found: Vec<Vec<(f64, f64)>> = Vec::new();
        let mut failed = None;
        let losses = train(subject, &recipe, |done, session, training| {
            if done % EVERY != 0 || failed.is_some() {
                return;
            }
            let epoch_steps = session.epoch_steps();
            let place = (done % epoch_steps) as usize;
            match session.loader.epoch(done / epoch_steps, place).next() {
                Some(Ok(batch)) => found.push(internal_shift(
                    &training.model,
                    &batch,
                    || Pass::train(session.recipe.seed, done).keep_statistics(),
                    session.recipe.optimizer.learning_rate(),
                    session.recipe.train.label_smoothing,
                )),
                Some(Err(error)) => failed = Some(error),
                None => {}
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let name = norm_name(kind);
        let of = |value: fn(&(f64, f64)) -> f64| -> Vec<Estimate> {
            (0..layers.len())
                .map(|layer| {
                    let values = found
                        .iter()
                        .filter_map(|layers| layers.get(layer))
                        .map(value);
                    Estimate::mean(&values.filter(|v| v.is_finite()).collect::<Vec<_>>())
                })
                .collect()
        };
        let (distance, cosine) = (of(|shift| shift.0), of(|shift| shift.1));
        for ((layer, distance), cosine) in layers.iter().zip(&distance).zip(&cosine).skip(1) {
            readings.push(distance.reading(format!("{name}, {layer}: change of the gradient"), ""));
            readings.push(cosine.reading(format!("{name}, {layer}: cosine"), ""));
        }
        let later: Vec<f64> = distance.iter().skip(1).map(|d| d.value).collect();
        means.push((reached(&name, &losses), super::score::mean(&later)));
        distances.push(by_place(&name, &distance));
        cosines.push(by_place(&name, &cosine));
    }
    let told: Vec<String> = means
        .iter()
        .map(|(name, mean)| format!("{name} {mean:.2}"))
        .collect();
    Ok(Told::Measured(Measured {
        meaning: format!(
            "Updating the layers before changes a layer's gradient by this share of it, on average over layers and \
             steps: {}. A net whose loss did not fall has little to change.",
            told.join(", ")
        ),
        readings,
        figures: vec![
            over_layers(
                "Internal covariate shift",
                "change / gradient",
                &layers,
                distances,
            ),
            over_layers("Direction kept", "cosine", &layers, cosines),
        ],
    }))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use evenkeel_nn::NormKind;

    use super::*;
    use crate::data::Kind;
    use crate::model::ModelRecipe;

    /// One input, one hidden unit that is always on, two classes: the second layer's gradient is h·(p − y).
    #[test]
    fn two_layers_by_hand() {
        let kind = Kind::Table {
            columns: vec!["x".into()],
        };
        let device = Device::flex().autodiff();
        let recipe = ModelRecipe::Mlp {
            hidden: vec![1],
            norm: NormKind::None,
            dropout: 0.0,
            activation: Default::default(),
            drop_connect: 0.0,
        };
        let model = evenkeel_nn::initialize(recipe.build(&kind, 2, &device).unwrap(), 0);
        let Model::Mlp(mut net) = model else {
            panic!("a dense net")
        };
        let (w, [a, b], x, rate) = (0.7, [0.4, -0.9], 1.5, 0.3);
        let set = |values: Vec<f32>, shape: [usize; 2]| {
            let tensor =
                Tensor::<2>::from_data(burn::tensor::TensorData::new(values, shape), &device);
            move |_| tensor.require_grad()
        };
        net.blocks[0].linear.weight = net.blocks[0]
            .linear
            .weight
            .clone()
            .map(set(vec![w as f32], [1, 1]));
        net.head.weight = net
            .head
            .weight
            .clone()
            .map(set(vec![a as f32, b as f32], [1, 2]));
        let batch = Batch {
            index: 0,
            features: vec![x as f32],
            labels: vec![1],
            samples: vec![0],
            targets: Vec::new(),
            mixed: None,
        };
        let found = internal_shift(&Model::Mlp(net), &batch, Pass::test, rate, 0.0);

        let errors = |h: f64| {
            let (p, q) = ((a * h).exp(), (b * h).exp());
            [p / (p + q), q / (p + q) - 1.0]
        };
        let h = w * x;
        let e = errors(h);
        let back = a * e[0] + b * e[1];
        // Weight and bias of the first layer both move.
        let h_after = (w - rate * back * x) * x - rate * back;
        let e_after = errors(h_after);
        let (g, after) = (
            [h * e[0], h * e[1]],
            [h_after * e_after[0], h_after * e_after[1]],
        );
        let expected = distance(&after, &g) / norm(&g);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].0, 0.0, "nothing comes before the first layer");
        assert!(
            (found[1].0 - expected).abs() < 1e-5,
            "{} and {expected}",
            found[1].0
        );
        assert!(
            (found[1].1 - 1.0).abs() < 1e-5,
            "p − y keeps its direction with two classes"
        );
    }
}
