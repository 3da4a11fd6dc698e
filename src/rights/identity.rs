//! Who somebody is, once that is proved, and for how long.

use std::sync::Arc;

use crate::rights::grant::{Action, Grant};
use crate::types::moment::Moment;
use crate::types::name::UserName;
use crate::types::rate::Rate;

/// Which key, of all there ever were, vouches for an identity. Of no use to anyone else.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyId(pub u64);

impl KeyId {
    /// The application itself, which was asked. No key has this number.
    pub const APPLICATION: Self = Self(u64::MAX);
}

/// Who somebody is. Shared by all that came with the same token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The user: a token's `sub` (RFC 7519 §4.1.2).
    pub user: Option<UserName>,
    /// The token's own name: its `jti` (§4.1.7).
    pub token: Option<Box<str>>,
    /// When it was issued: `iat` (§4.1.6), in seconds since 1970.
    pub issued: Option<u64>,
    /// From when on it is worth nothing: `exp` (§4.1.4) and the leeway, in seconds since 1970.
    pub expires: Option<u64>,
    /// What it allows.
    pub grant: Arc<Grant>,
    /// The key that vouches for it.
    pub key: KeyId,
    /// The API key it is, if it is one. Most are tokens, which should not take the room for it.
    pub api_key: Option<Box<ApiKeyName>>,
}

/// By what right a connection is open.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose it is, and what it may.
    pub identity: Arc<Identity>,
    /// When that is over.
    pub expires: Option<Moment>,
}

/// By what right a connection is open, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Whose it is, where that had to be proved.
    pub identity: Option<&'a Identity>,
    /// As whom it listens, if it has a name.
    pub user: Option<&'a str>,
    /// One of its rooms; `None` for a stream that has none, but an inbox.
    pub room: Option<&'a str>,
}

/// An application's backend, by the name of its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiKeyName {
    /// The name in the settings. No secret.
    pub name: Arc<str>,
    /// How much it may publish, if that is bounded.
    pub publish_rate: Option<Rate>,
}

impl Identity {
    /// Its user's name.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(UserName::as_str)
    }

    /// Whether it may do that.
    #[must_use]
    pub fn allows(&self, action: Action<'_>) -> bool {
        self.grant.allows(self.user(), action)
    }

    /// Whether it has the permission `name` for the room `about`; with `None`, for everything.
    #[must_use]
    pub fn holds(&self, name: &str, about: Option<&str>) -> bool {
        self.grant.holds(name, about, self.user())
    }

    /// Whether it is over at `now`, in seconds since 1970.
    #[must_use]
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}
