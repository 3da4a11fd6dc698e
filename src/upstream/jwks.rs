//! Keys of tokens from a URL (RFC 7517): fetched at the start, every `jwks_refresh`, and soon after a token named an
//! unknown key. Keys that were fetched stay in force while fetching fails.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, HeaderValue};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::auth::jwks::JWKS_BYTES_MAX;
use crate::config::UpstreamUrl;
use crate::upstream::client::{Client, Failed};
use crate::upstream::stats::{Health, Outcome, Purpose, UpstreamStats};

/// How long one fetch may take.
pub const JWKS_TIMEOUT: Duration = Duration::from_secs(10);

/// The least time between two fetches because of unknown keys: clients can send such tokens at any rate.
pub const JWKS_AGAIN_MIN: Duration = Duration::from_secs(10);

/// The time between a failed fetch and the next, unless `jwks_refresh` is shorter.
pub const JWKS_RETRY: Duration = Duration::from_secs(20);

/// Puts a set of keys in force, or returns what is wrong with it (without repeating it).
pub type Put = Box<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

/// A set of keys that comes from a URL.
pub struct KeySetSource {
    /// The URL. It has to be [trustworthy](UpstreamUrl::is_trustworthy).
    pub url: UpstreamUrl,
    /// Takes the fetched set.
    pub put: Put,
}

/// The user of the keys.
pub trait KeySets: Send + Sync {
    /// The sets that come from URLs, as of now. They are fetched next.
    fn sources(&self) -> Vec<KeySetSource>;

    /// Notified when a token named an unknown key, or when there are new sources.
    fn wanted(&self) -> &Notify;
}

/// The upstream thread's part.
pub(super) struct Fetcher {
    pub(super) keys: Arc<dyn KeySets>,
    pub(super) refresh: Duration,
    pub(super) client: Client,
    pub(super) stats: Arc<UpstreamStats>,
    /// State by URL, for the URLs of the last fetch.
    pub(super) known: HashMap<String, Known>,
}

/// State of one URL.
#[derive(Default)]
pub(super) struct Known {
    health: Health,
    /// Whether a set of keys was ever fetched from it.
    has_keys: bool,
}

impl Fetcher {
    /// Fetches the sets again and again. Runs until its future is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let complete = self.fetch_all().await;
            let fetched = Instant::now();
            let wait = if complete { self.refresh } else { self.refresh.min(JWKS_RETRY) };
            // Random, so that servers that were started together do not fetch together for ever.
            let wait = wait.mul_f64(0.9 + 0.2 * fastrand::f64());
            tokio::select! {
                () = sleep_until(fetched + wait) => {}
                () = async {
                    self.keys.wanted().notified().await;
                    sleep_until(fetched + JWKS_AGAIN_MIN).await;
                } => {}
            }
        }
    }

    /// Fetches all sets. Returns whether all fetches succeeded.
    async fn fetch_all(&mut self) -> bool {
        let sources = self.keys.sources();
        self.known.retain(|url, _| sources.iter().any(|source| source.url.as_url().as_str() == url));
        let mut complete = true;
        for source in &sources {
            let result = self.fetch(source).await;
            let (outcome, cause) = match &result {
                Ok(()) => (Outcome::Ok, ""),
                Err(Failed { outcome, cause }) => (*outcome, cause.as_str()),
            };
            self.stats.ended(Purpose::Jwks, outcome);
            let url = &source.url;
            let known = self.known.entry(url.as_url().to_string()).or_default();
            let (is_news, outcome) = (known.health.note(outcome), outcome.as_str());
            match (is_news, result.is_ok(), known.has_keys) {
                (true, true, _) => tracing::info!(%url, "keys are fetched again"),
                (true, false, true) => {
                    tracing::warn!(%url, outcome, cause, "keys can't be fetched; those from before stay in force");
                }
                (true, false, false) => {
                    tracing::warn!(%url, outcome, cause, "keys can't be fetched; tokens that need them are refused");
                }
                (false, true, _) => tracing::debug!(%url, "keys were fetched"),
                (false, false, _) => tracing::debug!(%url, outcome, cause, "keys still can't be fetched"),
            }
            known.has_keys |= result.is_ok();
            complete &= result.is_ok();
        }
        complete
    }

    async fn fetch(&self, source: &KeySetSource) -> Result<(), Failed> {
        let body = fetch(&self.client, &source.url).await?;
        (source.put)(&body).map_err(|reason| Failed::new(Outcome::Malformed, format!("it {reason}")))
    }
}

/// Fetches `url`.
async fn fetch(client: &Client, url: &UpstreamUrl) -> Result<Bytes, Failed> {
    if !url.is_trustworthy() {
        return Err(Failed::new(Outcome::Unreachable, "keys are fetched by https only"));
    }
    let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
    let request = client.http().get(url.as_url().clone()).header(ACCEPT, accept).build();
    let request = request.map_err(|_| Failed::new(Outcome::Unreachable, "the request cannot be built"))?;
    let answer = client.ask(request, JWKS_BYTES_MAX, JWKS_TIMEOUT).await?;
    if answer.status != reqwest::StatusCode::OK {
        return Err(Failed::by_status(answer.status));
    }
    Ok(answer.body)
}

/// Fetches `url` once, outside of any server. Blocks for up to [`JWKS_TIMEOUT`].
///
/// # Errors
///
/// The reason why it failed, as text.
pub fn fetch_once(url: &UpstreamUrl, ca_file: Option<&Path>) -> Result<Bytes, String> {
    let client = Client::new(ca_file, 1).map_err(|err| err.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|err| err.to_string())?;
    let fetched = runtime.block_on(fetch(&client, url));
    // The resolver may still be working; do not wait for it.
    runtime.shutdown_background();
    fetched.map_err(|Failed { outcome, cause }| match outcome {
        Outcome::Timeout | Outcome::Unreachable => format!("{}: {cause}", outcome.as_str()),
        _ => cause,
    })
}
