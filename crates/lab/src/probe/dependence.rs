//! How much one layer's activations tell of the next one's.

use burn::tensor::Tensor;
use evenkeel_nn::Pass;

use super::instrument::{Estimate, by_place, over_layers};
use super::layers::observe;
use super::subject::Subject;
use super::{Measured, Told};
use crate::Error;

/// Examples of a group, of which each gives a value.
const GROUP: usize = 64;
const GROUPS: usize = 8;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let views = super::subject::Views {
        batch_size: GROUP,
        most: GROUPS,
        drop_last: true,
        ..subject.clean(&subject.data.test, 0)
    };
    let mut names = Vec::new();
    let mut values: Vec<Vec<f64>> = Vec::new();
    for batch in subject.batches(&views)? {
        let (logits, seen) = observe(Pass::test(), |pass| {
            subject.model.forward(batch.x.clone(), pass)
        });
        let mut layers = vec![("input".to_owned(), batch.x.clone())];
        layers.extend(seen.into_iter().map(|seen| (seen.name, seen.output)));
        layers.push(("logits".into(), logits));
        names = layers.windows(2).map(|pair| pair[1].0.clone()).collect();
        values.resize(names.len(), Vec::new());
        for (pair, values) in layers.windows(2).zip(&mut values) {
            values.extend(dependence(&pair[0].1, &pair[1].1));
        }
    }
    if values.is_empty() {
        return Ok(Told::Unfit(format!(
            "there are fewer than {GROUP} test examples"
        )));
    }
    let estimates: Vec<Estimate> = values.iter().map(|values| Estimate::mean(values)).collect();
    let least = estimates
        .iter()
        .zip(&names)
        .min_by(|a, b| a.0.value.total_cmp(&b.0.value));
    let meaning = least.map_or_else(String::new, |(estimate, name)| {
        format!(
            "1 says that a layer keeps how the examples lie to each other in the one before, 0 that it keeps nothing; the \
             largest change comes with {name} ({:.2}).",
            estimate.value
        )
    });
    Ok(Told::Measured(Measured {
        meaning,
        readings: estimates
            .iter()
            .zip(&names)
            .map(|(e, name)| e.reading(name.clone(), ""))
            .collect(),
        figures: vec![over_layers(
            "Dependence on the layer before",
            "linear CKA, unbiased",
            &names,
            vec![by_place("test data", &estimates)],
        )],
    }))
}

/// Linear centred kernel alignment with the unbiased estimate of HSIC: 1 for activations that are the same
/// up to rotation and scale, about 0 for independent ones. None where one of them does not vary.
///
/// Sources: Kornblith and others, "Similarity of Neural Network Representations Revisited" (2019); Song and
/// others, "Feature Selection via Dependence Maximization" (2012).
pub(crate) fn dependence(a: &Tensor<2>, b: &Tensor<2>) -> Option<f64> {
    let gram = |x: &Tensor<2>| -> (Vec<f64>, usize) {
        let n = x.dims()[0];
        // Centred first: the estimate is invariant under it, rounding is not.
        let x = x.clone() - x.clone().mean_dim(0);
        let products = x.clone().matmul(x.transpose()).into_data();
        let mut products: Vec<f64> = products.iter::<f64>().collect();
        for i in 0..n {
            products[i * n + i] = 0.0;
        }
        (products, n)
    };
    let ((k, n), (l, _)) = (gram(a), gram(b));
    let hsic = |k: &[f64], l: &[f64]| {
        let rows = |k: &[f64]| {
            k.chunks_exact(n)
                .map(|row| row.iter().sum::<f64>())
                .collect::<Vec<_>>()
        };
        let (rows_k, rows_l) = (rows(k), rows(l));
        let sum = |rows: &[f64]| rows.iter().sum::<f64>();
        let trace: f64 = k.iter().zip(l).map(|(k, l)| k * l).sum();
        let across: f64 = rows_k.iter().zip(&rows_l).map(|(k, l)| k * l).sum();
        let n = n as f64;
        trace + sum(&rows_k) * sum(&rows_l) / ((n - 1.0) * (n - 2.0)) - 2.0 * across / (n - 2.0)
    };
    let value = hsic(&k, &l) / (hsic(&k, &k) * hsic(&l, &l)).sqrt();
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn the_same_is_one_and_the_independent_none() {
        let device = Device::flex();
        let normal = |columns: usize| {
            Tensor::<2>::random([200, columns], Distribution::Normal(0.0, 1.0), &device)
        };
        let x = normal(4);
        // A rotation by 90° of two columns, a scale and a shift keep how examples lie to each other.
        let turned = Tensor::cat(
            vec![
                x.clone().slice([0..200, 1..2]).neg(),
                x.clone().slice([0..200, 0..1]),
                x.clone().slice([0..200, 2..4]),
            ],
            1,
        );
        let same = dependence(&x, &(turned * 3.0 + 5.0)).unwrap();
        assert!((same - 1.0).abs() < 1e-4, "{same}");
        let none = dependence(&x, &normal(4)).unwrap();
        assert!(none.abs() < 0.06, "{none}");
        // Half of the variance is shared, in rotation-free columns: (n·½)/√(n · n·…) is 1/√2 of columns kept.
        let kept = Tensor::cat(vec![x.clone().slice([0..200, 0..2]), normal(2)], 1);
        let half = dependence(&x, &kept).unwrap();
        assert!((half - 0.5).abs() < 0.1, "{half}");
        assert_eq!(dependence(&x, &Tensor::zeros([200, 2], &device)), None);
    }
}
