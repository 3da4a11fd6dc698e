//! Why tokens are refused, and how often.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::words::words;

/// Declares [`TokenError`] with each reason's name in metrics and its text.
macro_rules! token_errors {
    ($($(#[$doc:meta])* $variant:ident $name:literal $text:literal;)+) => {
        words! {
            /// Why a token was refused. For operators: the client is not told.
            #[non_exhaustive]
            TokenError { $($(#[$doc])* $variant = $name,)+ }
        }

        impl fmt::Display for TokenError {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)+ })
            }
        }
    };
}

token_errors! {
    /// It is not a signed JWT.
    Form "form" "it is not a signed JWT of at most 8 KiB";
    /// Its header belongs to something else, or brings a key along.
    Header "header" "its header has crit, jku, jwk, x5u, x5c, enc or zip, or a typ other than JWT";
    /// None of the keys that it may name is for its algorithm.
    Algorithm "algorithm" "none of the keys that it may name is for its algorithm";
    /// It names an unknown key.
    UnknownKey "unknown_key" "its kid names none of the keys";
    /// Its key may be in a set that was not fetched yet, or is about to be fetched again.
    NoKeys "no_keys" "the set of keys that it needs could not be fetched yet";
    /// None of the keys made the signature.
    Signature "signature" "its signature is not by any of the keys";
    /// A claim is missing or has the wrong type.
    Claims "claims" "a claim is missing or of the wrong type: exp has to be there, sub has to be a user's name";
    /// It has expired.
    Expired "expired" "it has expired (exp)";
    /// It is not valid yet.
    NotYet "not_yet" "it is not valid yet (nbf)";
    /// It was issued by another issuer.
    Issuer "issuer" "its iss is not token_issuer";
    /// It was issued for another audience.
    Audience "audience" "its aud has none of token_audience";
    /// It was valid, and was revoked by its own name or with all tokens of its user.
    Revoked "revoked" "it was revoked";
}

impl std::error::Error for TokenError {}

/// Counters of verified tokens. They outlive reloads.
#[derive(Debug, Default)]
pub struct TokenStats {
    pub(super) verified: AtomicU64,
    pub(super) cached: AtomicU64,
    refused: [AtomicU64; TokenError::ALL.len()],
}

impl TokenStats {
    /// Tokens that were verified in full, good and bad.
    #[must_use]
    pub fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    /// Tokens that were found in the cache.
    #[must_use]
    pub fn cached(&self) -> u64 {
        self.cached.load(Ordering::Relaxed)
    }

    /// Counts a token that is refused, and logs why.
    pub fn refuse(&self, err: TokenError) {
        self.refused[err as usize].fetch_add(1, Ordering::Relaxed);
        tracing::debug!(reason = err.as_str(), "token refused");
    }

    /// Tokens that were refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (TokenError, u64)> {
        let counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        TokenError::ALL.iter().copied().zip(counts)
    }
}
