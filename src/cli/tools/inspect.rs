//! `tidegate token --inspect`: shows a token's content. Nothing is verified, and the output says so.

use std::fmt::Write as _;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Arg, ArgAction, ArgMatches, Error};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::tools::credential::Credential;
use crate::cli::tools::time::when;
use crate::cli::tools::{NO, Output, misuse};
use crate::types::plain_text::plain;

/// The flag.
pub(super) const FLAG: &str = "inspect";

/// A token to show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inspect {
    token: Credential,
}

pub(super) fn flag() -> Arg {
    Arg::new(FLAG)
        .long(FLAG)
        .action(ArgAction::SetTrue)
        .help("Show the content of a token, unverified, instead of making one")
}

/// The first two parts of a token, whatever the rest is.
pub(super) struct Dissected {
    pub(super) header: Option<Map<String, Value>>,
    pub(super) claims: Option<Map<String, Value>>,
}

impl Dissected {
    pub(super) fn of(token: &str) -> Self {
        let mut parts = token.split('.').map(|part| {
            let bytes = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
            serde_json::from_slice(&bytes).ok()
        });
        Self { header: parts.next().flatten(), claims: parts.next().flatten() }
    }
}

/// Printed in this order.
#[derive(Serialize)]
struct Shown<'a> {
    header: &'a Map<String, Value>,
    claims: &'a Map<String, Value>,
}

/// Claims that are times (RFC 7519 §4.1).
const TIMES: [&str; 3] = ["iat", "nbf", "exp"];

impl Inspect {
    /// Returns `None` if the flag is not given.
    pub(super) fn read(matches: &ArgMatches) -> Result<Option<Self>, Error> {
        if matches.get_flag(FLAG) {
            return Credential::read(matches).map(|token| Some(Self { token }));
        }
        if Credential::is_given(matches) {
            return Err(misuse("a token as an argument needs --inspect; without it a token is made"));
        }
        Ok(None)
    }

    pub(super) fn run(&self, stdin: &mut dyn Read, now: u64) -> Output {
        let token = match self.token.text(stdin) {
            Ok(token) => token,
            Err(output) => return output,
        };
        let Dissected { header: Some(header), claims: Some(claims) } = &Dissected::of(&token) else {
            let err = "it is no JWT: header and claims have to be JSON objects in base64url, with a dot between them";
            return Output { err: err.to_owned(), code: NO, ..Output::default() };
        };
        let mut err = String::new();
        for name in TIMES {
            if let Some(at) = claims.get(name).and_then(Value::as_f64).filter(|at| *at >= 0.0) {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
                let at = at as u64;
                writeln!(err, "{name} is {}", when(at, now)).expect("a String takes any text");
            }
        }
        err += "Nothing was verified: anyone can write such a token. `tidegate check` verifies it.";
        let shown = serde_json::to_string_pretty(&Shown { header, claims });
        Output { out: plain_lines(&shown.expect("it was JSON")), err, code: 0 }
    }
}

/// Escapes characters that JSON allows (RFC 8259 §7) and that control a terminal or reverse text.
fn plain_lines(json: &str) -> String {
    json.split_inclusive('\n').map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(header: &str, claims: &str) -> Output {
        let [header, claims] = [header, claims].map(|json| URL_SAFE_NO_PAD.encode(json));
        let token = Credential::Argument(format!("{header}.{claims}.signature"));
        Inspect { token }.run(&mut std::io::empty(), 1_000_000_000)
    }

    #[test]
    fn what_it_says_is_shown_with_its_times_in_words() {
        let output = inspect(r#"{"alg":"none"}"#, r#"{"exp":999999820,"nbf":-1,"iat":1e300,"sub":"a"}"#);
        let shown: Value = serde_json::from_str(&output.out).expect("JSON");
        assert_eq!(
            (&shown["header"]["alg"], &shown["claims"]["sub"]),
            (&Value::from("none"), &Value::from("a"))
        );
        assert!(output.err.contains("exp is 2001-09-09T01:43:40Z, 3 minutes ago\n"), "{}", output.err);
        assert!(output.err.contains("iat is in ") && !output.err.contains("nbf"), "{}", output.err);
        assert!(output.err.contains("Nothing was verified") && output.code == 0);
    }

    #[test]
    fn no_terminal_obeys_it() {
        let output = inspect("{}", r#"{"sub":"\u001b[2J\u009b2J\u007f\u2028\u202egnp.exe","iat":1}"#);
        assert!(!output.out.chars().any(|c| c.is_control() && c != '\n'), "{:?}", output.out);
        assert!(output.out.contains(r"\u001b[2J\u009b2J\u007f\u2028\u202egnp.exe"), "{}", output.out);
        assert!(serde_json::from_str::<Value>(&output.out).is_ok(), "its lines are still JSON");
    }

    #[test]
    fn what_is_no_token_is_told() {
        for (header, claims) in [("[]", "{}"), ("{}", "1"), ("", "{}")] {
            assert_eq!(inspect(header, claims).code, NO, "{header} {claims}");
        }
    }
}
