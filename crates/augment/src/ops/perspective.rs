//! Perspective: the image's corners move, straight lines stay straight.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::warp::{Interpolation, warp};
use super::{Apply, Draw, check};
use crate::Image;
use crate::image::LONGEST_SIDE;
use crate::size::{Size, Sizes};

/// Each corner moves inwards, to a pixel that is uniform over a rectangle of ⌊distortion·⌊width/2⌋⌋ by
/// ⌊distortion·⌊height/2⌋⌋ at it.
///
/// Dialect: torchvision's `RandomPerspective`. Corners drawn in one line, as may happen in images of few
/// pixels, leave the image as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perspective {
    /// From 0, nothing, to 1, where corners may meet in the middle.
    #[serde(default = "half")]
    pub distortion: f64,
    /// How the image is read between its pixels.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    #[serde(default)]
    pub fill: u8,
}

/// Where an image's corners go.
///
/// Output point (x, y) comes from the input's ((a·x + b·y + c)/(g·x + h·y + 1),
/// (d·x + e·y + f)/(g·x + h·y + 1)), with the eight numbers that send these corners to the image's.
/// Dialect: torchvision's `perspective`: corners are named by their pixel, points are pixels' centres.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovedCorners {
    /// Top left, top right, bottom right, bottom left: column and row.
    pub corners: [[f64; 2]; 4],
    /// How the image is read between its pixels.
    pub interpolation: Interpolation,
    /// What every channel is outside the image.
    pub fill: u8,
}

fn half() -> f64 {
    0.5
}

/// The corner pixels of an image.
fn corners(size: Size) -> [[f64; 2]; 4] {
    let (right, bottom) = ((size.width - 1) as f64, (size.height - 1) as f64);
    [[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]]
}

/// The numbers a to h that send `from` to `to`, or `None` where corners lie in one line.
fn homography(from: [[f64; 2]; 4], to: [[f64; 2]; 4]) -> Option<[f64; 8]> {
    // Two equations a corner: a·x + b·y + c − g·x·u − h·y·u = u, and the same of d, e, f and v.
    let mut rows = [[0.0; 9]; 8];
    for (i, ([x, y], [u, v])) in from.into_iter().zip(to).enumerate() {
        rows[2 * i] = [x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y, u];
        rows[2 * i + 1] = [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y, v];
    }
    // Gauss and Jordan, with the largest pivot of each column.
    for column in 0..8 {
        let largest =
            |&a: &usize, &b: &usize| rows[a][column].abs().total_cmp(&rows[b][column].abs());
        let pivot = (column..8).max_by(largest)?;
        rows.swap(column, pivot);
        let row = rows[column];
        if row[column].abs() < 1e-9 {
            return None;
        }
        for (i, other) in rows.iter_mut().enumerate() {
            let factor = other[column] / row[column];
            if i != column {
                other
                    .iter_mut()
                    .zip(row)
                    .for_each(|(a, b)| *a -= factor * b);
            }
        }
    }
    Some(std::array::from_fn(|i| rows[i][8] / rows[i][i]))
}

impl Draw for Perspective {
    type Parameters = MovedCorners;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::number("distortion", self.distortion, 0.0..=1.0).map(|()| sizes)
    }

    fn draw(&self, size: Size, draws: &mut Draws) -> MovedCorners {
        let mut inwards = |side: usize| {
            let farthest = self.distortion * (side / 2) as f64; // fits 32 bits
            f64::from(draws.below(farthest as u32 + 1))
        };
        let whole = corners(size);
        let moved = whole.map(|[x, y]| {
            let (right, down) = (inwards(size.width), inwards(size.height));
            [(x - right).abs(), (y - down).abs()] // from 0 or from the far side
        });
        MovedCorners {
            corners: homography(moved, whole).map_or(whole, |_| moved),
            interpolation: self.interpolation,
            fill: self.fill,
        }
    }
}

impl Apply for MovedCorners {
    fn check(&self, size: Size) -> Result<Size, String> {
        let farthest = LONGEST_SIDE as f64;
        for value in self.corners.into_iter().flatten() {
            check::number("corners", value, -farthest..=farthest)?;
        }
        let whole = corners(size);
        if self.corners != whole && homography(self.corners, whole).is_none() {
            return Err(format!(
                "corners: expected no three in one line, for an image of two rows and two columns \
                 at least, found {:?} for {size}",
                self.corners
            ));
        }
        Ok(size)
    }

    fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        let whole = corners(Size::new(image.width(), image.height()));
        if self.corners == whole {
            return;
        }
        let Some([a, b, c, d, e, f, g, h]) = homography(self.corners, whole) else {
            return; // `check` refuses it
        };
        warp(image, self.interpolation, self.fill, scratch, |x, y| {
            let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
            let depth = g * x + h * y + 1.0;
            ((a * x + b * y + c) / depth, (d * x + e * y + f) / depth)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_random::Key;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn corners_go_where_they_should(
            moved in prop::array::uniform4(prop::array::uniform2(-20.0..20.0_f64)),
        ) {
            let whole = corners(Size::new(9, 7));
            if let Some([a, b, c, d, e, f, g, h]) = homography(moved, whole) {
                for ([x, y], [u, v]) in moved.into_iter().zip(whole) {
                    let depth = g * x + h * y + 1.0;
                    if depth.abs() > 1e-6 {
                        prop_assert!(((a * x + b * y + c) / depth - u).abs() < 1e-4);
                        prop_assert!(((d * x + e * y + f) / depth - v).abs() < 1e-4);
                    }
                }
            }
        }
    }

    #[test]
    fn corners_are_uniform_over_their_rectangles() {
        let perspective = Perspective {
            distortion: 0.5,
            interpolation: Interpolation::Nearest,
            fill: 0,
        };
        let mut draws = Key::from_seed(9).draws();
        // ⌊½·4⌋ = 2 columns and ⌊½·3⌋ = 1 row inwards at most.
        let mut counts = [[0.0; 6]; 4];
        for _ in 0..30_000 {
            let moved = perspective.draw(Size::new(9, 7), &mut draws).corners;
            for ((counts, [x, y]), [u, v]) in
                counts.iter_mut().zip(moved).zip(corners(Size::new(9, 7)))
            {
                counts[(x - u).abs() as usize * 2 + (y - v).abs() as usize] += 1.0;
            }
        }
        for counts in counts {
            let chi: f64 = counts.iter().map(|n: &f64| (n - 5e3).powi(2) / 5e3).sum();
            assert!(chi < 20.5, "{counts:?}"); // 5 degrees of freedom, once in a thousand
        }
    }

    #[test]
    fn corners_in_one_line_are_refused() {
        let map = MovedCorners {
            corners: [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]],
            interpolation: Interpolation::Nearest,
            fill: 0,
        };
        assert!(
            map.check(Size::new(5, 5))
                .unwrap_err()
                .contains("no three in one line")
        );
        assert!(map.check(Size::new(1, 5)).is_err());
    }
}
