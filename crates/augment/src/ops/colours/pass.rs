//! Steps whose needs are known, over the pixels strip by strip: in between, a strip stays in the first-level cache, as
//! planes of bytes that every step takes and gives.

use multiversion::multiversion;
use multiversion::target::match_target;

use super::differences::Differences;
use super::lanes;
#[cfg(target_arch = "x86_64")]
use super::vectors;
use crate::convert::Numbers;
use crate::ops::point::Levels;
use crate::strip::{self, PIXELS, Planes};

/// A step, all that it needs being known.
pub(super) enum Step {
    Levels(Levels),
    /// A blend of the pixel's gray with the pixel.
    Saturation(Box<Differences>),
}

/// What becomes of the pixels at the end of a pass.
pub(super) enum End<'a> {
    Pixels,
    /// And the sum of their grays is taken.
    Sum(&'a mut u64),
    Numbers(Numbers<'a>),
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn pass(pixels: &mut [u8], steps: &[Step], end: &mut End<'_>) {
    let mut planes = Planes([[0; PIXELS]; 3]);
    for (i, strip) in pixels.chunks_mut(strip::BYTES).enumerate() {
        let count = match_target! {
            "x86_64+avx512vbmi+avx512vnni" => vectors::split(strip, &mut planes),
            _ => strip::split(strip, &mut planes),
        };
        match_target! {
            "x86_64+avx512vbmi+avx512vnni" => vectors::apply(steps, &mut planes),
            _ => lanes::apply(steps, &mut planes),
        }
        match end {
            End::Numbers(numbers) => {
                numbers.write(&planes, i * PIXELS, count);
                continue;
            }
            End::Sum(total) => {
                let grays = match_target! {
                    "x86_64+avx512vbmi+avx512vnni" => vectors::grays(&planes),
                    _ => lanes::grays(&planes),
                };
                let sum: u32 = grays[..count].iter().map(|&gray| u32::from(gray)).sum();
                **total += u64::from(sum);
            }
            End::Pixels => {}
        }
        if !steps.is_empty() {
            match_target! {
                "x86_64+avx512vbmi+avx512vnni" => vectors::join(&planes, strip),
                _ => strip::join(&planes, strip),
            }
        }
    }
}
