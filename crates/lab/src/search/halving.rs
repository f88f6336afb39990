//! Successive halving: many short trainings of whole recipes, the best third of them three times as long, and so on.

use evenkeel_random::Draws;

use super::children::{accuracies, mean};
use super::policy::{Harm, Policy};
use super::space::{Space, single};
use super::trial::Trial;
use super::{Found, Sitting, Tried};
use crate::Error;

/// Of so many, one in this many goes on.
const KEPT: usize = 3;
/// Rungs: a ninth of the recipe's training, a third, the whole.
const RUNGS: u32 = 3;
/// Recipes at the start, the one that was given among them.
const MOST: usize = 27;

/// A recipe: a policy and other regularizers.
#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    name: String,
    policy: Policy,
    settings: Vec<String>,
}

pub(super) fn search(
    sitting: &mut Sitting<'_>,
    space: &Space,
    harms: &[Harm],
) -> Result<Found, Error> {
    let mut draws = sitting.key("halving").draws();
    let count = usize::try_from(sitting.settings.candidates).unwrap_or(MOST);
    let count = count.clamp(1, MOST);
    let mut alive = vec![Candidate {
        name: "the recipe as it is".into(),
        policy: Policy::default(),
        settings: Vec::new(),
    }];
    alive.extend((1..count).map(|_| candidate(space, &mut draws)));
    let most: usize = (0..RUNGS).map(|rung| count.div_ceil(KEPT.pow(rung))).sum();
    let seed = sitting.settings.seed;
    let (mut tried, mut times) = (Vec::new(), Vec::new());
    let mut plain = f64::NAN;
    for rung in 0..RUNGS {
        let share = 1.0 / KEPT.pow(RUNGS - 1 - rung) as f64;
        let trial = |c: &Candidate| sitting.training(&c.policy, harms, &c.settings, share, seed);
        let trials: Vec<Trial> = alive.iter().map(trial).collect::<Result<_, _>>()?;
        if rung > 0 && !sitting.may_begin(&trials) {
            break;
        }
        sitting.tell("halving", tried.len() as u64, most as u64, None);
        let (accuracies, seconds) = accuracies(sitting, &trials)?;
        if rung + 1 == RUNGS {
            times = seconds;
        }
        let mut scored: Vec<(Candidate, f64)> = alive.into_iter().zip(accuracies).collect();
        for (candidate, score) in &scored {
            if candidate.policy.layers.is_empty() && candidate.settings.is_empty() {
                plain = *score;
            }
            tried.push(Tried {
                name: candidate.name.clone(),
                policy: candidate.policy.clone(),
                settings: candidate.settings.clone(),
                score: *score,
            });
        }
        // Stable: of equals, those that were drawn first.
        scored.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (best, score) = &scored[0];
        let best = format!("{}: {:.2} %", best.name, 100.0 * score);
        sitting.tell("halving", tried.len() as u64, most as u64, Some(best));
        scored.truncate(scored.len().div_ceil(KEPT));
        alive = scored.into_iter().map(|(candidate, _)| candidate).collect();
    }
    let winner = alive.into_iter().next();
    let (policy, settings) = winner.map_or_else(Default::default, |c| (c.policy, c.settings));
    Ok(Found {
        policy,
        settings,
        tried,
        plain,
        lower_is_better: false,
        seconds: [mean(&times), mean(&times)],
    })
}

/// Each setting as the recipe has it, or one of some, as likely.
fn candidate(space: &Space, draws: &mut Draws) -> Candidate {
    let policy = match draws.below(3) {
        0 => Policy::default(),
        1 => Policy::of(space.policy(draws)),
        _ => {
            // One transform of any kind, as in TrivialAugment, up to a strength.
            let level = space.levels[0] + draws.below(u32::from(space.level_count())) as u8;
            let transforms = space.transforms.iter();
            Policy::of(transforms.map(|&t| single(t, 1.0, level)).collect())
        }
    };
    let choices: [(&str, &[&str]); 4] = [
        ("train.label_smoothing", &["0.0", "0.05", "0.1", "0.2"]),
        ("model.dropout", &["0.0", "0.1", "0.3"]),
        (
            "decay.penalty",
            &[
                "{ kind = \"none\" }",
                "{ kind = \"l2\", strength = 5e-4 }",
                "{ kind = \"l2\", strength = 2e-3 }",
                "{ kind = \"l2\", strength = 5e-3 }",
            ],
        ),
        (
            "augment.mix",
            &[
                "{ operations = [{ op = \"mixup\", alpha = 0.2 }] }",
                "{ operations = [{ op = \"cut_mix\", alpha = 1.0 }] }",
            ],
        ),
    ];
    let mut settings = Vec::new();
    for (key, values) in choices {
        // Half of the time the recipe's own.
        if draws.chance(0.5) {
            let value = values[draws.below(values.len() as u32) as usize];
            settings.push(format!("{key}={value}"));
        }
    }
    let of_policy = match &policy.layers[..] {
        [] => "no policy".to_owned(),
        layers => format!("a policy of {}", layers.iter().map(Vec::len).sum::<usize>()),
    };
    let name = std::iter::once(of_policy).chain(settings.iter().cloned());
    Candidate {
        name: name.collect::<Vec<_>>().join(", "),
        policy,
        settings,
    }
}
