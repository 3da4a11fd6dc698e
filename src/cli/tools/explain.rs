//! Explains why a token is refused: what was found in it, and what is wanted. For operators only; the server does not
//! tell a client the reason.

use jsonwebtoken::{AlgorithmFamily, DecodingKey, crypto};
use serde_json::Value;

use crate::auth::claims::{Claims, Parts, REFUSED_MEMBERS, TOKEN_BYTES_MAX};
use crate::auth::token_error::TokenError;
use crate::auth::tokens::{Tokens, read_material};
use crate::cli::tools::inspect::Dissected;
use crate::cli::tools::quoted;
use crate::cli::tools::time::when;
use crate::config::{Config, KeySource, TokenKey};
use crate::rights::revocation::TOKEN_NAME_BYTES_MAX;
use crate::types::name::UserName;

/// What an explanation needs.
pub(super) struct Case<'a> {
    pub(super) token: &'a str,
    pub(super) tokens: &'a Tokens,
    pub(super) config: &'a Config,
    pub(super) now: u64,
}

impl Case<'_> {
    /// Why the token is refused, in one line.
    pub(super) fn explain(&self, err: TokenError) -> String {
        match err {
            TokenError::Form => self.form(),
            TokenError::Header => self.header(),
            TokenError::Algorithm => self.algorithm(),
            TokenError::UnknownKey => self.unknown_key(),
            TokenError::Signature => self.signature(),
            TokenError::NoKeys => {
                "none of the keys that could be read signed it, and some could not".to_owned()
            }
            // Only a running server has revocations.
            TokenError::Revoked => err.to_string(),
            TokenError::Claims
            | TokenError::Expired
            | TokenError::NotYet
            | TokenError::Issuer
            | TokenError::Audience => {
                let claims = Parts::of(self.token).and_then(|parts| parts.claims()).unwrap_or_default();
                format!("the signature is right, but {}", self.claims(err, &claims))
            }
        }
    }

    fn form(&self) -> String {
        let (token, parts) = (self.token, self.token.split('.').count());
        let dissected = Dissected::of(token);
        if token.len() > TOKEN_BYTES_MAX {
            format!("it has {} bytes, and a token has {TOKEN_BYTES_MAX} at most", token.len())
        } else if token.contains(char::is_whitespace) {
            "there is white space in it; wanted the token alone, without `Bearer` and in one line".to_owned()
        } else if parts == 5 {
            "it has five parts, so it is encrypted (JWE); wanted one that is signed, with three".to_owned()
        } else if parts != 3 {
            format!("it has {parts} part(s) with dots between them; a signed JWT has three")
        } else if token.ends_with('.') {
            "it has no signature".to_owned()
        } else if dissected.header.is_none_or(|header| !header.get("alg").is_some_and(Value::is_string)) {
            "its header is not a JSON object with the name of an algorithm (alg), in base64url without padding".to_owned()
        } else {
            "its header or its claims are not a JSON object in which every name occurs once, in base64url without padding".to_owned()
        }
    }

    fn header(&self) -> String {
        let header = Dissected::of(self.token).header.unwrap_or_default();
        let found: Vec<&str> =
            REFUSED_MEMBERS.into_iter().filter(|name| header.contains_key(*name)).collect();
        if found.is_empty() {
            let typ = header.get("typ").and_then(Value::as_str).unwrap_or_default();
            return format!("its typ is {}; wanted JWT, at+jwt or none", quoted(typ));
        }
        format!(
            "its header has {}, which is never used: only the settings say which keys count",
            found.join(", ")
        )
    }

    /// The algorithms of the keys.
    fn algorithms(&self) -> String {
        let mut names: Vec<String> =
            self.tokens.keys().iter().map(|(algorithm, _)| format!("{algorithm:?}")).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }

    /// `alg` and `kid` of the header.
    fn names(&self) -> (String, String) {
        let header = Parts::of(self.token).map(|parts| parts.header);
        header.map(|header| (header.alg, header.kid.unwrap_or_default())).unwrap_or_default()
    }

    fn algorithm(&self) -> String {
        let (alg, kid) = self.names();
        let keys = self.tokens.keys();
        let named = keys.iter().find(|(_, name)| !kid.is_empty() && name.as_deref() == Some(&*kid));
        match named {
            Some((algorithm, _)) => format!(
                "its alg is {}, and the key {} is for {algorithm:?}; in a set of keys, alg says what a key is for",
                quoted(&alg),
                quoted(&kid)
            ),
            None => format!("its alg is {}, and the keys are for {}", quoted(&alg), self.algorithms()),
        }
    }

    fn unknown_key(&self) -> String {
        let (alg, kid) = self.names();
        let keys = self.tokens.keys();
        let fitting = keys.iter().filter(|(algorithm, _)| format!("{algorithm:?}") == alg);
        let named: Vec<String> = fitting.filter_map(|(_, kid)| kid.as_deref().map(quoted)).collect();
        if named.is_empty() {
            return self.algorithm();
        }
        format!("its kid is {}, which names none of the keys for {alg}: {}", quoted(&kid), named.join(", "))
    }

    fn signature(&self) -> String {
        let (alg, kid) = self.names();
        let keys = self.tokens.keys();
        let fits = |name: &Option<String>| kid.is_empty() || name.as_ref().is_none_or(|name| *name == kid);
        let tried =
            keys.iter().filter(|(algorithm, name)| format!("{algorithm:?}") == alg && fits(name)).count();
        if let Some(reading) = self.other_reading() {
            return reading;
        }
        let changed = "it was signed with another, or changed afterwards";
        format!("the signature is by none of the keys for {alg} that it may be by ({tried}): {changed}")
    }

    /// A secret is text, and the program that makes tokens may read the same characters as another secret.
    fn other_reading(&self) -> Option<String> {
        let parts = Parts::of(self.token).ok()?;
        let signed = |key: &&TokenKey| {
            let (_, material) = read_material("token_keys", key).ok()?;
            let secret = DecodingKey::from_secret(&key.other_reading(&material)?);
            crypto::verify(parts.signature, parts.message.as_bytes(), &secret, key.algorithm).ok()
        };
        let is_meant = |key: &&TokenKey| {
            key.algorithm.family() == AlgorithmFamily::Hmac
                && format!("{:?}", key.algorithm) == parts.header.alg
        };
        let mut keys = self.config.token_keys.iter().filter(is_meant);
        let key = keys.find(|key| signed(key) == Some(true))?;
        let alg = key.algorithm;
        Some(match &key.source {
            KeySource::File(path) => format!(
                "it was signed with what {} is in base64, and {alg:?}:file: takes the text as it is; wanted the text as the \
                 secret where tokens are made, or {alg:?}:base64: and the same text here",
                path.display()
            ),
            KeySource::Base64(_) => format!(
                "it was signed with the text behind {alg:?}:base64: as it is, and that is decoded here; wanted it decoded \
                 where tokens are made, or {alg:?}:file: and a file with the text here"
            ),
        })
    }

    fn claims(&self, err: TokenError, claims: &Claims) -> String {
        let leeway = humantime::format_duration(self.config.token_leeway);
        let time = |name: &str| claims.time(name).ok().flatten().map(|at| (at, when(at, self.now)));
        match err {
            TokenError::Expired => {
                let (_, exp) = time("exp").unwrap_or_default();
                format!("it has expired: its exp is {exp} (token_leeway is {leeway})")
            }
            TokenError::NotYet => {
                let (name, (_, at)) = ["nbf", "iat"]
                    .into_iter()
                    .map(|name| (name, time(name).unwrap_or_default()))
                    .max_by_key(|(_, (at, _))| *at)
                    .unwrap_or_default();
                format!("it is not valid yet: its {name} is {at} (token_leeway is {leeway})")
            }
            TokenError::Issuer => {
                let wanted = self.config.token_issuer.as_deref().unwrap_or_default();
                format!("its iss is {}, and token_issuer is {}", shown(claims.get("iss")), quoted(wanted))
            }
            TokenError::Audience => self.audience(claims),
            _ => self.odd_claim(claims),
        }
    }

    fn audience(&self, claims: &Claims) -> String {
        let found = shown(claims.get("aud"));
        let wanted: Vec<String> = self.config.token_audience.iter().map(|name| quoted(name)).collect();
        if wanted.is_empty() {
            return format!(
                "its aud is {found}, and token_audience is empty: then tokens with an aud are refused"
            );
        }
        format!("its aud is {found}; wanted one of token_audience: {}", wanted.join(", "))
    }

    /// Describes the claim that is missing or has the wrong type.
    fn odd_claim(&self, claims: &Claims) -> String {
        let permissions = self.config.token_permissions_claim.as_str();
        let user = |name: &str| {
            let text = claims.text(name).ok()?;
            text.is_none_or(|text| UserName::new(text).is_ok()).then_some(())
        };
        let id = |name: &str| {
            let text = claims.text(name).ok()?;
            text.is_none_or(|text| text.len() <= TOKEN_NAME_BYTES_MAX).then_some(())
        };
        let time = |name: &str| claims.time(name).ok().map(drop);
        let checks: [(&str, Option<()>, &str); 8] = [
            ("exp", claims.time("exp").ok().flatten().map(drop), "a time, in seconds since 1970"),
            ("nbf", time("nbf"), "a time, in seconds since 1970"),
            ("iat", time("iat"), "a time, in seconds since 1970"),
            ("sub", user("sub"), "a user's name: 1 to 128 bytes without control characters"),
            ("jti", id("jti"), "a text of at most 256 bytes"),
            ("iss", claims.text("iss").ok().map(drop), "a text"),
            ("aud", claims.texts("aud").ok().map(drop), "a text or a list of texts"),
            (
                permissions,
                claims.words(permissions).ok().map(drop),
                "a list of texts, or one with spaces between them",
            ),
        ];
        let odd = checks.iter().find(|(_, right, _)| right.is_none());
        odd.map_or_else(
            || TokenError::Claims.to_string(),
            |(name, _, wanted)| format!("its {name} is {}; wanted {wanted}", shown(claims.get(name))),
        )
    }
}

/// Formats a claim for people.
fn shown(claim: Option<&Value>) -> String {
    match claim {
        None => "missing".to_owned(),
        Some(Value::String(text)) => quoted(text),
        Some(Value::Array(several)) if several.iter().all(Value::is_string) => {
            let texts = several.iter().take(LISTED_MAX).filter_map(Value::as_str).map(quoted);
            let more = if several.len() > LISTED_MAX { ", …" } else { "" };
            format!("{}{more}", texts.collect::<Vec<_>>().join(", "))
        }
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(_)) => "true or false".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Array(_)) => "a list".to_owned(),
        Some(Value::Object(_)) => "an object".to_owned(),
    }
}

/// Entries of a list that are shown.
pub(super) const LISTED_MAX: usize = 10;
