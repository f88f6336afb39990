//! Sources of labelled data by name.

mod check;
mod cifar;
mod classes;
mod csv;
mod dataset;
mod error;
mod fashion_mnist;
mod idx;
mod source;

pub use check::{Report, check};
pub use dataset::{Dataset, Images, Kind, Split, Table};
pub use error::Error;
pub use source::{KNOWN, Known, Source};
