//! The live page at `/dashboard`, and what feeds it: an engine of its own.
//!
//! Once a second a sampler reads the server's counters and publishes what happened since as one event. It goes into a hub
//! of its own with one room, served by a shard whose sockets are bodies of hyper's responses. So the page gets what every
//! subscriber gets, by the same code: history on join, exact resume, gaps, a close reason, an end for slow readers. And
//! nothing of it shows in the users' hub: it uses no offset of their order, changes no count and gets no broadcast. A
//! server that is too busy for its subscribers still tells the page so.

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
use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
pub use crate::engine::process::thread_id;
use crate::hub::admission::Caps;
use crate::hub::draft::{Draft, Target};
use crate::hub::history::HistoryBounds;
use crate::hub::log::LogBounds;
use crate::hub::{Hub, HubSettings};
pub use crate::order::memory::MemoryOrder;
use crate::shard::join::{Join, Start};
use crate::shard::{PORTION_MEMBERS, Shard, ShardSettings, Step};
use crate::types::clock::Clock;
use crate::types::name::{EventName, RoomName};
use crate::wire::control::Heartbeat;
use crate::wire::encoding::Encoding;

/// Pages that may be open at once. They are counted apart from the admin listener's other connections, so that a
/// scraper gets through to a server that many watch.
pub const STREAMS_MAX: usize = 8;

/// Time between two samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Samples kept for a page that is opened later: five minutes.
pub const HISTORY_SAMPLES: usize = 300;

/// Bytes those may take. A sample is one or two KiB; it has more only if the hottest rooms have long names.
const HISTORY_BYTES_MAX: usize = 1 << 20;

/// Base of the jittered `retry:`. There are few pages, and an operator who restarts a server wants to see it come up.
const RETRY: Duration = Duration::from_secs(1);

/// How long the pages' last words may take to be written.
pub(crate) const CLOSING_TIME: Duration = Duration::from_millis(500);

/// The only room there is here.
const ROOM: &str = "dashboard";

/// The type of the events in it.
const EVENT: &str = "sample";

/// Samples of one server, and the streams of the pages that show them.
pub struct Dashboard {
    hub: Arc<Hub>,
    /// Where samples get their positions.
    order: MemoryOrder,
    shard: Mutex<Shard<Bodies>>,
    clock: Clock,
    sampler: Mutex<Sampler>,
    /// One for each stream until its last byte is written.
    places: Arc<Semaphore>,
}

impl Dashboard {
    /// Begins to count from what `engine` has counted so far.
    #[must_use]
    pub fn new(engine: &Engine) -> Arc<Self> {
        let log = LogBounds { events_max: HISTORY_SAMPLES, bytes_max: HISTORY_BYTES_MAX };
        let connections_max = u32::try_from(STREAMS_MAX).expect("a small number");
        let hub = Hub::new(HubSettings {
            shards: 1,
            // A restart begins a new life here as well, which a page that comes back is told by a gap.
            epoch: engine.hub.epoch(),
            history: HistoryBounds { log, bytes_max: HISTORY_BYTES_MAX, age_max: Duration::MAX },
            caps: Caps { connections_max, per_user_max: None, replace: false, per_address_max: None },
            delivery: None,
        });
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
        let shard = Shard::new(hub.clone(), settings, Bodies::default(), Arc::default(), fastrand::u64(..));
        Arc::new(Self {
            order: MemoryOrder::new(hub.clone()),
            hub,
            shard: Mutex::new(shard),
            clock: engine.clock,
            sampler: Mutex::new(Sampler::new(engine)),
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
        })
    }

    /// Samples `engine` for as long as it is polled. Nothing is lost if it is dropped.
    pub async fn watch(&self, engine: &Engine) {
        let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first is due at once, and there is nothing to tell yet.
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
        let draft = Draft {
            target: Target::Room(room),
            name: Some(name),
            id: None,
            data,
            exclude: None,
            require: None,
        };
        self.order.publish([draft], self.clock.now()).expect("a sample has no id of its own to repeat");
        self.step();
    }

    /// Does all that is due now. True if a drain is over.
    fn step(&self) -> bool {
        let now = self.clock.now();
        let mut shard = self.shard.lock();
        // Bodies don't say when they have room again: they are asked each time there is something new.
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

    /// Opens a stream: after the sample with `last_event_id`, or with all that are kept. `cut` is told if its
    /// connection has to end at once.
    ///
    /// # Errors
    ///
    /// [`Code::DashboardFull`] if [`STREAMS_MAX`] are open, [`Code::Draining`] if the server ends in a moment.
    pub fn open(
        self: &Arc<Self>,
        last_event_id: Option<String>,
        cut: Arc<Notify>,
    ) -> Result<StreamBody, Problem> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Code::DashboardFull)?;
        let now = self.clock.now();
        // As many as there are places; so the only reason left is a drain.
        let permit = self.hub.admit(None, None, now).map_err(|_| Code::Draining)?;
        let (user, address) = permit.keep();
        let (socket, chunks) = BodySocket::pair(cut);
        let join = Join {
            socket,
            head: bytes::Bytes::new(),
            // hyper frames it.
            encoding: Encoding::default(),
            // Only the page listens, with a browser's `EventSource`.
            heartbeat: Heartbeat::Id,
            rooms: vec![self.hub.rooms().get_or_create(ROOM)],
            user,
            address,
            session: None,
            start: last_event_id.map_or(Start::History(HISTORY_SAMPLES), Start::After),
            probe: false,
        };
        let key = self.shard.lock().join(join, now).expect("these sockets need no system");
        // What was too much for one write.
        self.step();
        Ok(StreamBody::new(chunks, Leave { dashboard: self.clone(), key, _place: place }))
    }

    /// The reader of the stream `key` is gone.
    fn leave(&self, key: crate::shard::conn::ConnKey) {
        self.shard.lock().on_closed(key, crate::shard::stats::CloseReason::Client, self.clock.now());
    }

    /// Tells every page that the server ends, and waits a moment for the last of it to be written.
    pub async fn close(&self) {
        self.hub.drain();
        let all = u32::try_from(STREAMS_MAX).expect("a small number");
        let written = async {
            while !self.step() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.places.acquire_many(all).await.map(drop)
        };
        // A page that does not read is not waited for.
        let _ = tokio::time::timeout(CLOSING_TIME, written).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ListenAddr};
    use crate::server::Server;

    /// A page that is frozen, as browsers do with hidden tabs, is cut off like any slow reader: at once, with what the
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
