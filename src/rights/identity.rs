//! A verified identity: its user, what it may do, and for how long.

use std::sync::Arc;

use crate::rights::grant::{Action, Grant};
use crate::types::moment::Moment;
use crate::types::name::UserName;
use crate::types::rate::Rate;

/// The number of the key that vouches for an identity. Every key that the process reads has its own. Only for
/// comparison.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct KeyId(pub u64);

impl KeyId {
    /// The application, which admitted the stream itself. No key has this number.
    pub const APPLICATION: Self = Self(u64::MAX);
}

/// A verified identity. Connections with the same token share it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The user: a token's `sub` (RFC 7519 §4.1.2).
    pub user: Option<UserName>,
    /// The token's own name: its `jti` (§4.1.7).
    pub token: Option<Box<str>>,
    /// When it was issued: `iat` (§4.1.6), in seconds since 1970.
    pub issued: Option<u64>,
    /// When it expires: `exp` (§4.1.4) and the leeway, in seconds since 1970.
    pub expires: Option<u64>,
    /// What it allows.
    pub grant: Arc<Grant>,
    /// The key that vouches for it.
    pub key: KeyId,
    /// The API key, if it is one. Boxed, because most identities are tokens.
    pub api_key: Option<Box<ApiKeyName>>,
}

/// The identity that a connection belongs to, and for how long.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its user, and what it may do.
    pub identity: Arc<Identity>,
    /// When it expires.
    pub expires: Option<Moment>,
}

/// What decides whether a connection may stay.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Its identity, where authentication is required.
    pub identity: Option<&'a Identity>,
    /// The user it listens as, if any.
    pub user: Option<&'a str>,
    /// Whether it is told who is there although it has no identity that says so: no authentication was set up when it
    /// was opened.
    pub sees_names: bool,
    /// One of its rooms; `None` for a stream of an inbox alone.
    pub room: Option<&'a str>,
}

/// An application's backend, by the name of its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiKeyName {
    /// The name in the settings. It is not secret.
    pub name: Arc<str>,
    /// Its publish rate, if bounded.
    pub publish_rate: Option<Rate>,
}

impl Identity {
    /// Its user's name.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(UserName::as_str)
    }

    /// Whether it allows `action`.
    #[must_use]
    pub fn allows(&self, action: Action<'_>) -> bool {
        self.grant.allows(self.user(), action)
    }

    /// Whether it has the permission `name` for the room `about`; with `None`, for everything.
    #[must_use]
    pub fn holds(&self, name: &str, about: Option<&str>) -> bool {
        self.grant.holds(name, about, self.user())
    }

    /// Whether it has expired at `now`, in seconds since 1970.
    #[must_use]
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}
