//! Posterize: fewer bits a level.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::point::{self, Levels};
use super::{Apply, Colour, Draw, check};
use crate::size::{Size, Sizes};

/// y keeps the highest bits of x; the others become 0. With 0 bits all is black, with 8 the image
/// stays as it is.
///
/// Dialect: Pillow's `ImageOps.posterize`. Libraries differ in how a policy's magnitude becomes a
/// number of bits; see the policies' dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posterize {
    /// The fewest and the most bits; each number between is equally likely.
    pub bits: [u8; 2],
}

/// How many bits of an image are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepBits {
    /// 0 to 8.
    pub bits: u8,
}

impl Draw for Posterize {
    type Parameters = KeepBits;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("bits", self.bits.map(f64::from), 0.0..=8.0).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> KeepBits {
        let [least, most] = self.bits.map(u32::from);
        let bits = least + draws.below(most - least + 1);
        KeepBits { bits: bits as u8 }
    }
}

impl Apply for KeepBits {
    fn check(&self, size: Size) -> Result<Size, String> {
        check::count("bits", usize::from(self.bits), 0..=8).map(|()| size)
    }

    fn colour(&self, _: usize) -> Option<Colour> {
        let kept = !(0xFF_u32 >> self.bits) as u8;
        Some(Colour::Levels(Levels::all(point::table(|level| {
            level & kept
        }))))
    }
}
