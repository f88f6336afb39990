//! Why an image cannot be augmented or a batch not be made.

use crate::size::Sizes;

/// What went wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image that cannot be one.
    #[error("image: {0}")]
    Image(String),
    /// A file that is no image, is damaged or exceeds a limit.
    #[error("{0}")]
    Decode(String),
    /// An operation's settings are out of range, or do not fit the images.
    #[error("step {step} ({operation}): {problem}")]
    Operation {
        /// The operation's position in the pipeline, from 0.
        step: usize,
        /// Its name.
        operation: &'static str,
        /// What was found and what was expected.
        problem: String,
    },
    /// A pipeline whose pictures have different sizes, where one size is needed.
    #[error(
        "the operations give images of {0} pixels, depending on what is drawn; expected one size: \
         end with an operation that sets it, such as a crop or a resize"
    )]
    SizeVaries(Sizes),
    /// A view that the image does not have.
    #[error("{0}")]
    View(String),
    /// Examples that cannot be mixed.
    #[error("mix: {0}")]
    Mix(String),
    /// The settings of the conversion to numbers do not fit the images.
    #[error("normalize: {0}")]
    Normalize(String),
    /// The loader's settings are out of range.
    #[error("loader: {0}")]
    Loader(String),
    /// An example could not be made.
    #[error("example {index}: {problem}")]
    Example {
        /// Its index in the data.
        index: usize,
        /// What went wrong.
        problem: String,
    },
    /// A worker thread panicked: a defect of an example source or of this crate.
    #[error("batch {batch}: the thread that was making it panicked: {message}")]
    Panicked {
        /// The batch.
        batch: usize,
        /// The panic's message.
        message: String,
    },
}
