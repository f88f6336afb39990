//! Sources of labelled data by name.

mod check;
mod cifar;
mod classes;
mod csv;
mod dataset;
mod error;
mod fashion_mnist;
mod files;
mod folder;
mod idx;
mod list;
mod natural;
mod originals;
mod parquet;
mod shards;
mod source;
mod svhn;
mod tar;

pub use check::{Checked, ClassCount, Report, Statistics, check};
pub use dataset::{Dataset, Images, Kind, Split, Table};
pub use error::Error;
pub(crate) use files::Sums;
pub use files::{Files, FilesReport, Finding, FindingKind, ImageOptions, Unreadable};
pub use originals::{Original, Originals, originals};
pub use source::{ImageFiles, KNOWN, Known, Layout, Source};
