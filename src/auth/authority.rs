//! Verifies credentials: tokens and API keys. Also has the rooms that need neither.

use std::fmt;
use std::sync::Arc;

use crate::auth::api_keys::{self, ApiKeys};
use crate::auth::token_error::TokenError;
use crate::auth::tokens::Tokens;
use crate::rights::identity::Identity;
use crate::rights::pattern::Pattern;

/// The keys that credentials are verified against.
pub struct Authority {
    tokens: Option<Tokens>,
    api_keys: Option<ApiKeys>,
    public: Box<[Pattern]>,
}

impl fmt::Debug for Authority {
    /// Without any key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Why a credential was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthError {
    /// It is invalid.
    Invalid,
    /// It may be valid: the keys to verify it could not be read yet.
    Unavailable,
}

impl Authority {
    /// Accepts credentials of `tokens` and `api_keys`. Rooms that match `public` need no credential.
    #[must_use]
    pub fn new(tokens: Option<Tokens>, api_keys: Option<ApiKeys>, public: Box<[Pattern]>) -> Self {
        Self { tokens, api_keys, public }
    }

    /// Returns the identity that `credential` proves at `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// What the client is told. The exact reason is counted and logged by `tokens`.
    pub fn identify(&self, credential: &str, now: u64) -> Result<Arc<Identity>, AuthError> {
        if api_keys::is_api_key(credential) {
            let found = self.api_keys.as_ref().and_then(|keys| keys.find(credential));
            return found.ok_or(AuthError::Invalid);
        }
        let tokens = self.tokens.as_ref().ok_or(AuthError::Invalid)?;
        tokens.verify(credential, now).map_err(|err| match err {
            TokenError::NoKeys => AuthError::Unavailable,
            _ => AuthError::Invalid,
        })
    }

    /// Whether [`Self::identify`] can verify `credential`, or it is one of the application's own.
    #[must_use]
    pub fn judges(&self, credential: &str) -> bool {
        api_keys::is_api_key(credential) || self.tokens.is_some()
    }

    /// Whether `room` needs no credential to listen.
    #[must_use]
    pub fn is_public(&self, room: &str) -> bool {
        self.public.iter().any(|pattern| pattern.covers(room, None))
    }

    /// Whether the key behind `identity` is still valid. An API key must also have the same permissions.
    #[must_use]
    pub fn vouches_for(&self, identity: &Identity) -> bool {
        match &identity.api_key {
            None => self.tokens.as_ref().is_some_and(|tokens| tokens.has_key(identity.key)),
            Some(_) => self.api_keys.as_ref().is_some_and(|keys| keys.vouch_for(identity)),
        }
    }

    /// The keys of tokens, if any are set up.
    #[must_use]
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }
}
