//! Errors of settings, for the operator: the place, the value found, and what would be right.

use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// The default in the table of settings.
    Default,
    /// The TOML file.
    File(Place),
    /// The variable `TIDEGATE_<KEY>`.
    Env,
    /// The flag `--<key>`.
    Flag,
}

/// A place in the TOML file, shown as `FILE:LINE:COLUMN`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// As it was given.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// One error. Shown on one line, without a full stop.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can't be read.
    Unreadable {
        /// What names the file.
        source: Source,
        /// As it was given.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The file is not TOML.
    Syntax {
        /// The first place that is not TOML.
        place: Place,
        /// The parser's reason.
        reason: String,
    },
    /// The file has a key that no setting has.
    UnknownKey {
        /// Where the key is.
        place: Place,
        /// As written.
        key: String,
        /// The setting that was probably meant.
        nearest: Option<&'static str>,
        /// What would be right if it is not that one.
        wanted: String,
    },
    /// A table of the file lacks a key.
    MissingKey {
        /// Where the table begins.
        place: Place,
        /// The key.
        key: &'static str,
        /// What would be right, bounds included.
        wanted: String,
    },
    /// A setting does not accept the value, or the value conflicts with another setting.
    Value {
        /// Where it was given.
        source: Source,
        /// The setting.
        key: &'static str,
        /// As given.
        value: String,
        /// What would be right, bounds included.
        wanted: String,
    },
    /// The open files limit leaves no room for connections.
    OpenFiles {
        /// The soft `RLIMIT_NOFILE`.
        open_files_max: u64,
        /// The least value that would do.
        open_files_min: u64,
        /// The shards, which take most of it apart from connections.
        shards: usize,
    },
}

/// All errors found, at least one. Shown one per line.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(crate) fn new(errors: Vec<ConfigError>) -> Self {
        debug_assert!(!errors.is_empty());
        Self(errors)
    }

    /// The errors: those of the file first, then values in the order of the table.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Source {
    /// Writes `key` the way this source spells it.
    fn name(&self, f: &mut fmt::Formatter<'_>, key: &str) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default {key}"),
            Self::File(place) => write!(f, "{place}: {key}"),
            Self::Env => write!(f, "TIDEGATE_{}", key.to_ascii_uppercase()),
            Self::Flag => write!(f, "--{}", key.replace('_', "-")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { source, path, reason } => {
                source.name(f, "config")?;
                write!(f, "={:?}: wanted a readable file: {reason}", path.display().to_string())
            }
            Self::Syntax { place, reason } => write!(f, "{place}: {reason}"),
            Self::UnknownKey { place, key, nearest: Some(nearest), .. } => {
                write!(f, "{place}: unknown key {key:?}: did you mean {nearest}?")
            }
            Self::UnknownKey { place, key, nearest: None, wanted } => {
                write!(f, "{place}: unknown key {key:?}: wanted {wanted}")
            }
            Self::MissingKey { place, key, wanted } => {
                write!(f, "{place}: {key} is missing: wanted {wanted}")
            }
            Self::Value { source, key, value, wanted } => {
                source.name(f, key)?;
                write!(f, "={value:?}: wanted {wanted}")
            }
            Self::OpenFiles { open_files_max, open_files_min, shards } => write!(
                f,
                "RLIMIT_NOFILE={open_files_max}: wanted at least {open_files_min} with shards={shards} (ulimit -n, or \
                 LimitNOFILE= in a unit file)",
            ),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

impl Error for ConfigErrors {}

/// Exit status: the command line was not understood.
pub const EX_USAGE: u8 = 64;

/// Exit status: a setting, or a file that it names, is wrong.
pub const EX_CONFIG: u8 = 78;
