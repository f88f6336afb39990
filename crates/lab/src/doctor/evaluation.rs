//! Whether what was recorded at test can be measured again.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use evenkeel_nn::Pass;
use evenkeel_record::{Finding, Preparation, Severity};

use super::{Outcome, finding};
use crate::Error;
use crate::data::Split;
use crate::model::Model;
use crate::probe::Subject;
use crate::probe::score::{Scores, scores};
use crate::probe::subject::Views;

/// Loss and accuracy.
#[derive(Clone, Copy)]
struct Figures {
    loss: f64,
    accuracy: f64,
}

impl Figures {
    fn of(scores: &Scores) -> Self {
        Self {
            loss: scores.loss(),
            accuracy: scores.accuracy(),
        }
    }

    /// How far apart, in units of what rounding on another machine may change.
    fn distance(self, other: Self, examples: usize) -> f64 {
        let loss = (self.loss - other.loss).abs() / (1e-4 + 2e-3 * self.loss.abs());
        let accuracy = (self.accuracy - other.accuracy).abs() / (2e-3 + 1.5 / examples as f64);
        loss.max(accuracy)
    }
}

pub(super) fn check(subject: &Subject) -> Result<Outcome, Error> {
    let Some(results) = &subject.run.results else {
        return Outcome::skipped("the run recorded no results");
    };
    let on = [
        (
            "test",
            &subject.data.test,
            results.test_loss,
            results.test_accuracy,
        ),
        (
            "training",
            &subject.data.train,
            results.train_loss,
            results.train_accuracy,
        ),
    ];
    let mut findings = Vec::new();
    for (name, split, loss, accuracy) in on {
        let recorded = Figures { loss, accuracy };
        let batches = subject.batches(&all(subject, split))?;
        let now = Figures::of(&subject.score(&batches, |_| Pass::test()));
        // Written so that a figure that is no number is a difference.
        if now.distance(recorded, split.len()) <= 1.0 {
            continue;
        }
        findings.push(explain(subject, name, split, recorded, now)?);
        // What is wrong with one measurement is wrong with the other.
        break;
    }
    Ok(Outcome::Found(findings))
}

/// All of a split, in its order, as evaluation makes batches of it.
fn all<'a>(subject: &'a Subject, split: &'a Split) -> Views<'a> {
    Views {
        shuffle: None,
        ..subject.clean(split, usize::MAX)
    }
}

/// What a mistaken evaluation would have measured.
struct Hypothesis {
    figures: Figures,
    cause: &'static str,
    remedy: &'static str,
}

fn explain(
    subject: &Subject,
    name: &str,
    split: &Split,
    recorded: Figures,
    now: Figures,
) -> Result<Finding, Error> {
    let examples = split.len();
    let best = hypotheses(subject, split)?
        .into_iter()
        .min_by(|a, b| {
            let distance = |h: &Hypothesis| h.figures.distance(recorded, examples);
            distance(a).total_cmp(&distance(b))
        })
        // It explains what is recorded if it leaves little of the difference.
        .filter(|best| {
            let left = best.figures.distance(recorded, examples);
            left <= 1.0 || left < 0.2 * now.distance(recorded, examples)
        });
    let evidence = format!(
        "recorded on the {name} data: loss {:.4}, accuracy {:.2} %; measured now in test mode: loss {:.4}, \
         accuracy {:.2} %{}",
        recorded.loss,
        100.0 * recorded.accuracy,
        now.loss,
        100.0 * now.accuracy,
        best.as_ref().map_or_else(String::new, |best| format!(
            "; measured as suspected: loss {:.4}, accuracy {:.2} %",
            best.figures.loss,
            100.0 * best.figures.accuracy
        ))
    );
    let (cause, remedy) = best.map_or(
        (
            "the model was evaluated in another way, with other data, or is not the one that was saved",
            "evaluate the saved model by Pass::test() on examples that are prepared as in training",
        ),
        |best| (best.cause, best.remedy),
    );
    Ok(finding(
        Severity::Error,
        "evaluation",
        "the recorded results are not those of the saved model in test mode",
        evidence,
        cause,
        remedy,
    ))
}

fn hypotheses(subject: &Subject, split: &Split) -> Result<Vec<Hypothesis>, Error> {
    let views = all(subject, split);
    let batches = subject.batches(&views)?;
    let seed = subject.recipe.seed;
    let train = |step| Pass::train(seed, step).keep_statistics();
    let mut found = Vec::new();
    let mut add = |scores: Scores, cause, remedy| {
        found.push(Hypothesis {
            figures: Figures::of(&scores),
            cause,
            remedy,
        });
    };
    let small = subject.batches(&Views {
        batch_size: subject.recipe.train.batch_size.min(split.len()).max(2),
        ..views.clone()
    })?;
    for batches in [&batches, &small] {
        add(
            subject.score(batches, |step| train(step).without_noise()),
            "norms used the statistics of the test batches: they were left in training mode",
            "evaluate by Pass::test(), which uses running statistics",
        );
        add(
            subject.score(batches, train),
            "the whole net was left in training mode: batch statistics and noise",
            "evaluate by Pass::test()",
        );
    }
    if subject.recipe.model.draws_noise() {
        add(
            subject.score(&batches, |draw| Pass::monte_carlo(seed, draw)),
            "noise was drawn at test: dropout was left on",
            "evaluate by Pass::test(), or average many Pass::monte_carlo",
        );
    }
    let dropout = subject.recipe.model.dropout();
    if dropout > 0.0 {
        for factor in [1.0 - dropout, 1.0 / (1.0 - dropout)] {
            let scaled = scale_last_weight(subject.model.clone(), factor);
            add(
                scores(&scaled, &batches, |_| Pass::test()),
                "activations were scaled wrongly at test for the dropout in training",
                "scale in training (inverted) or at test (classic), never in both or neither",
            );
        }
    }
    if !subject.recipe.augment.operations.is_empty() {
        let views = Views {
            operations: &subject.recipe.augment.operations,
            ..views.clone()
        };
        add(
            subject.score(&subject.batches(&views)?, |_| Pass::test()),
            "test images were augmented at random",
            "evaluate on images as they are, or average over a fixed set of views (eval --tta)",
        );
    }
    let channels = subject.run.preparation.mean.len();
    let raw = |deviation: f32| Preparation {
        mean: vec![0.0; channels],
        deviation: vec![deviation; channels],
    };
    let own = crate::data::preparation(&crate::data::Dataset {
        train: split.clone(),
        ..subject.data.clone()
    });
    for (preparation, cause) in [
        (raw(1.0), "test examples were not normalized"),
        (
            raw(1.0 / 255.0),
            "test examples were not normalized: bytes went in as they are",
        ),
        (own, "test examples were normalized by their own statistics"),
    ] {
        let views = Views {
            preparation: &preparation,
            ..views.clone()
        };
        add(
            subject.score(&subject.batches(&views)?, |_| Pass::test()),
            cause,
            "normalize test examples by the mean and deviation of the training data",
        );
    }
    Ok(found)
}

/// The model whose last matrix, the classifier's, is multiplied by a factor.
pub(super) fn scale_last_weight(model: Model, factor: f64) -> Model {
    struct Scale {
        seen: usize,
        last: usize,
        factor: f64,
    }
    impl ModuleMapper for Scale {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D < 2 {
                return param;
            }
            self.seen += 1;
            if self.seen == self.last {
                param.map(|weight| weight.mul_scalar(self.factor))
            } else {
                param
            }
        }
    }
    let mut count = Scale {
        seen: 0,
        last: 0,
        factor,
    };
    let model = model.map(&mut count);
    model.map(&mut Scale {
        seen: 0,
        last: count.seen,
        factor,
    })
}
