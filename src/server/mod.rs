//! The process: starts threads from settings. Owns every thread it starts and joins it.

mod drain;
pub mod keys;
pub mod order;
mod rooms;
mod start_error;
pub mod supervision;
pub mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_channel::oneshot;
use tokio::sync::Notify;

use crate::admin::{Admin, Probe};
use crate::auth::revocation::Revocations;
use crate::config::kinds::order::Ack;
use crate::config::{Config, DeliveryOverflow, JwksSource, Listen, ListenAddr, UserOverflow, restart_needed};
use crate::engine::access::Access;
use crate::engine::buffers::Buffers;
use crate::engine::lifecycle::Lifecycle;
use crate::engine::lifecycle::Stage;
use crate::engine::memory::{AutoBytes, Memory};
use crate::engine::publish_limit::PublishLimit;
use crate::engine::stats::HttpStats;
use crate::engine::{Engine, ShardHandle};
use crate::hub::admission::Caps;
use crate::hub::history::HistoryBounds;
use crate::hub::mailbox::Command;
use crate::hub::source::{Source, SourceKind};
use crate::hub::{Hub, HubSettings, Overflow};
use crate::net::accept::Listener;
use crate::net::listen::{Listeners, SocketOptions, adopt, listen};
use crate::net::sockets::Sockets;
use crate::order::memory::MemoryOrder;
use crate::policy::{Policy, PolicyError};
use crate::rights::identity::Standing;
use crate::server::keys::PublishedKeys;
use crate::server::order::{PAST, follow_redis, open_disk, part};
use crate::server::start_error::ADMIN_LISTEN;
pub use crate::server::start_error::StartError;
use crate::server::supervision::Supervision;
use crate::server::worker::{PublicListener, Worker};
use crate::shard::stats::Stats;
use crate::shard::{PORTION_MEMBERS, Shard, ShardSettings};
use crate::store::disk;
use crate::types::clock::{Clock, since_1970};
use crate::types::count::Gauge;
use crate::types::moment::Moment;
use crate::types::position::Epoch;
use crate::upstream::jwks::KeySets;
use crate::upstream::redis;
use crate::upstream::{self, Upstream};

/// A running server.
pub struct Server {
    engine: Arc<Engine>,
    listens: Vec<Listen>,
    admin_address: Option<ListenAddr>,
    /// The files of Unix sockets that this process made. It removes them.
    own_files: Vec<PathBuf>,
    workers: Vec<Running>,
    /// Ends the admin thread, and with it the housekeeping, when dropped.
    stop_admin: Option<tokio::sync::oneshot::Sender<()>>,
    admin: Option<JoinHandle<io::Result<()>>>,
    /// The thread that asks other servers, if any are set.
    upstream: Option<upstream::Running>,
    /// The thread that writes an order on disk.
    disk: Option<disk::Running>,
    /// The thread that follows an order in Redis.
    redis: Option<redis::Running>,
}

/// A worker's thread.
struct Running {
    thread: JoinHandle<io::Result<()>>,
    /// Ends it at once. One for each worker: a shared notification would reach whichever worker waits first.
    stop: Arc<Notify>,
}

/// How long a reload waits for room in a shard's mailbox.
const MAIL_PATIENCE: Duration = Duration::from_secs(2);

/// Time between two rounds of housekeeping.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

impl Server {
    /// Starts without a service manager.
    ///
    /// # Errors
    ///
    /// As [`Self::start_supervised`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_supervised(config, Supervision::default())
    }

    /// Reads every file that `config` names, as a start does. Opens no address and starts no thread.
    ///
    /// # Errors
    ///
    /// The first error in them.
    pub fn check(config: Config) -> Result<(), StartError> {
        share(config, Opens::Nothing).map(drop)
    }

    /// Reads every file that `config` names, opens every listener, then starts every thread. If any of it fails, no
    /// connection is accepted.
    ///
    /// # Errors
    ///
    /// Any error in the files, and any listener that could not be opened.
    pub fn start_supervised(config: Config, supervision: Supervision) -> Result<Self, StartError> {
        let Shared { engine, polls, work, disk } = share(config, Opens::Order)?;
        let changes = disk.as_ref().map(|disk| disk.changes.clone()).unwrap_or_default();
        for (change, until) in changes {
            engine.restore(&change, until);
        }
        let engine = Arc::new(engine);
        // All that is there is read before anything listens: until then nobody could be given an id.
        let redis = follow_redis(&engine)?;
        let config = &engine.config;
        let Supervision { sockets, admin_socket, watchdog } = supervision;
        let count = config.shards;
        let is_guarded = config.insecure || config.authenticates();
        let opened = open(config, LISTEN, &config.listen, sockets, count, is_guarded)?;
        let admin: Vec<Listen> = config.admin_listen.iter().cloned().map(Listen::from).collect();
        let admin_socket = admin_socket.into_iter().collect();
        let mut admin_listener = open(config, ADMIN_LISTEN, &admin, admin_socket, 1, config.insecure)?.pop();
        let listens = opened.iter().map(Listeners::listen).collect();
        let admin_address = admin_listener.as_ref().map(|listeners| listeners.address.clone());
        let own_files = opened.iter().chain(&admin_listener).filter_map(Listeners::own_file).collect();

        // After all that may fail for other reasons: an order that was opened and not started is closed as it was.
        let disk = disk.map(|disk| disk.start(engine.config.ack() == Ack::Memory)).transpose()?;
        // Not the policy of a table for `*`, by which the probe could be late.
        let probe_policy = Arc::new(rooms::own_policy(&engine.config));
        let probe_room = Arc::new(Source::new(SourceKind::Room, "", count, 0, probe_policy));
        let mut probe = Probe { room: probe_room, streams: Vec::new() };
        let mut workers = Vec::new();
        for (index, (listeners, poll)) in by_shard(opened, count).into_iter().zip(polls).enumerate() {
            workers.push(start_worker(&engine, index, poll, listeners, &mut probe)?);
        }
        let (stop_admin, stopped) = tokio::sync::oneshot::channel();
        let admin_socket = admin_listener.as_mut().and_then(|listeners| {
            let socket = listeners.sockets.pop()?;
            Some(Listener::new(&listeners.address, socket))
        });
        let upstream = work.map(upstream::Work::start).transpose()?;
        let admin = Admin::new(engine.clone(), probe);
        let for_admin = engine.clone();
        let admin = std::thread::Builder::new()
            .name("admin".into())
            .spawn(move || run_admin(&for_admin, &admin, admin_socket, watchdog, stopped))?;
        Ok(Self {
            engine,
            listens,
            admin_address,
            own_files,
            workers,
            stop_admin: Some(stop_admin),
            admin: Some(admin),
            upstream,
            disk,
            redis,
        })
    }

    /// The listeners, with the ports that the kernel chose.
    #[must_use]
    pub fn listens(&self) -> &[Listen] {
        &self.listens
    }

    /// The addresses of the listeners.
    #[must_use]
    pub fn addresses(&self) -> Vec<ListenAddr> {
        self.listens.iter().map(|listen| listen.address.clone()).collect()
    }

    /// The address of the admin listener, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<&ListenAddr> {
        self.admin_address.as_ref()
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Applies the settings that may change at run time ([`RELOADABLE`](crate::config::RELOADABLE)), for all threads at
    /// once, and closes the streams whose right the new policy does not accept. Rooms that exist get their new policies.
    /// Returns the settings that need a restart.
    ///
    /// # Errors
    ///
    /// Any error in files that `config` names, or [`PolicyError::Unguarded`]. Then nothing changes.
    pub fn reload(&self, config: &Config) -> Result<Vec<&'static str>, PolicyError> {
        // The callback's client is made at the start only, so a reload cannot switch the callback on or off.
        let running = Config { auth_callback: self.engine.config.auth_callback.clone(), ..config.clone() };
        // Without authentication the sockets would be open to every client: their addresses were chosen while it was on.
        if self.engine.access.policy.load().authority.is_some() && !running.authenticates() {
            return Err(PolicyError::Unguarded);
        }
        let policy = Arc::new(Policy::new(&running, &self.engine.access.token_stats)?);
        policy.adopt(&self.engine.access.policy.load());
        self.engine.access.policy.store(policy.clone());
        self.review(policy);
        self.change_rooms(config);
        self.engine.access.keys_wanted.notify_one();
        let mut restart_needed = restart_needed(&self.engine.config, config);
        if fetches_keys(config) && !fetches_keys(&self.engine.config) {
            restart_needed.push("token_jwks");
        }
        Ok(restart_needed)
    }

    /// Closes the streams that `policy` does not accept.
    fn review(&self, policy: Arc<Policy>) {
        let may_stay: Arc<dyn Fn(&Standing<'_>) -> bool + Send + Sync> =
            Arc::new(move |standing| policy.lets_stay(standing));
        for shard in 0..self.workers.len() {
            // The shard logs how many it closed. A reload does not wait for a shard that is busy.
            let reply = oneshot::channel().0;
            if !self.send_patiently(shard, Command::Review { may_stay: may_stay.clone(), reply }) {
                tracing::warn!(
                    shard,
                    "the shard's mailbox is full: streams without a valid right stay until they end"
                );
            }
        }
    }

    /// Gives every room the policy that `config` has for it.
    fn change_rooms(&self, config: &Config) {
        self.engine.hub.set_policies(rooms::policies(&self.engine.config, config), self.engine.clock.now());
        for shard in 0..self.workers.len() {
            if !self.send_patiently(shard, Command::Policies) {
                tracing::warn!(shard, "the shard's mailbox is full: its rooms stay as they were");
            }
        }
        if let Some(shared) = self.engine.shared.get() {
            // Rooms may have presence now, of whose members on other nodes nothing was kept.
            shared.peers().ask_anew();
        }
    }

    /// Sends `command` to `shard`, whose mailbox may be full for a moment. Returns false if it stays full for
    /// [`MAIL_PATIENCE`]: then the shard hangs.
    fn send_patiently(&self, shard: usize, mut command: Command) -> bool {
        let until = Instant::now() + MAIL_PATIENCE;
        loop {
            command = match self.engine.hub.mailbox(shard).send(command) {
                Ok(()) => return true,
                Err(command) if Instant::now() < until => command,
                Err(_) => return false,
            };
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends every thread. `patience` is the time to report the ended streams to the application.
    fn end(&mut self, patience: Duration) -> io::Result<()> {
        let mut result = Ok(());
        self.workers.iter().for_each(|worker| worker.stop.notify_one());
        for Running { thread, .. } in self.workers.drain(..) {
            result = result.and(thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard panicked"))));
        }
        // After the shards, which publish no more.
        if let Some(disk) = self.disk.take() {
            result = result.and(disk.end());
        }
        if let Some(redis) = self.redis.take() {
            result = result.and(part(&self.engine)).and(redis.end());
        }
        // After the shards, whose last notices it sends; before the admin listener, which shows its progress.
        if let Some(upstream) = self.upstream.take() {
            result = result.and(upstream.end(patience));
        }
        drop(self.stop_admin.take());
        if let Some(admin) = self.admin.take() {
            result = result.and(admin.join().unwrap_or_else(|_| Err(io::Error::other("admin panicked"))));
        }
        for path in self.own_files.drain(..) {
            // A leftover file would make the next process check whether a server still listens there.
            let _ = std::fs::remove_file(path);
        }
        result
    }
}

impl Drop for Server {
    /// Ends at once.
    fn drop(&mut self) {
        let _ = self.end(Duration::ZERO);
    }
}

/// The settings that name addresses.
const LISTEN: &str = "listen";

/// Opens `sockets`, if the service manager handed any over, or else `listens`, which `setting` names. Those that other
/// machines reach need authentication.
fn open(
    config: &Config,
    setting: &'static str,
    listens: &[Listen],
    sockets: Vec<socket2::Socket>,
    count: usize,
    is_guarded: bool,
) -> Result<Vec<Listeners>, StartError> {
    let options = SocketOptions { send_buffer: config.send_buffer, user_timeout: config.tcp_user_timeout };
    if sockets.is_empty() {
        let opened = listens.iter().map(|Listen { address, proxied }| {
            let failed = |reason: io::Error| {
                let holder = (reason.kind() == io::ErrorKind::AddrInUse)
                    .then(|| crate::net::holder::ask(address))
                    .flatten();
                StartError::Listen { setting, address: address.clone(), holder, reason }
            };
            let listeners = listen(address, count, options).map_err(failed)?;
            Ok(Listeners { proxied: *proxied, ..listeners })
        });
        return opened.collect();
    }
    let adopted = sockets.into_iter().map(|socket| {
        let listeners = adopt(socket, count, options).map_err(StartError::Inherited)?;
        if is_guarded || listeners.address.is_local() {
            Ok(listeners)
        } else {
            Err(StartError::Exposed(listeners.address))
        }
    });
    adopted.collect()
}

/// The sockets of all listeners, for each of `count` shards.
fn by_shard(opened: Vec<Listeners>, count: usize) -> Vec<Vec<PublicListener>> {
    let mut by_shard: Vec<Vec<PublicListener>> = (0..count).map(|_| Vec::new()).collect();
    for listeners in opened {
        // On its own sockets the server refuses connections until it ends; on inherited ones they are left to the next
        // process.
        let until = if listeners.inherited { Stage::Draining } else { Stage::Ending };
        for (shard, socket) in listeners.sockets.into_iter().enumerate() {
            let listener = Listener::new(&listeners.address, socket);
            by_shard[shard].push(PublicListener { listener, proxied: listeners.proxied, until });
        }
    }
    by_shard
}

/// Starts the thread of a shard, with a stream of the probe.
fn start_worker(
    engine: &Arc<Engine>,
    index: usize,
    poll: mio::Poll,
    listeners: Vec<PublicListener>,
    probe: &mut Probe,
) -> io::Result<Running> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    probe.streams.push(far);
    let stop = Arc::new(Notify::new());
    let worker = Worker {
        engine: engine.clone(),
        index,
        poll,
        listeners,
        requests_max: (engine.config.max_requests / engine.config.shards).max(1),
        probe: (near.into(), probe.room.clone()),
        stop: stop.clone(),
    };
    let thread = std::thread::Builder::new().name(format!("shard-{index}"));
    Ok(Running { thread: thread.spawn(move || worker.run())?, stop })
}

/// Runs the admin listener and the housekeeping, which must not wait for a busy shard.
fn run_admin(
    engine: &Engine,
    admin: &Arc<Admin>,
    listener: Option<Listener>,
    watchdog: Option<Duration>,
    stopped: tokio::sync::oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let serve = async {
            let Some(listener) = listener else { return std::future::pending().await };
            admin.clone().serve(listener).await
        };
        let ended = async {
            // Either result means the end.
            let _ = stopped.await;
            admin.dashboard().close().await;
        };
        tokio::select! {
            () = tidy(engine) => Ok(()),
            // Also without an open page: a page that opens later shows the last minutes, and the list of rooms has each
            // room's rate from here.
            () = admin.dashboard().watch(engine) => Ok(()),
            () = crate::engine::memory::watch(engine) => Ok(()),
            () = crate::engine::reporter::run(engine) => Ok(()),
            () = crate::engine::stale::watch(engine) => Ok(()),
            () = notify(admin, watchdog) => Ok(()),
            result = serve => result,
            () = ended => Ok(()),
        }
    })
}

/// Forgets what is over, again and again.
async fn tidy(engine: &Engine) {
    let mut interval = tokio::time::interval(TIDY_INTERVAL);
    loop {
        interval.tick().await;
        engine.hub.tidy(engine.clock.now());
        engine.access.revocations.sweep(engine.clock.unix_s());
        engine.publish_limit.sweep(engine.clock.now());
        engine.order.tidy(engine.clock.now());
        if let Some(shared) = engine.shared.get() {
            shared.carry().await;
        }
        crate::engine::memory::give_back();
    }
}

/// Notifies the watchdog, if there is one, as long as events are delivered.
async fn notify(admin: &Admin, watchdog: Option<Duration>) {
    let Some(time) = watchdog else { return std::future::pending().await };
    let mut interval = tokio::time::interval(time / WATCHDOG_SIGNS);
    loop {
        interval.tick().await;
        match admin.is_delivering().await {
            Ok(()) => supervision::say_alive(),
            Err(reason) => tracing::warn!(reason, "the watchdog is not notified"),
        }
    }
}

/// Notifications within the watchdog's time: one may be late.
const WATCHDOG_SIGNS: u32 = 3;

/// What all threads share, and what they begin with.
struct Shared {
    engine: Engine,
    /// The epoll set of each shard's sockets.
    polls: Vec<mio::Poll>,
    /// The upstream thread's work.
    work: Option<upstream::Work>,
    /// The order on disk.
    disk: Option<disk::Opened>,
}

/// What is opened beside the files that settings name.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Opens {
    /// Nothing: the settings are only checked.
    Nothing,
    /// The order.
    Order,
}

/// Makes what all threads share.
fn share(config: Config, opens: Opens) -> Result<Shared, StartError> {
    let token_stats = Arc::default();
    let policy = Policy::new(&config, &token_stats).map_err(StartError::Policy)?;
    let policy = Arc::new(ArcSwap::from_pointee(policy));
    let keys_wanted = Arc::<Notify>::default();
    let memory = Memory::new(crate::engine::memory::limit(config.memory_limit));
    let auto = memory.auto_bytes();
    let hub = Hub::new(hub_settings(&config, auto));
    hub.set_policies(rooms::policies(&config, &config), Moment(0));
    let order = MemoryOrder::remembering(hub.clone(), config.idempotency_keys);
    let clock = Clock::start_with_past(if config.order.is_memory() { Duration::ZERO } else { PAST });
    let disk = if opens == Opens::Order { open_disk(&config, &order, clock)? } else { None };
    let keys = fetches_keys(&config).then(|| {
        let keys = PublishedKeys { policy: policy.clone(), wanted: keys_wanted.clone() };
        Arc::new(keys) as Arc<dyn KeySets>
    });
    let (upstream, work) = Upstream::prepare(&config, keys, clock, hub.epoch())?;
    if let Some(notices) = &upstream.presence {
        hub.presence().stats().tell(notices.clone());
    }
    let (mut shards, mut polls) = (Vec::new(), Vec::new());
    for index in 0..config.shards {
        let stats = Arc::<Stats>::default();
        let poll = mio::Poll::new()?;
        let sockets = Sockets::new(poll.registry().try_clone()?);
        let settings = shard_settings(&config, index);
        let shard = Shard::new(order.clone(), settings, sockets, stats.clone(), fastrand::u64(..));
        shards.push(ShardHandle::new(shard.telling(upstream.notices.clone()), stats));
        polls.push(poll);
    }
    let revocations = Revocations::new(config.revocation_time);
    let engine = Engine {
        order,
        proposals: disk.as_ref().map(|disk| disk.proposals.clone()),
        disk: disk.as_ref().map(|disk| disk.stats.clone()),
        shared: OnceLock::new(),
        ahead: Gauge::default(),
        clock,
        hub,
        shards: shards.into(),
        access: Access { policy, revocations, keys_wanted, token_stats, clock },
        memory,
        buffers: Buffers::new(config.http_total_bytes.unwrap_or(auto.http).max(config.max_body_bytes)),
        publish_limit: PublishLimit::default(),
        stats: HttpStats::default(),
        upstream,
        lifecycle: Lifecycle::default(),
        config,
    };
    Ok(Shared { engine, polls, work, disk })
}

/// Whether keys come from a URL. If none did at the start, there is no thread to fetch them.
fn fetches_keys(config: &Config) -> bool {
    config.token_jwks.iter().any(|source| matches!(source, JwksSource::Url(_)))
}

fn hub_settings(config: &Config, auto: AutoBytes) -> HubSettings {
    let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    // Two epochs have the same name once in 36^6 (2.2 billion).
    let seed = fastrand::u64(..) ^ u64::from(since_1970().subsec_nanos());
    let overflow = match config.delivery_overflow {
        DeliveryOverflow::Drop => Overflow::Drop,
        DeliveryOverflow::Defer => Overflow::Defer,
    };
    HubSettings {
        shards: config.shards,
        epoch: Epoch::new(seed),
        history: HistoryBounds {
            log: rooms::own_log(config),
            bytes_max: config.history_total_bytes.unwrap_or(auto.history),
            age_max: config.history_age,
        },
        caps: Caps {
            connections_max: bounded(config.max_connections),
            per_user_max: config.max_connections_per_user.map(bounded),
            replace: config.user_overflow == UserOverflow::Replace,
            per_address_max: config.max_connections_per_address.map(bounded),
        },
        delivery: config.delivery_rate_per_user.map(|rate| (rate, overflow)),
    }
}

fn shard_settings(config: &Config, index: usize) -> ShardSettings {
    ShardSettings {
        index,
        flush_interval: config.flush_interval,
        portion: PORTION_MEMBERS,
        heartbeat: config.heartbeat,
        retry: config.retry,
        max_unsent_age: config.max_unsent_age,
        lease: config.lease,
        drain: config.drain,
        drain_rate: config.drain_rate,
    }
}
