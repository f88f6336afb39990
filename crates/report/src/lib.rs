//! A run as one self-contained HTML file: no network, no other files, no script.
//!
//! Plots are SVG drawn by `plotters` in the page's own colors, so that they follow its light or dark scheme.
//! Everything that comes from data or recipes is escaped; pictures are PNG in data URIs.
#![forbid(unsafe_code)]

mod averages;
mod axis;
mod canvas;
mod chart;
mod comparison;
mod confusion;
mod figure;
mod findings;
mod forest;
mod html;
mod number;
mod page;
mod picture;
mod plot;
mod reliability;
mod search;

use std::path::{Path, PathBuf};

use evenkeel_record::{Comparison, Error, RunFolder, Search, write_atomic};

pub use comparison::render as render_comparison;
pub use page::{render, render_examined};
pub use search::render as render_search;

/// Writes a run's `report.html` and returns its path. A run that is not finished, or that failed,
/// has a report too: it says so.
pub fn write(folder: &RunFolder) -> Result<PathBuf, Error> {
    let run = folder.read_run()?;
    let metrics = folder.read_metrics()?;
    let evaluation = folder.read_evaluation()?;
    let averages = folder.read_averaging()?;
    let path = folder.report();
    let page = render_examined(
        folder.path(),
        &run,
        &metrics,
        evaluation.as_ref(),
        &averages,
        folder.read_diagnosis()?.as_ref(),
        folder.read_probe()?.as_ref(),
    );
    write_atomic(&path, page.as_bytes())?;
    Ok(path)
}

/// Writes a comparison's page.
pub fn write_comparison(comparison: &Comparison, path: &Path) -> Result<(), Error> {
    write_atomic(path, render_comparison(comparison).as_bytes())
}

/// Writes a search's page.
pub fn write_search(search: &Search, path: &Path) -> Result<(), Error> {
    write_atomic(path, render_search(search).as_bytes())
}
