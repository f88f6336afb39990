//! Short trainings with policies at random: what a search must beat.

use evenkeel_random::Draws;

use super::children::{Propose, children};
use super::policy::Harm;
use super::space::{Space, SubPolicy};
use super::{Found, Sitting};
use crate::Error;

pub(super) fn search(
    sitting: &mut Sitting<'_>,
    space: &Space,
    harms: &[Harm],
) -> Result<Found, Error> {
    let draws = sitting.key("random").draws();
    children(sitting, harms, "random", &mut Random { space, draws })
}

struct Random<'a> {
    space: &'a Space,
    draws: Draws,
}

impl Propose for Random<'_> {
    fn propose(&mut self, count: u64) -> Vec<Vec<SubPolicy>> {
        (0..count)
            .map(|_| self.space.policy(&mut self.draws))
            .collect()
    }
}
