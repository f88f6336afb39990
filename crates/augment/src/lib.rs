//! Image augmentation as data, and the ordered loader that feeds a training; no engine.
//!
//! An operation *draws* its parameters from the randomness of a sample and *applies* given
//! parameters to an image. The two are separate, so that a draw can be recorded, replayed and
//! shown. Randomness is a function of (seed, epoch, sample, operation): the same batches, bit for
//! bit, for any number of workers and from any step.
//!
//! ```
//! use evenkeel_augment::{Image, Normalize, Operation, Pipeline, RandomCrop, Sample, Stream};
//!
//! let pipeline = Pipeline {
//!     operations: vec![Operation::RandomCrop(RandomCrop {
//!         height: 28,
//!         width: 28,
//!         padding: 2,
//!         mode: Default::default(),
//!     })],
//!     normalize: Normalize { mean: vec![0.5], std: vec![0.5] },
//!     exact: false,
//! };
//! let image = Image::new(28, 28, 1, vec![200; 28 * 28])?;
//! let stream = Stream::new(42, Sample { epoch: 0, index: 7 });
//! let drawn = pipeline.draw(28, 28, stream)?;
//! assert_eq!(Pipeline::replay(&image, &drawn)?, pipeline.augment(&image, stream)?);
//! # Ok::<(), evenkeel_augment::Error>(())
//! ```
//!
//! # Operations
//!
//! Each is data, with a name in recipes; [`Operation::NAMES`] lists them. Most follow the dialect of
//! Pillow and torchvision's PIL backend, value for value: `CONFORMANCE.md` has the table.
//!
//! | what | operations |
//! |---|---|
//! | place | [`HorizontalFlip`], [`VerticalFlip`], [`RandomCrop`], [`CenterCrop`], [`Pad`], [`five_crop`], [`ten_crop`] |
//! | size | [`Resize`], [`ScaleJitter`], [`RandomResizedCrop`] |
//! | shape | [`Rotate`], [`Shear`], [`Translate`], [`Affine`], [`Perspective`], [`Elastic`] |
//! | colour | [`Brightness`], [`Contrast`], [`Saturation`], [`Hue`], [`ColorJitter`], [`Lighting`], [`Grayscale`] |
//! | levels | [`Invert`], [`Posterize`], [`Solarize`], [`SolarizeAdd`], [`Equalize`], [`Autocontrast`], [`Gamma`] |
//! | detail | [`Sharpness`], [`GaussianBlur`], [`GaussianNoise`], [`Jpeg`] |
//! | erasing | [`Cutout`], [`RandomErasing`], [`GridMask`] |
//! | choice | [`RandomApply`], [`OneOf`], [`SomeOf`], [`RandomOrder`], by class [`LabelAware`] |
//! | policies | [`AutoAugment`], [`RandAugment`], [`TrivialAugment`], [`AugMix`], [`three_augment`] |
//! | batches | [`Mixup`], [`CutMix`], of a loader: [`Loader::mixed`] |
//!
//! [`decode`] makes images of files, [`Views`] are what predictions are averaged over at test, [`sheet()`] shows
//! what a pipeline does, and [`BUILT_IN_PIPELINES`] are some to start from.
//!
//! A pipeline may pass through images of several sizes, but what makes batches ends in one:
//!
//! ```
//! use evenkeel_augment::Pipeline;
//!
//! let mut pipeline: Pipeline = toml::from_str(r#"
//!     operations = [
//!         { op = "scale_jitter", side = [256, 480] },
//!         { op = "random_crop", height = 224, width = 224 },
//!         { op = "horizontal_flip" },
//!         { op = "random_apply", probability = 0.8, operations = [
//!             { op = "color_jitter", brightness = 0.4, contrast = 0.4, saturation = 0.4 },
//!         ] },
//!         { op = "rand_augment", magnitudes = "torchvision", fill = 128 },
//!     ]
//!     normalize = { mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }
//! "#)?;
//! assert_eq!(pipeline.output_size(500, 375)?, (224, 224));
//! pipeline.operations.truncate(1);
//! assert_eq!(pipeline.output_sizes(500, 375)?.to_string(), "341–640×256–480");
//! assert!(pipeline.output_size(500, 375).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod convert;
mod decode;
mod error;
mod examples;
mod image;
mod loader;
mod mix;
mod ops;
mod pipeline;
mod pipelines;
mod sheet;
mod size;
mod stream;
mod strip;
#[cfg(target_arch = "x86_64")]
mod vector;
mod viewed;
mod views;
mod words;
mod workers;

pub use convert::Normalize;
pub use decode::{Colors, DecodeLimits, Encoded, decode};
pub use error::Error;
pub use examples::{AugmentedImages, ExampleWriter, Examples, ImageFile, ImageSource};
pub use image::Image;
pub use loader::{Batch, Epoch, Loader, LoaderOptions};
pub use mix::{
    BatchOperation, BatchParameters, BatchShape, CutMix, MixedExamples, MixedRectangle, Mixing,
    Mixup, one_hot,
};
pub use ops::*;
pub use pipeline::Pipeline;
pub use pipelines::{BUILT_IN_PIPELINES, BuiltInPipeline};
pub use sheet::{SheetRow, SheetView, sheet, to_png};
pub use size::{Size, Sizes};
pub use stream::{Sample, Stream};
pub use viewed::ViewedImages;
pub use views::{Coinciding, Crops, MultiScale, View, Views};
pub use words::{MaskUnit, MaskedWords, WordMasking};
