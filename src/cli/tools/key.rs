//! `tidegate key`: makes an API key, and its entry for the settings.

use std::fmt::Write as _;

use clap::{Arg, ArgMatches, Command};

use crate::auth::api_keys::{ApiKeys, generate, hash};
use crate::cli::tools::{Output, token};

pub(super) const NAME: &str = "key";

/// The key to make.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewKey {
    name: String,
    allow: Vec<String>,
    rate: Option<String>,
}

pub(super) fn command() -> Command {
    let name = Arg::new("name").value_name("NAME").required(true).help("The key's name, such as orders");
    let rate = Arg::new("rate")
        .long("rate")
        .value_name("RATE")
        .help("The most events that may be published with it, such as 100/s");
    Command::new(NAME)
        .about("Make an API key for a backend")
        .after_help(
            "The key goes to standard error, once; its entry for `api_keys_file` goes to standard output:\n\
             tidegate key orders --allow sse:publish >> /etc/tidegate/keys.toml",
        )
        .next_line_help(true)
        .args([name, token::allow().required(true), rate])
}

impl NewKey {
    pub(super) fn read(matches: &ArgMatches) -> Self {
        let text = |id: &str| matches.get_one::<String>(id).cloned();
        Self {
            name: text("name").unwrap_or_default(),
            allow: token::texts(matches, "allow"),
            rate: text("rate"),
        }
    }

    pub(super) fn run(&self) -> Output {
        let key = generate();
        let lines = self.lines(&hash(&key));
        // An entry that the server would refuse is not printed.
        if let Err(reason) = ApiKeys::check(&lines) {
            return Output::misused(reason);
        }
        let err = format!("The key of {}, which is not shown again:\n{key}", self.name);
        Output { out: lines, err, code: 0 }
    }

    fn lines(&self, hash: &str) -> String {
        // A JSON string is also a TOML string, on one line whatever it contains.
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let permissions: Vec<String> = self.allow.iter().map(|permission| text(permission)).collect();
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let name = if !self.name.is_empty() && self.name.bytes().all(is_bare) {
            self.name.clone()
        } else {
            text(&self.name)
        };
        let mut lines =
            format!("[{name}]\nhash = {}\npermissions = [{}]\n", text(hash), permissions.join(", "));
        if let Some(rate) = &self.rate {
            writeln!(lines, "publish_rate = {}", text(rate)).expect("a String takes any text");
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, rate: Option<&str>) -> Output {
        let allow = vec!["sse:publish:a-*".to_owned(), "vip".to_owned()];
        NewKey { name: name.into(), allow, rate: rate.map(str::to_owned) }.run()
    }

    #[test]
    fn the_lines_have_its_hash_and_never_the_key() {
        for name in ["orders", "a.b"] {
            let output = new(name, Some("100/s"));
            let key = output.err.lines().last().expect("a key");
            assert!(output.out.contains(&hash(key)) && !output.out.contains(key), "{}", output.out);
            assert!(
                output
                    .out
                    .contains("permissions = [\"sse:publish:a-*\", \"vip\"]\npublish_rate = \"100/s\"\n")
            );
            assert_eq!(ApiKeys::check(&output.out), Ok(()), "{}", output.out);
        }
    }

    #[test]
    fn what_the_server_would_not_take_makes_no_key() {
        for (name, rate, told) in [
            ("", None, "wanted a name"),
            ("a b", None, "[a b]: wanted a name"),
            ("x]\nhash = \"", None, "wanted a name"),
            ("orders", Some("fast"), "publish_rate: wanted"),
        ] {
            let output = new(name, rate);
            assert!(output.err.contains(told), "{}", output.err);
            assert!(!output.err.contains("tgk_") && output.out.is_empty() && output.code == 64);
        }
    }
}
