//! Sources of labelled data by name.

mod check;
mod cifar;
mod classes;
mod csv;
mod dataset;
mod error;
mod fashion_mnist;
mod folder;
mod idx;
mod source;

pub use check::{Checked, Report, check};
pub use dataset::{Dataset, Images, Kind, Split, Table, originals};
pub use error::Error;
pub(crate) use folder::Sums;
pub use folder::{Files, Finding, FindingKind, FolderReport, ImageOptions, Original, Unreadable};
pub use source::{KNOWN, Known, Source};
