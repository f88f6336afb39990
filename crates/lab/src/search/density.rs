//! Density matching: candidates are scored by nets that were trained without them, on images that these have not
//! seen.
//!
//! Source: Lim, Kim, Kim, Kim and Kim, "Fast AutoAugment" (2019). Theirs scores policies of five sub-policies; here
//! a candidate is one sub-policy, so that a score says more of what it is for. Their optimizer, a tree of Parzen
//! estimators, is here too.
//!
//! With a validation source, whose distribution may be another, what training with each transform alone did to the
//! loss on the same images (the look for harm has measured it) is a second judgment, and a candidate is as good as the
//! worse of the two says. The first alone is won by projections: equalizing makes dark images look like bright ones,
//! but no bright image look like a dark one, so training with it teaches little.

use evenkeel_augment::{PolicyStep, Transform};
use evenkeel_random::{Draws, Key};
use rand::TryRng;
use std::convert::Infallible;
use tpe::density_estimation::DefaultEstimatorBuilder;
use tpe::{TpeOptimizer, TpeOptimizerBuilder};

use super::children::mean;
use super::policy::Policy;
use super::space::{MOST_TENTHS, Space, SubPolicy, in_words};
use super::trial::{HeldOut, Task, Trial};
use super::{Found, Sitting, Tried};
use crate::Error;

/// Candidates that a fold scores at a time: as many as are proposed without knowing each other's scores.
const ROUND: u64 = 20;
/// Rounds at random before the scores are modelled.
const RANDOM_ROUNDS: u64 = 3;
/// What each fold gives to the policy, of twice as many once these are simple.
const BEST: usize = 10;

/// A step is left out of a sub-policy if so much of the gain is there without it.
const WITHOUT: f64 = 0.8;

/// A fold's candidates.
struct Fold {
    sampler: Sampler,
    tried: Vec<(SubPolicy, f64)>,
}

/// `alone` has what training with each transform alone did to the loss.
pub(super) fn search(
    sitting: &mut Sitting<'_>,
    space: &Space,
    alone: &[(Transform, f64)],
) -> Result<Found, Error> {
    let settings = sitting.settings;
    let key = sitting.key("density");
    let mut folds: Vec<Fold> = (0..settings.folds)
        .map(|index| Fold {
            sampler: Sampler::new(space, key.at(index)),
            tried: Vec::new(),
        })
        .collect();
    let mut judges = Judges {
        alone: settings.validation.as_ref().map(|_| alone),
        scoring: Vec::new(),
        training: Vec::new(),
        plain: Vec::new(),
    };
    let most = settings.candidates;
    let mut scored = 0;
    sitting.tell("density matching", 0, most, None);
    for round in 0.. {
        let wanted = most
            .saturating_sub(scored)
            .div_ceil(settings.folds)
            .min(ROUND);
        if wanted == 0 {
            break;
        }
        let candidates: Vec<Vec<SubPolicy>> = folds
            .iter_mut()
            .map(|fold| {
                let candidate = |_| match round < RANDOM_ROUNDS {
                    true => fold.sampler.random(),
                    false => fold.sampler.propose(),
                };
                (0..wanted).map(candidate).collect()
            })
            .collect();
        let Some(gains) = judges.gains(sitting, &candidates)? else {
            break;
        };
        for ((fold, candidates), gains) in folds.iter_mut().zip(candidates).zip(gains) {
            for (candidate, gain) in candidates.into_iter().zip(gains) {
                fold.sampler.learn(&candidate, gain);
                fold.tried.push((candidate, gain));
                scored += 1;
            }
        }
        let all = folds.iter().flat_map(|fold| &fold.tried);
        let best = all.min_by(|a, b| a.1.total_cmp(&b.1));
        let best = best.map(|(policy, gain)| format!("{}: loss {gain:+.4}", in_words(policy)));
        sitting.tell("density matching", scored, most, best);
    }

    let good = folds
        .iter()
        .map(|fold| best(&fold.tried, 2 * BEST))
        .collect();
    let simple = simplify(good, space.steps, |forms| judges.gains(sitting, forms))?;
    let chosen = simple.iter().flat_map(|fold| best(fold, BEST));
    Ok(Found {
        policy: Policy::of(chosen.map(|(sub_policy, _)| sub_policy).collect()),
        settings: Vec::new(),
        tried: in_order(&folds),
        plain: mean(&judges.plain).unwrap_or(f64::NAN),
        lower_is_better: true,
        seconds: [mean(&judges.scoring), mean(&judges.training)],
    })
}

/// What candidates are scored by, and what that took.
struct Judges<'a> {
    /// What training with each transform alone did to the loss, if that counts.
    alone: Option<&'a [(Transform, f64)]>,
    /// Seconds of a candidate, of each fold's round.
    scoring: Vec<f64>,
    /// Seconds of each net's training.
    training: Vec<f64>,
    /// The loss without any candidate, of each fold's round.
    plain: Vec<f64>,
}

impl Judges<'_> {
    /// The loss of each fold's candidates less that of none; nothing if the time is over.
    fn gains(
        &mut self,
        sitting: &mut Sitting<'_>,
        candidates: &[Vec<SubPolicy>],
    ) -> Result<Option<Vec<Vec<f64>>>, Error> {
        let settings = sitting.settings;
        let trial = |(index, candidates): (u64, &Vec<SubPolicy>)| Trial {
            recipe: settings.recipe.clone(),
            held_out: HeldOut {
                fold: Some([index, settings.folds, settings.seed]),
                validation: settings.validation.clone(),
            },
            task: Task::Match {
                candidates: candidates.clone(),
                images: settings.images,
                draws: settings.draws,
                seed: settings.seed,
            },
        };
        let trials: Vec<Trial> = (0..).zip(candidates).map(trial).collect();
        if !sitting.may_begin(&trials) {
            return Ok(None);
        }
        let mut all = Vec::new();
        for (candidates, outcome) in candidates.iter().zip(sitting.outcomes(&trials)?) {
            let matched = outcome.matched()?;
            self.training.extend(matched.training_seconds);
            if !candidates.is_empty() {
                let seconds = matched.scoring_seconds / candidates.len() as f64;
                self.scoring.push(seconds);
            }
            let plain = matched.plain.loss;
            self.plain.push(plain);
            let scored = candidates.iter().zip(matched.candidates);
            let gains = scored.map(|(candidate, score)| {
                let matching = score.loss - plain;
                match self.alone {
                    Some(alone) => matching.max(trained(alone, candidate)),
                    None => matching,
                }
            });
            all.push(gains.collect());
        }
        Ok(Some(all))
    }
}

/// What training with a sub-policy does to the loss, as if each step did it alone.
fn trained(alone: &[(Transform, f64)], candidate: &[PolicyStep]) -> f64 {
    let of_step = |step: &PolicyStep| {
        let gain = alone
            .iter()
            .find(|(transform, _)| *transform == step.transform);
        gain.map_or(0.0, |(_, gain)| step.probability * gain)
    };
    candidate.iter().map(of_step).sum()
}

/// The sub-policies without the steps that do little for them, so that a policy says what it is for: proposals come
/// in twos, and what is beside a good step is good by luck.
fn simplify(
    mut chosen: Vec<Vec<(SubPolicy, f64)>>,
    steps: usize,
    mut gains: impl FnMut(&[Vec<SubPolicy>]) -> Result<Option<Vec<Vec<f64>>>, Error>,
) -> Result<Vec<Vec<(SubPolicy, f64)>>, Error> {
    for _ in 1..steps {
        let forms: Vec<Vec<SubPolicy>> = chosen
            .iter()
            .map(|chosen| {
                chosen
                    .iter()
                    .flat_map(|(whole, _)| without_one(whole))
                    .collect()
            })
            .collect();
        let Some(gains) = gains(&forms)? else {
            break;
        };
        for ((chosen, forms), gains) in chosen.iter_mut().zip(forms).zip(gains) {
            let mut scored = forms.into_iter().zip(gains);
            for whole in chosen {
                let forms = scored.by_ref().take(without_one(&whole.0).len());
                let best = forms.min_by(|a, b| a.1.total_cmp(&b.1));
                if let Some(simpler) = best.filter(|(_, gain)| *gain <= WITHOUT * whole.1) {
                    *whole = simpler;
                }
            }
        }
    }
    Ok(chosen)
}

/// A sub-policy without each of its steps in turn; nothing of one that has a single step.
fn without_one(whole: &SubPolicy) -> Vec<SubPolicy> {
    let without = |place: usize| {
        let mut steps = whole.clone();
        steps.remove(place);
        steps
    };
    match whole.len() {
        0 | 1 => Vec::new(),
        steps => (0..steps).map(without).collect(),
    }
}

/// As they were scored: round after round, fold after fold.
fn in_order(folds: &[Fold]) -> Vec<Tried> {
    let longest = folds.iter().map(|fold| fold.tried.len()).max().unwrap_or(0);
    let of_place = |place| folds.iter().filter_map(move |fold| fold.tried.get(place));
    let all = (0..longest).flat_map(of_place);
    let tried = all.map(|(candidate, gain)| Tried {
        name: in_words(candidate),
        policy: Policy::of(vec![candidate.clone()]),
        settings: Vec::new(),
        score: *gain,
    });
    tried.collect()
}

/// The best of those that are better than none, each combination of transforms once: near copies of one sub-policy
/// are no policy.
fn best(tried: &[(SubPolicy, f64)], count: usize) -> Vec<(SubPolicy, f64)> {
    let mut order: Vec<&(SubPolicy, f64)> = tried.iter().filter(|(_, gain)| *gain < 0.0).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut chosen: Vec<(SubPolicy, f64)> = Vec::new();
    for (candidate, gain) in order {
        let alike = |(other, _): &(SubPolicy, f64)| {
            let mut names = [candidate, other].map(|steps| {
                let names = steps.iter().map(|step| step.transform.name());
                names.collect::<Vec<_>>()
            });
            names.iter_mut().for_each(|names| names.sort_unstable());
            names[0] == names[1]
        };
        if chosen.len() < count && !chosen.iter().any(alike) {
            chosen.push((candidate.clone(), *gain));
        }
    }
    chosen
}

/// Proposes sub-policies by the scores of those before: for each number of a step, a tree-structured Parzen
/// estimator.
struct Sampler {
    space: Space,
    /// Of each step: transform, probability, level.
    numbers: Vec<[TpeOptimizer; 3]>,
    known: Vec<SubPolicy>,
    draws: Words,
}

/// The share of the scores that count as good.
const GOOD: f64 = 0.15;
/// Few, so that proposals of one round differ.
const CONSIDERED: usize = 8;
/// How often another is proposed for one that is known.
const TRIES: usize = 8;

impl Sampler {
    fn new(space: &Space, key: Key) -> Self {
        let optimizer = |estimator: DefaultEstimatorBuilder, count: usize| {
            let range =
                tpe::range(0.0, count as f64).expect("a space has something to choose from");
            let mut builder = TpeOptimizerBuilder::new();
            let builder = builder.gamma(GOOD).candidates(CONSIDERED);
            builder
                .build(estimator, range)
                .expect("a share and a count")
        };
        let numbers = (0..space.steps).map(|_| {
            [
                optimizer(tpe::histogram_estimator(), space.transforms.len()),
                optimizer(tpe::parzen_estimator(), usize::from(MOST_TENTHS)),
                optimizer(tpe::parzen_estimator(), usize::from(space.level_count())),
            ]
        });
        Self {
            space: space.clone(),
            numbers: numbers.collect(),
            known: Vec::new(),
            draws: Words(key.draws()),
        }
    }

    fn random(&mut self) -> SubPolicy {
        let candidate = self.space.sub_policy(&mut self.draws.0);
        self.known.push(candidate.clone());
        candidate
    }

    fn propose(&mut self) -> SubPolicy {
        for _ in 0..TRIES {
            let Self {
                space,
                numbers,
                draws,
                known,
            } = self;
            let mut place = |optimizer: &mut TpeOptimizer, count: usize| {
                let number = optimizer
                    .ask(draws)
                    .expect("both estimators take any scores");
                (number as usize).min(count - 1)
            };
            let steps = numbers.iter_mut().map(|[transform, tenths, level]| {
                space.step(
                    place(transform, space.transforms.len()),
                    1 + place(tenths, usize::from(MOST_TENTHS)) as u8,
                    place(level, usize::from(space.level_count())) as u8,
                )
            });
            let candidate: SubPolicy = steps.collect();
            if !known.contains(&candidate) {
                known.push(candidate.clone());
                return candidate;
            }
        }
        self.random()
    }

    fn learn(&mut self, candidate: &SubPolicy, gain: f64) {
        let middle = |whole: usize| whole as f64 + 0.5;
        for ([transform, tenths, level], step) in self.numbers.iter_mut().zip(candidate) {
            let (place, tenths_found, above_least) = self.space.numbers(step);
            // What has no levels says nothing of them.
            let strength = match step.transform.has_levels() {
                true => middle(above_least.into()),
                false => f64::NAN,
            };
            for (optimizer, number) in [
                (transform, middle(place)),
                (tenths, middle(usize::from(tenths_found) - 1)),
                (level, strength),
            ] {
                optimizer
                    .tell(number, gain)
                    .expect("numbers of the space, and a loss that is a number");
            }
        }
    }
}

/// Our numbers as the optimizer takes them.
struct Words(Draws);

impl TryRng for Words {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = u64::from(self.0.word());
        Ok(u64::from(self.0.word()) << 32 | low)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for part in bytes.chunks_mut(4) {
            part.copy_from_slice(&self.0.word().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a net would say for which strong rotations help, and inversions hurt.
    fn gain(candidate: &SubPolicy) -> f64 {
        let of = |step: &PolicyStep| match step.transform {
            Transform::Rotate => -step.probability * f64::from(step.level) / 9.0,
            Transform::Invert => step.probability,
            _ => 0.0,
        };
        candidate.iter().map(of).sum()
    }

    #[test]
    fn proposals_are_better_than_chance_new_and_repeatable() {
        let run = |seed| {
            let mut sampler = Sampler::new(&Space::default(), Key::from_seed(seed));
            let mut all = Vec::new();
            for round in 0..10 {
                let candidates: Vec<SubPolicy> = (0..20)
                    .map(|_| {
                        if round < 3 {
                            sampler.random()
                        } else {
                            sampler.propose()
                        }
                    })
                    .collect();
                for candidate in &candidates {
                    sampler.learn(candidate, gain(candidate));
                }
                all.extend(candidates);
            }
            all
        };
        let mean = |part: &[SubPolicy]| part.iter().map(gain).sum::<f64>() / part.len() as f64;
        for seed in 0..5 {
            let all = run(seed);
            assert_eq!(all, run(seed));
            assert!(
                mean(&all[140..]) < mean(&all[..60]) - 0.15,
                "{} {}",
                mean(&all[..60]),
                mean(&all[140..])
            );
            let twice = (0..all.len()).filter(|&i| all[..i].contains(&all[i]));
            assert!(twice.count() < 4);
        }
    }

    #[test]
    fn the_best_are_better_than_nothing_and_differ() {
        let step = |transform, level| PolicyStep {
            transform,
            probability: 1.0,
            level,
        };
        let tried: Vec<(SubPolicy, f64)> = [
            (Transform::Rotate, 3, -0.1),
            (Transform::Rotate, 9, -0.3),
            (Transform::Invert, 0, 0.2),
            (Transform::ShearX, 2, -0.2),
        ]
        .map(|(transform, level, gain)| (vec![step(transform, level)], gain))
        .into();
        let chosen = best(&tried, 5);
        assert_eq!(
            chosen,
            [
                (vec![step(Transform::Rotate, 9)], -0.3),
                (vec![step(Transform::ShearX, 2)], -0.2)
            ]
        );
    }

    #[test]
    fn what_steps_do_alone_adds_up() {
        let step = |transform, probability| PolicyStep {
            transform,
            probability,
            level: 0,
        };
        let alone = [(Transform::Rotate, -0.5), (Transform::Invert, 2.0)];
        let candidate = [
            step(Transform::Rotate, 0.4),
            step(Transform::Invert, 0.1),
            step(Transform::ShearX, 1.0),
        ];
        assert!(trained(&alone, &candidate).abs() < 1e-12);
        assert_eq!(trained(&alone, &candidate[..1]), -0.2);
    }

    #[test]
    fn steps_that_do_nothing_are_left_out() {
        let step = |transform, level| PolicyStep {
            transform,
            probability: 1.0,
            level,
        };
        let (rotate, weak) = (step(Transform::Rotate, 9), step(Transform::Rotate, 3));
        let (shear, flip) = (
            step(Transform::ShearX, 2),
            step(Transform::HorizontalFlip, 0),
        );
        let wholes = [
            vec![shear, rotate, flip],
            vec![rotate, weak, shear],
            vec![flip, rotate],
            vec![weak],
        ];
        let scored = wholes.map(|whole| (whole.clone(), gain(&whole)));
        let chosen = simplify(vec![scored.into(), Vec::new()], 3, |forms| {
            let of = |forms: &Vec<SubPolicy>| forms.iter().map(gain).collect();
            Ok(Some(forms.iter().map(of).collect()))
        });
        // Both rotations of the second earn their place: a third of its gain is the weaker one's.
        let expected = [vec![rotate], vec![rotate, weak], vec![rotate], vec![weak]];
        let expected = expected.map(|simple| (simple.clone(), gain(&simple)));
        assert_eq!(chosen.unwrap(), [expected.to_vec(), Vec::new()]);
        // Without time for it, they stay as they are.
        let whole = (vec![shear, rotate], -1.0);
        let chosen = simplify(vec![vec![whole.clone()]], 3, |_| Ok(None));
        assert_eq!(chosen.unwrap(), [[whole]]);
    }
}
