//! Whether augmentation leaves a class what it is.

use evenkeel_augment::Operation;
use evenkeel_nn::Pass;
use evenkeel_record::Severity;
use evenkeel_statistics::wilson;

use super::data::{joined, nearest};
use super::{Outcome, finding};
use crate::Error;
use crate::data::Kind;
use crate::probe::Subject;
use crate::probe::subject::Views;

/// Of the examples that are compared.
const EXAMPLES: usize = 2048;

/// An operation changes a class if its images, which a plain classifier knows, are taken for those of one
/// other class once it is applied, and the net that was trained with it confuses the two where the plain
/// classifier does not.
pub(super) fn check(subject: &Subject) -> Result<Outcome, Error> {
    if !matches!(subject.data.kind, Kind::Images { .. }) {
        return Outcome::skipped("augmentation is for images");
    }
    if subject.recipe.augment.operations.is_empty() {
        return Outcome::skipped("training images are not augmented");
    }
    let clean_train = subject.batches(&subject.clean(&subject.data.train, EXAMPLES))?;
    let Some((known, labels)) = joined(clean_train) else {
        return Outcome::skipped("there are no training examples");
    };
    let views = subject.clean(&subject.data.test, EXAMPLES);
    let test = subject.batches(&views)?;
    let predicted = subject.score(&test, |_| Pass::test()).predicted;
    let Some((x, truth)) = joined(test) else {
        return Outcome::skipped("there are no test examples");
    };
    let plain = nearest(&x, &known, &labels, false);
    let mut findings = Vec::new();
    for operation in &subject.recipe.augment.operations {
        let always = always(operation);
        let augmented = subject.batches(&Views {
            operations: std::slice::from_ref(&always),
            ..views.clone()
        });
        // Operations may need each other to end in the net's size.
        let Ok(augmented) = augmented else { continue };
        let Some((x, _)) = joined(augmented) else {
            continue;
        };
        let after = nearest(&x, &known, &labels, false);
        for class in 0..subject.data.classes.len() as u32 {
            let of_class: Vec<usize> = (0..truth.len()).filter(|&i| truth[i] == class).collect();
            if of_class.len() < 10 {
                continue;
            }
            let count = of_class.len() as u64;
            let taken = |answers: &[u32], as_class: u32| {
                of_class.iter().filter(|&&i| answers[i] == as_class).count() as u64
            };
            let others = (0..subject.data.classes.len() as u32).filter(|other| *other != class);
            let Some(other) = others.max_by_key(|other| taken(&after, *other)) else {
                continue;
            };
            let sure = |answers: &[u32]| wilson(taken(answers, other), count, 0.95);
            let (before, turned, confused) = (sure(&plain), sure(&after), sure(&predicted));
            if !(turned.low > 0.5 && turned.low > before.high && confused.low > before.high) {
                continue;
            }
            let share = |answers: &[u32]| 100.0 * taken(answers, other) as f64 / count as f64;
            let name = |class: u32| &subject.data.classes[class as usize];
            findings.push(finding(
                Severity::Error,
                "augmentation",
                "augmentation turns a class into another",
                format!(
                    "{}: of {} test images of {}, the nearest neighbour is of {} for {:.0} % as they are and for \
                     {:.0} % after it; the net takes {:.0} % of the plain ones for {}",
                    operation.name(),
                    of_class.len(),
                    name(class),
                    name(other),
                    share(&plain),
                    share(&after),
                    share(&predicted),
                    name(other)
                ),
                "the operation does not keep the label (a mirror image of something with a side)",
                "leave the operation out, or change the label with it",
            ));
            return Ok(Outcome::Found(findings));
        }
    }
    Ok(Outcome::Found(findings))
}

/// The operation, applied to every image.
fn always(operation: &Operation) -> Operation {
    let mut value = serde_json::to_value(operation).unwrap_or_default();
    if let Some(probability) = value.get_mut("probability") {
        *probability = 1.0.into();
    }
    serde_json::from_value(value).unwrap_or_else(|_| operation.clone())
}
