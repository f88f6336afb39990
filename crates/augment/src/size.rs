//! The sizes of images along a pipeline, before any image is seen.

use std::fmt;

use crate::image::check_size;

/// Columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// The sizes that images may have at some place of a pipeline: each side lies in its own range.
/// Where an operation's output size depends on what it draws, the ranges say how far; where it does
/// not, they hold one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The least width and the least height.
    pub least: Size,
    /// The greatest width and the greatest height.
    pub most: Size,
}

impl Size {
    /// This many columns and rows.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height }
    }

    /// Checks that an image of this size can be.
    pub(crate) fn checked(self) -> Result<Self, String> {
        check_size(self.width, self.height).map(|()| self)
    }
}

impl Sizes {
    /// One size.
    pub fn fixed(size: Size) -> Self {
        Self {
            least: size,
            most: size,
        }
    }

    /// The size, if there is only one.
    pub fn only(&self) -> Option<Size> {
        (self.least == self.most).then_some(self.least)
    }

    /// The narrowest ranges that hold both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            least: Size::new(
                self.least.width.min(other.least.width),
                self.least.height.min(other.least.height),
            ),
            most: Size::new(
                self.most.width.max(other.most.width),
                self.most.height.max(other.most.height),
            ),
        }
    }
}

impl From<Size> for Sizes {
    fn from(size: Size) -> Self {
        Self::fixed(size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.width, self.height)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |f: &mut fmt::Formatter<'_>, least: usize, most: usize| match least == most {
            true => write!(f, "{least}"),
            false => write!(f, "{least}–{most}"),
        };
        range(f, self.least.width, self.most.width)?;
        f.write_str("×")?;
        range(f, self.least.height, self.most.height)
    }
}
