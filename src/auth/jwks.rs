//! Sets of keys as issuers publish them (RFC 7517 §5).

use std::fmt;

use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;

use crate::auth::key::Key;

/// Bytes a set may have.
pub const JWKS_BYTES_MAX: usize = 256 << 10;

/// Keys of a set that are used.
pub const JWKS_KEYS_MAX: usize = 32;

/// Why a text is not a usable set of keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum JwksError {
    /// It has more than [`JWKS_BYTES_MAX`] bytes or [`JWKS_KEYS_MAX`] keys.
    TooLarge,
    /// It is not a JWKS.
    Form,
    /// No key in it is a usable key for signatures.
    Empty(LeftOut),
    /// Two keys for the same algorithm have the same name.
    Twins,
}

impl fmt::Display for JwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("has more than 256 KiB or 32 keys"),
            Self::Form => f.write_str("is not a JSON Web Key Set"),
            Self::Empty(left_out) => write!(f, "has no key for signatures that can be used: {left_out}"),
            Self::Twins => f.write_str("has two keys with the same kid and alg"),
        }
    }
}

/// Counts the keys of a set that are not used, by reason.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LeftOut {
    private: usize,
    secret: usize,
    other_use: usize,
    unusable: usize,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.private, "private (wanted the public one)"),
            (self.secret, "secret (published)"),
            (self.other_use, "for another use or of a kind that is not used here"),
            (self.unusable, "weak or damaged"),
        ];
        let told = reasons.into_iter().filter(|(count, _)| *count > 0);
        let told: Vec<String> = told.map(|(count, why)| format!("{count} {why}")).collect();
        if told.is_empty() { f.write_str("it is empty") } else { write!(f, "left out {}", told.join(", ")) }
    }
}

impl std::error::Error for JwksError {}

/// A set with its keys unparsed.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// Parses the usable keys of a set. Secrets are used only `with_secrets`.
///
/// # Errors
///
/// If no key can be used, or two keys cannot be told apart.
pub fn parse(bytes: &[u8], with_secrets: bool) -> Result<Vec<Key>, JwksError> {
    if bytes.len() > JWKS_BYTES_MAX {
        return Err(JwksError::TooLarge);
    }
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(JwksError::Form);
    }
    let set: Set = serde_json::from_slice(bytes).map_err(|_| JwksError::Form)?;
    let (mut keys, mut left_out) = (Vec::<Key>::new(), LeftOut::default());
    for member in set.keys {
        // Weak or damaged keys, and those for other purposes or of unknown kinds, are left out: the others may be good.
        let Some(key) = read(member, with_secrets, &mut left_out) else { continue };
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
    if keys.is_empty() { Err(JwksError::Empty(left_out)) } else { Ok(keys) }
}

/// Parses one key of a set, if it can be used. A private key cannot: every reader of the set could sign with it.
fn read(member: Value, with_secrets: bool, left_out: &mut LeftOut) -> Option<Key> {
    let (is_private, is_secret) = (member.get("d").is_some(), member.get("kty") == Some(&Value::from("oct")));
    let jwk = serde_json::from_value::<Jwk>(member);
    let reason = match jwk.map(|jwk| Key::from_jwk(&jwk, with_secrets)) {
        _ if is_private => &mut left_out.private,
        _ if is_secret && !with_secrets => &mut left_out.secret,
        Ok(Ok(Some(key))) => return Some(key),
        Ok(Ok(None)) => &mut left_out.other_use,
        Ok(Err(_)) | Err(_) => &mut left_out.unusable,
    };
    *reason += 1;
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(members: &Value) -> String {
        let set = json!({"keys": members}).to_string();
        parse(set.as_bytes(), false).expect_err("no key can be used").to_string()
    }

    #[test]
    fn a_set_without_a_key_says_what_became_of_those_in_it() {
        assert_eq!(told(&json!([])), "has no key for signatures that can be used: it is empty");
        let rsa = |more: Value| {
            let mut jwk = json!({"kty": "RSA", "n": "AAAA", "e": "AQAB"});
            jwk.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            jwk
        };
        let members = json!([
            rsa(json!({"d": "AAAA"})),
            rsa(json!({"use": "enc"})),
            rsa(json!({})),
            {"kty": "oct", "alg": "HS256", "k": "AAAA"},
            {"kty": "AKP"},
        ]);
        assert_eq!(
            told(&members),
            "has no key for signatures that can be used: left out 1 private (wanted the public one), 1 secret (published), 2 \
             for another use or of a kind that is not used here, 1 weak or damaged"
        );
    }
}
