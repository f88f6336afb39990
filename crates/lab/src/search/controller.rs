//! A policy gradient over policies: AutoAugment's search, scaled down.
//!
//! In the paper a recurrent net proposes the steps of a policy one after another and is trained by proximal policy
//! optimization over 15,000 child trainings. With the few dozen that one machine has time for, there is nothing to
//! train such a net on: here each number of a step has one distribution for all sub-policies, moved by REINFORCE
//! (Williams, 1992) with the mean of the round as its baseline.

use evenkeel_random::Draws;

use super::children::{Child, Propose, children};
use super::policy::Harm;
use super::space::{MOST_TENTHS, Space, SubPolicy};
use super::{Found, Sitting};
use crate::Error;

/// The step along the gradient of the expected advantage, which is measured in deviations.
const RATE: f64 = 0.15;
/// How much of every distribution stays uniform, so that nothing is given up for good.
const UNIFORM: f64 = 0.1;

pub(super) fn search(
    sitting: &mut Sitting<'_>,
    space: &Space,
    harms: &[Harm],
) -> Result<Found, Error> {
    let draws = sitting.key("controller").draws();
    children(
        sitting,
        harms,
        "controller",
        &mut Controller::new(space, draws),
    )
}

/// For each step of a sub-policy, the logits of its transform, tenths of probability and level.
struct Controller {
    space: Space,
    draws: Draws,
    logits: Vec<[Vec<f64>; 3]>,
}

impl Controller {
    fn new(space: &Space, draws: Draws) -> Self {
        let step = || {
            [
                vec![0.0; space.transforms.len()],
                vec![0.0; usize::from(MOST_TENTHS)],
                vec![0.0; usize::from(space.level_count())],
            ]
        };
        Self {
            logits: (0..space.steps).map(|_| step()).collect(),
            space: space.clone(),
            draws,
        }
    }

    fn policy(&mut self) -> Vec<SubPolicy> {
        let Self {
            space,
            draws,
            logits,
        } = self;
        let sub_policy = |_| {
            let steps = logits.iter().map(|[transform, tenths, level]| {
                let mut choose = |logits: &[f64]| choose(&probabilities(logits), draws);
                let (transform, tenths) = (choose(transform), choose(tenths));
                space.step(transform, 1 + tenths as u8, choose(level) as u8)
            });
            steps.collect()
        };
        (0..space.sub_policies).map(sub_policy).collect()
    }
}

impl Propose for Controller {
    fn propose(&mut self, count: u64) -> Vec<Vec<SubPolicy>> {
        (0..count).map(|_| self.policy()).collect()
    }

    /// θ ← θ + η·Σ A·∇log π: of a softmax, ∇log π(k) is the one of k less the probabilities.
    fn learn(&mut self, round: &[Child]) {
        let count = round.len() as f64;
        let mean = round.iter().map(|(_, accuracy)| accuracy).sum::<f64>() / count;
        let squares: f64 = round.iter().map(|(_, a)| (a - mean).powi(2)).sum();
        let deviation = (squares / count).sqrt();
        if deviation == 0.0 {
            return;
        }
        let before = self.logits.clone();
        for (policy, accuracy) in round {
            let advantage = (accuracy - mean) / deviation;
            for steps in policy {
                for (index, step) in steps.iter().enumerate() {
                    let (transform, tenths, level) = self.space.numbers(step);
                    let chosen = [transform, usize::from(tenths) - 1, usize::from(level)];
                    for (number, chosen) in chosen.into_iter().enumerate() {
                        let known = softmax(&before[index][number]);
                        let logits = &mut self.logits[index][number];
                        for (k, logit) in logits.iter_mut().enumerate() {
                            let gradient = f64::from(u8::from(k == chosen)) - known[k];
                            *logit += RATE * advantage * gradient / policy.len() as f64;
                        }
                    }
                }
            }
        }
    }
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    crate::evaluate::softmax(logits).collect()
}

fn probabilities(logits: &[f64]) -> Vec<f64> {
    let uniform = UNIFORM / logits.len() as f64;
    let mixed = softmax(logits).into_iter();
    mixed.map(|p| (1.0 - UNIFORM) * p + uniform).collect()
}

fn choose(probabilities: &[f64], draws: &mut Draws) -> usize {
    let mut place = draws.uniform();
    let chosen = probabilities.iter().position(|p| {
        let here = place < *p;
        place -= p;
        here
    });
    // Rounding may step past the end.
    chosen.unwrap_or(probabilities.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_augment::Transform;
    use evenkeel_random::Key;

    #[test]
    fn it_moves_towards_what_is_rewarded() {
        let space = Space::default();
        let mut controller = Controller::new(&space, Key::from_seed(3).draws());
        let share = |policies: &[Vec<SubPolicy>]| {
            let steps = policies.iter().flatten().flatten();
            let all = steps.clone().count() as f64;
            steps.filter(|s| s.transform == Transform::Rotate).count() as f64 / all
        };
        let before = share(&controller.propose(100));
        for _ in 0..40 {
            let round: Vec<Child> = (0..8)
                .map(|_| {
                    let policy = controller.policy();
                    let reward = 0.8 + 0.1 * share(std::slice::from_ref(&policy));
                    (policy, reward)
                })
                .collect();
            controller.learn(&round);
        }
        let after = share(&controller.propose(100));
        assert!(before < 0.1 && after > 0.4, "{before} {after}");
        // Equal rewards teach nothing.
        let logits = controller.logits.clone();
        let same: Vec<Child> = (0..8).map(|_| (controller.policy(), 0.5)).collect();
        controller.learn(&same);
        assert_eq!(controller.logits, logits);
    }
}
