//! Sets of keys as issuers publish them (RFC 7517 §5).

use std::fmt;

use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;

use super::key::Key;

/// Bytes a set may have.
pub const JWKS_BYTES_MAX: usize = 256 << 10;

/// Keys of a set that are used.
pub const JWKS_KEYS_MAX: usize = 32;

/// Why a text is no set of keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum JwksError {
    /// It has more than [`JWKS_BYTES_MAX`] bytes or [`JWKS_KEYS_MAX`] keys.
    TooLarge,
    /// It is not a JWKS.
    Form,
    /// No key in it is one for signatures that is used here.
    Empty,
    /// Two keys for the same algorithm have the same name.
    Twins,
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "has more than 256 KiB or 32 keys",
            Self::Form => "is not a JSON Web Key Set",
            Self::Empty => "has no key for signatures that can be used, private ones left out",
            Self::Twins => "has two keys with the same kid and alg",
        })
    }
}

impl std::error::Error for JwksError {}

/// A set, its keys as they are.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The keys of a set that can be used. Secrets only `with_secrets`.
///
/// # Errors
///
/// If there are none, or it is not clear which are meant.
pub fn parse(bytes: &[u8], with_secrets: bool) -> Result<Vec<Key>, JwksError> {
    if bytes.len() > JWKS_BYTES_MAX {
        return Err(JwksError::TooLarge);
    }
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(JwksError::Form);
    }
    let set: Set = serde_json::from_slice(bytes).map_err(|_| JwksError::Form)?;
    let mut keys: Vec<Key> = Vec::new();
    // A key that is weak or damaged is left out, as those for other purposes and of kinds to come are: the others may be
    // good.
    for key in set.keys.into_iter().filter_map(|member| read(member, with_secrets)) {
        if keys.iter().any(|other| other.kid == key.kid && other.id == key.id) {
            continue;
        }
        if key.kid.is_some()
            && keys.iter().any(|other| other.kid == key.kid && other.algorithm == key.algorithm)
        {
            return Err(JwksError::Twins);
        }
        if keys.len() == JWKS_KEYS_MAX {
            return Err(JwksError::TooLarge);
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(JwksError::Empty) } else { Ok(keys) }
}

/// A member of a set, if it can be used. A private key can't: anybody who has read it signs as well as its owner.
fn read(member: Value, with_secrets: bool) -> Option<Key> {
    let is_private = member.get("d").is_some();
    let jwk: Jwk = serde_json::from_value(member).ok().filter(|_| !is_private)?;
    Key::from_jwk(&jwk, with_secrets).ok().flatten()
}
