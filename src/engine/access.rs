//! Access as of now: the policy in force, and the revocations since.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::auth::revocation::Revocations;
use crate::auth::token_error::{TokenError, TokenStats};
use crate::policy::Policy;
use crate::rights::identity::{Identity, Session, Standing};
use crate::types::clock::Clock;

/// Decides which clients and streams have access.
pub struct Access {
    /// The policy in force. A reload replaces it.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Tokens and users that were revoked.
    pub revocations: Revocations,
    /// Notified when a token names a key that has not been read.
    pub keys_wanted: Arc<Notify>,
    /// Counters of token checks.
    pub token_stats: Arc<TokenStats>,
    /// The time.
    pub clock: Clock,
}

impl Access {
    /// Whether `identity` was revoked.
    #[must_use]
    pub fn is_revoked(&self, identity: &Identity) -> bool {
        self.revocations.cover(identity, self.clock.unix_s())
    }

    /// Whether `identity`, which was verified before, is still valid.
    #[must_use]
    pub fn trusts(&self, identity: &Identity) -> bool {
        self.policy.load().trusts(identity) && !self.is_revoked(identity)
    }

    /// Whether an open stream may stay open.
    #[must_use]
    pub fn lets_stay(&self, standing: &Standing<'_>) -> bool {
        self.policy.load().lets_stay(standing)
            && !standing.identity.is_some_and(|identity| self.is_revoked(identity))
    }

    /// The session of a stream that `identity` opens.
    #[must_use]
    pub fn session(&self, identity: Arc<Identity>) -> Session {
        let expires = identity.expires.map(|expires| self.clock.moment_at(expires));
        Session { identity, expires }
    }

    /// Whether a token has expired or was revoked. Counts it if so.
    #[must_use]
    pub fn is_over(&self, identity: &Identity) -> bool {
        let why = if identity.is_expired(self.clock.unix_s()) {
            TokenError::Expired
        } else if self.is_revoked(identity) {
            TokenError::Revoked
        } else {
            return false;
        };
        self.token_stats.refuse(why);
        true
    }
}
