//! Settings that name keys: `HS256:base64:…`, `RS256:file:/etc/tidegate/issuer.pem`, and where a set of keys is
//! published.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::{Algorithm, AlgorithmFamily};

use crate::config::kinds::secret::{MASK, Secret};
use crate::config::kinds::upstream::{UpstreamUrl, upstream_url};
use crate::config::kinds::{Kind, Masked, Plain};

/// The most keys, and the most sources of key sets, of one server.
pub const TOKEN_KEYS_MAX: usize = 16;

/// A key for tokens, before it is read.
#[derive(Clone, Eq, PartialEq)]
pub struct TokenKey {
    /// The algorithm it is for.
    pub algorithm: Algorithm,
    /// The place of the key.
    pub source: KeySource,
}

/// The place of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySource {
    /// In a file: a secret in plain text, or a public key in PEM.
    File(PathBuf),
    /// In the settings: a secret in base64.
    Base64(Secret),
}

impl TokenKey {
    /// The bytes of a secret in the settings.
    #[must_use]
    pub fn inline(&self) -> Option<Vec<u8>> {
        match &self.source {
            KeySource::Base64(text) => decode(text.reveal()),
            KeySource::File(_) => None,
        }
    }

    /// The same characters read in the other way, as an issuer may do: a file's text (`material`) decoded from base64,
    /// or the base64 of the settings taken as the secret itself.
    #[must_use]
    pub fn other_reading(&self, material: &[u8]) -> Option<Vec<u8>> {
        match &self.source {
            KeySource::Base64(text) => Some(text.reveal().into()),
            KeySource::File(_) => decode(std::str::from_utf8(material).ok()?.trim()),
        }
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&token_key().shown(self))
    }
}

/// `ALG:file:PATH` or `HS…:base64:TEXT`.
pub(crate) fn token_key() -> TokenKeyKind {
    TokenKeyKind
}

pub(crate) struct TokenKeyKind;

impl Kind for TokenKeyKind {
    type Value = TokenKey;

    fn placeholder(&self) -> &'static str {
        "ALG:SOURCE"
    }

    fn wanted(&self, _: &str) -> String {
        format!(
            "{ALGORITHMS}, and a file such as RS256:file:/etc/tidegate/issuer.pem, or for HS a secret such as \
             HS256:base64:…"
        )
    }

    fn wanted_for(&self, text: &str, _: &str) -> String {
        let (name, source) = text.split_once(':').unwrap_or((text, ""));
        let Ok(algorithm) = name.parse::<Algorithm>() else {
            return format!("{ALGORITHMS} first, as in RS256:file:/etc/tidegate/issuer.pem");
        };
        match (source.split_once(':'), algorithm.family()) {
            (Some(("file", _)), _) => format!("an absolute path after {algorithm:?}:file:"),
            (Some(("base64", _)), AlgorithmFamily::Hmac) => format!("base64 after {algorithm:?}:base64:"),
            (_, AlgorithmFamily::Hmac) => format!("file:/PATH or base64:SECRET after {algorithm:?}:"),
            _ => format!("file:/PATH after {algorithm:?}:, the path of a public key in PEM"),
        }
    }

    fn parse(&self, text: &str) -> Option<TokenKey> {
        let (algorithm, source) = text.split_once(':')?;
        let algorithm: Algorithm = algorithm.parse().ok()?;
        let source = match source.split_once(':')? {
            ("file", path) if path.starts_with('/') => KeySource::File(path.into()),
            ("base64", secret) if algorithm.family() == AlgorithmFamily::Hmac => {
                decode(secret)?;
                KeySource::Base64(Secret::new(secret))
            }
            _ => return None,
        };
        Some(TokenKey { algorithm, source })
    }

    fn print(&self, TokenKey { algorithm, source }: &TokenKey) -> String {
        match source {
            KeySource::File(path) => format!("{algorithm:?}:file:{}", path.display()),
            KeySource::Base64(secret) => format!("{algorithm:?}:base64:{}", secret.reveal()),
        }
    }

    fn shown(&self, key: &TokenKey) -> String {
        match &key.source {
            KeySource::File(_) => self.print(key),
            KeySource::Base64(_) => format!("{:?}:base64:{MASK}", key.algorithm),
        }
    }

    /// Masks everything: a secret in the wrong place is still a secret.
    fn masked(&self, _: &str) -> String {
        MASK.to_owned()
    }
}

const ALGORITHMS: &str =
    "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA";

/// Decodes either alphabet (RFC 4648 §4, §5), padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { alphabet::URL_SAFE } else { alphabet::STANDARD };
    GeneralPurpose::new(&alphabet, lenient).decode(text).ok().filter(|bytes| !bytes.is_empty())
}

/// The place of a JWKS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JwksSource {
    /// In a file.
    File(PathBuf),
    /// At an `https` URL, or an `http` one on this machine.
    Url(UpstreamUrl),
}

impl fmt::Display for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// An absolute path or a URL.
pub(crate) fn jwks_source() -> Masked<JwksSource> {
    Masked {
        plain: Plain {
            placeholder: "SOURCE",
            wanted: |_| {
                "an absolute path, or a URL such as https://issuer.example/.well-known/jwks.json (http only on this machine)"
                    .to_owned()
            },
            parse: parse_source,
            print: |source| match source {
                JwksSource::File(path) => path.display().to_string(),
                JwksSource::Url(url) => upstream_url().print(url),
            },
        },
        shown: JwksSource::to_string,
        mask: |text| upstream_url().masked(text),
    }
}

fn parse_source(text: &str) -> Option<JwksSource> {
    if text.starts_with('/') {
        return Some(JwksSource::File(text.into()));
    }
    UpstreamUrl::parse(text).filter(UpstreamUrl::is_trustworthy).map(JwksSource::Url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTMyYg==";

    #[test]
    fn keys_read_back_and_secrets_are_not_shown() {
        let text = format!("HS256:base64:{SECRET}");
        let key = token_key().parse(&text).expect("a key");
        assert_eq!(token_key().print(&key), text);
        assert_eq!(token_key().shown(&key), "HS256:base64:***");
        assert_eq!(format!("{key:?}"), "HS256:base64:***");
        assert_eq!(key.inline().map(|bytes| bytes.len()), Some(31));
        let text = "ES384:file:/etc/key.pem";
        let key = token_key().parse(text).expect("a key");
        assert_eq!((token_key().shown(&key).as_str(), key.inline()), (text, None));
    }

    #[test]
    fn anything_else_is_no_key() {
        for text in [
            "",
            "HS256",
            "HS256:",
            "HS256:secret",
            "none:file:/a",
            "NONE:base64:aaaa",
            "RS256:base64:aaaa",
            "HS256:base64:",
            "HS256:base64:!",
            "HS256:file:a.key",
            "HS256:https://a",
            "hs256:file:/a",
            "ES512:file:/a",
        ] {
            assert!(token_key().parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn what_is_missing_is_told_without_the_text() {
        for (text, wanted) in [
            ("s3cret", "EdDSA first, as in RS256:file:/etc/tidegate/issuer.pem"),
            ("file:/etc/s3cret", "EdDSA first, as in RS256:file:/etc/tidegate/issuer.pem"),
            ("HS256:file:s3cret", "an absolute path after HS256:file:"),
            ("HS384:base64:s3cret!", "base64 after HS384:base64:"),
            ("HS512:s3cret", "file:/PATH or base64:SECRET after HS512:"),
            ("HS512", "file:/PATH or base64:SECRET after HS512:"),
            ("RS256:base64:s3cret", "file:/PATH after RS256:, the path of a public key in PEM"),
        ] {
            let told = token_key().wanted_for(text, "");
            assert!(told.ends_with(wanted) && !told.contains("s3cret"), "{text}: {told}");
            assert_eq!(token_key().masked(text), MASK);
        }
    }

    #[test]
    fn sets_of_keys_come_from_files_and_from_where_nobody_can_change_them() {
        for text in [
            "/etc/jwks.json",
            "https://a.example/jwks",
            "http://127.0.0.1:1/j",
            "http://[::1]/",
            "http://localhost/j",
        ] {
            assert_eq!(jwks_source().parse(text).map(|source| source.to_string()).as_deref(), Some(text));
        }
        for text in [
            "",
            "jwks.json",
            "http://a.example/jwks",
            "ftp://a",
            "https://",
            "https://user:pw@a.example/",
            "http://127.0.0.1.evil.example/",
        ] {
            assert_eq!(jwks_source().parse(text), None, "{text:?}");
        }
    }
}
