//! What is revoked: one token, or everything that a user was issued. Plain data, so that it can be an entry of the
//! order.

use std::sync::Arc;

use crate::rights::identity::{Identity, KeyId};
use crate::types::name::UserName;

/// Bytes a token's `jti` may have.
pub const TOKEN_NAME_BYTES_MAX: usize = 256;

/// What is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// The token with this `jti`.
    Token(Box<str>),
    /// Everything this user was issued until now.
    User(UserName),
}

/// When something was revoked. A token that is issued to a user later stays valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct When {
    /// In seconds since 1970, by this server's clock.
    pub at: u64,
    /// Seconds by which the clocks of token issuers may be ahead of it.
    pub leeway_s: u64,
}

impl Revoked {
    /// Whether a revocation at `when` covers `identity`.
    #[must_use]
    pub fn means(&self, identity: &Identity, when: When) -> bool {
        match self {
            Self::Token(token) => identity.token.as_deref() == Some(token),
            Self::User(user) => identity.user.as_ref() == Some(user) && when.is_after(identity),
        }
    }
}

impl When {
    /// Whether `identity` may have been issued by then. An identity without a time of issue may have been.
    #[must_use]
    pub fn is_after(self, identity: &Identity) -> bool {
        let Self { at, leeway_s } = self;
        // This server dates the application's answers, by the same clock.
        let ahead = if identity.key == KeyId::APPLICATION { 0 } else { leeway_s };
        identity.issued.is_none_or(|issued| issued <= at.saturating_add(ahead))
    }
}

/// Selects the streams that are to end.
#[derive(Clone, Debug)]
pub enum Whose {
    /// The streams of what was revoked.
    Revoked(Revoked, When),
    /// The streams that exactly this identity opened.
    Identity(Arc<Identity>),
}

impl Whose {
    /// Whether it selects the streams of `identity`.
    #[must_use]
    pub fn means(&self, identity: &Arc<Identity>) -> bool {
        match self {
            Self::Revoked(revoked, when) => revoked.means(identity, *when),
            Self::Identity(one) => Arc::ptr_eq(one, identity),
        }
    }
}
