//! Affine maps: turning, scaling, shearing and moving, one by one or together.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::warp::{Interpolation, warp};
use super::{Apply, Draw, check};
use crate::Image;
use crate::image::LONGEST_SIDE;
use crate::size::{Size, Sizes};

/// Turns the image about its middle; it keeps its size, and corners are cut off.
///
/// Dialect: torchvision's `RandomRotation` without `expand`, which is Pillow's `Image.rotate`. (Its
/// interpolation is nearest by default.)
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// The least and the greatest angle, in degrees counter-clockwise; the draw is uniform.
    pub angle: [f64; 2],
    /// How the image is read between its pixels.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    #[serde(default)]
    pub fill: u8,
}

/// Shears the image about its middle.
///
/// Dialect: torchvision's `RandomAffine(0, shear=…)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shear {
    /// The least and the greatest angle by which columns lean, in degrees; the draw is uniform.
    #[serde(default)]
    pub x: [f64; 2],
    /// The least and the greatest angle by which rows lean, in degrees; the draw is uniform.
    #[serde(default)]
    pub y: [f64; 2],
    /// How the image is read between its pixels.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    #[serde(default)]
    pub fill: u8,
}

/// Moves the image by whole pixels.
///
/// Dialect: torchvision's `RandomAffine(0, translate=…)`, which rounds halves to even.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Translate {
    /// The least and the greatest way to the right, as a share of the width; the draw is uniform.
    #[serde(default)]
    pub x: [f64; 2],
    /// The least and the greatest way down, as a share of the height; the draw is uniform.
    #[serde(default)]
    pub y: [f64; 2],
    /// What every channel is outside the image.
    #[serde(default)]
    pub fill: u8,
}

/// Turns, moves, scales and shears, in one resampling. What is left out does nothing.
///
/// Dialect: torchvision's `RandomAffine`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affine {
    /// The least and the greatest angle, in degrees clockwise.
    #[serde(default)]
    pub angle: [f64; 2],
    /// The greatest ways, to the sides and up or down, as shares of the width and the height.
    #[serde(default)]
    pub translate: [f64; 2],
    /// The least and the greatest scale.
    #[serde(default = "same_scale")]
    pub scale: [f64; 2],
    /// The least and the greatest angle by which columns lean, in degrees.
    #[serde(default)]
    pub shear_x: [f64; 2],
    /// The least and the greatest angle by which rows lean, in degrees.
    #[serde(default)]
    pub shear_y: [f64; 2],
    /// How the image is read between its pixels.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    #[serde(default)]
    pub fill: u8,
}

/// T·C·R·S·C⁻¹: from the right, the origin moves to the fixed point, the plane is sheared, scaled,
/// turned, and moved back and by the translation.
///
/// With rotation α and shears φ and ψ, R·S is
/// s·((cos(α − ψ)/cos ψ, −cos(α − ψ)·tan φ/cos ψ − sin α), (sin(α − ψ)/cos ψ, −sin(α − ψ)·tan φ/cos ψ + cos α)).
/// Dialect: torchvision's `affine`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AffineMap {
    /// α, in degrees clockwise.
    pub angle: f64,
    /// Pixels to the right and down.
    pub translate: [f64; 2],
    /// s.
    pub scale: f64,
    /// φ and ψ, in degrees.
    pub shear: [f64; 2],
    /// The point that turning, scaling and shearing leave where it is.
    pub about: About,
    /// How the image is read between its pixels.
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    pub fill: u8,
}

/// A point of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// Its middle.
    Middle,
    /// Its top left corner.
    Corner,
}

fn same_scale() -> [f64; 2] {
    [1.0, 1.0]
}

const MOST_ANGLE: f64 = 3600.0;
const MOST_SHEAR: f64 = 89.0;
const MOST_SCALE: f64 = 1000.0;

impl AffineMap {
    /// Nothing moves.
    pub(super) fn identity(interpolation: Interpolation, fill: u8) -> Self {
        Self {
            angle: 0.0,
            translate: [0.0; 2],
            scale: 1.0,
            shear: [0.0; 2],
            about: About::Middle,
            interpolation,
            fill,
        }
    }

    /// The way back: (a, b, c, d, e, f) with which the output's point (x, y) comes from the input's
    /// (a·x + b·y + c, d·x + e·y + f).
    fn inverse(&self, size: Size) -> [f64; 6] {
        // Quarter turns are exact in 15 digits, as in Pillow.
        let exact = |value: f64| (value * 1e15).round() / 1e15;
        let [angle, lean_x, lean_y] =
            [self.angle, self.shear[0], self.shear[1]].map(f64::to_radians);
        let (cos, sin) = (
            exact((angle - lean_y).cos()) / exact(lean_y.cos()),
            exact((angle - lean_y).sin()) / exact(lean_y.cos()),
        );
        let tan = lean_x.tan();
        let forward = [
            [cos, -cos * tan - exact(angle.sin())],
            [sin, -sin * tan + exact(angle.cos())],
        ];
        // R and S have determinant 1.
        let [[p, q], [r, t]] = forward;
        let [a, b, d, e] = [t, -q, -r, p].map(|value| value / self.scale);
        let (x, y) = match self.about {
            About::Middle => (size.width as f64 * 0.5, size.height as f64 * 0.5),
            About::Corner => (0.0, 0.0),
        };
        let [right, down] = self.translate;
        let c = a * (-x - right) + b * (-y - down) + x;
        let f = d * (-x - right) + e * (-y - down) + y;
        [a, b, c, d, e, f]
    }
}

impl Draw for Rotate {
    type Parameters = AffineMap;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("angle", self.angle, -MOST_ANGLE..=MOST_ANGLE).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> AffineMap {
        let [low, high] = self.angle;
        AffineMap {
            angle: -draws.between(low, high),
            ..AffineMap::identity(self.interpolation, self.fill)
        }
    }
}

impl Draw for Shear {
    type Parameters = AffineMap;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("x", self.x, -MOST_SHEAR..=MOST_SHEAR)?;
        check::range("y", self.y, -MOST_SHEAR..=MOST_SHEAR).map(|()| sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> AffineMap {
        let shear = [self.x, self.y].map(|[low, high]| draws.between(low, high));
        AffineMap {
            shear,
            ..AffineMap::identity(self.interpolation, self.fill)
        }
    }
}

impl Draw for Translate {
    type Parameters = AffineMap;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("x", self.x, -1.0..=1.0)?;
        check::range("y", self.y, -1.0..=1.0).map(|()| sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> AffineMap {
        let mut way = |[low, high]: [f64; 2], side: usize| {
            (draws.between(low, high) * side as f64).round_ties_even()
        };
        let translate = [way(self.x, size.width), way(self.y, size.height)];
        AffineMap {
            translate,
            ..AffineMap::identity(Interpolation::Nearest, self.fill)
        }
    }
}

impl Draw for Affine {
    type Parameters = AffineMap;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::range("angle", self.angle, -MOST_ANGLE..=MOST_ANGLE)?;
        for share in self.translate {
            check::number("translate", share, 0.0..=1.0)?;
        }
        check::range("scale", self.scale, 1.0 / MOST_SCALE..=MOST_SCALE)?;
        check::range("shear_x", self.shear_x, -MOST_SHEAR..=MOST_SHEAR)?;
        check::range("shear_y", self.shear_y, -MOST_SHEAR..=MOST_SHEAR).map(|()| sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> AffineMap {
        let angle = draws.between(self.angle[0], self.angle[1]);
        let sides = [size.width, size.height];
        let translate = std::array::from_fn(|i| {
            let most = self.translate[i] * sides[i] as f64;
            draws.between(-most, most).round_ties_even()
        });
        let scale = draws.between(self.scale[0], self.scale[1]);
        let shear = [self.shear_x, self.shear_y].map(|[low, high]| draws.between(low, high));
        AffineMap {
            angle,
            translate,
            scale,
            shear,
            ..AffineMap::identity(self.interpolation, self.fill)
        }
    }
}

impl Apply for AffineMap {
    fn check(&self, size: Size) -> Result<Size, String> {
        let farthest = 2.0 * LONGEST_SIDE as f64;
        check::number("angle", self.angle, -MOST_ANGLE..=MOST_ANGLE)?;
        for way in self.translate {
            check::number("translate", way, -farthest..=farthest)?;
        }
        check::number("scale", self.scale, 1.0 / MOST_SCALE..=MOST_SCALE)?;
        for angle in self.shear {
            check::number("shear", angle, -MOST_SHEAR..=MOST_SHEAR)?;
        }
        Ok(size)
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        AffineChain::new(self, Size::new(image.width(), image.height())).apply(image, scratch);
    }

    fn affine_map(&self) -> Option<&AffineMap> {
        Some(self)
    }
}

/// Affine maps one after another, as one.
#[derive(Clone, Copy, Debug)]
pub(super) struct AffineChain {
    /// The way back; `None` where nothing moves.
    inverse: Option<[f64; 6]>,
    interpolation: Interpolation,
    fill: u8,
}

/// Where every output pixel stands for more input pixels than this along a side, the maps are not taken together: what
/// lies between the pixels that are read would be lost, of which each map alone reads a part.
const MOST_STRIDE: f64 = 2.0;

impl AffineChain {
    pub fn new(map: &AffineMap, size: Size) -> Self {
        let nothing = AffineMap {
            about: map.about,
            ..AffineMap::identity(map.interpolation, map.fill)
        };
        Self {
            inverse: (*map != nothing).then(|| map.inverse(size)),
            interpolation: map.interpolation,
            fill: map.fill,
        }
    }

    /// Takes one more map, if it reads and fills alike.
    pub fn take(&mut self, map: &AffineMap, size: Size) -> bool {
        let next = Self::new(map, size);
        let (before, after) = match (self.inverse, next.inverse) {
            (_, None) => return true,
            (None, Some(_)) => {
                *self = next;
                return true;
            }
            (Some(before), Some(after)) => (before, after),
        };
        // What comes out comes from where the last map has it, and that from where the others have it.
        let [a, b, c, d, e, f] = before;
        let [g, h, i, j, k, l] = after;
        let both = [
            a * g + b * j,
            a * h + b * k,
            a * i + b * l + c,
            d * g + e * j,
            d * h + e * k,
            d * i + e * l + f,
        ];
        let dense = both[0].hypot(both[3]).max(both[1].hypot(both[4])) <= MOST_STRIDE;
        let alike = (self.interpolation, self.fill) == (next.interpolation, next.fill);
        if dense && alike {
            self.inverse = Some(both);
        }
        dense && alike
    }

    pub fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        let Some([a, b, c, d, e, f]) = self.inverse else {
            return;
        };
        warp(image, self.interpolation, self.fill, scratch, |x, y| {
            let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
            (a * x + b * y + c, d * x + e * y + f)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image::new(4, 3, 1, (1..=12).collect()).unwrap()
    }

    fn applied(map: AffineMap) -> Vec<u8> {
        let mut image = image();
        map.apply(&mut image, &mut Vec::new());
        image.pixels().to_vec()
    }

    #[test]
    fn half_turns_and_whole_pixels_are_exact_however_the_image_is_read() {
        let kinds = [
            Interpolation::Nearest,
            Interpolation::Bilinear,
            Interpolation::Bicubic,
        ];
        for interpolation in kinds {
            let identity = AffineMap::identity(interpolation, 0);
            let turned = AffineMap {
                angle: 180.0,
                ..identity
            };
            assert_eq!(applied(turned), (1..=12).rev().collect::<Vec<u8>>());
            let moved = AffineMap {
                translate: [1.0, -1.0],
                ..identity
            };
            assert_eq!(applied(moved), [0, 5, 6, 7, 0, 9, 10, 11, 0, 0, 0, 0]);
            let whole = AffineMap {
                angle: 360.0,
                ..identity
            };
            assert_eq!(applied(whole), image().pixels());
        }
    }

    #[test]
    fn turning_is_clockwise_and_shearing_leans_columns() {
        let mut square = Image::new(2, 2, 1, vec![1, 2, 3, 4]).unwrap();
        let identity = AffineMap::identity(Interpolation::Nearest, 0);
        AffineMap {
            angle: 90.0,
            ..identity
        }
        .apply(&mut square, &mut Vec::new());
        assert_eq!(square.pixels(), [3, 1, 4, 2]);
        // About the corner, a row at height y moves by −y·tan φ: here by ¼, ¾ and 1¼ pixels.
        let leaning = AffineMap {
            shear: [-f64::atan(0.5).to_degrees(), 0.0],
            about: About::Corner,
            ..identity
        };
        assert_eq!(applied(leaning), [1, 2, 3, 4, 0, 5, 6, 7, 0, 9, 10, 11]);
    }
}
