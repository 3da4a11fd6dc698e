//! Why there is nothing to measure.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is nothing to measure.
#[derive(Debug)]
#[non_exhaustive]
pub enum TargetError {
    /// A program or file is not installed, and the Debian package that has it.
    Missing {
        /// The program or file.
        what: String,
        /// The package.
        package: &'static str,
    },
    /// The compiler, and what it said.
    Build(PathBuf, String),
    /// The binary can't be started.
    Start(PathBuf, io::Error),
    /// It ended, or did not listen in time; with the end of what it wrote.
    Silent(PathBuf, String),
    /// `--url` isn't `http://host:port/base`.
    Url(String),
    /// The host of `--url` has no address.
    Unknown(String, io::Error),
    /// No port, no log file.
    Io(io::Error),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, package } => {
                write!(f, "{what} is not installed (Debian package {package})")
            }
            Self::Build(compiler, log) => write!(f, "{} failed: {log}", compiler.display()),
            Self::Start(path, err) => write!(f, "can't start {}: {err}", path.display()),
            Self::Silent(path, log) => write!(f, "{} does not listen: {log}", path.display()),
            Self::Url(url) => write!(f, "{url:?}: wanted http://host:port/base"),
            Self::Unknown(url, err) => write!(f, "{url}: {err}"),
            Self::Io(err) => write!(f, "can't prepare a server: {err}"),
        }
    }
}

impl std::error::Error for TargetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(_, err) | Self::Unknown(_, err) | Self::Io(err) => Some(err),
            Self::Missing { .. } | Self::Build(..) | Self::Silent(..) | Self::Url(_) => None,
        }
    }
}

impl From<io::Error> for TargetError {
    fn from(err: io::Error) -> Self {
        Self::Io(err)
    }
}
