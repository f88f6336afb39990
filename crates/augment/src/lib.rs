//! Image augmentation as data, and the ordered loader that feeds a training; no engine.
//!
//! An operation *draws* its parameters from the randomness of a sample and *applies* given
//! parameters to an image. The two are separate, so that a draw can be recorded, replayed and
//! shown. Randomness is a function of (seed, epoch, sample, operation): the same batches, bit for
//! bit, for any number of workers and from any step.
#![forbid(unsafe_code)]

mod convert;
mod error;
mod image;
mod loader;
mod ops;
mod pipeline;
mod stream;

pub use convert::Normalize;
pub use error::Error;
pub use image::Image;
pub use loader::{
    AugmentedImages, Batch, Epoch, ExampleWriter, Examples, ImageSource, Loader, LoaderOptions,
};
pub use ops::{
    Cutout, CutoutSquares, Flipped, HorizontalFlip, Operation, PadMode, Parameters, RandomCrop,
    Window,
};
pub use pipeline::Pipeline;
pub use stream::{Sample, Stream};
