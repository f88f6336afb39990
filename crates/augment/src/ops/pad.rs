//! Pad: pixels are added around the image.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::crop::{PadMode, Window};
use super::{Apply, Draw, check};
use crate::image::LONGEST_SIDE;
use crate::size::{Size, Sizes};

/// Adds pixels on each side. Nothing is drawn.
///
/// Dialect: torchvision's `Pad`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Columns on the left.
    #[serde(default)]
    pub left: usize,
    /// Rows on top.
    #[serde(default)]
    pub top: usize,
    /// Columns on the right.
    #[serde(default)]
    pub right: usize,
    /// Rows at the bottom.
    #[serde(default)]
    pub bottom: usize,
    /// What is added.
    #[serde(default)]
    pub mode: PadMode,
}

impl Pad {
    fn window(&self, Size { width, height }: Size) -> Window {
        Window {
            left: -(self.left as isize),
            top: -(self.top as isize),
            width: width + self.left + self.right,
            height: height + self.top + self.bottom,
            mode: self.mode,
        }
    }
}

impl Draw for Pad {
    type Parameters = Window;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        for (name, padding) in [
            ("left", self.left),
            ("top", self.top),
            ("right", self.right),
            ("bottom", self.bottom),
        ] {
            check::count(name, padding, 0..=LONGEST_SIDE)?;
        }
        // What can be reflected of the smallest can be of all; what the greatest become must be.
        Ok(Sizes {
            least: self.window(sizes.least).check(sizes.least)?,
            most: self.window(sizes.most).check(sizes.most)?,
        })
    }

    fn draw(&self, size: Size, _: &mut Draws) -> Window {
        self.window(size)
    }

    fn is_fixed(&self) -> bool {
        true
    }
}
