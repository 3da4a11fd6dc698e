//! Sets of keys as issuers publish them (RFC 7517 §5).

use std::fmt;

use jsonwebtoken::jwk::JwkSet;

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
    /// Two keys have the same name.
    Twins,
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "has more than 256 KiB or 32 keys",
            Self::Form => "is not a JSON Web Key Set",
            Self::Empty => "has no key for signatures that can be used",
            Self::Twins => "has two keys with the same kid",
        })
    }
}

impl std::error::Error for JwksError {}

/// The keys of a set that can be used. Secrets only `with_secrets`.
///
/// # Errors
///
/// If there are none, or it is not clear which are meant.
pub fn parse(bytes: &[u8], with_secrets: bool) -> Result<Vec<Key>, JwksError> {
    if bytes.len() > JWKS_BYTES_MAX {
        return Err(JwksError::TooLarge);
    }
    let set: JwkSet = serde_json::from_slice(bytes).map_err(|_| JwksError::Form)?;
    // A key that is weak or damaged is left out, as those for other purposes are: the others may be good.
    let keys = set.keys.iter().filter_map(|jwk| Key::from_jwk(jwk, with_secrets).ok().flatten());
    let keys: Vec<Key> = keys.take(JWKS_KEYS_MAX + 1).collect();
    match keys.len() {
        0 => return Err(JwksError::Empty),
        count if count > JWKS_KEYS_MAX => return Err(JwksError::TooLarge),
        _ => {}
    }
    for (index, key) in keys.iter().enumerate() {
        if key.kid.is_some() && keys[..index].iter().any(|other| other.kid == key.kid) {
            return Err(JwksError::Twins);
        }
    }
    Ok(keys)
}
