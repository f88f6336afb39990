//! The operations, as data.

mod crop;
mod cutout;
mod flip;

pub use crop::{PadMode, RandomCrop, Window};
pub use cutout::{Cutout, CutoutSquares};
pub use flip::{Flipped, HorizontalFlip};

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use crate::Image;

/// An operation: its settings, from which parameters are drawn for each image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    /// See [`HorizontalFlip`].
    HorizontalFlip(HorizontalFlip),
    /// See [`RandomCrop`].
    RandomCrop(RandomCrop),
    /// See [`Cutout`].
    Cutout(Cutout),
}

/// What an operation drew for one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Parameters {
    /// Of a [`HorizontalFlip`].
    HorizontalFlip(Flipped),
    /// Of a [`RandomCrop`].
    RandomCrop(Window),
    /// Of a [`Cutout`].
    Cutout(CutoutSquares),
}

impl Operation {
    /// The name, as in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::HorizontalFlip(_) => "horizontal_flip",
            Self::RandomCrop(_) => "random_crop",
            Self::Cutout(_) => "cutout",
        }
    }

    /// The size `(width, height)` of what comes out for images of this size, or why a setting is
    /// out of range or does not fit them.
    pub(crate) fn output_size(
        &self,
        width: usize,
        height: usize,
    ) -> Result<(usize, usize), String> {
        match self {
            Self::HorizontalFlip(flip) => flip.check().map(|()| (width, height)),
            Self::RandomCrop(crop) => crop
                .check(width, height)
                .map(|()| (crop.width, crop.height)),
            Self::Cutout(cutout) => cutout.check().map(|()| (width, height)),
        }
    }

    /// Draws the parameters for an image of a size that [`Operation::output_size`] accepts.
    pub(crate) fn draw(&self, width: usize, height: usize, draws: &mut Draws) -> Parameters {
        match self {
            Self::HorizontalFlip(flip) => Parameters::HorizontalFlip(flip.draw(draws)),
            Self::RandomCrop(crop) => Parameters::RandomCrop(crop.draw(width, height, draws)),
            Self::Cutout(cutout) => Parameters::Cutout(cutout.draw(width, height, draws)),
        }
    }
}

impl Parameters {
    /// The operation's name, as in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::HorizontalFlip(_) => "horizontal_flip",
            Self::RandomCrop(_) => "random_crop",
            Self::Cutout(_) => "cutout",
        }
    }

    /// Why these parameters cannot be applied to an image of this size, if so. Those that an
    /// operation draws always can; those that a file holds may be anything.
    pub(crate) fn check(&self, width: usize, height: usize) -> Result<(), String> {
        match self {
            Self::HorizontalFlip(_) => Ok(()),
            Self::RandomCrop(window) => window.check(width, height),
            Self::Cutout(squares) => squares.check(),
        }
    }

    /// Changes the image. `scratch` is memory to work in, kept between images.
    pub(crate) fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
        match self {
            Self::HorizontalFlip(flipped) => flipped.apply(image),
            Self::RandomCrop(window) => window.apply(image, scratch),
            Self::Cutout(squares) => squares.apply(image),
        }
    }
}

/// Checks a probability.
fn check_probability(name: &str, value: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(format!(
            "{name}: expected a probability from 0 to 1, found {value}"
        ))
    }
}
