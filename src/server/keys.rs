//! Published keys for tokens: puts the sets that the upstream thread fetches into the current policy.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::policy::Policy;
use crate::upstream::jwks::{KeySetSource, KeySets};

/// The sets of keys of the current policy.
pub struct PublishedKeys {
    /// The policy.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Notified when a key is missing.
    pub wanted: Arc<Notify>,
}

impl KeySets for PublishedKeys {
    fn sources(&self) -> Vec<KeySetSource> {
        let Some(authority) = self.policy.load().authority.clone() else {
            return Vec::new();
        };
        let tokens = authority.tokens().inspect(|tokens| tokens.begin_look());
        let urls = tokens.into_iter().flat_map(|tokens| tokens.urls().cloned().enumerate());
        let source = |(index, url)| {
            let authority = authority.clone();
            let put = move |bytes: &[u8]| {
                let tokens = authority.tokens().ok_or("the policy accepts no tokens any more")?;
                tokens.set_jwks(index, bytes).map(drop).map_err(|err| err.to_string())
            };
            KeySetSource { url, put: Box::new(put) }
        };
        urls.map(source).collect()
    }

    fn wanted(&self) -> &Notify {
        &self.wanted
    }
}
