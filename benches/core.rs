//! The delivery path without a kernel: encode, append, batch, compress, and a flush over ten thousand fake sinks.
//!
//! `cargo bench --bench core`. Absolute times are for people; compare two runs on one machine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::hub::admission::Caps;
use tidegate::hub::draft::{Draft, Target};
use tidegate::hub::history::HistoryBounds;
use tidegate::hub::log::Log;
use tidegate::hub::log::entry::Entry;
use tidegate::hub::log::rules::LogBounds;
use tidegate::hub::{Hub, HubSettings};
use tidegate::order::memory::MemoryOrder;
use tidegate::shard::batch::{Batch, Item};
use tidegate::shard::conn::ConnKey;
use tidegate::shard::join::{Join, Presence, Start};
use tidegate::shard::net::Net;
use tidegate::shard::stats::Stats;
use tidegate::shard::{PORTION_MEMBERS, Shard, ShardSettings, Step};
use tidegate::types::moment::Moment;
use tidegate::types::name::RoomName;
use tidegate::types::position::Epoch;
use tidegate::types::rate::Rate;
use tidegate::wire::control::Heartbeat;
use tidegate::wire::encoding::Encoding;
use tidegate::wire::frame::{Frame, Unsealed};
use tidegate::wire::gzip::Deflater;

/// Data of the size of a chat message.
const DATA: &str = r#"{"from":"alice","text":"The tide gate lets water through in one direction only.","at":"2026-01-01T00:00:00Z","n":123456}"#;

const CHUNKED: Encoding = Encoding { chunked: true, gzip: false };
const GZIP: Encoding = Encoding { chunked: true, gzip: true };
const CONNECTIONS: usize = 10_000;

/// Takes every byte and drops it.
struct Sink;

impl Net for Sink {
    type Socket = ();

    fn open(&mut self, (): &mut (), _: ConnKey) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, (): &mut (), bytes: &[u8]) -> io::Result<usize> {
        Ok(std::hint::black_box(bytes).len())
    }

    fn want_write(&mut self, (): &mut (), _: ConnKey, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn close(&mut self, (): (), _: bool) {}
}

fn hub() -> Arc<Hub> {
    Hub::new(HubSettings {
        shards: 1,
        epoch: Epoch::new(1),
        history: HistoryBounds {
            log: LogBounds { events_max: 1000, bytes_max: 1 << 20 },
            bytes_max: 256 << 20,
            age_max: Duration::from_hours(1),
        },
        caps: Caps { connections_max: 1 << 20, per_user_max: Some(8), replace: false, per_address_max: None },
        delivery: None,
    })
}

fn shard(hub: &Arc<Hub>) -> Shard<Sink> {
    let settings = ShardSettings {
        index: 0,
        flush_interval: Duration::ZERO,
        portion: PORTION_MEMBERS,
        heartbeat: Duration::from_hours(24),
        retry: Duration::from_secs(3),
        max_unsent_age: Duration::from_secs(30),
        lease: None,
        drain: Duration::ZERO,
        drain_rate: Rate { events: 1000, per: Duration::from_secs(1) },
    };
    Shard::new(MemoryOrder::new(hub.clone()), settings, Sink, Arc::new(Stats::default()), 1)
}

fn join(hub: &Arc<Hub>, shard: &mut Shard<Sink>, rooms: &[&str], user: &str, encoding: Encoding) {
    let permit = hub.admit(Some(user), None, Moment(0)).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let (user, address) = permit.keep();
    let join = Join {
        socket: (),
        head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n"),
        encoding,
        heartbeat: Heartbeat::Id,
        rooms: rooms.iter().map(|room| hub.rooms().get_or_create(room)).collect(),
        user,
        address,
        start: Start::Now,
        session: None,
        poll: None,
        presence: Presence::Off,
        sees_names: false,
        probe: false,
    };
    shard.join(join, Moment(0)).expect("the sink takes everyone");
}

fn draft(target: Target) -> Draft {
    Draft::to(target, DATA)
}

fn room(name: &str) -> Target {
    Target::Room(RoomName::new(name).expect("a plain name"))
}

fn frame() -> Frame {
    Unsealed::new(None, DATA, 32).seal(b"k3v9q2-1041")
}

fn items(count: u64) -> Vec<Item> {
    (1..=count).map(|offset| Item { offset, frame: frame(), published: Moment(0) }).collect()
}

fn settle(shard: &mut Shard<Sink>) {
    while shard.step(Moment(0)) == Step::Again {
        shard.settle(Moment(0));
    }
    shard.settle(Moment(0));
}

fn wire(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire");
    group.bench_function("encode", |b| b.iter(frame));
    let mut deflater = Deflater::default();
    let stats = Stats::default();
    for count in [1, 100] {
        group.throughput(Throughput::Elements(count));
        for (name, encoding) in [("batch", CHUNKED), ("gzip batch", GZIP)] {
            group.bench_function(format!("{name} of {count}"), |b| {
                b.iter_batched(
                    || Batch::new(0, count, items(count)).expect("not empty"),
                    |mut batch| batch.bytes(encoding, &mut deflater, &stats).clone(),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

fn log(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    let bounds = LogBounds { events_max: 1000, bytes_max: 1 << 20 };
    group.bench_function("append to a full log", |b| {
        let (mut log, frame, mut offset) = (Log::default(), frame(), 0);
        b.iter(|| {
            offset += 1;
            let entry = Entry::plain(offset, frame.clone(), Moment(0));
            log.append(entry, None, bounds.into(), u64::MAX);
        });
    });
    let hub = hub();
    let order = MemoryOrder::new(hub.clone());
    group.bench_function("publish to a room nobody listens to", |b| {
        b.iter(|| order.publish([draft(room("empty"))], Moment(0)));
    });
    group.finish();
}

fn flush(c: &mut Criterion) {
    let mut group = c.benchmark_group("flush over 10,000 sinks");
    group.throughput(Throughput::Elements(CONNECTIONS as u64));
    let cases: [(&str, &[&str], Encoding); 3] =
        [("one room", &["a"], CHUNKED), ("gzip", &["a"], GZIP), ("two rooms", &["a", "b"], CHUNKED)];
    for (name, rooms, encoding) in cases {
        let hub = hub();
        let order = MemoryOrder::new(hub.clone());
        let mut shard = shard(&hub);
        for n in 0..CONNECTIONS {
            join(&hub, &mut shard, rooms, &format!("user-{n}"), encoding);
        }
        group.bench_function(name, |b| {
            b.iter(|| {
                order.publish([draft(room("a"))], Moment(0)).expect("no id of its own");
                settle(&mut shard);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, wire, log, flush);
criterion_main!(benches);
