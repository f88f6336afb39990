//! Which augmentations are safe for which class: accuracy on test images under each, class by class.

use evenkeel_augment::Operation;
use evenkeel_nn::Pass;
use evenkeel_statistics::Discordant;
use serde_json::json;

use super::instrument::{Estimate, by_place, over_layers};
use super::score::{CONFIDENCE, Scores, ends};
use super::subject::{Subject, Views};
use super::{Measured, Told};
use crate::Error;
use crate::data::Kind;

const EXAMPLES: usize = 2048;
/// What a class may lose and the operation still be called safe for it.
const SAFE: f64 = 0.1;

pub(super) fn measure(subject: &Subject) -> Result<Told, Error> {
    let Kind::Images { height, width, .. } = subject.data.kind else {
        return Ok(Told::Unfit("augmentation is for images".into()));
    };
    let views = subject.clean(&subject.data.test, EXAMPLES);
    let plain = subject.score(&subject.batches(&views)?, |_| Pass::test());
    let classes = &subject.data.classes;
    let mut readings = Vec::new();
    let mut curves = Vec::new();
    let mut unsafe_for = Vec::new();
    for (name, operation) in operations(height.min(width)) {
        let operation: Operation = serde_json::from_value(operation)
            .map_err(|error| Error::Unfit(format!("{name}: {error}")))?;
        let augmented = subject.score(
            &subject.batches(&Views {
                operations: &[operation],
                ..views.clone()
            })?,
            |_| Pass::test(),
        );
        let changes: Vec<Estimate> = (0..classes.len() as u32)
            .map(|class| change(&plain.of_class(class), &augmented.of_class(class)))
            .collect();
        for (class, change) in classes.iter().zip(&changes) {
            readings.push(change.reading(format!("{name}, {class}: change of accuracy"), ""));
            if change.interval[1] < -SAFE {
                unsafe_for.push(format!(
                    "{name} for {class} ({:+.0} points)",
                    100.0 * change.value
                ));
            }
        }
        readings.push(
            change(&plain, &augmented)
                .reading(format!("{name}, all classes: change of accuracy"), ""),
        );
        curves.push(by_place(&name, &changes));
    }
    unsafe_for.truncate(8);
    Ok(Told::Measured(Measured {
        meaning: if unsafe_for.is_empty() {
            format!(
                "No class surely loses more than {:.0} points under any of them.",
                100.0 * SAFE
            )
        } else {
            format!(
                "Surely more than {:.0} points are lost by {}: this net does not know such views of them, or they \
                 are no longer of their class.",
                100.0 * SAFE,
                unsafe_for.join(", ")
            )
        },
        readings,
        // A few of them a figure, so that lines can be told apart.
        figures: curves
            .chunks(4)
            .map(|some| {
                over_layers(
                    "Change of accuracy by class",
                    "augmented − plain",
                    classes,
                    some.to_vec(),
                )
            })
            .collect(),
    }))
}

/// Augmented less plain accuracy of the same examples, with the interval of paired proportions.
fn change(plain: &Scores, augmented: &Scores) -> Estimate {
    let right = |scores: &Scores| -> Vec<bool> {
        scores
            .predicted
            .iter()
            .zip(&scores.labels)
            .map(|(p, l)| p == l)
            .collect()
    };
    let pairs = Discordant::of(right(plain).into_iter().zip(right(augmented)));
    Estimate {
        value: pairs.difference(),
        interval: ends(pairs.interval(CONFIDENCE)),
    }
}

/// Operations at strengths, each applied to every image.
fn operations(side: usize) -> Vec<(String, serde_json::Value)> {
    let mut all = vec![
        (
            "horizontal flip".to_owned(),
            json!({ "op": "horizontal_flip", "probability": 1.0 }),
        ),
        (
            "vertical flip".to_owned(),
            json!({ "op": "vertical_flip", "probability": 1.0 }),
        ),
    ];
    for angle in [15, 45, 90] {
        all.push((
            format!("rotation by {angle}°"),
            json!({ "op": "rotate", "angle": [angle, angle] }),
        ));
    }
    for share in [0.1, 0.25] {
        all.push((
            format!("shift by {share} to the right"),
            json!({ "op": "translate", "x": [share, share], "y": [0.0, 0.0] }),
        ));
    }
    for part in [4, 2] {
        let size = (side / part).max(1);
        all.push((
            format!("cutout of {size}"),
            json!({ "op": "cutout", "size": size, "probability": 1.0 }),
        ));
    }
    for factor in [0.5, 1.5] {
        all.push((
            format!("brightness × {factor}"),
            json!({ "op": "brightness", "factor": [factor, factor] }),
        ));
        all.push((
            format!("contrast × {factor}"),
            json!({ "op": "contrast", "factor": [factor, factor] }),
        ));
    }
    for sigma in [10, 30] {
        all.push((
            format!("noise of {sigma} levels"),
            json!({ "op": "gaussian_noise", "sigma": [sigma, sigma] }),
        ));
    }
    all.push((
        "blur".into(),
        json!({ "op": "gaussian_blur", "kernel_size": 5 }),
    ));
    all.push(("inversion".into(), json!({ "op": "invert" })));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_operations_are_known() {
        for (name, operation) in operations(28) {
            serde_json::from_value::<Operation>(operation)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn changes_by_hand() {
        let scores = |predicted: &[u32]| Scores {
            losses: vec![0.0; predicted.len()],
            predicted: predicted.to_vec(),
            labels: vec![0; predicted.len()],
        };
        // Of ten right ones four are lost, of two wrong ones one is won.
        let plain = scores(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        let augmented = scores(&[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 1]);
        let change = change(&plain, &augmented);
        assert!((change.value + 3.0 / 12.0).abs() < 1e-12, "{change:?}");
        assert!(
            change.interval[0] < -0.25 && change.interval[1] > -0.25,
            "{change:?}"
        );
    }
}
