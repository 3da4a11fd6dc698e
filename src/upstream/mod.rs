//! All requests to other servers, on one thread of their own: asking whether a subscriber may have a stream
//! ([`callback`]), asking about what users publish ([`publishing`]), telling of streams that ended and of who is present ([`notices`]), and fetching keys of tokens ([`jwks`]).
//!
//! Threads that serve subscribers never wait for another server: they send a question through a bounded queue and are
//! woken by its answer, or put a notice into another queue and go on. Without any of these settings the thread does not
//! exist.

pub mod answer;
pub mod callback;
pub mod client;
mod ended;
pub mod jwks;
pub mod notices;
mod presence;
pub mod publishing;
pub mod question;
mod queue;
pub mod redis;
pub mod stats;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::config::{Config, UpstreamUrl};
use crate::hub;
use crate::hub::presence::notice::{PresenceNotice, PresenceNotices};
use crate::rights::identity::Identity;
use crate::shard::notice::{Notice, Notices};
use crate::types::clock::Clock;
use crate::types::position::Epoch;
use crate::upstream::callback::{Asker, Callback, Terms};
use crate::upstream::client::{Client, ClientError};
use crate::upstream::jwks::{Fetcher, KeySets};
use crate::upstream::notices::{Teller, Told};
use crate::upstream::publishing::Publishing;
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
    /// Asks the application about what users publish, if that is set up.
    pub publishing: Option<Publishing>,
    /// Takes notices, if the application gets them.
    pub notices: Option<Arc<Notices>>,
    /// Takes what happens in rooms, if the application gets it.
    pub presence: Option<Arc<PresenceNotices>>,
    /// Counters of its requests.
    pub stats: Arc<UpstreamStats>,
}

/// The work of the upstream thread.
pub struct Work {
    asker: Option<Asker>,
    publish_asker: Option<publishing::Asker>,
    teller: Option<Teller<Notice>>,
    presence_teller: Option<Teller<PresenceNotice>>,
    fetcher: Option<Fetcher>,
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
        let (presence_url, publish_url) = (config.presence_callback.clone(), config.publish_callback.clone());
        let urls = [&callback_url, &notice_url, &presence_url, &publish_url];
        if urls.iter().all(|url| url.is_none()) && keys.is_none() {
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
        let publishing = publish_url.map(|url| {
            let (timeout, concurrency) = (config.publish_callback_timeout, config.auth_callback_concurrency);
            let terms = publishing::Terms { url, timeout, concurrency };
            Publishing::new(terms, client.clone(), stats.clone())
        });
        let (publishing, publish_asker) = publishing.unzip();
        let (teller, notices) = telling(notice_url, &client, &stats, clock, epoch);
        let (presence_teller, presence) = telling(presence_url, &client, &stats, clock, epoch);
        let fetcher = keys.map(|keys| {
            let (refresh, stats) = (config.jwks_refresh, stats.clone());
            Fetcher { keys, refresh, client, stats, known: HashMap::new() }
        });
        let work = Work { asker, publish_asker, teller, presence_teller, fetcher };
        Ok((Self { callback, publishing, notices, presence, stats }, Some(work)))
    }
}

/// The queue of one kind of notices and its reader, if the application has a URL for it.
fn telling<T: Told>(
    url: Option<UpstreamUrl>,
    client: &Client,
    stats: &Arc<UpstreamStats>,
    clock: Clock,
    epoch: Epoch,
) -> (Option<Teller<T>>, Option<Arc<hub::notices::Notices<T>>>) {
    let teller = |url| {
        let notices = Arc::<hub::notices::Notices<T>>::default();
        let (client, stats, health) = (client.clone(), stats.clone(), Health::default());
        (Teller { notices: notices.clone(), url, client, stats, clock, epoch, health }, notices)
    };
    url.map(teller).unzip()
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
        let Self { asker, publish_asker, teller, presence_teller, fetcher } = self;
        let waiting = (waiting(teller.as_ref()), waiting(presence_teller.as_ref()));
        let (end, ending) = watch::channel(false);
        // Outside of the `select!`: a batch under way continues after the stop.
        let mut tell = std::pin::pin!(async {
            tokio::join!(
                tell(teller, ending.clone()),
                tell(presence_teller, ending.clone()),
                // Without any of them, not before the end.
                until_the_end(ending),
            );
        });
        let patience = tokio::select! {
            () = or_never(asker.map(Asker::run)) => Duration::ZERO,
            () = or_never(publish_asker.map(publishing::Asker::run)) => Duration::ZERO,
            () = or_never(fetcher.map(Fetcher::run)) => Duration::ZERO,
            () = &mut tell => Duration::ZERO,
            patience = stopped => patience.unwrap_or_default(),
        };
        end.send_replace(true);
        if tokio::time::timeout(patience, &mut tell).await.is_err() {
            let (streams, presence) = (waiting.0(), waiting.1());
            tracing::warn!(streams, presence, "the application was not told of all that ended");
        }
    }
}

/// Sends all notices of one kind, if it is set up, until the end.
async fn tell<T: Told>(teller: Option<Teller<T>>, ending: watch::Receiver<bool>) {
    if let Some(teller) = teller {
        teller.run(ending).await;
    }
}

async fn until_the_end(mut ending: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the end, too.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Returns how many notices of one kind wait, whenever it is called.
fn waiting<T: Told>(teller: Option<&Teller<T>>) -> impl Fn() -> usize + use<T> {
    let notices = teller.map(|teller| teller.notices.clone());
    move || notices.as_ref().map_or(0, |notices| notices.waiting())
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
