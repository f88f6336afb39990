//! Sources of labelled data by name: images in files, archives, tables or memory, and tables of numbers; no engine.
//!
//! [`Source`] is what users write, such as `folder:photos` or `parquet:shards?label=fine_label`;
//! [`Dataset::open`] reads it, [`check()`] looks for what would spoil a training, and [`Originals`] gives some
//! training images as they are. What images in files have in common is told at [`ImageOptions`].
#![forbid(unsafe_code)]

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
mod preparation;
mod shards;
mod source;
mod svhn;
mod tar;

pub use check::{Checked, ClassCount, Report, Statistics, check, rows};
pub use dataset::{Dataset, Images, Kind, Split, Table};
pub use error::Error;
pub use files::{Files, FilesReport, Finding, FindingKind, ImageOptions, Unreadable};
pub use originals::{Original, Originals};
pub use preparation::{preparation, unnormalized};
pub use source::{ImageFiles, KNOWN, Known, Layout, Source};
