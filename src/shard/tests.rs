//! What the simulation (`tests/simulation`) once found, each as the smallest case that shows it; and cases for which it
//! has too few streams: reaping when memory is short, and tables after a flood of names.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use futures_channel::oneshot;

use crate::hub::admission::Caps;
use crate::hub::draft::{Draft, Target};
use crate::hub::history::HistoryBounds;
use crate::hub::log::{LOG_OVERHEAD, LogBounds};
use crate::hub::mailbox::{Command, Refresh, Refreshed};
use crate::hub::memory_level::MemoryLevel;
use crate::hub::own_ids::Repeated;
use crate::hub::{Hub, HubSettings, Overflow, Published};
use crate::order::memory::MemoryOrder;
use crate::rights::grant::{Grant, PermissionName};
use crate::rights::identity::{Identity, KeyId, Session};
use crate::rights::revocation::Whose;
use crate::shard::batch::BATCH_BYTES_MAX;
use crate::shard::conn::ConnKey;
use crate::shard::join::{Join, Start};
use crate::shard::net::Net;
use crate::shard::stats::{CloseReason, DropReason, GapReason, Stats};
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
        let shard = Shard::new(hub.clone(), settings, Lines, stats.clone(), 1);
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
        let socket = Rc::new(RefCell::new(Line { text: String::new(), room, fails: false }));
        let (user, address) = self.hub.admit(user, None, self.now).unwrap().keep();
        let join = Join {
            socket: socket.clone(),
            head: Bytes::new(),
            encoding: Encoding::default(),
            heartbeat: Heartbeat::Comment,
            rooms: rooms.iter().map(|room| self.hub.rooms().get_or_create(room)).collect(),
            user,
            address,
            session,
            start,
            probe: false,
        };
        (self.shard.join(join, self.now).unwrap(), socket)
    }

    fn join_now(&mut self, session: Option<Session>, user: Option<&str>) -> (ConnKey, Socket) {
        self.join_by(session, user, Start::Now, usize::MAX)
    }

    fn publish(&self, target: Target, data: &str, exclude: Option<&str>) {
        let exclude = exclude.map(|user| UserName::new(user).unwrap());
        let draft = Draft { target, name: None, id: None, data: data.to_owned(), exclude, require: None };
        MemoryOrder::new(self.hub.clone()).publish([draft], self.now).expect("no id is used twice");
    }

    /// Publishes with a publisher's own id, for subscribers with a permission.
    fn publish_as(&self, id: &str, target: Target, require: Option<&str>) -> Result<Published, Repeated> {
        let require = require.map(|name| PermissionName::new(name).unwrap());
        let id = Some(EventId::new(id).unwrap());
        let draft = Draft { target, name: None, id, data: "x".into(), exclude: None, require };
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

/// A stream's first write stopped inside `connected`. The rest was left to the logs, which hold no gaps: a subscriber
/// from another epoch then continued with this epoch's events as if nothing had been lost.
#[test]
fn a_gap_is_told_even_if_the_socket_first_takes_a_single_byte() {
    let mut world = World::new(10, usize::MAX);
    let stranger = Epoch::new(2).position(7).to_string();
    let (key, socket) = world.join(None, Start::After(stranger), 1);
    socket.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    assert!(text(&socket).contains(r#""reason":"restart""#), "{}", text(&socket));
    assert_eq!(world.stats.gaps[GapReason::Restart as usize].get(), 1);
}

/// A broadcast was evicted, because of the bound on all history, before any flush. The flush found nothing, and the
/// next event of a room then took all cursors past the loss.
#[test]
fn what_is_evicted_before_its_flush_is_a_gap_and_not_a_hole() {
    let mut world = World::new(10, 300 + LOG_OVERHEAD);
    let (_, socket) = world.join(None, Start::Now, usize::MAX);
    world.publish(Target::All, "lost", None);
    world.publish(Target::User(UserName::new("else").unwrap()), &"x".repeat(100), None);
    world.step();
    world.publish(room(), "after", None);
    world.step();
    let text = text(&socket);
    assert!(!text.contains("lost"), "{text}");
    let gap = text.find(r#""reason":"slow","all":true"#).expect("a gap");
    assert!(gap < text.find("after").expect("the next event"), "{text}");
    assert_eq!(world.stats.dropped[DropReason::Slow as usize].get(), 1);
}

/// With nothing to count from, all events a room ever had were counted as lost by its newest subscriber.
#[test]
fn events_from_before_the_join_are_not_counted_as_lost() {
    let mut world = World::new(10, 300 + LOG_OVERHEAD);
    for data in ["a", "b", "c"] {
        world.publish(room(), data, None);
    }
    let (_, socket) = world.join(None, Start::Now, usize::MAX);
    world.publish(room(), "lost", None);
    world.publish(Target::User(UserName::new("else").unwrap()), &"x".repeat(100), None);
    world.step();
    assert!(text(&socket).contains(r#""reason":"slow""#), "{}", text(&socket));
    assert_eq!(world.stats.dropped[DropReason::Slow as usize].get(), 1);
}

/// The resume found one event, not for this user, and left the cursor before it. When that event was evicted, the
/// subscriber was told of a loss that was none.
#[test]
fn an_event_for_others_is_no_loss_after_a_resume() {
    let mut world = World::new(1, usize::MAX);
    world.publish(room(), "own", Some("u"));
    let (_, socket) = world.join(Some("u"), Start::After(Epoch::new(1).position(0).to_string()), usize::MAX);
    for data in ["a", "b", "c"] {
        world.publish(room(), data, None);
    }
    world.step();
    assert!(!text(&socket).contains("gap"), "{}", text(&socket));
    assert!(text(&socket).contains("data: a\n"));
}

/// Every error of a socket that had been full was counted as the client's departure, and then as an error. But the
/// kernel also gives up a peer that reads single bytes, because its window stays shut.
#[test]
fn a_socket_that_times_out_was_stalled_if_it_was_full() {
    use io::ErrorKind::{ConnectionReset, TimedOut};
    for (room, kind, wanted) in [
        (1, TimedOut, CloseReason::Stalled),
        (1, ConnectionReset, CloseReason::Error),
        (usize::MAX, TimedOut, CloseReason::Error),
    ] {
        let mut world = World::new(10, usize::MAX);
        let (key, _socket) = world.join(None, Start::Now, room);
        world.shard.on_failed(key, kind, world.now);
        assert_eq!(world.stats.closed[wanted as usize].get(), 1, "{room} {kind:?}");
    }
    let mut world = World::new(10, usize::MAX);
    let (key, socket) = world.join(None, Start::Now, 1);
    socket.borrow_mut().fails = true;
    world.shard.on_writable(key, world.now);
    assert_eq!(world.stats.closed[CloseReason::Stalled as usize].get(), 1);
}

/// A stream that was handed over from hyper to the shard when the drain began was cut off at the drain's end without a
/// closing event. Later it got one, but only at the end: with such streams, two shards were never empty at the same
/// time.
#[test]
fn who_joins_during_a_drain_gets_a_farewell_at_once() {
    let mut world = World::new(10, usize::MAX);
    let (_, first) = world.join(None, Start::Now, usize::MAX);
    let (_, second) = world.join(None, Start::Now, usize::MAX);
    let permit = world.hub.admit(None, None, world.now).unwrap();
    world.hub.drain();
    world.step();
    assert!(text(&first).contains("event: closing"), "it has no reason to wait");
    let socket = Rc::new(RefCell::new(Line { text: String::new(), room: usize::MAX, fails: false }));
    let (user, address) = permit.keep();
    let join = Join {
        socket: socket.clone(),
        head: Bytes::new(),
        encoding: Encoding { chunked: true, gzip: false },
        heartbeat: Heartbeat::Id,
        rooms: vec![world.hub.rooms().get_or_create("r")],
        user,
        address,
        session: None,
        start: Start::Now,
        probe: false,
    };
    world.shard.join(join, world.now).unwrap();
    assert!(text(&socket).contains("event: connected"), "{}", text(&socket));
    assert!(text(&socket).contains("event: closing"), "{}", text(&socket));
    assert!(text(&socket).ends_with("0\r\n\r\n"));
    assert!(!text(&second).contains("event: closing"), "the others' closes are spread as before");
    world.now = world.now + DRAIN;
    assert_eq!(world.step(), Step::Drained);
    assert!(text(&second).contains("event: closing"));
}

/// A drain that a full mailbox did not take never began, and its streams were cut off at the end without a closing
/// event.
#[test]
fn a_full_mailbox_does_not_keep_a_drain_from_beginning() {
    let mut world = World::new(10, usize::MAX);
    let (_, socket) = world.join(None, Start::Now, usize::MAX);
    let room = world.hub.rooms().get_or_create("r");
    let fill =
        || world.hub.mailbox(0).send(Command::Members { room: room.clone(), reply: oneshot::channel().0 });
    while fill().is_ok() {}
    world.hub.drain();
    while world.step() != Step::Drained {
        world.now = world.now + Duration::from_millis(100);
        assert!(world.now < Moment(0) + DRAIN, "it has begun");
    }
    assert!(text(&socket).contains("event: closing"), "{}", text(&socket));
}

/// A subscriber that resumed with events older than `max_unsent_age`, and whose socket did not take all of them at
/// once, was closed as stalled within a second.
#[test]
fn who_comes_back_to_old_events_has_time_to_take_them() {
    let mut world = World::new(10, usize::MAX);
    world.publish(room(), &"a".repeat(100), None);
    world.publish(room(), &"b".repeat(100), None);
    world.now = world.now + Duration::from_mins(5);
    let start = || Start::After(Epoch::new(1).position(0).to_string());
    // Enough for `connected` and the first event.
    let (key, socket) = world.join(None, start(), 300);
    assert!(text(&socket).contains("data: aaa"), "{}", text(&socket));
    for _ in 0..100 {
        world.step();
    }
    assert_eq!(world.stats.connections.get(), 1);
    assert!(world.stats.oldest_unsent.get() < 3_000_000, "{}", world.stats.oldest_unsent.get());
    socket.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    assert!(text(&socket).contains("data: bbb"), "{}", text(&socket));
    // A subscriber that takes nothing at all is closed even so.
    let (_, stuck) = world.join(None, start(), 1);
    world.now = world.now + Duration::from_secs(31);
    world.step();
    assert_eq!(text(&stuck).len(), 1);
    assert_eq!(world.stats.closed[CloseReason::Stalled as usize].get(), 1);
}

/// An hour-old event in a newcomer's history was counted as a delivery that had taken an hour.
#[test]
fn the_age_of_history_is_no_latency() {
    let mut world = World::new(10, usize::MAX);
    world.publish(room(), "old", None);
    world.now = world.now + Duration::from_mins(10);
    let (_, all_at_once) = world.join(None, Start::History(10), usize::MAX);
    let (key, in_parts) = world.join(None, Start::History(10), 1);
    in_parts.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    world.publish(room(), "new", None);
    world.step();
    world.shard.settle(world.now);
    for socket in [all_at_once, in_parts] {
        let text = text(&socket);
        assert!(text.contains("data: old\n") && text.contains("data: new\n"), "{text}");
    }
    assert_eq!(world.stats.delivered.get(), 4);
    let (buckets, above, sum) = world.stats.delivery.read();
    assert_eq!(buckets.map(|(_, count)| count).sum::<u64>() + above, 2, "those published after the join");
    assert!(sum < 1_000_000, "{sum}");
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

#[test]
fn a_listener_is_told_once_that_its_token_ends_and_closed_when_it_does() {
    let mut world = World::new(10, usize::MAX);
    let session = Session { identity: holder(&[]), expires: Some(second(100)) };
    let (_, socket) = world.join_now(Some(session), None);
    let mut told_at = None;
    while world.now < Moment(99_999_999) {
        world.step();
        if told_at.is_none() && text(&socket).contains("event: expiring") {
            told_at = Some(world.now);
        }
        assert!(!text(&socket).contains("event: closing"), "at {:?}", world.now);
    }
    let told_at = told_at.expect("it was told");
    assert!((Moment(70_000_000)..Moment(70_700_000)).contains(&told_at), "{told_at:?}");
    while world.now < Moment(100_700_000) {
        world.step();
    }
    assert_eq!(text(&socket).matches("event: expiring").count(), 1);
    assert!(text(&socket).contains("event: closing\ndata: {\"reason\":\"expired\"}"), "{}", text(&socket));
    assert_eq!(world.stats.closed[CloseReason::Expired as usize].get(), 1);
    assert_eq!(world.shard.conns().len(), 0);
}

#[test]
fn a_listener_that_has_no_token_is_not_told_to_renew_it() {
    let mut world = World::new(10, usize::MAX);
    let identity = Identity { key: KeyId::APPLICATION, ..Identity::clone(&holder(&[])) };
    let session = Session { identity: Arc::new(identity), expires: Some(second(1)) };
    let (_, socket) = world.join_now(Some(session), None);
    while world.now < Moment(1_700_000) {
        world.step();
    }
    assert!(!text(&socket).contains("event: expiring"), "{}", text(&socket));
    assert!(text(&socket).contains("event: closing\ndata: {\"reason\":\"expired\"}"), "{}", text(&socket));
}

#[test]
fn a_full_socket_does_not_outlive_its_token() {
    let mut world = World::new(10, usize::MAX);
    let session = Session { identity: holder(&[]), expires: Some(second(1)) };
    let (_, socket) = world.join_now(Some(session), None);
    socket.borrow_mut().room = 3;
    world.publish(room(), "more than there is room for", None);
    while world.now < Moment(1_700_000) {
        world.step();
    }
    assert_eq!(world.stats.closed[CloseReason::Expired as usize].get(), 1);
    assert_eq!(world.shard.conns().len(), 0);
}

#[test]
fn a_refreshed_listener_stays_and_is_told_again() {
    let mut world = World::new(10, usize::MAX);
    let session = |seconds| Session { identity: holder(&[]), expires: Some(second(seconds)) };
    let (key, socket) = world.join_now(Some(session(20)), Some("ann"));
    let (_, other) = world.join_now(Some(session(20)), Some("ann"));
    world.step();
    assert_eq!(text(&socket).matches("event: expiring").count(), 1, "less than half a minute is left");
    let refresh = |connection, may: bool| {
        let user = world.hub.users().get("ann").expect("she is here");
        let (reply, got) = oneshot::channel();
        let may_read = Arc::new(move |_: &str| may);
        (
            Command::Refresh(Box::new(Refresh { user, connection, session: session(200), may_read, reply })),
            got,
        )
    };
    let (refused, mut of_refused) = refresh(Some(key.to_u64()), false);
    let (granted, mut of_granted) = refresh(Some(key.to_u64()), true);
    assert!(world.hub.mailbox(0).send(refused).is_ok() && world.hub.mailbox(0).send(granted).is_ok());
    world.step();
    assert_eq!(of_refused.try_recv(), Ok(Some(Refreshed { connections: 0, refused: 1 })));
    assert_eq!(of_granted.try_recv(), Ok(Some(Refreshed { connections: 1, refused: 0 })));
    while world.now < Moment(171_000_000) {
        world.step();
    }
    assert!(text(&other).contains("expired"), "the other one was not refreshed");
    assert!(!text(&socket).contains("closing"));
    assert_eq!(text(&socket).matches("event: expiring").count(), 2);
}

#[test]
fn those_of_a_doomed_identity_are_closed_and_no_others() {
    let mut world = World::new(10, usize::MAX);
    let by = |identity| Some(Session { identity, expires: None });
    let vip = holder(&["vip"]);
    let (_, doomed) = world.join_now(by(vip.clone()), None);
    let (_, spared) = world.join_now(by(holder(&["dj"])), None);
    let (_, unknown) = world.join_now(None, None);
    let (reply, mut got) = oneshot::channel();
    let command = Command::Revoke { whose: Whose::Identity(vip), reply };
    assert!(world.hub.mailbox(0).send(command).is_ok());
    world.step();
    assert_eq!(got.try_recv(), Ok(Some(1)));
    assert!(text(&doomed).contains("\"reason\":\"revoked\""));
    assert!(!text(&spared).contains("closing") && !text(&unknown).contains("closing"));
}

#[test]
fn an_event_that_requires_a_permission_reaches_those_who_have_it_now_and_later() {
    let mut world = World::new(10, usize::MAX);
    let by = |permissions: &[&str]| Some(Session { identity: holder(permissions), expires: None });
    let listeners = [
        (by(&["vip"]), true, true),
        (by(&["vip:r"]), true, false),
        (by(&["vip:elsewhere"]), false, false),
        (by(&["dj"]), false, false),
        (None, false, false),
    ];
    let sockets: Vec<_> =
        listeners.iter().map(|(session, ..)| world.join_now(session.clone(), None).1).collect();
    let start = world.hub.epoch().position(0).to_string();
    for (target, data) in [(room(), "to the room"), (Target::All, "to all")] {
        let require = PermissionName::new("vip").ok();
        let draft = Draft { target, name: None, id: None, data: data.into(), exclude: None, require };
        MemoryOrder::new(world.hub.clone()).publish([draft], world.now).expect("no id is used twice");
        world.step();
    }
    world.publish(room(), "to every member", None);
    world.step();
    for ((session, of_room, of_all), live) in listeners.iter().zip(&sockets) {
        let (_, resumed) = world.join_by(session.clone(), None, Start::After(start.clone()), usize::MAX);
        world.step();
        for socket in [live, &resumed] {
            assert_eq!(text(socket).contains("to the room"), *of_room, "{session:?}");
            assert_eq!(text(socket).contains("to all"), *of_all, "{session:?}");
            assert!(text(socket).contains("to every member"));
        }
    }
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

#[test]
fn who_is_furthest_behind_goes_first_when_memory_is_short() {
    let mut world = World::new(100, usize::MAX);
    let ample = world.join(None, Start::Now, usize::MAX).0;
    // Each of these takes one event less than the one before it.
    let behind: Vec<ConnKey> = (0..8)
        .map(|nth| {
            let (key, socket) = world.join(None, Start::Now, usize::MAX);
            socket.borrow_mut().room = 1000 * (8 - nth);
            key
        })
        .collect();
    for _ in 0..10 {
        world.publish(room(), &"x".repeat(950), None);
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.stats.lagging.get(), 8);
    world.hub.set_memory_level(MemoryLevel::NoReplays);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.stats.lagging.get(), 8, "not on the first level");

    world.hub.set_memory_level(MemoryLevel::ReapLagging);
    // A quarter of them a second, rounded up: of 8, 6, 4, 3.
    for left in [6, 4, 3, 2] {
        world.pass(Duration::from_secs(1));
        let open = world.are_open(&behind);
        assert_eq!(
            open,
            (0..8).map(|nth| nth < left).collect::<Vec<_>>(),
            "the oldest unsent event goes first"
        );
    }
    world.hub.set_memory_level(MemoryLevel::NoReplays);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.stats.lagging.get(), 2, "no more once memory is back");
    assert_eq!(world.stats.closed[CloseReason::Memory as usize].get(), 6);
    assert_eq!(world.are_open(&[ample]), [true], "a stream that keeps up stays");
}

/// Streams that were cut off in the middle of events miss nothing.
#[test]
fn who_was_reaped_for_memory_resumes_exactly() {
    let mut world = World::new(100, usize::MAX);
    let (key, socket) = world.join(None, Start::Now, usize::MAX);
    socket.borrow_mut().room = 30;
    for data in ["one", "two", "three"] {
        world.publish(room(), data, None);
        world.pass(Duration::from_secs(1));
    }
    world.hub.set_memory_level(MemoryLevel::ReapLagging);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.are_open(&[key]), [false]);
    world.hub.set_memory_level(MemoryLevel::Normal);
    let whole =
        text(&socket).rfind("\n\n").map(|end| text(&socket)[..end].to_owned()).expect("`connected` at least");
    let seen = whole.rsplit("id: ").next().and_then(|rest| rest.lines().next()).expect("an id").to_owned();
    let (_, again) = world.join(None, Start::After(seen), usize::MAX);
    let both = format!("{whole}\n{}", text(&again));
    let data: Vec<&str> = both.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let events: Vec<&&str> = data.iter().filter(|data| !data.starts_with('{')).collect();
    assert_eq!(events, [&"one", &"two", &"three"]);
}

#[test]
fn a_replay_is_what_begins_with_events_there_are() {
    let mut world = World::new(100, usize::MAX);
    world.join(Some("u"), Start::Now, usize::MAX);
    let hub = world.hub.clone();
    let position = |offset| Start::After(Epoch::new(1).position(offset).to_string());
    let own = |id: &str| Start::After(id.to_owned());
    let is_replay = |start: &Start| {
        let sources = [hub.rooms().get_or_create("r"), hub.users().get_or_create("u"), hub.all().clone()];
        start.is_replay(&hub, &sources)
    };
    for start in [Start::Now, Start::History(5), position(0), own("order-17")] {
        assert!(!is_replay(&start), "{start:?}: there is nothing");
    }
    world.publish_as("order-17", Target::User(UserName::new("u").unwrap()), None).unwrap();
    assert!(is_replay(&Start::History(5)), "an inbox is in it");
    assert!(is_replay(&position(0)));
    assert!(!is_replay(&own("order-17")), "nothing comes after it");
    world.publish_as("order-18", room(), None).unwrap();
    for (start, expected) in [
        (Start::Now, false),
        (Start::History(0), false),
        (Start::History(1), true),
        (position(0), true),
        (position(1), true),
        (position(2), false),
        (own("order-17"), true),
        (own("order-18"), false),
        (own("order-19"), false),
    ] {
        assert_eq!(is_replay(&start), expected, "{start:?}");
    }
}

/// Names that come and go, 64 rooms a connection.
#[test]
fn a_flood_of_names_gives_its_memory_back() {
    const CONNECTIONS: usize = 3000;
    let mut world = World::new(10, usize::MAX);
    world.join(None, Start::Now, usize::MAX);
    let mut crowd = Vec::new();
    for n in 0..CONNECTIONS {
        let rooms: Vec<String> = (0..64).map(|m| format!("room {n} {m}")).collect();
        crowd.push(world.join_rooms(&rooms, None, Some(&format!("user {n}")), Start::Now, usize::MAX).0);
        world.publish(Target::Room(RoomName::new(&rooms[0]).unwrap()), "x", Some(&format!("other {n}")));
        world.hub.send_away(&format!("away {n}"), "r", Duration::from_secs(1), world.now).expect("a place");
    }
    // In all of them at once, so that every queue has had them all.
    for n in 0..CONNECTIONS {
        for m in 1..64 {
            let room = RoomName::new(&format!("room {n} {m}")).unwrap();
            world.publish(Target::Room(room), "x", None);
        }
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.shard.rooms(), 64 * CONNECTIONS + 1);
    assert!(world.hub.users().len() >= 2 * CONNECTIONS);
    // One that joined in the middle of all this stays.
    let stays = crowd.swap_remove(CONNECTIONS / 2);
    for key in crowd {
        world.shard.on_closed(key, CloseReason::Client, world.now);
    }
    assert_eq!(world.shard.rooms(), 65);
    // Past the history's age, and some rounds of housekeeping.
    world.now = world.now + Duration::from_hours(1);
    for _ in 0..40 {
        world.pass(Duration::from_secs(1));
        world.hub.tidy(world.now);
    }
    let hub = &world.hub;
    assert_eq!((hub.rooms().len(), hub.users().len(), hub.history()), (65, 1, (0, 0)));
    // 64 shares of at least four places each.
    assert!(hub.rooms().places() <= 512 && hub.users().places() <= 512, "{}", hub.rooms().places());
    assert!(hub.places().iter().all(|places| *places <= 64), "{:?}", hub.places());
    let [rooms, conns, queues, mail] = world.shard.places();
    // The kernel holds a connection's slot: the slots before the one that stays are kept.
    assert!(
        rooms <= 128 && conns <= CONNECTIONS && queues <= 128 && mail <= 1024,
        "{:?}",
        world.shard.places()
    );

    // The one that stays is still in its rooms, wherever they are kept now.
    let sent = world.stats.delivered.get();
    for m in 0..64 {
        let room = RoomName::new(&format!("room {} {m}", CONNECTIONS / 2)).unwrap();
        world.publish(Target::Room(room), "y", None);
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.stats.delivered.get() - sent, 64);
    world.shard.on_closed(stays, CloseReason::Client, world.now);
    assert_eq!(world.shard.rooms(), 1);
    world.pass(Duration::from_secs(11));
    assert!(world.shard.places()[1] <= 64, "{:?}", world.shard.places());
}

#[test]
fn what_does_not_fit_one_write_goes_on_in_order() {
    let mut world = World::new(100, usize::MAX);
    for n in 0..60 {
        let target = if n % 3 == 0 { Target::User(UserName::new("u").unwrap()) } else { room() };
        world.publish(target, &format!("{n} {}", "x".repeat(10_000)), None);
    }
    let (_, socket) = world.join(Some("u"), Start::After(Epoch::new(1).position(0).to_string()), usize::MAX);
    let first = words(&socket);
    assert!(first.len() < 60, "a write has a bound");
    assert_eq!(first, numbers(0..first.len()));
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(words(&socket), numbers(0..60));
}

#[test]
fn a_gap_names_the_rooms_that_lost_something_and_no_others() {
    let mut world = World::new(1, usize::MAX);
    for data in ["a", "b", "c"] {
        world.publish(room(), data, None);
    }
    let start = Start::After(Epoch::new(1).position(0).to_string());
    let (_, socket) = world.join_rooms(&["r".to_owned(), "s".to_owned()], None, Some("u"), start, usize::MAX);
    let text = text(&socket);
    assert!(text.contains("event: gap\n") && text.contains(r#""rooms":["r"]"#), "{text}");
    assert!(!text.contains(r#""inbox""#) && !text.contains(r#""all""#), "{text}");
    assert_eq!(words(&socket), ["c"]);
}

#[test]
fn what_is_above_a_users_rate_is_left_out_and_told() {
    let mut world = World::rated(Overflow::Drop);
    let (_, socket) = world.join(Some("u"), Start::Now, usize::MAX);
    let (_, anonymous) = world.join(None, Start::Now, usize::MAX);
    for n in 0..10 {
        world.publish(room(), &n.to_string(), None);
    }
    world.step();
    assert_eq!(words(&socket), numbers(7..10), "the newest");
    assert!(text(&socket).contains(r#""reason":"slow""#), "{}", text(&socket));
    assert_eq!(world.stats.dropped[DropReason::Rate as usize].get(), 7);
    assert_eq!(words(&anonymous), numbers(0..10), "only users have a rate");
}

#[test]
fn what_is_above_a_users_rate_waits_where_it_is_to() {
    let mut world = World::rated(Overflow::Defer);
    let (_, socket) = world.join(Some("u"), Start::Now, usize::MAX);
    for n in 0..10 {
        world.publish(room(), &n.to_string(), None);
    }
    world.step();
    assert_eq!(words(&socket), numbers(0..3));
    for _ in 0..50 {
        world.step();
    }
    assert_eq!(words(&socket), numbers(0..6), "a second later");
    for _ in 0..100 {
        world.step();
    }
    assert_eq!(words(&socket), numbers(0..10));
    assert_eq!(world.stats.dropped[DropReason::Rate as usize].get(), 0);
    assert!(!text(&socket).contains("gap"), "{}", text(&socket));
}

#[test]
fn what_waits_for_a_users_rate_until_it_is_gone_is_counted_once() {
    let mut world =
        World::with(5, usize::MAX, Some((Rate { events: 3, per: Duration::from_secs(1) }, Overflow::Defer)));
    let (_, socket) = world.join(Some("u"), Start::Now, usize::MAX);
    for n in 0..5 {
        world.publish(room(), &n.to_string(), None);
    }
    world.step();
    assert_eq!(words(&socket), numbers(0..3));
    // Five are remembered: 3 to 6 go before they are allowed.
    for n in 5..12 {
        world.publish(room(), &n.to_string(), None);
        world.step();
    }
    for _ in 0..200 {
        world.step();
    }
    assert_eq!(words(&socket), [numbers(0..3), numbers(7..12)].concat());
    assert_eq!(world.stats.dropped[DropReason::Slow as usize].get(), 4);
    assert_eq!(world.stats.gaps[GapReason::Slow as usize].get(), 1);
}

/// An event that has not been flushed yet is kept beyond the bounds for a while. A user that does not read must not
/// make that last.
#[test]
fn an_inbox_remembers_no_more_for_a_listener_that_is_slow() {
    let mut world = World::new(2, usize::MAX);
    let (_, quick) = world.join(Some("u"), Start::Now, usize::MAX);
    let (_, slow) = world.join(Some("u"), Start::Now, 1);
    let inbox = world.hub.users().get("u").expect("it has subscribers");
    for n in 0..10 {
        world.publish(Target::User(UserName::new("u").unwrap()), &n.to_string(), None);
        world.step();
    }
    assert_eq!((words(&quick), words(&slow)), (numbers(0..10), vec![]));
    let kept = inbox.log().get().map_or(0, |log| log.range(0, u64::MAX).count());
    assert!(kept <= 3, "{kept}");
}

/// The command to disconnect found no stream, because hyper had not yet handed it over to the shard; and no later check
/// followed.
#[test]
fn who_is_told_to_stay_away_on_its_way_in_gets_a_farewell_at_once() {
    let mut world = World::new(10, usize::MAX);
    world.hub.send_away("u", "b", Duration::from_secs(1), world.now).expect("a place");
    let rooms = ["a", "b"].map(str::to_owned);
    let mut join = |user| world.join_rooms(&rooms, None, user, Start::Now, usize::MAX).1;
    let [away, other, nameless] = [Some("u"), Some("v"), None].map(&mut join);
    assert!(text(&away).contains("event: connected"), "{}", text(&away));
    assert!(text(&away).contains("\"reason\":\"disconnected\""), "{}", text(&away));
    assert_eq!(world.stats.closed[CloseReason::Disconnected as usize].get(), 1);
    assert!([other, nameless].iter().all(|socket| !text(socket).contains("event: closing")));
}

/// A subscriber that resumed with an event larger than its socket took it in parts for longer than an unsent event may
/// wait, and was cut off in the middle of it, again at each return: only whole events counted as reading.
#[test]
fn a_reader_that_keeps_taking_some_of_a_large_replay_is_not_stalled() {
    let mut world = World::new(10, usize::MAX);
    world.publish(room(), &"x".repeat(1_000), None);
    world.now = world.now + Duration::from_mins(1);
    let (key, socket) = world.join(None, Start::After(Epoch::new(1).position(0).to_string()), 400);
    for _ in 0..5 {
        world.now = world.now + Duration::from_secs(20);
        socket.borrow_mut().room = 100;
        world.shard.on_writable(key, world.now);
        world.shard.step(world.now);
    }
    assert!(world.shard.socket_mut(key).is_some(), "it took some every 20 seconds");
    world.now = world.now + Duration::from_secs(31);
    world.shard.step(world.now);
    assert!(world.shard.socket_mut(key).is_none(), "it took nothing for 31 seconds");
    assert_eq!(world.stats.closed[CloseReason::Stalled as usize].get(), 1);
}

/// Every room of a connection added a whole batch, of which hardly the beginning was written: fifty megabytes in 64
/// rooms cost fifty times what they cost in one.
#[test]
fn one_write_is_bounded_however_many_rooms_it_is_from() {
    let mut world = World::new(100, usize::MAX);
    let rooms: Vec<String> = (0..8).map(|n| format!("r{n}")).collect();
    for n in 0..64 {
        let target = Target::Room(RoomName::new(&rooms[n % 8]).unwrap());
        world.publish(target, &format!("{n} {}", "x".repeat(BATCH_BYTES_MAX / 8)), None);
    }
    let after = Start::After(Epoch::new(1).position(0).to_string());
    let (_, socket) = world.join_rooms(&rooms, None, None, after, usize::MAX);
    let first = words(&socket).len();
    assert!((1..=8).contains(&first), "{first} events in one write");
    for _ in 0..20 {
        world.step();
    }
    assert_eq!(words(&socket), numbers(0..64), "all, and in order");
}

/// Four tabs restored at once asked the same shard to close a connection each. It had one; the other three stayed above the
/// user's cap for good.
#[test]
fn who_is_asked_to_replace_more_than_it_has_passes_it_on() {
    let hub = Hub::new(HubSettings {
        shards: 2,
        caps: Caps { connections_max: 100, per_user_max: Some(2), replace: true, per_address_max: None },
        ..hub_settings(100, usize::MAX)
    });
    let mut worlds = [0, 1].map(|index| World::at(index, hub.clone()));
    let [(_, first), (_, second)] = [0, 1].map(|at| worlds[at].join_now(None, Some("u")));
    let newer: Vec<_> = (0..2).map(|_| hub.admit(Some("u"), None, Moment(2)).unwrap()).collect();
    for _ in 0..2 {
        for world in &mut worlds {
            world.step();
        }
    }
    for socket in [&first, &second] {
        assert!(text(socket).contains("\"reason\":\"replaced\""), "{}", text(socket));
    }
    drop(newer);
}

/// A subscriber that guessed the id of an event for others could learn from the missing gap that the event existed.
#[test]
fn an_event_for_others_is_not_known_by_its_id() {
    let mut world = World::new(10, usize::MAX);
    world.publish_as("open", room(), None).unwrap();
    world.publish_as("secret", room(), Some("vip")).unwrap();
    world.publish_as("elsewhere", Target::Room(RoomName::new("other").unwrap()), None).unwrap();
    world.publish_as("private", Target::User(UserName::new("u").unwrap()), None).unwrap();
    let mut resume = |permissions: &[&str], id: &str| {
        let session = Session { identity: holder(permissions), expires: None };
        text(&world.join_by(Some(session), None, Start::After(id.to_owned()), usize::MAX).1)
    };
    let is_told_a_gap = |text: String| text.contains(r#""reason":"unknown""#);
    assert!(!is_told_a_gap(resume(&["vip"], "secret")));
    assert!(!is_told_a_gap(resume(&[], "open")));
    assert!(is_told_a_gap(resume(&[], "secret")), "as if there were none");
    assert!(is_told_a_gap(resume(&[], "made-up")));
    for id in ["elsewhere", "private"] {
        assert!(is_told_a_gap(resume(&["vip"], id)), "{id} is in no source of this stream");
    }
}

/// A stream of an inbox alone is in no room: it gets the events of its user and the broadcasts, live and on a resume,
/// and a room continues without it when it leaves.
#[test]
fn an_inbox_needs_no_room() {
    let mut world = World::new(10, usize::MAX);
    let inbox = || Target::User(UserName::new("u").unwrap());
    let (key, socket) = world.join_rooms(&[], None, Some("u"), Start::Now, usize::MAX);
    assert!(text(&socket).contains(r#""user":"u","rooms":[]"#), "{}", text(&socket));
    for (target, data) in [(inbox(), "mine"), (room(), "elsewhere"), (Target::All, "everyone's")] {
        world.publish(target, data, None);
        world.step();
    }
    let start = Start::After(world.hub.epoch().position(0).to_string());
    let (_, resumed) = world.join_rooms(&[], None, Some("u"), start, usize::MAX);
    for socket in [&socket, &resumed] {
        let lines = text(socket);
        let data: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("data: ")).skip(1).collect();
        assert_eq!(data, ["mine", "everyone's"]);
    }
    world.shard.on_closed(key, CloseReason::Client, world.now);
    assert_eq!((world.shard.conns().len(), world.shard.rooms()), (1, 0));
}

/// Streams without a room were checked for none of their rooms, so all of them could stay.
#[test]
fn a_stream_of_an_inbox_is_reviewed_like_any_other() {
    let mut world = World::new(10, usize::MAX);
    let (kept, _) = world.join(Some("u"), Start::Now, usize::MAX);
    let (ended, socket) = world.join_rooms(&[], None, Some("u"), Start::Now, usize::MAX);
    let (reply, mut ended_count) = oneshot::channel();
    let command = Command::Review { may_stay: Arc::new(|standing| standing.room.is_some()), reply };
    assert!(world.hub.mailbox(0).send(command).is_ok());
    world.step();
    assert_eq!(ended_count.try_recv(), Ok(Some(1)));
    assert_eq!(world.are_open(&[kept, ended]), [true, false]);
    assert!(text(&socket).contains(r#""reason":"revoked""#));
}

/// `history=3` counted events of rooms alone, even those that this subscriber may not have.
#[test]
fn history_is_the_newest_of_all_that_a_listener_may_have() {
    let mut world = World::new(10, usize::MAX);
    let inbox = |user| Target::User(UserName::new(user).unwrap());
    world.publish(room(), "too old", None);
    world.publish(inbox("u"), "for the user", None);
    world.publish(inbox("v"), "for another user", None);
    world.publish(Target::All, "for everyone", None);
    world.publish(room(), "for the room", None);
    world.publish(room(), "by the user", Some("u"));
    world.publish_as("secret", room(), Some("vip")).unwrap();
    let (_, socket) = world.join(Some("u"), Start::History(3), usize::MAX);
    let lines = text(&socket);
    let data: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("data: ")).skip(1).collect();
    assert_eq!(data, ["for the user", "for everyone", "for the room"]);
}

/// Two events in one batch could have the same id, and a refused batch could use ids up.
#[test]
fn a_batch_with_a_repeat_leaves_nothing_behind() {
    let world = World::new(10, usize::MAX);
    let draft = |id: &str| Draft {
        target: room(),
        name: None,
        id: Some(EventId::new(id).unwrap()),
        data: "x".into(),
        exclude: None,
        require: None,
    };
    let publish =
        |ids: &[&str]| MemoryOrder::new(world.hub.clone()).publish(ids.iter().map(|id| draft(id)), world.now);
    assert_eq!(publish(&["a", "b", "a"]), Err(Repeated { index: 2, before: None }));
    assert_eq!((world.hub.head(), world.hub.history()), (0, (0, 0)));
    assert_eq!(publish(&["b", "a"]).map(|published| published.offset), Ok(2), "neither was used up");
    assert_eq!(publish(&["c", "b"]), Err(Repeated { index: 1, before: None }));
    assert_eq!((world.hub.find("a"), world.hub.find("c")), (Some(2), None));
}
