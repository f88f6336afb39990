//! PCA lighting: colours shift along their principal components.

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use super::point::{self, Levels};
use super::{Apply, Colour, Draw, check};
use crate::size::{Size, Sizes};

/// y_c = x_c + 255·Σ_i p_ci·α_i·λ_i, rounded and clipped, the same for every pixel: λ_i are what the
/// principal components of the data's colours weigh, p_ci the components, α_i normal with this
/// deviation. Gray images stay as they are.
///
/// λ are taken as in the code of Facebook's ResNet, whose numbers for ImageNet are the default: on the
/// scale 0..1. Source: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep
/// Convolutional Neural Networks" (2012), which draws with deviation 0.1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lighting {
    /// The deviation of α.
    #[serde(default = "tenth")]
    pub deviation: f64,
    /// λ.
    #[serde(default = "imagenet_values")]
    pub eigenvalues: [f64; 3],
    /// p: a row for red, green and blue each, a column a component.
    #[serde(default = "imagenet_vectors")]
    pub eigenvectors: [[f64; 3]; 3],
}

/// What an image's colours are shifted by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColorShift {
    /// Of red, green and blue, in levels.
    pub shift: [f64; 3],
}

impl Default for Lighting {
    fn default() -> Self {
        Self {
            deviation: tenth(),
            eigenvalues: imagenet_values(),
            eigenvectors: imagenet_vectors(),
        }
    }
}

fn tenth() -> f64 {
    0.1
}

fn imagenet_values() -> [f64; 3] {
    [0.2175, 0.0188, 0.0045]
}

fn imagenet_vectors() -> [[f64; 3]; 3] {
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
}

const MOST: f64 = 1000.0;

impl Draw for Lighting {
    type Parameters = ColorShift;

    fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
        check::number("deviation", self.deviation, 0.0..=MOST)?;
        for value in self.eigenvalues {
            check::number("eigenvalues", value, 0.0..=MOST)?;
        }
        for value in self.eigenvectors.into_iter().flatten() {
            check::number("eigenvectors", value, -1.0..=1.0)?;
        }
        Ok(sizes)
    }

    fn draw(&self, _: Size, draws: &mut Draws) -> ColorShift {
        let weights = self
            .eigenvalues
            .map(|value| 255.0 * value * self.deviation * draws.normal());
        let shift = self
            .eigenvectors
            .map(|row| row.iter().zip(weights).map(|(p, weight)| p * weight).sum());
        ColorShift { shift }
    }
}

impl Apply for ColorShift {
    fn check(&self, size: Size) -> Result<Size, String> {
        // Draws are finite: bounded settings times a normal number of at most 7.
        if let Some(found) = self.shift.iter().find(|shift| !shift.is_finite()) {
            return Err(format!("shift: expected finite values, found {found}"));
        }
        Ok(size)
    }

    fn colour(&self, channels: usize) -> Option<Colour> {
        let shifted = self
            .shift
            .map(|shift| point::table(|level| (f64::from(level) + shift).round() as u8));
        Some(Colour::Levels(match channels {
            1 | 2 => Levels::all(point::table(|level| level)),
            _ => Levels::each(shifted),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;
    use evenkeel_random::Key;

    #[test]
    fn shifts_have_the_covariance_of_the_definition() {
        let lighting = Lighting::default();
        let mut draws = Key::from_seed(3).draws();
        let count = 100_000;
        let mut products = [[0.0; 3]; 3];
        for _ in 0..count {
            let ColorShift { shift } = lighting.draw(Size::new(1, 1), &mut draws);
            for (row, a) in products.iter_mut().zip(shift) {
                for (sum, b) in row.iter_mut().zip(shift) {
                    *sum += a * b / f64::from(count);
                }
            }
        }
        // P·diag((255·λ·σ)²)·Pᵀ
        for (a, row) in products.iter().enumerate() {
            for (b, found) in row.iter().enumerate() {
                let expected: f64 = (0..3)
                    .map(|i| {
                        let deviation = 25.5 * lighting.eigenvalues[i];
                        let vectors = &lighting.eigenvectors;
                        vectors[a][i] * vectors[b][i] * deviation * deviation
                    })
                    .sum();
                assert!(
                    (found - expected).abs() < 0.2,
                    "{a} {b}: {found}, {expected}"
                );
            }
        }
    }

    #[test]
    fn shifts_are_rounded_and_clipped() {
        let mut image = Image::new(1, 2, 3, vec![0, 100, 250, 3, 200, 90]).unwrap();
        let shift = ColorShift {
            shift: [-2.5, 0.5, 10.0],
        };
        shift.apply(&mut image, &mut Vec::new());
        assert_eq!(image.pixels(), [0, 101, 255, 1, 201, 100]);
    }
}
