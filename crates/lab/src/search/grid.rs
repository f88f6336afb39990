//! RandAugment's grid: so many transforms, all of one strength, over the space's transforms.

use super::children::{accuracies, mean};
use super::policy::{Harm, Policy};
use super::space::{Space, SubPolicy, single};
use super::trial::Trial;
use super::{Found, Sitting, Tried};
use crate::Error;

const COUNTS: [usize; 3] = [1, 2, 3];
/// As many levels as are tried of each count, evenly between the least and the greatest.
const LEVELS: u8 = 4;

/// Trains the whole recipe with each, and without.
pub(super) fn search(
    sitting: &mut Sitting<'_>,
    space: &Space,
    harms: &[Harm],
) -> Result<Found, Error> {
    let policies = policies(space);
    let most = policies.len() as u64;
    let seed = sitting.settings.seed;
    sitting.tell("grid", 0, most, None);
    let plain = sitting.training(&Policy::default(), harms, &[], 1.0, seed)?;
    let (plain, _) = accuracies(sitting, &[plain])?;
    let (mut tried, mut times) = (Vec::new(), Vec::new());
    // A round is a count: what is not begun in time is left out whole, beginning with the most transforms.
    for round in policies.chunks(policies.len() / COUNTS.len()) {
        let trial =
            |(_, policy): &(String, Policy)| sitting.training(policy, harms, &[], 1.0, seed);
        let trials: Vec<Trial> = round.iter().map(trial).collect::<Result<_, _>>()?;
        if !sitting.may_begin(&trials) {
            break;
        }
        let (accuracies, seconds) = accuracies(sitting, &trials)?;
        times.extend(seconds);
        for ((name, policy), score) in round.iter().zip(accuracies) {
            tried.push(Tried {
                name: name.clone(),
                policy: policy.clone(),
                settings: Vec::new(),
                score,
            });
        }
        let best = best(&tried).map(|best| format!("{}: {:.2} %", best.name, 100.0 * best.score));
        sitting.tell("grid", tried.len() as u64, most, best);
    }
    let winner = best(&tried).filter(|best| best.score > plain[0]);
    Ok(Found {
        policy: winner.map(|best| best.policy.clone()).unwrap_or_default(),
        plain: plain[0],
        lower_is_better: false,
        seconds: [mean(&times), mean(&times)],
        settings: Vec::new(),
        tried,
    })
}

/// The first of the best: the mildest.
fn best(tried: &[Tried]) -> Option<&Tried> {
    tried
        .iter()
        .rev()
        .max_by(|a, b| a.score.total_cmp(&b.score))
}

/// Count after count, level after level.
fn policies(space: &Space) -> Vec<(String, Policy)> {
    let [least, most] = space.levels;
    let span = most - least;
    let mut levels: Vec<u8> = (1..=LEVELS)
        .map(|i| least + (u16::from(span) * u16::from(i) / u16::from(LEVELS)) as u8)
        .collect();
    levels.dedup();
    let policy = |count: usize, level: u8| {
        let transforms = space.transforms.iter();
        let mut layer: Vec<SubPolicy> = transforms.map(|&t| single(t, 1.0, level)).collect();
        // Nothing is one of RandAugment's transforms.
        layer.push(Vec::new());
        let name = format!("{count} of level {level}");
        let layers = vec![layer; count];
        (name, Policy { layers })
    };
    let all = COUNTS
        .iter()
        .flat_map(|&count| levels.iter().map(move |&level| (count, level)));
    all.map(|(count, level)| policy(count, level)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_counts_by_levels() {
        let all = policies(&Space::default());
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names[..5],
            [
                "1 of level 2",
                "1 of level 4",
                "1 of level 6",
                "1 of level 9",
                "2 of level 2"
            ]
        );
        assert_eq!(all.len(), 12);
        assert_eq!(all[11].1.layers.len(), 3);
        assert_eq!(all[11].1.layers[0].len(), 17);
        let one = Space {
            levels: [4, 4],
            ..Space::default()
        };
        assert_eq!(policies(&one).len(), 3);
    }

    #[test]
    fn of_equals_the_mildest_is_best() {
        let tried = [0.5, 0.7, 0.7].map(|score| Tried {
            name: String::new(),
            policy: Policy::default(),
            settings: vec![score.to_string()],
            score,
        });
        assert!(std::ptr::eq(best(&tried).unwrap(), &tried[1]));
    }
}
