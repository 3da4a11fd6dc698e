//! One life: a hub and its shards, what happens to them, and the invariants all the while.

mod check;
mod claims;
mod command;
mod end;
mod expect;
mod policies;
mod rights;
mod sockets;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tidegate::hub::admission::Permit;
use tidegate::hub::draft::{Claims, Draft, Target};
use tidegate::hub::own_ids::Repeats;
use tidegate::hub::source::Source;
use tidegate::hub::{Hub, HubSettings};
use tidegate::order::memory::MemoryOrder;
use tidegate::rights::grant::PermissionName;
use tidegate::shard::join::{Join, Presence, Start};
use tidegate::shard::stats::Stats;
use tidegate::shard::{Shard, ShardSettings};
use tidegate::types::moment::Moment;
use tidegate::types::name::{EventId, EventKey, EventName, NameError, RoomName, UserName};
use tidegate::types::position::Epoch;
use tidegate::wire::control::Heartbeat;
use tidegate::wire::encoding::Encoding;

use self::expect::is_position;
use super::client::HEAD;
use super::listener::Listener;
use super::model::{Event, Order, To};
use super::net::{FakeNet, Temper};
use super::plan::{Kind, Plan, ROOMS, USERS};
use super::right::Rights;
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

/// A place that was granted and is not used yet.
struct Waiting {
    permit: Permit,
    user: Option<usize>,
    address: Option<u8>,
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
    /// Whether a room has begun or ceased to conflate. What its history has from before depends on when it was tidied.
    has_reloaded: bool,
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
    let nodes = (0..plan.shards).map(|index| node(plan, &hub, index, rng)).collect();
    let order = Order::new();
    let kinds = plan.kinds.unwrap_or([Kind::PLAIN; ROOMS]);
    let publisher = MemoryOrder::remembering(hub.clone(), CLAIMS_MAX);
    let (waiting, held, has_reloaded, drawn) = Default::default();
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
        has_reloaded,
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

fn node(plan: &Plan, hub: &Arc<Hub>, index: usize, rng: &mut Rng) -> Node {
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
    let shard = Shard::new(hub.clone(), settings, net, stats.clone(), rng.u64(..));
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
        match self.rng.u32(0..108) {
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
            105..107 => self.change_a_policy(),
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
    }

    fn publish(&mut self) {
        let count = if self.one_in(4) { self.rng.usize(2..8) } else { 1 };
        let (mut drafts, mut events) = (Vec::new(), Vec::new());
        let to_one = self.one_in(2).then(|| self.target());
        for number in self.drawn..self.drawn + count as u64 {
            let to = to_one.unwrap_or_else(|| self.target());
            let (draft, event) = self.draft(to, number);
            drafts.push(draft);
            events.push(event);
        }
        self.drawn += count as u64;
        let repeats = if self.rng.bool() { Repeats::RefuseAll } else { Repeats::EndThere };
        let claims: Vec<Claims> = drafts.iter().map(|draft| draft.claims).collect();
        self.say(|| format!("publishes {events:?} with {claims:?}, {repeats:?}"));
        let expected = self.decide(events, &claims, repeats);
        let answer = self.publisher.propose(drafts, repeats, self.moment(), |_, _, waker| waker.wake());
        self.say(|| format!("{answer:?}"));
        assert_eq!(answer, expected, "offsets have no holes, subscribers are counted, no id comes twice");
        assert_eq!(self.hub.head(), self.order.head());
        assert_eq!(self.hub.events_published(), self.order.head());
        let (_, bytes) = self.hub.history();
        assert!(bytes <= self.plan.history.bytes_max, "history takes {bytes} bytes");
    }

    /// Adds an event to the model.
    fn push(&mut self, event: Event) {
        let conflates = matches!(event.to, To::Room(room) if self.kinds[room].conflates);
        self.order.push(event, conflates);
    }

    fn target(&mut self) -> To {
        match self.rng.u32(0..10) {
            0..7 => To::Room(self.rng.usize(0..self.plan.rooms)),
            7..9 => To::User(self.rng.usize(0..USERS)),
            _ => To::All,
        }
    }

    /// Makes up the event with this number, as it is published and as the model stores it.
    fn draft(&mut self, to: To, number: u64) -> (Draft, Event) {
        let mut data = match self.rng.u32(0..8) {
            0 => format!("{number}\nb\rc\r\n"),
            1 => format!("{number}\r\r: id: 7"),
            2 => format!("\n {number} é"),
            3 => format!("{number}{}", "x".repeat(self.rng.usize(0..600))),
            _ => format!("{number}"),
        };
        if self.plan.fat {
            data.push_str(&"y".repeat(self.rng.usize(30_000..150_000)));
        }
        let (key, store) = self.key_and_store(to);
        let stored = store && !matches!(to, To::Room(room) if !self.kinds[room].stores);
        // Its own id would be forgotten with an event that is left out.
        let lasts = stored && key.is_none();
        let id = if lasts { self.own_id(number) } else { None };
        let name = self.one_in(3).then(|| "price".to_owned());
        let exclude = (self.rng.u32(0..100) < self.plan.excluding).then(|| self.rng.usize(0..USERS));
        let is_for_vips = self.rng.u32(0..100) < self.plan.requiring;
        let target = match to {
            To::Room(room) => Target::Room(RoomName::new(&room_name(room)).unwrap()),
            To::User(user) => Target::User(UserName::new(&user_name(user)).unwrap()),
            To::All => Target::All,
        };
        let draft = Draft {
            name: name.as_deref().map(|name| EventName::new(name).unwrap()),
            id: id.as_deref().map(|id| EventId::new(id).unwrap()),
            exclude: exclude.map(|user| UserName::new(&user_name(user)).unwrap()),
            key: key.map(|key| EventKey::new(&format!("key-{key}")).unwrap()),
            store,
            require: is_for_vips.then(|| PermissionName::new("vip").unwrap()),
            claims: self.claims(),
            ..Draft::to(target, data.clone())
        };
        let text = data.replace("\r\n", "\n").replace('\r', "\n");
        (draft, Event { to, exclude, is_for_vips, name, id, key, stored, text })
    }

    /// Returns an id that a publisher may choose: a new one, one that may be there already, or one that subscribers got
    /// in any life. Ids that are positions cannot be chosen.
    fn own_id(&mut self, number: u64) -> Option<String> {
        let id = match self.rng.u32(0..40) {
            0..6 => format!("c{number}"),
            6 => format!("twin{}", self.rng.u32(0..2)),
            7 => format!("c{}", self.rng.u64(0..=number)),
            8 => self.rng.choice(&*self.ids)?.clone(),
            9 => format!("{}-{}", self.hub.epoch(), self.rng.u64(0..=number + 5)),
            _ => return None,
        };
        let chosen = EventId::new(&id);
        assert_eq!(chosen == Err(NameError::Reserved), is_position(&id), "{id}");
        chosen.is_ok().then_some(id)
    }

    fn live(&self) -> impl Iterator<Item = &Listener> {
        self.nodes.iter().flat_map(|node| node.live.iter().map(|at| &node.listeners[*at]))
    }

    /// Returns how many connections an event to `to` is addressed to. A user's connections count from their admission
    /// on.
    fn listening(&self, to: To) -> u64 {
        let count = self.live().filter(|listener| listener.sources().any(|source| source == to)).count();
        let waiting = match to {
            To::User(user) => self.waiting.iter().filter(|waiting| waiting.user == Some(user)).count(),
            _ => 0,
        };
        (count + waiting) as u64
    }

    fn connect(&mut self) {
        let user = self.rng.bool().then(|| self.rng.usize(0..USERS));
        let address = self.rng.bool().then(|| self.rng.u8(0..3));
        let expected = self.expected_admission(user, address);
        let name = user.map(user_name);
        let ip = address.map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
        match self.hub.admit(name.as_deref(), ip, self.moment()) {
            Ok(permit) => {
                assert_eq!(expected, None, "admission");
                match self.rng.u32(0..20) {
                    0 => drop(permit),
                    1..4 => self.waiting.push(Waiting { permit, user, address }),
                    _ => self.join(Waiting { permit, user, address }),
                }
            }
            Err(refusal) => assert_eq!(Some(refusal), expected, "admission"),
        }
    }

    fn join_a_waiting_one(&mut self) {
        if let Some(waiting) = self.waiting.pop() {
            self.join(waiting);
        }
    }

    fn join(&mut self, waiting: Waiting) {
        let Waiting { permit, user, address: last } = waiting;
        let mut rooms: Vec<usize> = (0..self.plan.rooms).collect();
        self.rng.shuffle(&mut rooms);
        let several = if self.one_in(3) { self.rng.usize(1..=4) } else { 1 };
        let is_inbox_alone = user.is_some() && self.one_in(6);
        rooms.truncate(if is_inbox_alone { 0 } else { several });
        let sources: Vec<Arc<Source>> =
            rooms.iter().map(|room| self.hub.rooms().get_or_create(&room_name(*room))).collect();
        let start = self.start();
        let token = (!self.one_in(5)).then(|| self.token(user));
        let pass = token.map(|token| token.pass);
        let opening = self.opening(&rooms, user, pass, &start);
        let (inbox, address) = permit.keep();
        assert_eq!(address.is_some(), last.is_some() && self.plan.caps.per_address_max.is_some());
        let poll =
            (self.rng.u32(0..100) < self.plan.polling).then(|| Duration::from_millis(self.rng.u64(1..900)));
        let encoding = Encoding { chunked: !self.one_in(4), gzip: self.one_in(4) && poll.is_none() };
        let presence = *self.rng.choice(&[Presence::Off, Presence::Member, Presence::Silent]).unwrap();
        let heartbeat = if self.rng.bool() { Heartbeat::Id } else { Heartbeat::Comment };
        let presented = match &start {
            Start::After(id) => id.clone(),
            _ => String::new(),
        };
        let temper = if self.rng.u32(0..100) < self.plan.moody { Temper::Moody } else { Temper::Eager };
        let at = self.rng.usize(0..self.nodes.len());
        self.say(|| {
            format!("join {user:?} in {rooms:?} at shard {at}, {encoding:?}, {start:?}: {opening:?}")
        });
        let now = self.moment();
        let refuses = self.one_in(40);
        let node = &mut self.nodes[at];
        node.shard.net_mut().next_temper = temper;
        node.shard.net_mut().refuses = refuses;
        let join = Join {
            socket: usize::MAX,
            head: Bytes::from_static(HEAD),
            encoding,
            heartbeat,
            rooms: sources.into(),
            user: inbox,
            address,
            session: token.map(|token| token.session()),
            start,
            poll,
            presence,
            sees_names: true,
            probe: false,
        };
        let joined = node.shard.join(join, now);
        assert_eq!(joined.is_err(), refuses);
        if joined.is_ok() {
            node.live.push(node.listeners.len());
            node.tally.opened += 1;
            node.listeners.push(Listener {
                rooms,
                user,
                address: last,
                encoding,
                heartbeat,
                opening,
                rights: Rights::new(token),
                is_rated: user.is_some() && self.plan.delivery.is_some(),
                presented,
                ended_by_us: None,
                poll: poll.is_some(),
                presence,
                is_doomed: false,
            });
            assert_eq!(node.listeners.len(), node.shard.net_mut().wires.len());
        }
        self.collect(at);
    }

    fn start(&mut self) -> Start {
        let id = match self.rng.u32(0..12) {
            0..3 => return Start::Now,
            3..5 if !self.has_reloaded => return Start::History(self.rng.usize(0..12)),
            5..7 if !self.ids.is_empty() => self.ids[self.ids.len() - 1].clone(),
            7..9 if !self.ids.is_empty() => self.ids[self.rng.usize(0..self.ids.len())].clone(),
            9 => format!("{}-{}", self.hub.epoch(), self.order.head() + self.rng.u64(1..4)),
            10 => (*self.rng.choice(&["", "x", "twin0", "c3", "a b", "é", "abcdef-7", "-", "\n"]).unwrap())
                .into(),
            _ => format!("{}-{}", self.hub.epoch(), self.rng.u64(0..=self.order.head())),
        };
        Start::After(id)
    }
}
