//! All requests to other servers, on one thread of their own: asking whether a subscriber may have a stream
//! ([`callback`]), telling of streams that ended ([`notices`]), and fetching keys of tokens ([`jwks`]).
//!
//! Threads that serve subscribers never wait for another server: they send a question through a bounded queue and are
//! woken by its answer, or put a notice into another queue and go on. Without any of these settings the thread does not
//! exist.

pub mod answer;
pub mod callback;
pub mod client;
pub mod jwks;
pub mod notices;
pub mod question;
pub mod stats;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::config::Config;
use crate::rights::identity::Identity;
use crate::shard::notice::Notices;
use crate::types::clock::Clock;
use crate::types::position::Epoch;
use crate::upstream::callback::{Asker, Callback, Terms};
use crate::upstream::client::{Client, ClientError};
use crate::upstream::jwks::{Fetcher, KeySets};
use crate::upstream::notices::Teller;
use crate::upstream::stats::{Health, UpstreamStats};

/// Why a subscriber was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denied {
    /// The application does not accept its credentials.
    Unauthorized,
    /// The application does not allow the stream.
    Forbidden,
    /// The application gave no answer.
    Down,
    /// Too many questions are under way.
    Busy,
}

/// The result of a question.
pub type Verdict = Result<Arc<Identity>, Denied>;

/// Access to the upstream thread from other threads.
#[derive(Clone, Default)]
pub struct Upstream {
    /// Asks the application, if that is set up.
    pub callback: Option<Callback>,
    /// Takes notices, if the application gets them.
    pub notices: Option<Arc<Notices>>,
    /// Counters of its requests.
    pub stats: Arc<UpstreamStats>,
}

/// The work of the upstream thread.
pub struct Work {
    asker: Option<Asker>,
    teller: Option<Teller>,
    fetcher: Option<Fetcher>,
    notices: Option<Arc<Notices>>,
}

/// Unused connections that are kept to one server.
const IDLE_MAX: usize = 64;

/// How long shutting down waits for name look-ups, which the system's resolver cannot cancel.
const RESOLVER_PATIENCE: Duration = Duration::from_millis(200);

impl Upstream {
    /// Prepares the work that `config` asks for, without opening a connection or starting a thread. The second value is
    /// `None` if there is no work.
    ///
    /// # Errors
    ///
    /// If the trusted certificates cannot be read.
    pub fn prepare(
        config: &Config,
        keys: Option<Arc<dyn KeySets>>,
        clock: Clock,
        epoch: Epoch,
    ) -> Result<(Self, Option<Work>), ClientError> {
        let stats = Arc::<UpstreamStats>::default();
        let (callback_url, notice_url) = (config.auth_callback.clone(), config.disconnect_callback.clone());
        if callback_url.is_none() && notice_url.is_none() && keys.is_none() {
            return Ok((Self { stats, ..Self::default() }, None));
        }
        let idle_max = config.auth_callback_concurrency.min(IDLE_MAX);
        let client = Client::new(config.upstream_ca_file.as_deref(), idle_max)?;
        let asking = callback_url.map(|url| {
            let terms = Terms {
                url,
                timeout: config.auth_callback_timeout,
                concurrency: config.auth_callback_concurrency,
                keep: config.auth_callback_cache,
            };
            Callback::new(terms, client.clone(), stats.clone())
        });
        let (callback, asker) = asking.unzip();
        let notices = notice_url.as_ref().map(|_| Arc::<Notices>::default());
        let teller = notice_url.zip(notices.clone()).map(|(url, notices)| {
            let (client, stats) = (client.clone(), stats.clone());
            Teller { notices, url, client, stats, clock, epoch, health: Health::default() }
        });
        let fetcher = keys.map(|keys| {
            let (refresh, stats) = (config.jwks_refresh, stats.clone());
            Fetcher { keys, refresh, client, stats, known: HashMap::new() }
        });
        let work = Work { asker, teller, fetcher, notices: notices.clone() };
        Ok((Self { callback, notices, stats }, Some(work)))
    }
}

/// The running upstream thread. It ends when this is dropped.
pub struct Running {
    stop: Option<oneshot::Sender<Duration>>,
    thread: Option<JoinHandle<()>>,
}

impl Work {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the operating system refuses it.
    pub fn start(self) -> io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            runtime.block_on(self.run(stopped));
            runtime.shutdown_timeout(RESOLVER_PATIENCE);
        };
        let thread = std::thread::Builder::new().name("upstream".into()).spawn(run)?;
        Ok(Running { stop: Some(stop), thread: Some(thread) })
    }

    async fn run(self, stopped: oneshot::Receiver<Duration>) {
        let Self { asker, teller, fetcher, notices } = self;
        let (end, ending) = watch::channel(false);
        // Outside of the `select!`: a batch under way continues after the stop.
        let mut tell = std::pin::pin!(async {
            match teller {
                Some(teller) => teller.run(ending).await,
                None => std::future::pending().await,
            }
        });
        let patience = tokio::select! {
            () = or_never(asker.map(Asker::run)) => Duration::ZERO,
            () = or_never(fetcher.map(Fetcher::run)) => Duration::ZERO,
            () = &mut tell => Duration::ZERO,
            patience = stopped => patience.unwrap_or_default(),
        };
        let Some(notices) = notices else { return };
        end.send_replace(true);
        let told = tokio::time::timeout(patience, &mut tell).await;
        if told.is_err() {
            tracing::warn!(
                waiting = notices.waiting(),
                "the application was not told of all streams that ended"
            );
        }
    }
}

/// Runs `work`; without work, never ends.
async fn or_never(work: Option<impl Future<Output = ()>>) {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

impl Running {
    /// Ends the thread: questions at once, notices after all that wait are sent, but no later than after `patience`.
    ///
    /// # Errors
    ///
    /// If the thread panicked.
    pub fn end(mut self, patience: Duration) -> io::Result<()> {
        self.join(patience)
    }

    fn join(&mut self, patience: Duration) -> io::Result<()> {
        if let Some(stop) = self.stop.take() {
            // A failed send means that the thread has ended already; joining shows how.
            let _ = stop.send(patience);
        }
        let joined = self.thread.take().map_or(Ok(()), JoinHandle::join);
        joined.map_err(|_| io::Error::other("upstream panicked"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.join(Duration::ZERO);
    }
}
