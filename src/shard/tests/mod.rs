//! What the simulation (`tests/simulation`) once found, each as the smallest case that shows it; and cases for which it
//! has too few streams: reaping when memory is short, and tables after a flood of names.

mod delivery;
mod ends;
mod gaps;
mod memory;
mod policy;
mod presence;
mod rights;
mod told;

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use futures_channel::oneshot;

use crate::hub::admission::{Caps, Permit};
use crate::hub::draft::{Draft, Target};
use crate::hub::history::HistoryBounds;
use crate::hub::log::LOG_OVERHEAD;
use crate::hub::log::rules::LogBounds;
use crate::hub::mailbox::{Command, Refresh, Refreshed};
use crate::hub::memory_level::MemoryLevel;
use crate::hub::{Hub, HubSettings, Overflow, Published};
use crate::order::memory::MemoryOrder;
use crate::order::refused::Refused;
use crate::rights::grant::{Grant, PermissionName};
use crate::rights::identity::{Identity, KeyId, Session};
use crate::rights::revocation::Whose;
use crate::shard::batch::BATCH_BYTES_MAX;
use crate::shard::conn::ConnKey;
use crate::shard::join::{Join, Presence, Start};
use crate::shard::net::Net;
use crate::shard::reason::{CloseReason, DropReason, GapReason};
use crate::shard::stats::Stats;
use crate::shard::{Shard, ShardSettings, Step};
use crate::types::moment::Moment;
use crate::types::name::{EventId, RoomName, UserName};
use crate::types::position::Epoch;
use crate::types::rate::Rate;
use crate::wire::control::Heartbeat;
use crate::wire::encoding::Encoding;

/// A socket that takes `room` bytes, or fails.
struct Line {
    text: String,
    room: usize,
    fails: bool,
}

type Socket = Rc<RefCell<Line>>;

struct Lines;

impl Net for Lines {
    type Socket = Socket;

    fn open(&mut self, _: &mut Socket, _: ConnKey) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
        let mut line = socket.borrow_mut();
        if line.fails {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let sent = bytes.len().min(line.room);
        line.room -= sent;
        line.text.push_str(std::str::from_utf8(&bytes[..sent]).unwrap());
        Ok(sent)
    }

    fn want_write(&mut self, _: &mut Socket, _: ConnKey, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn close(&mut self, _: Socket, _: bool) {}
}

/// One hub with one shard, and a clock.
struct World {
    hub: Arc<Hub>,
    shard: Shard<Lines>,
    stats: Arc<Stats>,
    now: Moment,
}

const DRAIN: Duration = Duration::from_secs(1);

impl World {
    fn new(events_max: usize, bytes_max: usize) -> Self {
        Self::with(events_max, bytes_max, None)
    }

    /// Where users get three events a second.
    fn rated(overflow: Overflow) -> Self {
        Self::with(100, usize::MAX, Some((Rate { events: 3, per: Duration::from_secs(1) }, overflow)))
    }

    fn with(events_max: usize, bytes_max: usize, delivery: Option<(Rate, Overflow)>) -> Self {
        Self::at(0, Hub::new(HubSettings { delivery, ..hub_settings(events_max, bytes_max) }))
    }

    fn at(index: usize, hub: Arc<Hub>) -> Self {
        let settings = ShardSettings {
            index,
            flush_interval: Duration::from_millis(10),
            portion: 2,
            heartbeat: Duration::from_secs(25),
            retry: Duration::from_secs(3),
            max_unsent_age: Duration::from_secs(30),
            lease: None,
            drain: DRAIN,
            drain_rate: Rate { events: 1, per: Duration::from_secs(1) },
        };
        let stats = Arc::new(Stats::default());
        let shard = Shard::new(MemoryOrder::new(hub.clone()), settings, Lines, stats.clone(), 1);
        Self { hub, shard, stats, now: Moment(1) }
    }

    fn join(&mut self, user: Option<&str>, start: Start, room: usize) -> (ConnKey, Socket) {
        self.join_rooms(&["r".to_owned()], None, user, start, room)
    }

    fn join_by(
        &mut self,
        session: Option<Session>,
        user: Option<&str>,
        start: Start,
        room: usize,
    ) -> (ConnKey, Socket) {
        self.join_rooms(&["r".to_owned()], session, user, start, room)
    }

    fn join_rooms(
        &mut self,
        rooms: &[String],
        session: Option<Session>,
        user: Option<&str>,
        start: Start,
        room: usize,
    ) -> (ConnKey, Socket) {
        let join = self.arrival(rooms, self.admit(user), room);
        self.enter(Join { session, start, ..join })
    }

    fn admit(&self, user: Option<&str>) -> Permit {
        self.hub.admit(user, None, self.now).unwrap()
    }

    /// A stream of `rooms` by itself, which starts now, on a socket that takes `room` bytes.
    fn arrival(&self, rooms: &[String], permit: Permit, room: usize) -> Join<Socket> {
        let (user, address) = permit.keep();
        Join {
            socket: Rc::new(RefCell::new(Line { text: String::new(), room, fails: false })),
            head: Bytes::new(),
            encoding: Encoding::default(),
            heartbeat: Heartbeat::Comment,
            rooms: rooms.iter().map(|room| self.hub.rooms().get_or_create(room)).collect(),
            user,
            address,
            session: None,
            start: Start::Now,
            poll: None,
            presence: Presence::Off,
            sees_names: false,
            probe: false,
        }
    }

    fn enter(&mut self, join: Join<Socket>) -> (ConnKey, Socket) {
        let socket = join.socket.clone();
        (self.shard.join(join, self.now).unwrap(), socket)
    }

    fn join_now(&mut self, session: Option<Session>, user: Option<&str>) -> (ConnKey, Socket) {
        self.join_by(session, user, Start::Now, usize::MAX)
    }

    fn publish(&self, target: Target, data: &str, exclude: Option<&str>) {
        let exclude = exclude.map(|user| UserName::new(user).unwrap());
        let draft = Draft { exclude, ..Draft::to(target, data) };
        MemoryOrder::new(self.hub.clone()).publish([draft], self.now).expect("no id is used twice");
    }

    /// Publishes with a publisher's own id, for subscribers with a permission.
    fn publish_as(&self, id: &str, target: Target, require: Option<&str>) -> Result<Published, Refused> {
        let require = require.map(|name| PermissionName::new(name).unwrap());
        let id = Some(EventId::new(id).unwrap());
        let draft = Draft { id, require, ..Draft::to(target, "x") };
        MemoryOrder::new(self.hub.clone()).publish([draft], self.now)
    }

    fn step(&mut self) -> Step {
        self.now = self.now + Duration::from_millis(20);
        self.shard.step(self.now)
    }
}

fn hub_settings(events_max: usize, bytes_max: usize) -> HubSettings {
    HubSettings {
        shards: 1,
        epoch: Epoch::new(1),
        history: HistoryBounds {
            log: LogBounds { events_max, bytes_max: usize::MAX },
            bytes_max,
            age_max: Duration::from_hours(1),
        },
        caps: Caps { connections_max: 10_000, per_user_max: None, replace: false, per_address_max: None },
        delivery: None,
    }
}

fn room() -> Target {
    Target::Room(RoomName::new("r").unwrap())
}

fn text(socket: &Socket) -> String {
    socket.borrow().text.clone()
}

/// The first word of each event's data. Data of the server's own events is JSON.
fn words(socket: &Socket) -> Vec<String> {
    let text = text(socket);
    let data =
        text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| !data.starts_with('{'));
    data.filter_map(|data| data.split(' ').next()).map(ToOwned::to_owned).collect()
}

fn numbers(range: Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// An identity with these permissions, and without a user.
fn holder(permissions: &[&str]) -> Arc<Identity> {
    let (grant, _) = Grant::parse(permissions.iter().copied());
    let grant = Arc::new(grant);
    let (user, token, issued, expires, api_key) = (None, Some("t".into()), None, None, None);
    Arc::new(Identity { user, token, issued, expires, grant, key: KeyId(1), api_key })
}

fn second(n: u64) -> Moment {
    Moment(n * 1_000_000)
}

impl World {
    /// Whether each of `keys` is still connected.
    fn are_open(&self, keys: &[ConnKey]) -> Vec<bool> {
        keys.iter().map(|key| self.shard.conns().find(*key).is_some()).collect()
    }

    /// Lets `time` pass, a step at a time.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + Duration::from_millis(100);
            while self.shard.step(self.now) == Step::Again {}
        }
    }
}
