//! The operations, as data.

mod affine;
mod autocontrast;
mod blur;
mod brightness;
mod center_crop;
mod check;
mod color_jitter;
mod colours;
mod combine;
mod contrast;
mod crop;
mod cutout;
mod elastic;
mod equalize;
mod erasing;
mod filter;
mod flip;
mod gamma;
mod gaussian;
mod geometry;
mod grayscale;
mod grid_mask;
mod hue;
mod invert;
mod jpeg;
mod label_aware;
mod lighting;
mod nesting;
mod noise;
mod pad;
mod perspective;
mod plan;
mod point;
mod policy;
mod posterize;
mod resample;
mod resize;
mod resized_crop;
mod saturation;
mod sharpness;
mod solarize;
mod steps;
mod warp;

pub use affine::{About, Affine, AffineMap, Rotate, Shear, Translate};
pub use autocontrast::Autocontrast;
pub use blur::{Blurred, GaussianBlur};
pub use brightness::{AdjustBrightness, Brightness};
pub use center_crop::{CenterCrop, five_crop, ten_crop};
pub use color_jitter::ColorJitter;
pub(crate) use colours::{Colour, Colours};
pub use combine::{Choice, OneOf, RandomApply, RandomOrder, SomeOf};
pub use contrast::{AdjustContrast, Contrast};
pub use crop::{PadMode, RandomCrop, Window};
pub use cutout::{Cutout, CutoutSquares};
pub use elastic::{Displacement, Elastic};
pub use equalize::Equalize;
pub use erasing::{ErasedRectangle, Fill, RandomErasing};
pub use filter::Filter;

pub use flip::{Flipped, FlippedVertically, HorizontalFlip, VerticalFlip};
pub use gamma::{AdjustGamma, Gamma};
pub(crate) use geometry::Geometry;
pub use grayscale::Grayscale;
pub use grid_mask::{ErasedGrid, GridMask};
pub use hue::{AdjustHue, Hue};
pub use invert::Invert;
pub use jpeg::{Compressed, Jpeg};
pub use label_aware::{Class, LabelAware, Labelled, name_classes};
pub use lighting::{ColorShift, Lighting};
pub use noise::{GaussianNoise, NoiseAdded};
pub use pad::Pad;
pub use perspective::{MovedCorners, Perspective};
pub(crate) use plan::Plan;
pub(crate) use point::gray;
pub use policy::{
    AugMix, AutoAugment, AutoAugmentPolicy, Chain, Dialect, MixedChains, PolicyStep, RandAugment,
    Transform, TrivialAugment, three_augment,
};
pub use posterize::{KeepBits, Posterize};
pub(crate) use resample::{Resampling, Samples};
pub(crate) use resize::shrink;
pub use resize::{Resize, ResizeTo, Resized, ScaleJitter, Shape};
pub use resized_crop::{RandomResizedCrop, ResizedWindow};
pub use saturation::{AdjustSaturation, Saturation};
pub use sharpness::{AdjustSharpness, Sharpness};
pub use solarize::{AddToDark, InvertFrom, Solarize, SolarizeAdd};
pub use steps::Steps;
pub use warp::Interpolation;

use evenkeel_random::Draws;
use serde::{Deserialize, Serialize};

use crate::Image;
use crate::size::{Size, Sizes};

/// Settings from which parameters are drawn for each image.
trait Draw {
    type Parameters: Apply;

    /// The sizes of what comes out for images of these sizes, or why a setting is out of range or
    /// does not fit them.
    fn check(&self, sizes: Sizes) -> Result<Sizes, String>;

    /// Draws the parameters for an image of a size that [`Draw::check`] accepts.
    fn draw(&self, size: Size, draws: &mut Draws) -> Self::Parameters;

    /// The lists of operations inside this one.
    fn nested(&self) -> Vec<&[Operation]> {
        Vec::new()
    }

    /// Whether the parameters are the same whatever is drawn.
    fn is_fixed(&self) -> bool {
        false
    }
}

/// Parameters that make one picture of another.
trait Apply {
    /// The size of what comes out for an image of this size, or why the parameters cannot be
    /// applied to it. Those that an operation draws always can; those that a file holds may be
    /// anything.
    fn check(&self, size: Size) -> Result<Size, String>;

    /// Changes an image of a size that [`Apply::check`] accepts. `scratch` is memory to work in,
    /// kept between images. What is all said by [`Apply::colour`] need say no more.
    fn apply(&self, image: &mut Image, _scratch: &mut Vec<u8>) {
        let mut colours = Colours::default();
        colours.extend(self.colour(image.channels()));
        colours.apply(image);
    }

    /// What each colour becomes in images of this many channels, if that is all that happens.
    fn colour(&self, _channels: usize) -> Option<Colour> {
        None
    }

    /// The map along which the image is moved, if that is all that happens.
    fn affine_map(&self) -> Option<&AffineMap> {
        None
    }

    /// The steps that are taken one after another, if that is all that happens.
    fn steps(&self) -> Option<&[Parameters]> {
        None
    }

    /// The lists of parameters inside these.
    fn nested(&self) -> Vec<&[Parameters]> {
        Vec::new()
    }
}

/// The two enums have a variant an operation and hand each call on to it.
macro_rules! operations {
    ($($name:literal: $operation:ident draws $parameters:ident,)*) => {
        /// An operation: its settings, from which parameters are drawn for each image.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "op")]
        pub enum Operation {
            $(
                #[doc = concat!("See [`", stringify!($operation), "`].")]
                #[serde(rename = $name)]
                $operation($operation),
            )*
        }

        /// What an operation drew for one image.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "op")]
        pub enum Parameters {
            $(
                #[doc = concat!("Of a [`", stringify!($operation), "`].")]
                #[serde(rename = $name)]
                $operation($parameters),
            )*
        }

        impl Operation {
            /// The names of all operations, as in recipes.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The name, as in recipes.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$operation(_) => $name,)*
                }
            }

            /// The sizes of what comes out for images of these sizes, or why a setting is out of
            /// range or does not fit them.
            pub(crate) fn check(&self, sizes: Sizes) -> Result<Sizes, String> {
                match self {
                    $(Self::$operation(operation) => Draw::check(operation, sizes),)*
                }
            }

            /// Draws the parameters for an image of a size that [`Operation::check`] accepts.
            pub(crate) fn draw(&self, size: Size, draws: &mut Draws) -> Parameters {
                match self {
                    $(Self::$operation(operation) => {
                        Parameters::$operation(Draw::draw(operation, size, draws))
                    })*
                }
            }

            /// Whether it does the same to all images of one size: a resize does, a random crop
            /// does not. What is fixed can be a step of a view at test.
            pub fn is_fixed(&self) -> bool {
                match self {
                    $(Self::$operation(operation) => Draw::is_fixed(operation),)*
                }
            }

            /// The lists of operations inside this one: those of a choice, none of most.
            pub fn nested(&self) -> Vec<&[Operation]> {
                match self {
                    $(Self::$operation(operation) => Draw::nested(operation),)*
                }
            }
        }

        impl Parameters {
            /// The operation's name, as in recipes.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$operation(_) => $name,)*
                }
            }

            /// The size of what comes out for an image of this size, or why the parameters cannot
            /// be applied to it.
            pub(crate) fn check(&self, size: Size) -> Result<Size, String> {
                match self {
                    $(Self::$operation(parameters) => Apply::check(parameters, size),)*
                }
            }

            /// Changes the image. `scratch` is memory to work in, kept between images.
            pub(crate) fn apply(&self, image: &mut Image, scratch: &mut Vec<u8>) {
                match self {
                    $(Self::$operation(parameters) => parameters.apply(image, scratch),)*
                }
            }

            /// See [`Apply::colour`].
            pub(crate) fn colour(&self, channels: usize) -> Option<Colour> {
                match self {
                    $(Self::$operation(parameters) => Apply::colour(parameters, channels),)*
                }
            }

            /// See [`Apply::affine_map`].
            pub(crate) fn affine_map(&self) -> Option<&AffineMap> {
                match self {
                    $(Self::$operation(parameters) => Apply::affine_map(parameters),)*
                }
            }

            /// See [`Apply::steps`].
            pub(crate) fn steps(&self) -> Option<&[Parameters]> {
                match self {
                    $(Self::$operation(parameters) => Apply::steps(parameters),)*
                }
            }

            /// The lists of parameters inside these: those that were chosen, none of most.
            pub fn nested(&self) -> Vec<&[Parameters]> {
                match self {
                    $(Self::$operation(parameters) => Apply::nested(parameters),)*
                }
            }
        }
    };
}

operations! {
    "horizontal_flip": HorizontalFlip draws Flipped,
    "vertical_flip": VerticalFlip draws FlippedVertically,
    "random_crop": RandomCrop draws Window,
    "center_crop": CenterCrop draws Window,
    "pad": Pad draws Window,
    "resize": Resize draws Resized,
    "scale_jitter": ScaleJitter draws Resized,
    "random_resized_crop": RandomResizedCrop draws ResizedWindow,
    "rotate": Rotate draws AffineMap,
    "shear": Shear draws AffineMap,
    "translate": Translate draws AffineMap,
    "affine": Affine draws AffineMap,
    "perspective": Perspective draws MovedCorners,
    "elastic": Elastic draws Displacement,
    "brightness": Brightness draws AdjustBrightness,
    "contrast": Contrast draws AdjustContrast,
    "saturation": Saturation draws AdjustSaturation,
    "hue": Hue draws AdjustHue,
    "color_jitter": ColorJitter draws Steps,
    "lighting": Lighting draws ColorShift,
    "grayscale": Grayscale draws Grayscale,
    "invert": Invert draws Invert,
    "posterize": Posterize draws KeepBits,
    "solarize": Solarize draws InvertFrom,
    "solarize_add": SolarizeAdd draws AddToDark,
    "equalize": Equalize draws Equalize,
    "autocontrast": Autocontrast draws Autocontrast,
    "sharpness": Sharpness draws AdjustSharpness,
    "gamma": Gamma draws AdjustGamma,
    "gaussian_blur": GaussianBlur draws Blurred,
    "gaussian_noise": GaussianNoise draws NoiseAdded,
    "jpeg": Jpeg draws Compressed,
    "cutout": Cutout draws CutoutSquares,
    "random_erasing": RandomErasing draws ErasedRectangle,
    "grid_mask": GridMask draws ErasedGrid,
    "random_apply": RandomApply draws Steps,
    "one_of": OneOf draws Steps,
    "some_of": SomeOf draws Steps,
    "random_order": RandomOrder draws Steps,
    "auto_augment": AutoAugment draws Steps,
    "rand_augment": RandAugment draws Steps,
    "trivial_augment": TrivialAugment draws Steps,
    "aug_mix": AugMix draws MixedChains,
    "label_aware": LabelAware draws Labelled,
}
