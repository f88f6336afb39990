//! A run as one self-contained HTML file.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use evenkeel_record::{Error, RunFolder, write_atomic};

/// Writes a run's `report.html` and returns its path.
pub fn write(folder: &RunFolder) -> Result<PathBuf, Error> {
    write_atomic(&folder.report(), b"")?;
    Ok(folder.report())
}
