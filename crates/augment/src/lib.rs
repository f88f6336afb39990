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
//! };
//! let image = Image::new(28, 28, 1, vec![200; 28 * 28])?;
//! let stream = Stream::new(42, Sample { epoch: 0, index: 7 });
//! let drawn = pipeline.draw(28, 28, stream)?;
//! assert_eq!(Pipeline::replay(&image, &drawn)?, pipeline.augment(&image, stream)?);
//! # Ok::<(), evenkeel_augment::Error>(())
//! ```
#![forbid(unsafe_code)]

mod convert;
mod error;
mod examples;
mod image;
mod loader;
mod mix;
mod ops;
mod pipeline;
mod size;
mod stream;
mod workers;

pub use convert::Normalize;
pub use error::Error;
pub use examples::{AugmentedImages, ExampleWriter, Examples, ImageSource};
pub use image::Image;
pub use loader::{Batch, Epoch, Loader, LoaderOptions};
pub use mix::{
    BatchOperation, BatchParameters, BatchShape, CutMix, MixedExamples, MixedRectangle, Mixup,
    one_hot,
};
pub use ops::*;
pub use pipeline::Pipeline;
pub use size::{Size, Sizes};
pub use stream::{Sample, Stream};
