//! Why tokens are refused, and how often.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::words::words;

/// Declares [`TokenError`], what each is called in metrics, and what it says.
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
    /// It is no signed JWT.
    Form "form" "it is not a signed JWT of at most 8 KiB";
    /// Its header is that of something else, or brings a key along.
    Header "header" "its header has crit, jku, jwk, x5u, x5c, enc or zip, or a typ other than JWT";
    /// It is signed with an algorithm that none of the keys is for, or not the one that it names.
    Algorithm "algorithm" "no key that it may mean is for its algorithm";
    /// It names a key that is not known.
    UnknownKey "unknown_key" "its kid names none of the keys";
    /// Its key may be in a set that has not been read yet, or is about to be read again.
    NoKeys "no_keys" "the set of keys that it needs could not be read yet";
    /// The signature is not by one of the keys.
    Signature "signature" "its signature is not by any of the keys";
    /// A claim is missing, or not what it has to be.
    Claims "claims" "a claim is missing or of the wrong type: exp has to be there, sub has to be a user's name";
    /// It is over.
    Expired "expired" "it is over (exp)";
    /// Its time has not come.
    NotYet "not_yet" "its time has not come (nbf)";
    /// It was issued by somebody else.
    Issuer "issuer" "its iss is not token_issuer";
    /// It was issued for somebody else.
    Audience "audience" "its aud has none of token_audience";
    /// It was good, and was revoked, by its own name or with all that its user had.
    Revoked "revoked" "it was revoked";
}

impl std::error::Error for TokenError {}

/// What verifying counts. Outlives reloads.
#[derive(Debug, Default)]
pub struct TokenStats {
    pub(super) verified: AtomicU64,
    pub(super) cached: AtomicU64,
    refused: [AtomicU64; TokenError::ALL.len()],
}

impl TokenStats {
    /// Tokens that were looked at in full, good and bad.
    #[must_use]
    pub fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    /// Tokens that were remembered as good.
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
