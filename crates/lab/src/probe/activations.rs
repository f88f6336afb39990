//! Where activations lie: dead, active, linear, saturated; before and after norms.

use evenkeel_nn::{Norm, Norms, Pass};

use super::instrument::{Estimate, by_place, over_layers};
use super::layers::{Seen, channel_moments, observe};
use super::subject::Subject;
use super::{Measured, Told};
use crate::Error;

const EXAMPLES: usize = 512;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let views = super::subject::Views {
        batch_size: EXAMPLES.min(subject.data.train.len()),
        most: 1,
        ..subject.clean(&subject.data.train, 0)
    };
    let batches = subject.batches(&views)?;
    let Some(batch) = batches.first() else {
        return Ok(Told::Unfit("there are no training examples".into()));
    };
    let (_, seen) = observe(Pass::test(), |pass| {
        subject.model.forward(batch.x.clone(), pass)
    });
    let seen: Vec<Seen> = seen
        .into_iter()
        .filter(|seen| !["dropout", "drop_connect_linear"].contains(&seen.kind))
        .collect();
    if seen.is_empty() {
        return Ok(Told::Unfit(
            "the net has no layers that show their activations".into(),
        ));
    }
    let names: Vec<String> = seen.iter().map(|seen| seen.name.clone()).collect();
    let mut readings = Vec::new();
    let mut shares: Vec<(&str, Vec<Estimate>)> = Vec::new();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut most_dead = 0.0_f64;
    for seen in &seen {
        for (index, (name, estimate)) in shares_of(seen).into_iter().enumerate() {
            if name == "dead" {
                most_dead = most_dead.max(estimate.value);
            }
            readings.push(estimate.reading(format!("{}: {name}", seen.name), ""));
            match shares.get_mut(index) {
                Some((_, estimates)) => estimates.push(estimate),
                None => shares.push((name, vec![estimate])),
            }
        }
        for (when, values, moments) in [
            ("before", &seen.input, &mut before),
            ("after", &seen.output, &mut after),
        ] {
            let of_channels = channel_moments(values, &seen.shape);
            let means: Vec<f64> = of_channels.iter().map(|(mean, _)| *mean).collect();
            let variances: Vec<f64> = of_channels.iter().map(|(_, variance)| *variance).collect();
            let (means, variances) = (Estimate::mean(&means), Estimate::mean(&variances));
            readings.push(means.reading(format!("{}: mean {when}", seen.name), ""));
            readings.push(variances.reading(format!("{}: variance {when}", seen.name), ""));
            moments.push((means, variances));
        }
    }
    let scales = scales(subject, &mut readings);
    let curves = shares
        .iter()
        .map(|(name, estimates)| by_place(name, estimates))
        .collect();
    let column = |moments: &[(Estimate, Estimate)], variance: bool| -> Vec<Estimate> {
        moments
            .iter()
            .map(|(m, v)| if variance { *v } else { *m })
            .collect()
    };
    let both = |variance| {
        vec![
            by_place("before", &column(&before, variance)),
            by_place("after", &column(&after, variance)),
        ]
    };
    let mut figures = vec![
        over_layers("Shares of the activations", "share", &names, curves),
        over_layers(
            "Means, before and after the layer",
            "mean over channels",
            &names,
            both(false),
        ),
        over_layers(
            "Variances, before and after the layer",
            "mean over channels",
            &names,
            both(true),
        ),
    ];
    figures.extend(scales);
    Ok(Told::Measured(Measured {
        meaning: format!(
            "At most {:.0} % of a layer's channels are dead; intervals are over channels.",
            100.0 * most_dead
        ),
        readings,
        figures,
    }))
}

/// Of a rectifier: the share of channels that are zero for every example (dead) and the share of values
/// above zero (active). Of a sigmoid or tanh: the shares of values where the slope is at least ¾ of its
/// largest (linear) and at most ¹⁄₁₀ of it (saturated).
fn shares_of(seen: &Seen) -> Vec<(&'static str, Estimate)> {
    // σ′/σ′(0) = 1 − (2σ(x) − 1)² and tanh′ = 1 − tanh²: the slope as a share of the largest.
    let slope: Option<fn(f64) -> f64> = match seen.kind {
        "sigmoid" => Some(|y| 1.0 - (2.0 * y - 1.0).powi(2)),
        "tanh" => Some(|y| 1.0 - y * y),
        _ => None,
    };
    let by_channel = |counted: &dyn Fn(f64) -> bool| {
        let (examples, channels) = (seen.shape[0], seen.shape[1]);
        let positions = seen.shape[2..].iter().product::<usize>();
        let mut counts = vec![0_u64; channels];
        for (index, y) in seen.output.to_data().iter::<f64>().enumerate() {
            if counted(y) {
                counts[index / positions % channels] += 1;
            }
        }
        let all = (examples * positions) as f64;
        counts
            .into_iter()
            .map(|count| count as f64 / all)
            .collect::<Vec<f64>>()
    };
    match slope {
        Some(slope) => vec![
            ("linear", Estimate::mean(&by_channel(&|y| slope(y) >= 0.75))),
            (
                "saturated",
                Estimate::mean(&by_channel(&|y| slope(y) <= 0.1)),
            ),
        ],
        None => {
            let active = by_channel(&|y| y > 0.0);
            let nonzero = by_channel(&|y| y != 0.0);
            let dead = nonzero.iter().filter(|share| **share == 0.0).count() as f64;
            vec![
                ("dead", Estimate::exact(dead / nonzero.len() as f64)),
                ("active", Estimate::mean(&active)),
            ]
        }
    }
}

/// What norms do with what they normalized: |γ| is its deviation, β its mean.
fn scales(
    subject: &Subject,
    readings: &mut Vec<evenkeel_record::Reading>,
) -> Option<evenkeel_record::Figure> {
    let mut names = Vec::new();
    let (mut scales, mut shifts) = (Vec::new(), Vec::new());
    subject.model.clone().visit_norms(&mut |path, norm| {
        let (scale, shift) = match norm {
            Norm::Batch(norm) => (&norm.weight, &norm.bias),
            Norm::Group(norm) => (&norm.weight, &norm.bias),
            Norm::Layer(norm) => (&norm.weight, &norm.bias),
            Norm::Instance(norm) => (&norm.weight, &norm.bias),
        };
        let (Some(scale), Some(shift)) = (scale, shift) else {
            return;
        };
        let numbers = |param: &burn::module::Param<burn::tensor::Tensor<1>>| {
            param.val().into_data().iter::<f64>().collect::<Vec<f64>>()
        };
        let of_scale: Vec<f64> = numbers(scale).iter().map(|scale| scale.abs()).collect();
        names.push(path.to_owned());
        scales.push(Estimate::mean(&of_scale));
        shifts.push(Estimate::mean(&numbers(shift)));
    });
    for ((name, scale), shift) in names.iter().zip(&scales).zip(&shifts) {
        readings.push(scale.reading(format!("{name}: |γ|"), ""));
        readings.push(shift.reading(format!("{name}: β"), ""));
    }
    (!names.is_empty()).then(|| {
        over_layers(
            "Learned scale and shift",
            "mean over channels",
            &names,
            vec![by_place("|γ|", &scales), by_place("β", &shifts)],
        )
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::{relu, sigmoid};
    use burn::tensor::{Device, Tensor};

    use super::*;

    fn seen(kind: &'static str, output: Tensor<2>) -> Seen {
        let [examples, channels] = output.dims();
        Seen {
            name: kind.into(),
            kind,
            shape: vec![examples, channels],
            input: output.clone(),
            output,
        }
    }

    fn value(shares: &[(&'static str, Estimate)], name: &str) -> f64 {
        shares.iter().find(|share| share.0 == name).unwrap().1.value
    }

    #[test]
    fn shares_by_hand() {
        let device = Device::flex();
        let x = Tensor::<2>::from_floats(
            [
                [1.0, -1.0, -2.0],
                [2.0, -3.0, 0.5],
                [-1.0, -1.0, 3.0],
                [4.0, -2.0, 1.0],
            ],
            &device,
        );
        let rectified = shares_of(&seen("relu", relu(x)));
        assert!((value(&rectified, "dead") - 1.0 / 3.0).abs() < 1e-9);
        assert!((value(&rectified, "active") - 0.5).abs() < 1e-9);
        // Evenly over −8..8: σ′ is ¾ of its largest where |x| = ln 3 and ¹⁄₁₀ where |x| = 3.637.
        let count = 4000;
        let values: Vec<f32> = (0..count)
            .map(|i| -8.0 + 16.0 * (i as f32 + 0.5) / count as f32)
            .collect();
        let x = Tensor::<1>::from_floats(&values[..], &device).reshape([count, 1]);
        let smooth = shares_of(&seen("sigmoid", sigmoid(x.clone())));
        assert!((value(&smooth, "linear") - 3_f64.ln() / 8.0).abs() < 1e-3);
        assert!((value(&smooth, "saturated") - (1.0 - 3.6369 / 8.0)).abs() < 1e-3);
        // tanh x = 2σ(2x) − 1: at half the distance.
        let smooth = shares_of(&seen("tanh", x.tanh()));
        assert!((value(&smooth, "linear") - 3_f64.ln() / 16.0).abs() < 1e-3);
        assert!((value(&smooth, "saturated") - (1.0 - 3.6369 / 16.0)).abs() < 1e-3);
    }
}
