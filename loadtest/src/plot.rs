//! Plots.
use std::path::{Path, PathBuf};

use crate::results::Results;

/// Draws.
///
/// # Errors
///
/// Files.
pub fn draw(_results: &Results, _folder: &Path) -> Result<Vec<PathBuf>, String> {
    Ok(Vec::new())
}
