//! Random resized crop: a window of random area and proportions, brought to one size.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::filter::{self, Filter};
use super::resize::yes;
use super::{Apply, Draw, Parameters, check, geometry};
use crate::Image;
use crate::size::{Size, Sizes};

/// A window whose area is a uniform share of the image's and whose proportions, width by height, are
/// uniform in their logarithm, at a uniform place, resized. Ten times at most a window is drawn; if
/// none fits the image, it is the largest one in its middle with the nearest proportions allowed.
///
/// Dialect: torchvision's `RandomResizedCrop` on a PIL image. Source: Szegedy et al., "Going Deeper with
/// Convolutions" (2015).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Rows of what comes out.
    pub height: usize,
    /// Columns of what comes out.
    pub width: usize,
    /// The least and the greatest share of the image's area.
    #[serde(default = "inception_scale")]
    pub scale: [f64; 2],
    /// The least and the greatest width by height.
    #[serde(default = "inception_ratio")]
    pub ratio: [f64; 2],
    /// What an output pixel is made of.
    #[serde(default)]
    pub filter: Filter,
    /// Whether the filter widens where the window shrinks.
    #[serde(default = "yes")]
    pub antialias: bool,
}

/// A window and the size that it is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizedWindow {
    /// The window's left column.
    pub left: usize,
    /// The window's top row.
    pub top: usize,
    /// The window's columns.
    pub width: usize,
    /// The window's rows.
    pub height: usize,
    /// Columns of what comes out.
    pub to_width: usize,
    /// Rows of what comes out.
    pub to_height: usize,
    /// What an output pixel is made of.
    pub filter: Filter,
    /// Whether the filter widens where the window shrinks.
    pub antialias: bool,
}

/// A part of an image.
#[derive(Clone, Copy, Debug)]
struct Region {
    left: usize,
    top: usize,
    size: Size,
}

fn inception_scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn inception_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

const TRIES: usize = 10;
pub(super) const MOST_RATIO: f64 = 1000.0;

/// A place for `size` of `length` pixels, each equally likely.
pub(super) fn place(length: usize, size: usize, draws: &mut Draws) -> usize {
    // Sides fit 32 bits.
    draws.below((length - size + 1) as u32) as usize
}

/// The width and height of a window of this area and these proportions, where Python rounds.
pub(super) fn window(area: f64, ratio: f64) -> (usize, usize) {
    let side = |square: f64| square.sqrt().round_ties_even() as usize;
    (side(area * ratio), side(area / ratio))
}

impl RandomResizedCrop {
    fn draw_window(&self, image: Size, draws: &mut Draws) -> Region {
        let area = (image.width * image.height) as f64;
        let [low, high] = self.ratio;
        for _ in 0..TRIES {
            let share = draws.between(self.scale[0], self.scale[1]);
            let ratio = draws.between(low.ln(), high.ln()).exp();
            let (width, height) = window(share * area, ratio);
            if (1..=image.width).contains(&width) && (1..=image.height).contains(&height) {
                let top = place(image.height, height, draws);
                let left = place(image.width, width, draws);
                let size = Size { width, height };
                return Region { left, top, size };
            }
        }
        let rounded = |value: f64, most: usize| (value.round_ties_even() as usize).clamp(1, most);
        let Size { width, height } = image;
        let ratio = width as f64 / height as f64;
        let size = if ratio < low {
            Size::new(width, rounded(width as f64 / low, height))
        } else if ratio > high {
            Size::new(rounded(height as f64 * high, width), height)
        } else {
            image
        };
        Region {
            left: (width - size.width) / 2,
            top: (height - size.height) / 2,
            size,
        }
    }
}

impl Draw for RandomResizedCrop {
    type Parameters = ResizedWindow;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("scale", self.scale, 1e-6..=1.0)?;
        check::range("ratio", self.ratio, 1.0 / MOST_RATIO..=MOST_RATIO)?;
        let to = Size::new(self.width, self.height);
        filter::check(sizes.most, to).map(Sizes::fixed)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> ResizedWindow {
        let Region { left, top, size } = self.draw_window(size, draws);
        ResizedWindow {
            left,
            top,
            width: size.width,
            height: size.height,
            to_width: self.width,
            to_height: self.height,
            filter: self.filter,
            antialias: self.antialias,
        }
    }
}

impl Apply for ResizedWindow {
    fn check(&self, size: Size) -> Result<Size, String> {
        for (name, start, length, side) in [
            ("left", self.left, self.width, size.width),
            ("top", self.top, self.height, size.height),
        ] {
            if length == 0 || length > side || start > side - length {
                return Err(format!(
                    "{name}: expected a window of 1 to {side} pixels inside the image, found \
                     {length} from {start} on"
                ));
            }
        }
        let window = Size::new(self.width, self.height);
        filter::check(window, Size::new(self.to_width, self.to_height))
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        geometry::of(&Parameters::RandomResizedCrop(*self), image, scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_random::Key;

    fn crop(scale: [f64; 2], ratio: [f64; 2]) -> RandomResizedCrop {
        RandomResizedCrop {
            height: 8,
            width: 8,
            scale,
            ratio,
            filter: Filter::Bilinear,
            antialias: true,
        }
    }

    #[test]
    fn areas_proportions_and_places_are_uniform() {
        // Windows that always fit: none is drawn twice.
        let crop = crop([0.1, 0.3], [0.5, 2.0]);
        let image = Size::new(1000, 1000);
        let mut draws = Key::from_seed(6).draws();
        let mut counts = [[0.0; 10]; 4];
        for _ in 0..20_000 {
            let Region { left, top, size } = crop.draw_window(image, &mut draws);
            let (width, height) = (size.width as f64, size.height as f64);
            let shares = [
                (width * height / 1e6 - 0.1) / 0.2,
                ((width / height).log2() + 1.0) / 2.0,
                left as f64 / (1001.0 - width),
                top as f64 / (1001.0 - height),
            ];
            for (counts, share) in counts.iter_mut().zip(shares) {
                counts[((share * 10.0).max(0.0) as usize).min(9)] += 1.0;
            }
        }
        for counts in counts {
            let chi: f64 = counts.iter().map(|n: &f64| (n - 2e3).powi(2) / 2e3).sum();
            assert!(chi < 27.9, "{counts:?}"); // 9 degrees of freedom, once in a thousand
        }
    }

    #[test]
    fn where_nothing_fits_the_middle_is_taken() {
        let mut draws = Key::from_seed(7).draws();
        // The whole area, but wider than high: no window of a high image is.
        let high = crop([1.0, 1.0], [2.0, 3.0]).draw_window(Size::new(10, 40), &mut draws);
        assert_eq!((high.left, high.top), (0, 17));
        assert_eq!(high.size, Size::new(10, 5));
        let wide = crop([1.0, 1.0], [0.5, 0.5]).draw_window(Size::new(41, 10), &mut draws);
        assert_eq!((wide.left, wide.top), (18, 0));
        assert_eq!(wide.size, Size::new(5, 10));
    }
}
