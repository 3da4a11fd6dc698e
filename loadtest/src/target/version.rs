//! Which version of a server is measured.

use std::io;

use super::error::TargetError;
use super::peers;
use super::program::first_line;
use crate::plan::source::Source;

/// What exactly would be measured.
///
/// # Errors
///
/// What is missing, and the package that has it.
pub fn version(source: &Source) -> Result<String, TargetError> {
    match source {
        Source::Server { path, .. } => {
            let missing = || TargetError::Start(path.clone(), io::ErrorKind::NotFound.into());
            first_line(path, &["--version"]).ok_or_else(missing)
        }
        Source::Peer(peer) => peers::version(*peer),
        Source::Running { url, .. } => Ok(url.clone()),
    }
}
