//! The live page at `/dashboard`, and its data: an engine of its own.
//!
//! Once a second a sampler reads the server's counters, and publishes the changes as one event into a hub with one
//! room, served by a shard whose sockets are bodies of hyper's responses. So the page gets the same features as every
//! subscriber (history on join, exact resume, gaps, a closing event, slow readers reaped) from the same code. The
//! server's own figures are not affected: no offset of the users' order is used, no count changes, no broadcast
//! arrives, and a server too busy for its subscribers still updates the page.

mod body;
pub mod page;
mod rooms;
mod sample;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

pub use crate::admin::live::body::StreamBody;
use crate::admin::live::body::{Bodies, BodySocket, Leave};
use crate::admin::live::sample::Sampler;
pub use crate::admin::live::sample::has_rules;
use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
pub use crate::engine::process::thread_id;
use crate::hub::admission::Caps;
use crate::hub::draft::{Draft, Target};
use crate::hub::history::HistoryBounds;
use crate::hub::log::rules::LogBounds;
use crate::hub::room_policy::RoomPolicies;
use crate::hub::{Hub, HubSettings};
pub use crate::order::memory::MemoryOrder;
use crate::shard::join::{Join, Presence, Start};
use crate::shard::{PORTION_MEMBERS, Shard, ShardSettings, Step};
use crate::types::clock::Clock;
use crate::types::name::{EventName, RoomName};
use crate::wire::control::Heartbeat;
use crate::wire::encoding::Encoding;

/// Pages that may be open at once. They are counted apart from the admin listener's other connections, so that a
/// scraper gets through when many pages are open.
pub const STREAMS_MAX: usize = 8;

/// Time between two samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Samples kept for pages that open later: five minutes.
pub const HISTORY_SAMPLES: usize = 300;

/// Bytes of these samples. A sample has one or two KiB; it has more only if the hottest rooms have long names.
const HISTORY_BYTES_MAX: usize = 1 << 20;

/// Base of the jittered `retry:`. There are few pages, and an operator who restarts a server wants to see it start.
const RETRY: Duration = Duration::from_secs(1);

/// How long writing the closing events of the pages may take.
pub(crate) const CLOSING_TIME: Duration = Duration::from_millis(500);

/// The only room of this hub.
const ROOM: &str = "dashboard";

/// The name of its events.
const EVENT: &str = "sample";

/// Samples of one server, and the pages that receive them.
pub struct Dashboard {
    hub: Arc<Hub>,
    /// Assigns the samples' offsets.
    order: MemoryOrder,
    shard: Mutex<Shard<Bodies>>,
    clock: Clock,
    sampler: Mutex<Sampler>,
    /// One permit for each stream, until its last byte is written.
    places: Arc<Semaphore>,
}

impl Dashboard {
    /// Starts counting from the current counters of `engine`.
    #[must_use]
    pub fn new(engine: &Engine) -> Arc<Self> {
        let log = LogBounds { events_max: HISTORY_SAMPLES, bytes_max: HISTORY_BYTES_MAX };
        let connections_max = u32::try_from(STREAMS_MAX).expect("a small number");
        let hub = Hub::new(HubSettings {
            shards: 1,
            // A restart begins a new epoch here too, so a page that reconnects gets a gap.
            epoch: engine.hub.epoch(),
            history: HistoryBounds { log, bytes_max: HISTORY_BYTES_MAX, age_max: Duration::MAX },
            caps: Caps { connections_max, per_user_max: None, replace: false, per_address_max: None },
            delivery: None,
        });
        // There is one room, and the page knows it.
        hub.rooms().set_policies(RoomPolicies { says_room: false, ..RoomPolicies::default() });
        let settings = ShardSettings {
            index: 0,
            flush_interval: Duration::ZERO,
            portion: PORTION_MEMBERS,
            heartbeat: engine.config.heartbeat,
            retry: RETRY,
            max_unsent_age: engine.config.max_unsent_age,
            lease: None,
            drain: Duration::ZERO,
            drain_rate: engine.config.drain_rate,
        };
        let order = MemoryOrder::new(hub.clone());
        let shard = Shard::new(order.clone(), settings, Bodies::default(), Arc::default(), fastrand::u64(..));
        Arc::new(Self {
            order,
            hub,
            shard: Mutex::new(shard),
            clock: engine.clock,
            sampler: Mutex::new(Sampler::new(engine)),
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
        })
    }

    /// Samples `engine` for as long as it is polled. Cancel safe.
    pub async fn watch(&self, engine: &Engine) {
        let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick is due at once, and there is nothing to report yet.
        interval.tick().await;
        loop {
            interval.tick().await;
            let sample = self.sampler.lock().sample(engine);
            self.publish(serde_json::to_string(&sample).expect("numbers, names and lists always serialise"));
        }
    }

    fn publish(&self, data: String) {
        let room = RoomName::new(ROOM).expect("a plain name");
        let name = EventName::new(EVENT).expect("a plain name");
        let draft = Draft { name: Some(name), ..Draft::to(Target::Room(room), data) };
        self.order.publish([draft], self.clock.now()).expect("a sample has no id of its own to repeat");
        self.step();
    }

    /// Does everything that is due now. Returns true when a drain has ended.
    fn step(&self) -> bool {
        let now = self.clock.now();
        let mut shard = self.shard.lock();
        // Bodies do not report when they have room again, so the waiting ones are retried at each step.
        for key in shard.net_mut().waiting() {
            shard.on_writable(key, now);
        }
        loop {
            match shard.step(now) {
                Step::Again => {}
                Step::Sleep(_) => return false,
                Step::Drained => return true,
            }
        }
    }

    /// Opens a stream: after the sample with `last_event_id`, or with all kept samples. `cut` is notified if the
    /// reader's connection has to be closed at once.
    ///
    /// # Errors
    ///
    /// [`Code::DashboardFull`] if [`STREAMS_MAX`] are open, [`Code::Draining`] if the server is draining.
    pub fn open(
        self: &Arc<Self>,
        last_event_id: Option<String>,
        cut: Arc<Notify>,
    ) -> Result<StreamBody, Problem> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Code::DashboardFull)?;
        let now = self.clock.now();
        // The hub allows as many streams as there are places, so the only reason left is a drain.
        let permit = self.hub.admit(None, None, now).map_err(|_| Code::Draining)?;
        let (user, address) = permit.keep();
        let (socket, chunks) = BodySocket::pair(cut);
        let join = Join {
            socket,
            head: bytes::Bytes::new(),
            // hyper frames the bytes.
            encoding: Encoding::default(),
            // The only subscriber is the page, with a browser's `EventSource`.
            heartbeat: Heartbeat::Id,
            rooms: vec![self.hub.rooms().get_or_create(ROOM)].into(),
            user,
            address,
            session: None,
            start: last_event_id.map_or(Start::History(HISTORY_SAMPLES), Start::After),
            poll: None,
            presence: Presence::Off,
            sees_names: false,
            probe: false,
        };
        let key = self.shard.lock().join(join, now).expect("these sockets need no system");
        // Writes what did not fit in one write.
        self.step();
        Ok(StreamBody::new(chunks, Leave { dashboard: self.clone(), key, _place: place }))
    }

    /// The reader of the stream `key` is gone.
    fn leave(&self, key: crate::shard::conn::ConnKey) {
        self.shard.lock().on_closed(key, crate::shard::reason::CloseReason::Client, self.clock.now());
    }

    /// Tells every page that the server ends, and waits up to `CLOSING_TIME` until this is written.
    pub async fn close(&self) {
        self.hub.drain();
        let all = u32::try_from(STREAMS_MAX).expect("a small number");
        let written = async {
            while !self.step() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.places.acquire_many(all).await.map(drop)
        };
        // A page that does not read delays the end no longer than that.
        let _ = tokio::time::timeout(CLOSING_TIME, written).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ListenAddr};
    use crate::server::Server;

    /// A frozen page (browsers freeze hidden tabs) is reaped like any slow reader: at once, with whatever the
    /// connection still has to write.
    #[test]
    fn a_reader_that_is_stuck_is_cut_off() {
        let config = Config {
            listen: vec![ListenAddr::Tcp(([127, 0, 0, 1], 0).into()).into()],
            admin_listen: None,
            max_unsent_age: Duration::from_millis(1),
            ..Config::default_for(1024)
        };
        let server = Server::start(config).unwrap();
        let dashboard = Dashboard::new(server.engine());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cut = Arc::new(Notify::new());
        let stuck: Vec<StreamBody> =
            (0..STREAMS_MAX).map(|_| dashboard.open(None, cut.clone()).unwrap()).collect();
        let refused = dashboard.open(None, cut.clone()).map(drop).unwrap_err();
        assert_eq!(refused.code, Code::DashboardFull);
        runtime.block_on(async {
            let mut samples = tokio::time::interval(Duration::from_millis(5));
            let publish = async {
                loop {
                    samples.tick().await;
                    dashboard.publish("1".into());
                }
            };
            tokio::select! {
                () = publish => {}
                () = cut.notified() => {}
            }
        });
        drop(stuck);
        assert!(dashboard.open(None, cut).is_ok(), "its place is free again");
    }
}
