//! Whom to let in: everything about requests that a reload changes at once, for all threads.

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

/// Whom to let in.
#[derive(Debug)]
pub struct Policy {
    /// Who may use the server from other origins.
    pub cors: Cors,
    /// What requests have to be like.
    pub checks: Checks,
    /// Who speaks for clients.
    pub trusted_proxies: Vec<AddressRange>,
    /// Where credentials may be.
    pub places: Places,
    /// Whom to believe; `None` if nothing is set up, and nobody is asked anything.
    pub authority: Option<Arc<Authority>>,
    /// Whether the application is asked about listeners for whom nothing else speaks.
    pub asks: bool,
    /// By how much the clocks of those who issue tokens may differ from ours.
    pub token_leeway: Duration,
    /// How much a user may publish.
    pub publish_rate: Option<Rate>,
}

/// Settings that are right by themselves, and files that are not.
#[derive(Debug)]
#[non_exhaustive]
pub enum PolicyError {
    /// The keys for tokens can't be used.
    Tokens(LoadError),
    /// The file with API keys can't be used.
    ApiKeys(ApiKeysError),
    /// Nobody would be asked who they are any more, on listeners that were opened because somebody was.
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

/// What credentials are held against; `None` if there is nothing.
fn authority(config: &Config, stats: &Arc<TokenStats>) -> Result<Option<Authority>, PolicyError> {
    let tokens = Tokens::load(config, stats.clone()).map_err(PolicyError::Tokens)?;
    let api_keys = config.api_keys_file.as_deref().map(ApiKeys::load).transpose();
    let api_keys = api_keys.map_err(PolicyError::ApiKeys)?;
    let public = config.public_rooms.iter().map(|room| room.pattern.clone()).collect();
    Ok(config.authenticates().then(|| Authority::new(tokens, api_keys, public)))
}

impl Policy {
    /// Reads what `config` names.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
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

    /// Takes over what `other`, in force until now, knows of the world outside.
    pub fn adopt(&self, other: &Self) {
        let tokens = |policy: &Self| policy.authority.clone();
        if let (Some(ours), Some(theirs)) = (tokens(self), tokens(other))
            && let (Some(ours), Some(theirs)) = (ours.tokens(), theirs.tokens())
        {
            ours.adopt(theirs);
        }
    }

    /// Whether what vouches for `identity` still counts.
    #[must_use]
    pub fn trusts(&self, identity: &Identity) -> bool {
        let vouches = |authority: &Arc<Authority>| authority.vouches_for(identity);
        (self.asks && identity.key == KeyId::APPLICATION) || self.authority.as_ref().is_some_and(vouches)
    }

    /// Whether a stream that is open may stay, as far as one of its rooms goes, or its inbox if it has none.
    #[must_use]
    pub fn lets_stay(&self, standing: &Standing<'_>) -> bool {
        let Standing { identity, user, room } = *standing;
        let is_public = |room| self.authority.as_ref().is_some_and(|authority| authority.is_public(room));
        let may_read = |identity: &Identity, room| identity.allows(Action::Read(room)) || is_public(room);
        match identity {
            Some(identity) => self.trusts(identity) && room.is_none_or(|room| may_read(identity, room)),
            // Whoever came when nobody was asked anything may have taken any name.
            None => self.authority.is_none() || (user.is_none() && room.is_some_and(is_public)),
        }
    }
}
