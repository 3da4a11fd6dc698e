//! The subcommands: make, show and explain tokens and API keys, look into an order on disk, and copy it to Redis. Each takes
//! its arguments from clap and returns text and a status; only `main` prints.
//!
//! Nothing here prints a token, a key or a secret that it was given. A new one is printed once.

mod check;
mod copy;
mod credential;
mod decide;
mod explain;
mod inspect;
mod key;
mod order;
mod time;
mod token;

use std::io::Read;

use clap::{Arg, ArgMatches, Command, Error};

pub use crate::cli::tools::check::Check;
pub use crate::cli::tools::copy::Copy;
pub use crate::cli::tools::credential::Credential;
pub use crate::cli::tools::inspect::Inspect;
pub use crate::cli::tools::key::NewKey;
pub use crate::cli::tools::order::Order;
pub use crate::cli::tools::time::When;
pub use crate::cli::tools::token::NewToken;
use crate::config::{Config, EX_CONFIG, EX_USAGE};

/// The status for "no".
const NO: u8 = 1;

/// The result of a subcommand.
#[derive(Debug, Default)]
pub struct Output {
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
    /// The status to exit with.
    pub code: u8,
}

/// A subcommand with its arguments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tool {
    /// One that needs no settings.
    Alone(Alone),
    /// A subcommand that uses the server's settings.
    WithSettings(WithSettings),
}

/// A subcommand that needs no settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Alone {
    /// `token --inspect`.
    Inspect(Inspect),
    /// `key`.
    Key(NewKey),
    /// `order`.
    Order(Order),
}

/// A subcommand that uses the server's settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WithSettings {
    /// `token`.
    Token(Box<NewToken>),
    /// `check`.
    Check(Check),
    /// `order --copy`.
    Copy(Copy),
}

/// All subcommands. Those that use the server's settings also take its `settings` flags.
#[must_use]
pub fn commands(settings: &[Arg]) -> [Command; 4] {
    [
        token::command().args(settings),
        check::command().args(settings),
        key::command(),
        order::command().args(settings),
    ]
}

impl Tool {
    /// Reads the arguments of the subcommand `name`.
    ///
    /// # Errors
    ///
    /// If an argument is wrong in a way that clap cannot check.
    ///
    /// # Panics
    ///
    /// If there is no such subcommand.
    pub fn read(name: &str, matches: &ArgMatches) -> Result<Self, Error> {
        Ok(match name {
            token::NAME => match Inspect::read(matches)? {
                Some(inspect) => Self::Alone(Alone::Inspect(inspect)),
                None => Self::WithSettings(WithSettings::Token(Box::new(NewToken::read(matches)?))),
            },
            check::NAME => Self::WithSettings(WithSettings::Check(Check::read(matches)?)),
            key::NAME => Self::Alone(Alone::Key(NewKey::read(matches))),
            order::NAME => match Copy::read(matches)? {
                Some(copy) => Self::WithSettings(WithSettings::Copy(copy)),
                None => Self::Alone(Alone::Order(Order::read(matches))),
            },
            name => unreachable!("{name} is no subcommand, so clap reads none"),
        })
    }
}

impl Alone {
    /// Runs the subcommand at `now`, in seconds since 1970.
    #[must_use]
    pub fn run(&self, stdin: &mut dyn Read, now: u64) -> Output {
        match self {
            Self::Inspect(inspect) => inspect.run(stdin, now),
            Self::Key(key) => key.run(),
            Self::Order(order) => order.run(now),
        }
    }
}

impl WithSettings {
    /// Runs the subcommand at `now`, in seconds since 1970.
    #[must_use]
    pub fn run(&self, config: &Config, stdin: &mut dyn Read, now: u64) -> Output {
        match self {
            Self::Token(token) => token.run(config, now),
            Self::Check(check) => check.run(config, stdin, now),
            Self::Copy(copy) => copy.run(config),
        }
    }
}

impl Output {
    /// An error in the arguments that clap did not find.
    fn misused(err: impl Into<String>) -> Self {
        Self { err: err.into(), code: EX_USAGE, ..Self::default() }
    }

    /// An error in the settings.
    fn by_settings(err: impl Into<String>) -> Self {
        Self { err: err.into(), code: EX_CONFIG, ..Self::default() }
    }
}

/// An error of clap's type, for a check that clap does not do.
fn misuse(text: impl std::fmt::Display) -> Error {
    Error::raw(clap::error::ErrorKind::ValueValidation, format!("{text}\n"))
}

/// Formats an error with its cause.
#[must_use]
pub fn with_cause(err: &dyn std::error::Error) -> String {
    match err.source() {
        Some(cause) => format!("{err}: {cause}"),
        None => err.to_string(),
    }
}

/// Quotes a foreign text for one line of output: escaped, and shortened.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

const QUOTED_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_shown_short_and_in_one_line() {
        assert_eq!(quoted("a\"\n\u{1b}[2J\u{202e}"), r#""a\"\n\u{1b}[2J\u{202e}""#);
        assert_eq!(quoted(&"é".repeat(101)).chars().count(), 100 + 3);
    }
}
