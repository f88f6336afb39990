//! Resize, to a size or by the short side; scale jitter, which draws it.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::filter::{self, Filter};
use super::{Apply, Draw, Parameters, check, geometry};
use crate::Image;
use crate::image::LONGEST_SIDE;
use crate::size::{Size, Sizes};

/// The image at another size. Nothing is drawn.
///
/// Dialect: torchvision's `Resize` on a PIL image; see [`Filter`] for the weights. By the short side,
/// the long one becomes ⌊side·long/short⌋.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// The new size.
    pub to: ResizeTo,
    /// What an output pixel is made of.
    #[serde(default)]
    pub filter: Filter,
    /// Whether the filter widens where the image shrinks.
    #[serde(default = "yes")]
    pub antialias: bool,
}

/// What a [`Resize`] aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ResizeTo {
    /// Both sides in the same proportion, so that the short one is this.
    ShortSide(usize),
    /// Each side for itself.
    Size {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
}

/// A resize to a side that is uniform over the whole numbers of a range, both ends included; a crop
/// usually follows.
///
/// Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
/// Recognition" (2015), who draw the short side from 256 to 512; He et al., "Deep Residual Learning
/// for Image Recognition" (2016), from 256 to 480.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleJitter {
    /// The least and the greatest side.
    #[serde(default = "residual_nets")]
    pub side: [usize; 2],
    /// What the side is of.
    #[serde(default)]
    pub shape: Shape,
    /// What an output pixel is made of.
    #[serde(default)]
    pub filter: Filter,
    /// Whether the filter widens where the image shrinks.
    #[serde(default = "yes")]
    pub antialias: bool,
}

/// Which side a [`ScaleJitter`] draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The short one; proportions stay.
    #[default]
    ShortSide,
    /// Both: the image becomes a square.
    Square,
}

/// The size that an image is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resized {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// What an output pixel is made of.
    pub filter: Filter,
    /// Whether the filter widens where the image shrinks.
    pub antialias: bool,
}

pub(super) fn yes() -> bool {
    true
}

fn residual_nets() -> [usize; 2] {
    [256, 480]
}

impl ResizeTo {
    fn check(self) -> Result<(), String> {
        match self {
            Self::ShortSide(side) => check::count("to.short_side", side, 1..=LONGEST_SIDE),
            Self::Size { width, height } => {
                check::count("to.size.width", width, 1..=LONGEST_SIDE)?;
                check::count("to.size.height", height, 1..=LONGEST_SIDE)
            }
        }
    }

    /// The size of what comes out of an image of this size.
    fn of(self, Size { width, height }: Size) -> Size {
        match self {
            Self::ShortSide(side) if width <= height => Size::new(side, side * height / width),
            Self::ShortSide(side) => Size::new(side * width / height, side),
            Self::Size { width, height } => Size { width, height },
        }
    }
}

/// The sizes that come out for images of these sizes, where both `least` and `most` may be aimed at.
fn outputs(least: ResizeTo, most: ResizeTo, sizes: Sizes) -> Result<Sizes, String> {
    // By the short side, an image gets wider the wider it is, and narrower the higher it is.
    let wide = Size::new(sizes.most.width, sizes.least.height);
    let high = Size::new(sizes.least.width, sizes.most.height);
    let outputs = Sizes {
        least: Size::new(least.of(high).width, least.of(wide).height),
        most: Size::new(most.of(wide).width, most.of(high).height),
    };
    filter::check(sizes.most, outputs.most)?;
    Ok(outputs)
}

impl Draw for Resize {
    type Parameters = Resized;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        self.to.check()?;
        outputs(self.to, self.to, sizes)
    }

    fn draw(&self, size: Size, _: &mut Draws) -> Resized {
        let Size { width, height } = self.to.of(size);
        Resized {
            width,
            height,
            filter: self.filter,
            antialias: self.antialias,
        }
    }

    fn is_fixed(&self) -> bool {
        true
    }
}

impl ScaleJitter {
    fn to(&self, side: usize) -> ResizeTo {
        match self.shape {
            Shape::ShortSide => ResizeTo::ShortSide(side),
            Shape::Square => ResizeTo::Size {
                width: side,
                height: side,
            },
        }
    }
}

impl Draw for ScaleJitter {
    type Parameters = Resized;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        let [least, most] = self.side;
        let range = 1.0..=LONGEST_SIDE as f64;
        check::range("side", [least as f64, most as f64], range)?;
        outputs(self.to(least), self.to(most), sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> Resized {
        let [least, most] = self.side;
        // `check` bounds both.
        let side = least + draws.below((most - least + 1) as u32) as usize;
        let Size { width, height } = self.to(side).of(size);
        Resized {
            width,
            height,
            filter: self.filter,
            antialias: self.antialias,
        }
    }
}

impl Apply for Resized {
    fn check(&self, size: Size) -> Result<Size, String> {
        filter::check(size, Size::new(self.width, self.height))
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        geometry::of(&Parameters::Resize(*self), image, scratch);
    }
}

/// Makes an image this much smaller, by the bilinear filter, widened.
pub(crate) fn shrink(image: &mut Image, to: Size, scratch: &mut Vec<u8>) {
    let Size { width, height } = to;
    let resized = Resized {
        width,
        height,
        filter: Filter::Bilinear,
        antialias: true,
    };
    resized.apply(image, scratch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_random::Key;

    #[test]
    fn the_sizes_promised_are_those_of_the_images_between() {
        let least = Size::new(3, 5);
        let most = Size::new(9, 11);
        for side in [1, 4, 7] {
            let to = ResizeTo::ShortSide(side);
            let promised = outputs(to, to, Sizes { least, most }).unwrap();
            let sizes = (3..=9).flat_map(|w| (5..=11).map(move |h| to.of(Size::new(w, h))));
            let found = sizes.map(Sizes::fixed).reduce(Sizes::or).unwrap();
            assert_eq!(found, promised, "{side}");
        }
    }

    #[test]
    fn sides_are_equally_likely() {
        let jitter = ScaleJitter {
            side: [4, 8],
            shape: Shape::ShortSide,
            filter: Filter::Bilinear,
            antialias: true,
        };
        let mut draws = Key::from_seed(2).draws();
        let mut counts = [0.0; 5];
        for _ in 0..50_000 {
            let resized = jitter.draw(Size::new(30, 20), &mut draws);
            assert_eq!(resized.width, resized.height * 3 / 2);
            counts[resized.height - 4] += 1.0;
        }
        let chi: f64 = counts.iter().map(|n: &f64| (n - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 18.5, "{counts:?}"); // 4 degrees of freedom, once in a thousand
    }
}
