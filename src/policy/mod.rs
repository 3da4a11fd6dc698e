//! The policy: all rules about requests that a reload changes at once, for all threads.

pub mod checks;
pub mod cors;
pub mod credential;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::api_keys::{ApiKeys, ApiKeysError};
use crate::auth::authority::Authority;
use crate::auth::token_error::TokenStats;
use crate::auth::tokens::{LoadError, Tokens};
use crate::config::{AddressRange, Config};
use crate::policy::checks::Checks;
use crate::policy::cors::Cors;
use crate::policy::credential::Places;
use crate::rights::grant::Action;
use crate::rights::identity::{Identity, KeyId, Standing};
use crate::types::rate::Rate;

/// The rules about requests.
#[derive(Debug)]
pub struct Policy {
    /// Which other origins may use the server.
    pub cors: Cors,
    /// Conditions that requests must meet.
    pub checks: Checks,
    /// Proxies that are trusted to name their clients.
    pub trusted_proxies: Vec<AddressRange>,
    /// Where credentials may be.
    pub places: Places,
    /// Verifies credentials; `None` if nothing is set up to verify them.
    pub authority: Option<Arc<Authority>>,
    /// Whether the application is asked about subscribers without another credential.
    pub asks: bool,
    /// How much the clocks of issuers may differ from this server's.
    pub token_leeway: Duration,
    /// The publish rate of a user.
    pub publish_rate: Option<Rate>,
}

/// An error in a file that valid settings name.
#[derive(Debug)]
#[non_exhaustive]
pub enum PolicyError {
    /// The keys for tokens can't be used.
    Tokens(LoadError),
    /// The file with API keys can't be used.
    ApiKeys(ApiKeysError),
    /// Authentication would be switched off on listeners that were opened because it was on.
    Unguarded,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(err) => err.fmt(f),
            Self::ApiKeys(err) => err.fmt(f),
            Self::Unguarded => f.write_str(
                "no token_keys, token_jwks or api_keys_file is left: switching authentication off takes a restart",
            ),
        }
    }
}

impl std::error::Error for PolicyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tokens(err) => err.source(),
            Self::ApiKeys(err) => err.source(),
            Self::Unguarded => None,
        }
    }
}

/// The authority that `config` sets up; `None` if there is none.
fn authority(config: &Config, stats: &Arc<TokenStats>) -> Result<Option<Authority>, PolicyError> {
    let tokens = Tokens::load(config, stats.clone()).map_err(PolicyError::Tokens)?;
    let api_keys = config.api_keys_file.as_deref().map(ApiKeys::load).transpose();
    let api_keys = api_keys.map_err(PolicyError::ApiKeys)?;
    let public = config.public_rooms.iter().map(|room| room.pattern.clone()).collect();
    Ok(config.authenticates().then(|| Authority::new(tokens, api_keys, public)))
}

impl Policy {
    /// Builds the policy of `config`, and reads the files it names.
    ///
    /// # Errors
    ///
    /// The file or setting that is wrong.
    pub fn new(config: &Config, stats: &Arc<TokenStats>) -> Result<Self, PolicyError> {
        Ok(Self {
            cors: Cors::new(config),
            checks: Checks::new(config),
            trusted_proxies: config.trusted_proxies.clone(),
            places: Places { cookie: config.token_cookie.clone(), query: config.token_query },
            authority: authority(config, stats)?.map(Arc::new),
            asks: config.auth_callback.is_some(),
            token_leeway: config.token_leeway,
            publish_rate: config.publish_rate_per_user,
        })
    }

    /// Takes over the published keys that `other`, in force until now, has fetched.
    pub fn adopt(&self, other: &Self) {
        let tokens = |policy: &Self| policy.authority.clone();
        if let (Some(ours), Some(theirs)) = (tokens(self), tokens(other))
            && let (Some(ours), Some(theirs)) = (ours.tokens(), theirs.tokens())
        {
            ours.adopt(theirs);
        }
    }

    /// Whether the key or setting that `identity` relies on is still in force.
    #[must_use]
    pub fn trusts(&self, identity: &Identity) -> bool {
        let vouches = |authority: &Arc<Authority>| authority.vouches_for(identity);
        (self.asks && identity.key == KeyId::APPLICATION) || self.authority.as_ref().is_some_and(vouches)
    }

    /// Whether an open stream may stay, judged by one of its rooms, or by its inbox if it has none.
    #[must_use]
    pub fn lets_stay(&self, standing: &Standing<'_>) -> bool {
        let Standing { identity, user, sees_names, room } = *standing;
        let is_public = |room| self.authority.as_ref().is_some_and(|authority| authority.is_public(room));
        let may_read = |identity: &Identity, room| identity.allows(Action::Read(room)) || is_public(room);
        match identity {
            Some(identity) => self.trusts(identity) && room.is_none_or(|room| may_read(identity, room)),
            // A stream that was opened without authentication may have chosen any user's name, and see those of others. It
            // comes back as anyone else does.
            None => {
                self.authority.is_none() || (user.is_none() && !sees_names && room.is_some_and(is_public))
            }
        }
    }
}
