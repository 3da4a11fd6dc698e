//! Tokens for a server that asks for them. The load test is the issuer: it starts the server with its key, and gives each
//! listener a token of its own, which is the same whenever that listener comes back.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde::{Deserialize, Serialize};

/// Guards nothing but servers that are started to be measured.
const SECRET: &[u8] = b"the load test's own key, 32 bytes or more";

/// Longer than any run, in one piece: what ends is measured elsewhere.
const LIFE: Duration = Duration::from_hours(14 * 24);

/// What every listener's token permits besides listening, for events that require it.
pub const PERMISSION: &str = "vip";

/// Makes tokens.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Issuer {
    /// When they all end, in seconds since 1970. Fixed, so that a listener's token is always the same.
    expires: u64,
}

#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    exp: u64,
    permissions: &'a [&'a str],
}

impl Issuer {
    /// Begins now.
    #[must_use]
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { expires: (now + LIFE).as_secs() }
    }

    /// The server's `token_keys`.
    #[must_use]
    pub fn setting() -> String {
        format!("HS256:base64:{}", STANDARD.encode(SECRET))
    }

    /// The header of a listener's request.
    #[must_use]
    pub fn listener(self, user: &str) -> String {
        self.header(Some(user), &["sse:read", PERMISSION])
    }

    /// The header of a publisher's.
    #[must_use]
    pub fn publisher(self) -> String {
        self.header(None, &["sse:publish"])
    }

    fn header(self, sub: Option<&str>, permissions: &[&str]) -> String {
        let claims = Claims { sub, exp: self.expires, permissions };
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET));
        format!("Authorization: Bearer {}\r\n", token.expect("HS256 takes any key and these claims"))
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listeners_token_is_its_own_and_stays_the_same() {
        let issuer = Issuer::new();
        assert_eq!(issuer.listener("u1"), issuer.listener("u1"));
        assert_ne!(issuer.listener("u1"), issuer.listener("u2"));
        assert_ne!(issuer.listener("u1"), issuer.publisher());
    }
}
