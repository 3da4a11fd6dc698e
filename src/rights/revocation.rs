//! What is revoked: one token, or all that a user had. Data alone, so that it can be an entry of the order.

use std::sync::Arc;

use crate::rights::identity::{Identity, KeyId};
use crate::types::name::UserName;

/// Bytes a token's name may have.
pub const TOKEN_NAME_BYTES_MAX: usize = 256;

/// What is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// The token with this `jti`.
    Token(Box<str>),
    /// Everything this user was given until now.
    User(UserName),
}

/// When something was revoked. What a user gets afterwards counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct When {
    /// In seconds since 1970, by our clock.
    pub at: u64,
    /// Seconds by which the clocks of those who issue tokens may be ahead of it.
    pub leeway_s: u64,
}

impl Revoked {
    /// Whether `identity` is meant, if that was revoked `when` it says.
    #[must_use]
    pub fn means(&self, identity: &Identity, when: When) -> bool {
        match self {
            Self::Token(token) => identity.token.as_deref() == Some(token),
            Self::User(user) => identity.user.as_ref() == Some(user) && when.is_after(identity),
        }
    }
}

impl When {
    /// Whether `identity` may have existed by then. One that does not say when it was issued may have.
    #[must_use]
    pub fn is_after(self, identity: &Identity) -> bool {
        let Self { at, leeway_s } = self;
        // The application's answers are dated here, by the same clock.
        let ahead = if identity.key == KeyId::APPLICATION { 0 } else { leeway_s };
        identity.issued.is_none_or(|issued| issued <= at.saturating_add(ahead))
    }
}

/// Whose streams are to end.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Those of the revoked.
    Revoked(Revoked, When),
    /// Those that this very identity opened.
    Identity(Arc<Identity>),
}

impl Whose {
    /// Whether the streams of `identity` are meant.
    #[must_use]
    pub fn means(&self, identity: &Arc<Identity>) -> bool {
        match self {
            Self::Revoked(revoked, when) => revoked.means(identity, *when),
            Self::Identity(one) => Arc::ptr_eq(one, identity),
        }
    }
}
