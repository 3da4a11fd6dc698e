//! The content of a token: its header (RFC 7515 §4.1) and its claims (RFC 7519 §4.1), parsed strictly. Nothing here can
//! be trusted before the signature is verified.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::Value;

use crate::auth::token_error::TokenError;

/// Bytes a token may have.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// A token in its parts.
pub struct Parts<'t> {
    /// The signed part.
    pub message: &'t str,
    /// The signature, in base64url.
    pub signature: &'t str,
    /// The header.
    pub header: Header,
    claims: &'t str,
}

/// The members of a header that are used here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The algorithm it claims to be signed with.
    pub alg: String,
    /// The key it claims to be signed with.
    pub kid: Option<String>,
}

/// Members that bring a key along, set a condition, or belong to something other than a signed token.
pub const REFUSED_MEMBERS: [&str; 7] = ["jku", "jwk", "x5u", "x5c", "crit", "enc", "zip"];

/// The claims, by name.
#[derive(Clone, Debug, Default)]
pub struct Claims(BTreeMap<String, Value>);

impl<'t> Parts<'t> {
    /// Splits a token into its parts.
    ///
    /// # Errors
    ///
    /// [`TokenError::Form`] if it is not exactly a signed JWT; [`TokenError::Header`] if its header tries to choose the
    /// key, has an unknown condition, or belongs to something other than a JWT.
    pub fn of(token: &'t str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Form);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Form)?;
        if claims.contains('.') || decode(signature)?.is_empty() {
            return Err(TokenError::Form);
        }
        // Repeated members are refused, as in claims.
        let members: Claims = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Form)?;
        let text = |name| members.text(name).map_err(|_| TokenError::Form);
        let is_refused = REFUSED_MEMBERS.iter().any(|name| members.get(name).is_some());
        if is_refused || !text("typ")?.is_none_or(is_jwt) {
            return Err(TokenError::Header);
        }
        let alg = text("alg")?.ok_or(TokenError::Form)?.to_owned();
        let header = Header { alg, kid: text("kid")?.map(ToOwned::to_owned) };
        Ok(Self { message, signature, header, claims })
    }

    /// Parses the claims. Call this after the signature is verified.
    ///
    /// # Errors
    ///
    /// [`TokenError::Form`] if they are not one JSON object, or a name is repeated.
    pub fn claims(&self) -> Result<Claims, TokenError> {
        serde_json::from_slice(&decode(self.claims)?).map_err(|_| TokenError::Form)
    }
}

/// The media type of tokens, and of access tokens (RFC 7519 §5.1, RFC 9068 §2.1).
fn is_jwt(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Form)
}

impl Claims {
    /// A claim of any type.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The names of the claims, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A claim that has to be a string.
    ///
    /// # Errors
    ///
    /// [`TokenError::Claims`] if it is anything else.
    pub fn text(&self, name: &str) -> Result<Option<&str>, TokenError> {
        self.get(name).map(|value| value.as_str().ok_or(TokenError::Claims)).transpose()
    }

    /// A claim that has to be a time: a number of seconds since 1970. Fractions are cut off.
    ///
    /// # Errors
    ///
    /// [`TokenError::Claims`] if it is anything else, before 1970, or after the year 9999.
    pub fn time(&self, name: &str) -> Result<Option<u64>, TokenError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let whole = value.as_u64().filter(|seconds| *seconds <= TIME_MAX_S);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "it is in range"
        )]
        let with_fraction = || {
            let seconds = value.as_f64().filter(|seconds| (0.0..=TIME_MAX_S as f64).contains(seconds))?;
            Some(seconds as u64)
        };
        whole.or_else(with_fraction).map(Some).ok_or(TokenError::Claims)
    }

    /// A claim that is one string or a list of them.
    ///
    /// # Errors
    ///
    /// [`TokenError::Claims`] if it is anything else.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<&str>>, TokenError> {
        let text = |value: &'_ Value| -> bool { value.is_string() };
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(one)) => Ok(Some(vec![one])),
            Some(Value::Array(several)) if several.iter().all(text) => {
                Ok(Some(several.iter().filter_map(Value::as_str).collect()))
            }
            Some(_) => Err(TokenError::Claims),
        }
    }

    /// A claim that is a list of strings, or one with spaces between them, as OAuth writes its scopes (RFC 6749 §3.3).
    ///
    /// # Errors
    ///
    /// [`TokenError::Claims`] if it is anything else.
    pub fn words(&self, name: &str) -> Result<Vec<&str>, TokenError> {
        match self.get(name) {
            Some(Value::String(text)) => Ok(text.split(' ').filter(|word| !word.is_empty()).collect()),
            _ => Ok(self.texts(name)?.unwrap_or_default()),
        }
    }
}

/// The start of the year 10000. Every whole number up to here is exact in a double.
const TIME_MAX_S: u64 = 253_402_300_800;

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(claims: D) -> Result<Self, D::Error> {
        claims.deserialize_map(ClaimsVisitor)
    }
}

/// Refuses repeated names: parsers differ in which value they use (RFC 8725 §2.4 describes similar confusion).
struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object without repeated names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut claims = BTreeMap::new();
        while let Some((name, value)) = map.next_entry()? {
            if claims.insert(name, value).is_some() {
                return Err(de::Error::custom("a repeated name"));
            }
        }
        Ok(Claims(claims))
    }
}
