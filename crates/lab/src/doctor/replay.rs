//! Whether the training did what the recipe says: its first steps, again.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use burn::tensor::Device;
use evenkeel_nn::Pass;
use evenkeel_record::{Line, Preparation, Severity};

use super::evaluation::scale_last_weight;
use super::{Outcome, finding};
use crate::data::Dataset;
use crate::error::Error;
use crate::fit::FitOptions;
use crate::probe::Subject;
use crate::probe::score::scores;
use crate::probe::subject::Views;
use crate::provenance;
use crate::session::Session;
use crate::step::step;

/// Examples that a replay goes over, at most: with an epoch of that many it goes into the second.
const EXAMPLES: u64 = 20_000;
/// Steps in which rounding on another machine has not grown to anything yet.
const SHORT: u64 = 3;

pub(super) fn check(subject: &Subject) -> Result<Outcome, Error> {
    let run = &subject.run;
    if run.versions.evenkeel != env!("CARGO_PKG_VERSION") {
        return Outcome::skipped("the run was made by another version");
    }
    let stop = AtomicBool::new(false);
    let options = FitOptions {
        workers: subject.workers,
        threads: 1,
        device: subject.device.clone(),
        device_name: "cpu",
        stop: &stop,
    };
    if run.machine.device != "cpu" {
        return Outcome::skipped("the run was made on another kind of device");
    }
    let session = Session::with(
        &subject.recipe,
        &options,
        subject.data.clone(),
        Instant::now(),
    )?;
    if let Err(difference) = provenance::expect_same_train(run, &session.data) {
        return Ok(Some(finding(
            Severity::Warning,
            "replay",
            "the training data have changed since",
            difference.to_string(),
            "files were added, removed or edited",
            "put back the data of the run, or train anew",
        ))
        .into());
    }
    let logged: Vec<(u64, f64, f64)> = subject
        .metrics
        .iter()
        .filter_map(|line| match *line {
            Line::Step {
                step,
                loss,
                learning_rate,
                ..
            } => Some((step, loss, learning_rate)),
            Line::Epoch { .. } => None,
        })
        .collect();
    if logged.is_empty() {
        return Outcome::skipped("no steps were logged");
    }
    let epoch_steps = session.epoch_steps();
    let batch = subject.recipe.train.batch_size as u64;
    // The same processor gives the same bits, whatever their number of threads.
    let here = evenkeel_record::Machine::here(1, "cpu");
    let same_machine = here.cpu == run.machine.cpu && here.arch == run.machine.arch;
    let steps = if same_machine && (epoch_steps + SHORT) * batch <= EXAMPLES {
        epoch_steps + SHORT
    } else {
        SHORT
    };
    let tolerance = if same_machine { 1e-6 } else { 1e-3 };
    let mut training = session.fresh()?;
    'steps: for epoch in 0..2 {
        for batch in session.loader.epoch(epoch, 0) {
            let done = training.progress.step;
            let Some(&(number, loss, rate)) = logged.get(done as usize).filter(|_| done < steps)
            else {
                break 'steps;
            };
            let replayed = step(&session, &mut training, batch?);
            let replayed_loss = replayed.map_or_else(|loss| loss, |stepped| stepped.loss);
            let expected_rate = session.learning_rate(done);
            let distance = (replayed_loss - loss).abs();
            let differs = number != done + 1
                || (rate - expected_rate).abs() > 1e-9 * expected_rate.abs().max(1e-12)
                || distance.is_nan()
                || distance > tolerance * loss.abs().max(1.0);
            if !differs {
                continue;
            }
            let evidence = format!(
                "step {}: logged loss {loss:.6} at learning rate {rate:.6}, replayed {replayed_loss:.6} at \
                 {expected_rate:.6}",
                done + 1
            );
            let (cause, remedy) = cause(
                subject,
                &session,
                done,
                epoch_steps,
                loss,
                [rate, expected_rate],
            )?;
            return Ok(Some(finding(
                Severity::Error,
                "replay",
                "the training did not do what its recipe says",
                evidence,
                cause,
                remedy,
            ))
            .into());
        }
    }
    Ok(None.into())
}

fn cause(
    subject: &Subject,
    session: &Session<'_>,
    done: u64,
    epoch_steps: u64,
    logged: f64,
    [rate, expected]: [f64; 2],
) -> Result<(String, String), Error> {
    let say = |cause: &str, remedy: &str| Ok((cause.to_owned(), remedy.to_owned()));
    if (rate - expected).abs() > 1e-9 * expected {
        return say(
            "the learning rate does not follow the schedule",
            "step the schedule once a step, over all steps of the training",
        );
    }
    if done == epoch_steps {
        return say(
            "the second epoch began otherwise: its order, views or masks are not the recipe's (the same \
             noise as in the first epoch, say)",
            "make order and noise functions of the epoch and the step, never of a generator that is seeded anew",
        );
    }
    if done > 0 {
        return say(
            "the first forward was the recipe's, the update was not: another optimizer, decay or gradient, or \
             noise that does not change with the step",
            "compare optimizer, weight decay and clipping with the recipe",
        );
    }
    for (figure, cause, remedy) in first_steps(subject, session)? {
        if (figure - logged).abs() <= 1e-5 * logged.abs().max(1.0) {
            return say(cause, remedy);
        }
    }
    say(
        "the first batch was not the recipe's: initial weights, order, augmentation, preparation, noise or \
         targets differ",
        "compare what the training feeds the net with the recipe: evenkeel preview shows the views",
    )
}

/// The loss of the first step, had it been made with one thing missing.
fn first_steps(
    subject: &Subject,
    session: &Session<'_>,
) -> Result<Vec<(f64, &'static str, &'static str)>, Error> {
    let device: &Device = &subject.device;
    let fresh = subject
        .recipe
        .model
        .build(&subject.data.kind, subject.data.classes.len(), device);
    let fresh = evenkeel_nn::initialize(fresh.map_err(Error::Unfit)?, subject.recipe.seed);
    let noisy = || Pass::train(subject.recipe.seed, 0).keep_statistics();
    let views = subject.as_trained(0, 1);
    let of = |views: &Views<'_>, pass: &Pass| -> Result<f64, Error> {
        let batches = subject.batches(views)?;
        Ok(scores(&fresh, &batches, |_| pass.clone()).loss())
    };
    let raw = |deviation: f32| Preparation {
        mean: vec![0.0; subject.run.preparation.mean.len()],
        deviation: vec![deviation; subject.run.preparation.mean.len()],
    };
    let own = crate::data::preparation(&Dataset {
        train: subject.data.test.clone(),
        ..subject.data.clone()
    });
    debug_assert_eq!(session.recipe, &subject.recipe);
    let mut found = vec![
        (
            of(&views, &noisy().without_noise())?,
            "masks dropped nothing (a keep test that is always true, such as rand < p/p)",
            "keep a value where rand < keep-probability",
        ),
        (
            of(&views, &Pass::test())?,
            "the net was trained in test mode: no batch statistics, no noise",
            "train by Pass::train",
        ),
        (
            of(&views, &noisy().freeze_statistics())?,
            "norms used running statistics in training",
            "train by Pass::train, or say in the recipe that norms are frozen",
        ),
    ];
    let dropout = subject.recipe.model.dropout();
    if dropout > 0.0 && dropout < 1.0 {
        let unscaled = scale_last_weight(fresh.clone(), 1.0 - dropout);
        let batches = subject.batches(&views)?;
        found.push((
            scores(&unscaled, &batches, |_| noisy()).loss(),
            "kept values were not divided by the keep-probability",
            "scale in training (inverted) or at test (classic), never in both or neither",
        ));
    }
    found.push((
        of(
            &Views {
                operations: &[],
                ..views.clone()
            },
            &noisy(),
        )?,
        "training images were not augmented",
        "apply augment.operations in training",
    ));
    for preparation in [raw(1.0), raw(1.0 / 255.0), own] {
        found.push((
            of(
                &Views {
                    preparation: &preparation,
                    ..views.clone()
                },
                &noisy(),
            )?,
            "training examples were not normalized as the record says",
            "normalize training and test examples by the same mean and deviation",
        ));
    }
    Ok(found)
}
