//! A token or an API key for a subcommand, as an argument or on standard input. All users of the machine can see an
//! argument (`ps`), so standard input is the better place.

use std::fmt;
use std::io::Read;

use clap::{Arg, ArgAction, ArgMatches, Error};

use crate::cli::tools::{Output, misuse};

/// Where the credential is.
#[derive(Clone, Eq, PartialEq)]
pub enum Credential {
    /// On the command line.
    Argument(String),
    /// On standard input.
    Stdin,
}

impl fmt::Debug for Credential {
    /// Without the credential's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argument(_) => "Argument",
            Self::Stdin => "Stdin",
        })
    }
}

/// Bytes of standard input that are read. Tokens have far fewer, and the error for a token that is too long says its
/// length.
const INPUT_BYTES_MAX: u64 = 64 << 10;

const ID: &str = "credential";

impl Credential {
    /// The credential as an argument for clap. It takes several values, so that too many are refused here: clap's error
    /// would repeat the second.
    pub(super) fn arg(help: &'static str) -> Arg {
        Arg::new(ID).value_name("TOKEN").action(ArgAction::Append).num_args(0..).help(help)
    }

    pub(super) fn read(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = matches.get_many::<String>(ID).into_iter().flatten();
        match (given.next(), given.next()) {
            (_, Some(_)) => Err(misuse("wanted one token, in one piece")),
            (None, None) => Ok(Self::Stdin),
            (Some(dash), None) if dash == "-" => Ok(Self::Stdin),
            (Some(text), None) => Ok(Self::Argument(text.clone())),
        }
    }

    /// Whether the command line has one.
    pub(super) fn is_given(matches: &ArgMatches) -> bool {
        matches.get_many::<String>(ID).is_some()
    }

    /// Returns the text, without the white space around it.
    pub(super) fn text(&self, stdin: &mut dyn Read) -> Result<String, Output> {
        let text = match self {
            Self::Argument(text) => text.clone(),
            Self::Stdin => {
                let mut text = String::new();
                let read = stdin.take(INPUT_BYTES_MAX).read_to_string(&mut text);
                read.map_err(|err| Output::misused(format!("standard input cannot be read: {err}")))?;
                text
            }
        };
        match text.trim() {
            "" => Err(Output::misused("there is no token as an argument or on standard input")),
            text => Ok(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_is_read_within_a_bound_and_trimmed() {
        let read = |mut input: &[u8]| Credential::Stdin.text(&mut input).map_err(|output| output.err);
        assert_eq!(read(b" \n a.b.c\r\n").as_deref(), Ok("a.b.c"));
        assert_eq!(read("x".repeat(100_000).as_bytes()).map(|text| text.len()), Ok(64 << 10));
        assert!(read(b" \n").is_err_and(|err| err.contains("no token")));
        assert!(read(b"\xff").is_err_and(|err| err.contains("cannot be read")));
    }

    #[test]
    fn no_log_has_it() {
        assert_eq!(format!("{:?}", Credential::Argument("secret".into())), "Argument");
    }
}
