//! Ten thousand listeners in a few threads.
//!
//! The fleet shares two cores with the server it measures, so it is built to cost little: one epoll per thread, one large
//! read buffer per thread, no copy of any event, and one clock reading per read.

mod conn;
mod tally;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::scenario::{Names, Settings};
use crate::target::Target;

pub use conn::{Listener, Standing};
pub use tally::Tally;
pub use worker::INFLATED;

/// What the listeners connect to and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub addr: SocketAddr,
    /// `Host` header.
    pub host: String,
    /// Path before `/stream`.
    pub base: String,
    /// Whether a response's head is all there is to see of `connected`.
    pub is_head_connected: bool,
    /// Names of rooms and users.
    pub names: Names,
    /// The scenario in numbers.
    pub settings: Settings,
}

impl Plan {
    /// A plan for `target`.
    #[must_use]
    pub fn new(target: &Target, names: Names, settings: Settings) -> Self {
        Self {
            addr: target.addr,
            host: target.host.clone(),
            base: target.base.clone(),
            is_head_connected: target.is_head_connected,
            names,
            settings,
        }
    }

    /// The request that subscribes connection `index`.
    #[must_use]
    pub fn request(&self, index: usize) -> String {
        let Self { base, host, names, settings, .. } = self;
        let room = names.room(index % settings.rooms);
        let user = names.user(index);
        let encoding = if settings.gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        format!(
            "GET {base}/stream/{room}/{user} HTTP/1.1\r\nHost: {host}\r\n\
             Accept: text/event-stream\r\n{encoding}\r\n"
        )
    }
}

/// What threads and main thread tell each other while it runs.
#[derive(Debug)]
pub struct Shared {
    /// Streams that reached `connected`.
    pub connected: AtomicUsize,
    /// Connections that ended before `connected`.
    pub failed: AtomicUsize,
    /// Streams that ended after `connected`.
    pub ended: AtomicUsize,
    /// Events seen.
    pub deliveries: AtomicU64,
    /// When the last stream reached `connected`.
    pub connected_last_ns: AtomicU64,
    /// Latencies of events published before this are not recorded.
    pub record_from_ns: AtomicU64,
    phase: AtomicU8,
    is_stopped: AtomicBool,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            connected: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            deliveries: AtomicU64::new(0),
            connected_last_ns: AtomicU64::new(0),
            record_from_ns: AtomicU64::new(u64::MAX),
            phase: AtomicU8::new(STUCK),
            is_stopped: AtomicBool::new(false),
        }
    }
}

/// Stuck listeners don't read.
const STUCK: u8 = 0;
/// Stuck listeners read again.
const RESUMED: u8 = 1;

/// The running listeners.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<Done>>>,
    total: usize,
}

/// What one thread, or all of them, ended with.
#[derive(Debug, Default)]
pub struct Done {
    /// Sums and histograms.
    pub tally: Tally,
    /// Every listener, for checks against what was published.
    pub listeners: Vec<Listener>,
}

impl Fleet {
    /// Starts opening connections.
    ///
    /// # Errors
    ///
    /// No epoll instance.
    pub fn start(plan: &Plan, clock: Clock) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let plan = Arc::new(plan.clone());
        let threads = (0..plan.settings.threads)
            .map(|thread| {
                let worker = worker::Worker::new(&plan, clock, &shared, thread)?;
                std::thread::Builder::new().name(format!("listeners-{thread}")).spawn(move || worker.run())
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { shared, threads, total: plan.settings.connections })
    }

    /// What the threads count while they run.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Waits until every connection is up or has failed. False when `timeout` passed first.
    pub fn wait_open(&self, timeout: Duration, mut tell: impl FnMut(usize)) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let connected = self.shared.connected.load(Ordering::Acquire);
            if connected + self.shared.failed.load(Ordering::Acquire) >= self.total {
                return true;
            }
            if Instant::now() >= deadline || self.threads.iter().any(JoinHandle::is_finished) {
                return false;
            }
            tell(connected);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Records latencies of events published from now on, and returns the deliveries so far.
    #[must_use]
    pub fn record(&self, clock: Clock) -> u64 {
        self.shared.record_from_ns.store(clock.now_ns(), Ordering::Release);
        self.deliveries()
    }

    /// Events seen so far.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.shared.deliveries.load(Ordering::Acquire)
    }

    /// Lets stuck listeners read again.
    pub fn resume_stuck(&self) {
        self.shared.phase.store(RESUMED, Ordering::Release);
    }

    /// Closes every connection and returns what was seen.
    ///
    /// # Errors
    ///
    /// A thread's epoll failed.
    pub fn stop(self) -> io::Result<Done> {
        self.shared.is_stopped.store(true, Ordering::Release);
        let mut all = Done::default();
        for thread in self.threads {
            let done = thread.join().map_err(|_| io::Error::other("a listener thread panicked"))??;
            all.tally.merge(&done.tally);
            all.listeners.extend(done.listeners);
        }
        Ok(all)
    }
}
