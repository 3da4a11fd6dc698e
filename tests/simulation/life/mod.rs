//! One life: a hub and its shards, what happens to them, and the invariants all the while.

mod check;
mod claims;
mod command;
mod end;
mod expect;
mod join;
mod members;
mod mutes;
mod policies;
mod publish;
mod replay;
mod rights;
mod sockets;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tidegate::hub::{Hub, HubSettings};
use tidegate::order::memory::MemoryOrder;
use tidegate::shard::stats::Stats;
use tidegate::shard::{Shard, ShardSettings};
use tidegate::types::moment::Moment;
use tidegate::types::position::Epoch;

use self::join::Waiting;
use super::kind::Kind;
use super::listener::Listener;
use super::model::{Order, To};
use super::net::FakeNet;
use super::plan::{Plan, ROOMS};
use super::tally::Tally;

/// More claims than a life makes.
const CLAIMS_MAX: usize = 10_000;

/// A shard and the model's state of it.
struct Node {
    shard: Shard<FakeNet>,
    stats: Arc<Stats>,
    /// At the same index as their wires.
    listeners: Vec<Listener>,
    /// Indexes of the subscribers that have not ended.
    live: Vec<usize>,
    tally: Tally,
}

impl Node {
    /// The subscribers that have not ended, with the indexes of their wires.
    fn live_ones(&self) -> impl Iterator<Item = (usize, &Listener)> {
        self.live.iter().map(|wire| (*wire, &self.listeners[*wire]))
    }

    /// Notes which subscribers did not take all that they were offered.
    fn note_the_slow(&mut self) {
        let wires = &self.shard.net().wires;
        for wire in &self.live {
            self.listeners[*wire].keeps_up &= !wires[*wire].was_short;
        }
    }
}

struct Life<'a> {
    plan: &'a Plan,
    rng: &'a mut Rng,
    /// Ids that subscribers have stored, from this life and others.
    ids: &'a mut Vec<String>,
    hub: Arc<Hub>,
    order: Order,
    nodes: Vec<Node>,
    waiting: Vec<Waiting>,
    /// The order under test, which remembers claims.
    publisher: MemoryOrder,
    held: claims::Held,
    /// Number of events that were made up, published or not.
    drawn: u64,
    /// The policies of the rooms.
    kinds: [Kind; ROOMS],
    versions: versions::Versions,
    graces: members::Graces,
    /// Who is muted where, and until when.
    mutes: mutes::Muted,
    now: u64,
    talks: bool,
}

/// Runs one life from `now` on; returns the time of its end.
pub(crate) fn live(
    plan: &Plan,
    rng: &mut Rng,
    ids: &mut Vec<String>,
    now: u64,
    epoch: u64,
    talks: bool,
) -> u64 {
    let hub = Hub::new(HubSettings {
        shards: plan.shards,
        epoch: Epoch::new(epoch),
        history: plan.history,
        caps: plan.caps,
        delivery: plan.delivery,
    });
    let publisher = MemoryOrder::remembering(hub.clone(), CLAIMS_MAX);
    let nodes = (0..plan.shards).map(|index| node(plan, &publisher, index, rng)).collect();
    let kinds = plan.kinds.unwrap_or([Kind::plain(plan.history); ROOMS]);
    let order = Order::new(plan);
    let (waiting, held, drawn, versions, graces, mutes) = Default::default();
    let mut life = Life {
        plan,
        rng,
        ids,
        hub,
        order,
        nodes,
        waiting,
        publisher,
        held,
        drawn,
        kinds,
        versions,
        graces,
        mutes,
        now,
        talks,
    };
    life.set_policies();
    for _ in 0..plan.crowd {
        life.connect();
    }
    for at in 0..plan.operations {
        life.operate();
        if plan.crowd < 100 || at % 16 == 0 {
            life.check_counts();
        }
    }
    life.end();
    life.now
}

fn node(plan: &Plan, order: &MemoryOrder, index: usize, rng: &mut Rng) -> Node {
    let settings = ShardSettings {
        index,
        flush_interval: plan.flush_interval,
        portion: plan.portion,
        heartbeat: plan.heartbeat,
        retry: Duration::from_secs(3),
        max_unsent_age: plan.max_unsent_age,
        lease: plan.lease,
        drain: plan.drain,
        drain_rate: plan.drain_rate,
    };
    let stats = Arc::new(Stats::default());
    let net = FakeNet::new(rng.u64(..));
    let shard = Shard::new(order.clone(), settings, net, stats.clone(), rng.u64(..));
    Node { shard, stats, listeners: Vec::new(), live: Vec::new(), tally: Tally::default() }
}

fn room_name(room: usize) -> String {
    format!("room-{room}")
}

fn user_name(user: usize) -> String {
    format!("user-{user}")
}

impl Life<'_> {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn moment(&self) -> Moment {
        Moment(self.now)
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.talks {
            eprintln!("{:>10} head {:>3}  {}", self.now, self.order.head(), what());
        }
    }

    fn operate(&mut self) {
        match self.rng.u32(0..114) {
            0..22 => self.publish(),
            22..36 => self.connect(),
            36..60 => self.step_any(),
            60..70 => self.poke_any(),
            70..76 => self.end_any(),
            76..80 => self.change_a_temper(),
            80..92 => self.pass_time(),
            92..94 => self.tidy(),
            94..96 => self.disconnect(),
            96..98 => self.use_a_stale_key(),
            98..100 => self.join_a_waiting_one(),
            100..104 => self.refresh(),
            104 => self.revoke(),
            105..108 => self.change_a_policy(),
            108..111 => self.mute(),
            111..113 => self.change_a_member(),
            _ => self.review(),
        }
    }

    fn pass_time(&mut self) {
        let flush = u64::try_from(self.plan.flush_interval.as_micros()).unwrap();
        let leap = if self.plan.leaps && self.one_in(6) { 1_000_000 } else { 30_000 };
        self.now += match self.rng.u32(0..4) {
            0 => 1,
            1 => flush,
            2 => flush / 2,
            _ => self.rng.u64(0..leap),
        };
    }

    /// Sweeps some of the names, or all.
    fn tidy(&mut self) {
        self.say(|| "tidy".into());
        for _ in 0..*self.rng.choice(&[1, 16]).unwrap() {
            self.hub.tidy(self.moment());
        }
        self.publisher.tidy(self.moment());
        self.check_ages();
        self.check_versions();
    }

    fn live(&self) -> impl Iterator<Item = &Listener> {
        self.nodes.iter().flat_map(|node| node.live.iter().map(|at| &node.listeners[*at]))
    }

    /// Returns how many connections an event to `to` is addressed to. A user's connections count from their admission
    /// on, those in a room with bounded listeners as well.
    fn listening(&self, to: To) -> u64 {
        let count = self.live().filter(|listener| listener.sources().any(|source| source == to)).count();
        let waiting = match to {
            To::User(user) => self.waiting.iter().filter(|waiting| waiting.user == Some(user)).count(),
            To::Room(room) => self.waiting.iter().filter(|waiting| waiting.seats.contains(&room)).count(),
            To::All => 0,
        };
        (count + waiting) as u64
    }
}
