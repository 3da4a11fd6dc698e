//! Pictures of results, as SVG and PNG: how latency is distributed, how it and memory went over time, how cost grows, and
//! how much more each server needs than the base. What was not measured is not drawn.

mod canvas;
mod cost;
mod latency;
mod ratio;
mod time;

use std::fs;
use std::path::{Path, PathBuf};

use crate::report::results::Results;

/// Draws everything there is to see in `results` and returns the files.
///
/// # Errors
///
/// A file can't be written.
pub fn draw(results: &Results, folder: &Path) -> Result<Vec<PathBuf>, String> {
    fs::create_dir_all(folder).map_err(|err| format!("{}: {err}", folder.display()))?;
    let plots = [
        latency::draw(results, folder)?,
        time::draw(results, folder)?,
        cost::draw(results, folder)?,
        ratio::draw(results, folder)?,
    ];
    Ok(plots.concat())
}
