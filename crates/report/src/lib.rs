//! A run as one self-contained HTML file: no network, no other files, no script.
//!
//! Plots are SVG drawn with the page's own colors, so that they follow its light or dark scheme.
//! Everything that comes from data or recipes is escaped; pictures are PNG in data URIs.
#![forbid(unsafe_code)]

mod confusion;
mod html;
mod page;
mod picture;
mod plot;
mod scale;

use std::path::PathBuf;

use evenkeel_record::{Error, RunFolder, write_atomic};

pub use page::render;

/// Writes a run's `report.html` and returns its path. A run that is not finished, or that failed,
/// has a report too: it says so.
pub fn write(folder: &RunFolder) -> Result<PathBuf, Error> {
    let run = folder.read_run()?;
    let metrics = folder.read_metrics()?;
    let evaluation = folder.read_evaluation()?;
    let path = folder.report();
    write_atomic(
        &path,
        render(folder.path(), &run, &metrics, evaluation.as_ref()).as_bytes(),
    )?;
    Ok(path)
}
