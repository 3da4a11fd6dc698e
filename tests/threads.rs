//! Publishers and shards on threads of their own: this covers what the simulation, with its one thread, cannot.
//!
//! Two shards step, add and remove subscribers as fast as they can, while publishers append single events and batches.
//! Sockets take everything and the history drops nothing, so that every subscriber is owed exactly the events addressed
//! to it after its start, in order. Bounded by the number of events; no thread sleeps.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tidegate::hub::admission::Caps;
use tidegate::hub::draft::{Draft, Target};
use tidegate::hub::history::HistoryBounds;
use tidegate::hub::log::rules::LogBounds;
use tidegate::hub::{Hub, HubSettings};
use tidegate::order::memory::MemoryOrder;
use tidegate::shard::conn::ConnKey;
use tidegate::shard::join::{Join, Presence, Start};
use tidegate::shard::net::Net;
use tidegate::shard::reason::CloseReason;
use tidegate::shard::stats::Stats;
use tidegate::shard::{PORTION_MEMBERS, Shard, ShardSettings, Step};
use tidegate::types::moment::Moment;
use tidegate::types::name::{RoomName, UserName};
use tidegate::types::position::{Epoch, Offset};
use tidegate::types::rate::Rate;
use tidegate::wire::control::Heartbeat;
use tidegate::wire::encoding::Encoding;

const SHARDS: usize = 2;
const PUBLISHERS: usize = 2;
/// Publishes of one publisher; each is one event or a batch.
const PUBLISHES: usize = 1500;
const BATCH_MAX: usize = 24;
const ROOMS: usize = 3;
const USERS: usize = 4;
/// Subscribers of one shard before the first event, at a time, and altogether.
const EARLY: usize = 4;
const LISTENERS: usize = 12;
const JOINS: usize = 600;

/// Takes all bytes.
#[derive(Default)]
struct Sink {
    streams: Vec<Vec<u8>>,
}

impl Net for Sink {
    type Socket = usize;

    fn open(&mut self, _: &mut usize, _: ConnKey) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, socket: &mut usize, bytes: &[u8]) -> io::Result<usize> {
        self.streams[*socket].extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn want_write(&mut self, _: &mut usize, _: ConnKey, _: bool) -> io::Result<()> {
        unreachable!("nothing is refused")
    }

    fn close(&mut self, _: usize, _: bool) {}
}

/// A subscriber, and the events it received.
struct Heard {
    rooms: Vec<usize>,
    user: Option<usize>,
    /// Whether it stayed to the end.
    stayed: bool,
    text: String,
}

/// Every event by its data: its offset and its target.
type Truth = HashMap<String, (Offset, Target)>;

fn room(number: usize) -> String {
    format!("r{number}")
}

fn user(number: usize) -> String {
    format!("u{number}")
}

fn publish(hub: &Arc<Hub>, publisher: usize, rng: &mut Rng, truth: &Mutex<Truth>) {
    let mut number = 0;
    for at in 0..PUBLISHES {
        let count = if rng.u8(0..4) == 0 { rng.usize(2..=BATCH_MAX) } else { 1 };
        let drafts: Vec<Draft> = (0..count)
            .map(|_| {
                number += 1;
                let target = match rng.u8(0..10) {
                    0..4 => Target::Room(RoomName::new(&room(rng.usize(0..ROOMS))).unwrap()),
                    4..9 => Target::User(UserName::new(&user(rng.usize(0..USERS))).unwrap()),
                    _ => Target::All,
                };
                Draft::to(target, format!("{publisher}.{number}"))
            })
            .collect();
        let last = MemoryOrder::new(hub.clone())
            .publish(drafts.clone(), Moment(at as u64))
            .expect("no id of its own")
            .offset;
        let first = last + 1 - count as Offset;
        let offsets = (first..).zip(drafts).map(|(offset, draft)| (draft.data, (offset, draft.target)));
        truth.lock().unwrap().extend(offsets);
    }
}

/// Steps one shard until all publishers are done and no write is left.
fn serve(
    hub: &Arc<Hub>,
    index: usize,
    rng: &mut Rng,
    publishing: &AtomicUsize,
    start: &Barrier,
) -> Vec<Heard> {
    let settings = ShardSettings {
        index,
        flush_interval: Duration::from_micros(rng.u64(0..300)),
        portion: PORTION_MEMBERS,
        heartbeat: Duration::from_millis(20),
        retry: Duration::from_secs(3),
        max_unsent_age: Duration::from_secs(30),
        lease: None,
        drain: Duration::from_secs(1),
        drain_rate: Rate { events: 1000, per: Duration::from_secs(1) },
    };
    let net = Sink::default();
    let mut shard =
        Shard::new(MemoryOrder::new(hub.clone()), settings, net, Arc::new(Stats::default()), rng.u64(..));
    let mut heard: Vec<Heard> = Vec::new();
    let mut here: Vec<(ConnKey, usize)> = Vec::new();
    let mut now = Moment(1);
    let mut is_started = false;
    loop {
        let is_over = publishing.load(Ordering::Acquire) == 0;
        now = now + Duration::from_micros(if is_over { 1000 } else { 50 });
        let step = shard.step(now);
        shard.settle(now);
        if here.len() == EARLY && !is_started {
            is_started = true;
            start.wait();
        }
        if is_over && matches!(step, Step::Sleep(until) if until > now + Duration::from_millis(1)) {
            break;
        }
        if heard.len() < JOINS && here.len() < LISTENERS && rng.u8(0..4) == 0 {
            let (key, newcomer) = join_someone(hub, &mut shard, rng, now);
            here.push((key, heard.len()));
            heard.push(newcomer);
        }
        if is_started && !here.is_empty() && heard.len() < JOINS && rng.u8(0..20) == 0 {
            let (key, at) = here.swap_remove(rng.usize(0..here.len()));
            shard.on_closed(key, CloseReason::Client, now);
            heard[at].stayed = false;
        }
    }
    let streams = std::mem::take(&mut shard.net_mut().streams);
    for (heard, stream) in heard.iter_mut().zip(streams) {
        heard.text = String::from_utf8(stream).unwrap();
    }
    heard
}

/// Adds a subscriber at `now`, whose stream is the next of the sink's.
fn join_someone(hub: &Arc<Hub>, shard: &mut Shard<Sink>, rng: &mut Rng, now: Moment) -> (ConnKey, Heard) {
    let mut rooms: Vec<usize> = (0..ROOMS).collect();
    rng.shuffle(&mut rooms);
    rooms.truncate(if rng.u8(0..4) == 0 { 2 } else { 1 });
    let listener = (rng.u8(0..4) > 0).then(|| rng.usize(0..USERS));
    let start = match rng.u8(0..3) {
        0 => Start::After(hub.epoch().position(hub.head().saturating_sub(rng.u64(0..60))).to_string()),
        _ => Start::Now,
    };
    let permit = hub.admit(listener.map(user).as_deref(), None, now).expect("there is room");
    let (inbox, address) = permit.keep();
    let streams = &mut shard.net_mut().streams;
    let socket = streams.len();
    streams.push(Vec::new());
    let join = Join {
        socket,
        head: Bytes::new(),
        encoding: Encoding::default(),
        heartbeat: Heartbeat::Id,
        rooms: rooms.iter().map(|number| hub.rooms().get_or_create(&room(*number))).collect(),
        user: inbox,
        address,
        start,
        session: None,
        poll: None,
        presence: Presence::Off,
        sees_names: false,
        probe: false,
    };
    let key = shard.join(join, now).unwrap();
    (key, Heard { rooms, user: listener, stayed: true, text: String::new() })
}

/// Returns the values of a field, a block at a time.
fn field<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn check(heard: &Heard, order: &[(Offset, &str, &Target)], epoch: Epoch) {
    let mut blocks = heard.text.split_terminator("\n\n");
    let welcome = blocks.next().expect("a welcome");
    let offset = |block| field(block, "id")?.strip_prefix(epoch.as_str())?.strip_prefix('-')?.parse().ok();
    let start: Offset = offset(welcome).expect("a position");
    let is_for = |target: &Target| match target {
        Target::Room(name) => heard.rooms.iter().any(|number| room(*number) == name.as_str()),
        Target::User(name) => heard.user.is_some_and(|number| user(number) == name.as_str()),
        Target::All => true,
    };
    let mut owed = order.iter().filter(|(offset, _, target)| *offset > start && is_for(target)).peekable();
    for block in blocks {
        assert_eq!(field(block, "event"), None, "nothing but events: {block}");
        let offset: Offset = offset(block).expect("a position");
        let Some(data) = field(block, "data") else {
            let next = owed.peek();
            assert!(next.is_none_or(|next| next.0 > offset), "the heartbeat at {offset} passes {next:?}");
            continue;
        };
        assert_eq!(Some((offset, data)), owed.next().map(|next| (next.0, next.1)), "in {:?}", heard.rooms);
    }
    assert!(!heard.stayed || owed.peek().is_none(), "still owed: {:?}", owed.peek());
}

#[test]
fn nothing_is_lost_between_threads() {
    for seed in 0..4 {
        let mut rng = Rng::with_seed(seed);
        let hub = Hub::new(HubSettings {
            shards: SHARDS,
            epoch: Epoch::new(seed),
            history: HistoryBounds {
                log: LogBounds { events_max: usize::MAX, bytes_max: usize::MAX },
                bytes_max: usize::MAX,
                age_max: Duration::from_hours(1),
            },
            caps: Caps { connections_max: 1000, per_user_max: None, replace: false, per_address_max: None },
            delivery: None,
        });
        let truth = Mutex::new(Truth::new());
        let publishing = AtomicUsize::new(PUBLISHERS);
        let start = Barrier::new(PUBLISHERS + SHARDS);
        let (hub, truth, publishing, start) = (&hub, &truth, &publishing, &start);
        let heard: Vec<Heard> = std::thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                let mut rng = rng.fork();
                scope.spawn(move || {
                    start.wait();
                    publish(hub, publisher, &mut rng, truth);
                    publishing.fetch_sub(1, Ordering::AcqRel);
                });
            }
            let shards: Vec<_> = (0..SHARDS)
                .map(|index| {
                    let mut rng = rng.fork();
                    scope.spawn(move || serve(hub, index, &mut rng, publishing, start))
                })
                .collect();
            shards.into_iter().flat_map(|shard| shard.join().unwrap()).collect()
        });
        let truth = truth.lock().unwrap();
        let mut order: Vec<_> =
            truth.iter().map(|(data, (offset, target))| (*offset, data.as_str(), target)).collect();
        order.sort_unstable_by_key(|(offset, ..)| *offset);
        assert!(order.iter().map(|(offset, ..)| *offset).eq(1..=hub.head()), "offsets have no holes");
        for heard in &heard {
            check(heard, &order, hub.epoch());
        }
    }
}
