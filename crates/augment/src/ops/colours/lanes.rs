//! Steps in plain loops over a strip, for every instruction set.
//!
//! Steps that are computed are so in `f32`: for a run of them bytes become numbers once, and bytes again behind the last.

use super::pass::Step;
use crate::ops::point::{self, Levels};
use crate::strip::{self, PIXELS, Planes};

/// Levels as numbers.
#[repr(align(64))]
struct Lanes([[f32; PIXELS]; 3]);

#[inline(always)]
pub(super) fn apply(steps: &[Step], planes: &mut Planes) {
    for steps in steps.chunk_by(|a, b| table(a).is_some() == table(b).is_some()) {
        if table(&steps[0]).is_some() {
            for levels in steps.iter().filter_map(table) {
                look_up(levels, planes);
            }
        } else {
            compute(steps, planes);
        }
    }
}

/// The tables that a step is, if it is nothing that is faster computed.
#[inline(always)]
fn table(step: &Step) -> Option<&Levels> {
    match step {
        Step::Levels(levels) => Some(levels).filter(|levels| levels.as_blend().is_none()),
        Step::Saturation(_) => None,
    }
}

#[inline(always)]
fn look_up(levels: &Levels, Planes(planes): &mut Planes) {
    for (channel, plane) in planes.iter_mut().enumerate() {
        let table = levels.of(channel);
        for level in plane {
            *level = table[usize::from(*level)];
        }
    }
}

/// Steps that are no tables.
#[inline(always)]
fn compute(steps: &[Step], planes: &mut Planes) {
    let mut lanes = widened(planes);
    for step in steps {
        match step {
            Step::Levels(levels) => match levels.as_blend() {
                // Of nothing with a level, a sum less.
                Some((0, factor)) => blend(0.0, &mut lanes, factor),
                Some((a, factor)) => blend(f32::from(a), &mut lanes, factor),
                None => {} // looked up, in a run of its own
            },
            Step::Saturation(differences) => saturate(differences.factor(), &mut lanes),
        }
    }
    narrow(&lanes, planes);
}

#[inline(always)]
fn widened(Planes(planes): &Planes) -> Lanes {
    let mut lanes = Lanes([[0.0; PIXELS]; 3]);
    for (lanes, plane) in lanes.0.iter_mut().zip(planes) {
        for i in 0..PIXELS {
            lanes[i] = f32::from(plane[i]);
        }
    }
    lanes
}

#[inline(always)]
fn narrow(Lanes(lanes): &Lanes, Planes(planes): &mut Planes) {
    for (plane, lanes) in planes.iter_mut().zip(lanes) {
        for i in 0..PIXELS {
            plane[i] = strip::level(lanes[i]);
        }
    }
}

#[inline(always)]
fn blend(a: f32, Lanes(lanes): &mut Lanes, factor: f32) {
    for lanes in lanes {
        for lane in lanes {
            *lane = point::blend_lane(a, *lane, factor);
        }
    }
}

/// A blend of each pixel's gray with the pixel.
#[inline(always)]
fn saturate(factor: f32, Lanes([red, green, blue]): &mut Lanes) {
    for i in 0..PIXELS {
        let gray = gray_lane([red[i], green[i], blue[i]]);
        red[i] = point::blend_lane(gray, red[i], factor);
        green[i] = point::blend_lane(gray, green[i], factor);
        blue[i] = point::blend_lane(gray, blue[i], factor);
    }
}

/// The gray of each pixel.
#[inline(always)]
pub(super) fn grays(Planes([red, green, blue]): &Planes) -> [u8; PIXELS] {
    let mut grays = [0; PIXELS];
    for i in 0..PIXELS {
        let [red, green, blue] = [red[i], green[i], blue[i]];
        let gray = gray_lane([f32::from(red), f32::from(green), f32::from(blue)]);
        grays[i] = strip::level(gray);
    }
    grays
}

/// [`point::gray`], of levels and as one: all sums are below 2²⁴, so nothing is rounded.
#[inline(always)]
fn gray_lane([red, green, blue]: [f32; 3]) -> f32 {
    let sum = 19_595.0 * red + 38_470.0 * green + 7_471.0 * blue + 32_768.0;
    (sum * (1.0 / 65_536.0)).trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gray_needs_no_rounding() {
        let mut draws = evenkeel_random::Key::from_seed(5).draws();
        let ends = [[0; 3], [255; 3], [255, 0, 0], [0, 255, 0], [0, 0, 255]];
        let drawn = (0..100_000).map(|_| [0; 3].map(|_| draws.below(256) as u8));
        for colour in ends.into_iter().chain(drawn) {
            let lane = gray_lane(colour.map(f32::from));
            assert_eq!(lane, f32::from(point::gray(colour)), "{colour:?}");
        }
    }
}
