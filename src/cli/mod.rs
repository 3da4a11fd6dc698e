//! The command line: flags, subcommands, and the program's texts for the operator.

pub(crate) mod flags;
pub mod health;
pub mod logs;
pub mod tools;
pub mod welcome;

use std::error::Error;
use std::ffi::OsString;
use std::fmt;

use crate::cli::flags::Flags;
use crate::cli::tools::{Alone, Tool, WithSettings};
use crate::config::{Config, ConfigErrors, EX_CONFIG, EX_USAGE, Settings, Source};

/// The command line's request, with all settings read and valid.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Invocation {
    /// Run with these settings.
    Run(Box<Config>),
    /// `--check-health`: ask the server that has these settings.
    CheckHealth(Box<Config>),
    /// `--check-config` found nothing wrong with these settings; the files that they name are still to be checked. The
    /// text, one line a setting, is for standard output; exit 0.
    Checked(String, Box<Config>),
    /// `--help` or `--version`. The text is for standard output; exit 0.
    Help(String),
    /// A subcommand that needs no settings.
    Alone(Alone),
    /// A subcommand, and the settings it uses.
    WithSettings(WithSettings, Box<Config>),
}

/// Reads the command line, and all settings if the command needs them.
///
/// `args` are the process's arguments, its name first. `env` and `open_files_max` are as in `Settings::read`.
///
/// # Errors
///
/// [`LoadError::Usage`] for a command line that cannot be parsed, otherwise [`LoadError::Config`] with every error:
/// where it is, the value, and what is wanted. The text is for standard error, the status is [`LoadError::exit_code`].
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<String>,
    open_files_max: u64,
) -> Result<Invocation, LoadError> {
    let flags = match flags::parse(args)? {
        Flags::Help(text) => return Ok(Invocation::Help(text)),
        Flags::Given(flags) => flags,
    };
    let tool = match flags.tool {
        Some(Tool::Alone(tool)) => return Ok(Invocation::Alone(tool)),
        Some(Tool::WithSettings(tool)) => Some(tool),
        None => None,
    };
    let by_flag = flags.config.map(|path| (path, Source::Flag));
    let file = by_flag.or_else(|| env("TIDEGATE_CONFIG").map(|path| (path.into(), Source::Env)));
    let settings = Settings::read(file, env, flags.layer, open_files_max).map_err(LoadError::Config)?;
    Ok(if let Some(tool) = tool {
        Invocation::WithSettings(tool, Box::new(settings.config))
    } else if flags.check {
        Invocation::Checked(settings.summary(), Box::new(settings.config))
    } else if flags.check_health {
        Invocation::CheckHealth(Box::new(settings.config))
    } else {
        Invocation::Run(Box::new(settings.config))
    })
}

/// Why [`load`] has no settings to run with.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The command line, or that of a subcommand, cannot be parsed. The text says why and points to `--help`.
    Usage(String),
    /// The settings are wrong.
    Config(ConfigErrors),
}

impl LoadError {
    /// The status to exit with, from `sysexits(3)`: 64 for usage, 78 for settings. Restarting helps with neither.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EX_USAGE,
            Self::Config(_) => EX_CONFIG,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Config(errors) => errors.fmt(f),
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Usage(_) => None,
            Self::Config(errors) => Some(errors),
        }
    }
}
