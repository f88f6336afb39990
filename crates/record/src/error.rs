//! Why a run's file cannot be read or written.

use std::path::{Path, PathBuf};

/// A file of a run, what is wrong with it, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct Error {
    path: PathBuf,
    problem: String,
}

impl Error {
    /// An error about `path`.
    pub fn new(path: &Path, problem: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// A file cannot be read.
    pub(crate) fn read(path: &Path, error: &std::io::Error) -> Self {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "Is this a run's folder?",
            std::io::ErrorKind::PermissionDenied => "Check the folder's permissions",
            _ => return Self::new(path, error.to_string()),
        };
        Self::new(path, format!("{error}. {remedy}"))
    }

    /// A file or folder cannot be written.
    pub(crate) fn write(path: &Path, error: &std::io::Error) -> Self {
        let remedy = match error.kind() {
            std::io::ErrorKind::StorageFull => "Free some space",
            _ => "Choose a place that you can write to",
        };
        Self::new(path, format!("cannot be written: {error}. {remedy}"))
    }
}
