//! Keys of the application's own backends: to publish, to administrate, or to listen for others. The settings hold only
//! their hashes. A key has 256 random bits, so a plain hash cannot be reversed by guessing.
//!
//! ```toml
//! [orders]
//! hash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! permissions = ["sse:publish:orders-*"]
//! publish_rate = "100/s"
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::auth::key::fingerprint;
use crate::config::{MASK, parse_rate, read_text};
use crate::rights::grant::{Grant, PermissionError};
use crate::rights::identity::{ApiKeyName, Identity};

/// Keys one server may have, including old ones that are still valid.
pub const API_KEYS_MAX: usize = 1024;

/// Bytes the name of a key may have.
pub const KEY_NAME_BYTES_MAX: usize = 64;

/// The prefix of every key, so that a leaked key can be recognised.
const PREFIX: &str = "tgk_";

/// Whether `credential` is an API key. Everything else is a token.
#[must_use]
pub fn is_api_key(credential: &str) -> bool {
    credential.starts_with(PREFIX)
}

/// Generates a new key. Show it once.
#[must_use]
pub fn generate() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has random numbers");
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The hash of `key`, as the settings hold it.
#[must_use]
pub fn hash(key: &str) -> String {
    let mut text = String::from(HASH_PREFIX);
    for byte in digest(&SHA256, key.as_bytes()).as_ref() {
        write!(text, "{byte:02x}").expect("a String accepts any text");
    }
    text
}

const HASH_PREFIX: &str = "sha256:";

/// All keys.
pub struct ApiKeys {
    keys: Vec<([u8; 32], Arc<Identity>)>,
}

/// Why a file of keys can't be used.
#[derive(Debug)]
pub struct ApiKeysError {
    path: String,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Unreadable(io::Error),
    Form(String),
    Repeated(usize, String),
    Name(String),
    Hash(String),
    Twins(String),
    Permission(String, usize, PermissionError),
    Rate(String),
    TooMany,
}

impl fmt::Display for ApiKeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "api_keys_file: {}: {}", self.path, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(err) => write!(f, "cannot be read: {err}"),
            Self::Form(reason) => f.write_str(reason),
            Self::Repeated(line, name) => write!(
                f,
                "line {line}: [{name}] is there twice; wanted both hashes in one, hash = [\"sha256:…\", \"sha256:…\"]"
            ),
            Self::Name(name) => write!(f, "[{name}]: wanted a name of 1 to 64 bytes of A-Z a-z 0-9 . _ -"),
            Self::Hash(name) => {
                write!(
                    f,
                    "[{name}] hash: wanted sha256: and 64 hexadecimal digits, as `tidegate key` prints it"
                )
            }
            Self::Twins(name) => write!(f, "[{name}] hash: another key has the same one"),
            Self::Permission(name, index, err) => {
                write!(f, "[{name}] permissions: entry {} {err}", index + 1)
            }
            Self::Rate(name) => write!(f, "[{name}] publish_rate: wanted a rate such as 100/s"),
            Self::TooMany => write!(f, "wanted at most {API_KEYS_MAX} hashes"),
        }
    }
}

impl std::error::Error for ApiKeysError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    hash: Hashes,
    permissions: Vec<String>,
    publish_rate: Option<String>,
}

/// Several hashes while a key is being replaced.
#[derive(Deserialize)]
#[serde(untagged)]
enum Hashes {
    One(String),
    Several(Vec<String>),
}

impl ApiKeys {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// The place that is wrong, and what would be right.
    pub fn load(path: &Path) -> Result<Self, ApiKeysError> {
        let unreadable =
            |err| ApiKeysError { path: path.display().to_string(), reason: Reason::Unreadable(err) };
        Self::from_toml(path, &read_text(path).map_err(unreadable)?)
    }

    /// Parses `text`, the content of the file at `path`.
    ///
    /// # Errors
    ///
    /// The place that is wrong, and what would be right.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self, ApiKeysError> {
        Self::parse(text).map_err(|reason| ApiKeysError { path: path.display().to_string(), reason })
    }

    /// Checks whether `text` is valid content of such a file.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn check(text: &str) -> Result<(), String> {
        Self::parse(text).map(drop).map_err(|reason| reason.to_string())
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        let entries: BTreeMap<String, Entry> = toml::from_str(text).map_err(|err| form(text, &err))?;
        let mut keys: Vec<([u8; 32], Arc<Identity>)> = Vec::new();
        for (name, entry) in entries {
            for (hash, identity) in entry.read(&name)? {
                if keys.iter().any(|(other, _)| *other == hash) {
                    return Err(Reason::Twins(name));
                }
                if keys.len() == API_KEYS_MAX {
                    return Err(Reason::TooMany);
                }
                keys.push((hash, Arc::new(identity)));
            }
        }
        Ok(Self { keys })
    }

    /// Finds the identity of a presented key. The time this takes depends on the number of keys, not on which one
    /// matches.
    #[must_use]
    pub fn find(&self, presented: &str) -> Option<Arc<Identity>> {
        let presented = digest(&SHA256, presented.as_bytes());
        let mut found = None;
        for (hash, identity) in &self.keys {
            if verify_slices_are_equal(hash, presented.as_ref()).is_ok() {
                found = Some(identity);
            }
        }
        found.cloned()
    }

    /// Whether a key is still valid and has the same permissions as when `identity` was found.
    #[must_use]
    pub fn vouch_for(&self, identity: &Identity) -> bool {
        self.keys.iter().any(|(_, known)| known.key == identity.key && known.grant == identity.grant)
    }
}

impl Entry {
    fn read(self, name: &str) -> Result<Vec<([u8; 32], Identity)>, Reason> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=KEY_NAME_BYTES_MAX).contains(&name.len());
        // Names appear in logs and metrics: a key in a name would appear there too.
        if !fits || !name.bytes().all(is_plain) || name.contains(PREFIX) {
            return Err(Reason::Name(masked(&name.escape_default().to_string())));
        }
        let (grant, errors) = Grant::parse(self.permissions.iter().map(String::as_str));
        if let Some((index, err)) = errors.into_iter().next() {
            return Err(Reason::Permission(name.to_owned(), index, err));
        }
        let rate = |text: String| parse_rate(&text).ok_or_else(|| Reason::Rate(name.to_owned()));
        let publish_rate = self.publish_rate.map(rate).transpose()?;
        let hashes = match self.hash {
            Hashes::One(hash) => vec![hash],
            Hashes::Several(hashes) => hashes,
        };
        let api_key = ApiKeyName { name: name.into(), publish_rate };
        let grant = Arc::new(grant);
        let identity = |hash: [u8; 32]| Identity {
            user: None,
            token: None,
            issued: None,
            expires: None,
            grant: grant.clone(),
            key: fingerprint(&hash),
            api_key: Some(Box::new(api_key.clone())),
        };
        let read = |hash: &String| parse_hash(hash).ok_or_else(|| Reason::Hash(name.to_owned()));
        hashes.iter().map(|hash| read(hash).map(|hash| (hash, identity(hash)))).collect()
    }
}

/// The line where the text is wrong, and the reason, without the line itself.
fn form(text: &str, err: &toml::de::Error) -> Reason {
    let at = err.span().map_or(0, |span| span.start);
    let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let before = &text.as_bytes()[..at.min(text.len())];
    if err.message() == DUPLICATE_KEY && before.ends_with(b"[") {
        let name = err.span().and_then(|span| text.get(span)).unwrap_or_default();
        return Reason::Repeated(line, masked(name));
    }
    Reason::Form(format!("line {line}: {}", masked(err.message())))
}

/// The parser's message for a repeated name.
const DUPLICATE_KEY: &str = "duplicate key";

/// `text` without the keys in it: a key that was written in place of its hash must not appear in a log.
fn masked(text: &str) -> String {
    let mut parts = text.split(PREFIX);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        shown.push_str(MASK);
        shown.push_str(part.trim_start_matches(is_part));
    }
    shown
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix(HASH_PREFIX)?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::grant::Action;

    #[test]
    fn a_new_key_is_found_by_its_hash_and_no_other_is() {
        let (key, other) = (generate(), generate());
        assert!(is_api_key(&key) && key.len() == 47 && key != other);
        let text = format!(
            "[a]\nhash = \"{}\"\npermissions = [\"sse:publish:a-*\"]\npublish_rate = \"5/s\"\n[b]\nhash = [\"{}\"]\npermissions = []",
            hash(&key),
            hash("tgk_b"),
        );
        let keys = ApiKeys::parse(&text).expect("a file of keys");
        let found = keys.find(&key).expect("it is there");
        assert!(found.allows(Action::Publish("a-1")) && !found.allows(Action::Publish("b")));
        let name = found.api_key.as_ref().expect("it is an API key");
        assert_eq!((&*name.name, name.publish_rate.map(|rate| rate.events)), ("a", Some(5)));
        assert!(keys.vouch_for(&found));
        let less = ApiKeys::parse(&text.replace("a-*", "a-1")).expect("a file of keys");
        assert!(!less.vouch_for(&found), "it is there, and allows less");
        assert_eq!(
            keys.find("tgk_b").and_then(|found| Some(found.api_key.as_ref()?.name.to_string())).as_deref(),
            Some("b")
        );
        for wrong in [&other, "", "tgk_", &key[..46], &format!("{key}A"), &hash(&key)] {
            assert!(keys.find(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let good = hash("x");
        for (text, told) in [
            ("x = 1".to_owned(), "line 1: invalid type"),
            (format!("\norders = \"{}\"", generate()), "line 2: invalid type: string \"***\""),
            (format!("[{}]\nhash = \"{good}\"\npermissions = []", generate()), "[***]: wanted a name"),
            (format!("[a]\nhash = \"{}", generate()), "line 2: "),
            (format!("[a]\nhash = \"{}\"\npermissions = []", generate()), "[a] hash: wanted sha256:"),
            (format!("[a]\n{} = 1", generate()), "line 2: unknown field `***`"),
            (format!("[a b]\nhash = \"{good}\"\npermissions = []"), ""),
            (format!("[\"a b\"]\nhash = \"{good}\"\npermissions = []"), "[a b]: wanted a name"),
            ("[a]\nhash = \"secret\"\npermissions = []".to_owned(), "[a] hash: wanted sha256:"),
            (format!("[a]\nhash = \"{good}\""), "permissions"),
            (
                format!("[a]\nhash = \"{good}\"\npermissions = [\"vip\", \"sse:reed\"]"),
                "[a] permissions: entry 2 is none of",
            ),
            (
                format!("[a]\nhash = \"{good}\"\npermissions = []\npublish_rate = \"fast\""),
                "[a] publish_rate: wanted",
            ),
            (format!("[a]\nhash = \"{good}\"\npermissions = []\nrate = 1"), "rate"),
            (
                format!("[a]\nhash = \"{good}\"\npermissions = []\n[b]\nhash = \"{good}\"\npermissions = []"),
                "[b] hash: another",
            ),
            (
                format!(
                    "[a]\nhash = \"{good}\"\npermissions = []\n\n[a]\nhash = \"{}\"\npermissions = []",
                    hash("y")
                ),
                "line 5: [a] is there twice; wanted both hashes in one, hash = [",
            ),
            (format!("[a]\nhash = \"{good}\"\nhash = \"{good}\"\npermissions = []"), "line 3: duplicate key"),
        ] {
            let Err(err) = ApiKeys::from_toml(Path::new("f"), &text) else { panic!("{text}") };
            let told_is = err.to_string();
            assert!(told_is.starts_with("api_keys_file: f: ") && told_is.contains(told), "{told_is}");
            assert!(!format!("{told_is}{err:?}").contains(PREFIX), "{err:?}");
        }
    }
}
