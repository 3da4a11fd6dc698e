//! Nodes, servers and what is between them, in simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tidegate::order::redis::call::{AppendAnswer, AttachAnswer, Batch, Closed, OnceKey};
use tidegate::order::redis::entry::{Content, EntryId};
use tidegate::order::redis::link::{Command, ConnNo, Happened, Loss, Output, Ticket, Told};
use tidegate::types::moment::Moment;
use tidegate::types::position::Offset;

use super::data::{Data, text};
use super::node::{Conn, Node};
use super::server::Server;
use super::truth::{Fate, Truth};

/// What will happen.
enum Event {
    /// A command reaches a server.
    Arrives { node: usize, life: String, no: ConnNo, conn: Conn, command: Command },
    /// A read has waited long enough.
    Waited(u64),
    /// Something reaches a node.
    Happens { node: usize, life: String, no: ConnNo, what: Happened, data: Option<Arc<Data>> },
    /// A link asked to be woken.
    Wakes(usize),
    /// A node is asked to publish.
    Publish,
    /// Something goes wrong.
    Trouble,
}

/// A read that waits for an entry.
struct Blocked {
    node: usize,
    life: String,
    no: ConnNo,
    conn: Conn,
    after: EntryId,
    entries_max: usize,
}

pub(crate) struct World {
    pub rng: Rng,
    pub now: Moment,
    pub servers: Vec<Server>,
    pub nodes: Vec<Node>,
    pub truth: Truth,
    pub talks: bool,
    /// Nothing happens that an order does not survive.
    pub is_gentle: bool,
    /// Entries that servers keep.
    entries_max: usize,
    /// Of a hundred commands of closed connections, those that run all the same.
    late: u32,
    queue: BinaryHeap<Reverse<(Moment, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    blocked: BTreeMap<u64, Blocked>,
    /// When the last command of each connection arrives: none overtakes another.
    arrivals: BTreeMap<(usize, u64, u8), Moment>,
    /// Publishers ask whether a replica has what they published.
    confirms: bool,
    /// What the server had that confirmed last.
    confirmed: Option<Arc<Data>>,
    next_ticket: u64,
    pub next_replid: u64,
    pub next_life: u64,
}

/// Lives one seed.
pub(crate) fn live(seed: u64, talks: bool) {
    let mut world = World::new(seed, talks);
    let end = world.now + Duration::from_secs(world.rng.u64(5..60));
    world.run_until(end);
    world.heal();
    world.settle();
}

impl World {
    fn new(seed: u64, talks: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (entries_max, late) = (*rng.choice(&[5, 30, 100_000]).expect("some"), rng.u32(0..100));
        let mut world = Self {
            now: Moment(rng.u64(0..1_000_000)),
            servers: (0..2).map(|_| Server::default()).collect(),
            nodes: Vec::new(),
            truth: Truth::default(),
            talks,
            is_gentle: rng.bool(),
            confirms: rng.bool(),
            confirmed: None,
            entries_max,
            late,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            blocked: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            next_ticket: 0,
            next_replid: 0,
            next_life: 0,
            rng,
        };
        world.servers[0].is_master = true;
        world.servers[0].replid = world.fresh_replid();
        for _ in 0..world.rng.usize(2..=4) {
            let node = world.fresh_node(0);
            world.nodes.push(node);
        }
        for node in 0..world.nodes.len() {
            world.attend(node);
        }
        world.later(1_000_000, Event::Publish);
        world.later(3_000_000, Event::Trouble);
        world
    }

    pub(crate) fn fresh_replid(&mut self) -> u64 {
        self.next_replid += 1;
        self.next_replid
    }

    pub(crate) fn fresh_node(&mut self, route: usize) -> Node {
        self.next_life += 1;
        Node::new(format!("life{}", self.next_life), self.rng.u64(..), route, self.now)
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.talks {
            eprintln!("{:>12} {}", self.now.0, what());
        }
    }

    fn at(&mut self, when: Moment, event: Event) {
        self.next_event += 1;
        self.queue.push(Reverse((when, self.next_event)));
        self.events.insert(self.next_event, event);
    }

    /// Within so many microseconds.
    fn later(&mut self, within: u64, event: Event) {
        let when = Moment(self.now.0 + self.rng.u64(0..within));
        self.at(when, event);
    }

    fn run_until(&mut self, end: Moment) {
        while let Some(Reverse((when, key))) = self.queue.peek().copied() {
            if when > end {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(when);
            let event = self.events.remove(&key).expect("each is there once");
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives { node, life, no, conn, command } => self.arrive(node, life, no, conn, command),
            Event::Waited(key) => {
                if let Some(Blocked { node, life, no, .. }) = self.blocked.remove(&key) {
                    self.reply(node, life, no, Happened::Read(Vec::new()), None);
                }
            }
            Event::Happens { node, life, no, what, data } => self.reach(node, &life, no, what, data),
            Event::Wakes(node) => {
                if self.nodes[node].link.due() <= self.now {
                    self.nodes[node].link.wake(self.now);
                    self.attend(node);
                }
            }
            Event::Publish => {
                self.publish();
                let pause = if self.rng.u32(0..4) == 0 { 2_000_000 } else { 30_000 };
                self.later(pause, Event::Publish);
            }
            Event::Trouble => {
                self.trouble();
                self.later(6_000_000, Event::Trouble);
            }
        }
    }

    /// Something reaches a node.
    fn reach(&mut self, node: usize, life: &str, no: ConnNo, what: Happened, data: Option<Arc<Data>>) {
        if self.nodes[node].life != life || self.nodes[node].no != no {
            return;
        }
        if let Happened::Confirmed(true) = what {
            self.confirmed.clone_from(&data);
        }
        let brought = match &what {
            Happened::Read(entries) => entries.last().and_then(|entry| Some(entry.as_ref()?.id.offset)),
            Happened::Broken => {
                self.nodes[node].conn = None;
                None
            }
            _ => None,
        };
        self.nodes[node].link.happened(self.now, no, what);
        self.attend(node);
        let holder = &self.nodes[node];
        if let (Some(data), Some(offset)) = (data, brought)
            && holder.no == no
            && holder.link.applied() == Some(offset)
            && holder.head() <= offset
            && holder.conn.is_some()
        {
            let offsets = if self.rng.u32(0..10) == 0 { Offset::MAX } else { 20 };
            self.nodes[node].check(&data, offsets);
        }
    }

    /// Does what the link of `node` wants.
    pub(crate) fn attend(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].link.next_output() {
            match output {
                Output::Do(no, command) => self.command(node, no, command),
                Output::Tell(told) => self.told(node, told),
            }
        }
        let due = self.nodes[node].link.due().max(self.now);
        self.at(due, Event::Wakes(node));
    }

    fn told(&mut self, node: usize, told: Told) {
        let life = self.nodes[node].life.clone();
        match told {
            Told::Apply(batch) => {
                self.say(|| format!("{life} applies {} at {}", text(&batch.body), batch.first));
                self.nodes[node].apply(&batch);
            }
            Told::Adopt(adopted) => {
                self.say(|| format!("{life} adopts {adopted:?}"));
                let began_later = self.nodes[node].began_later(&adopted.lineage);
                let may_restart = self.truth.was_gone || self.truth.went_back || began_later;
                assert!(may_restart || adopted.loss != Loss::Restart, "{life} restarts for no reason");
                self.nodes[node].adopt(&adopted);
            }
            Told::Placed(ticket, placed) => {
                self.say(|| format!("{life} {ticket:?} {placed:?}"));
                let body = self.truth.answer(ticket, Fate::Placed(placed)).body.clone();
                assert!(
                    self.nodes[node].has(&body, placed.first),
                    "{body} is acknowledged and was not applied"
                );
                if self.confirms {
                    self.truth.confirming.insert(ticket.0);
                    self.nodes[node].link.confirm(self.now, ticket);
                }
            }
            Told::Repeated(ticket, repeat) => {
                self.say(|| format!("{life} {ticket:?} {repeat:?}"));
                let key = self.truth.answer(ticket, Fate::Repeated(repeat)).key;
                // The event there came with the same key, as far as a node has given it out.
                let id = repeat.epoch.position(repeat.first).to_string();
                for holder in &self.nodes {
                    if let Some(body) = holder.ids.get(&id).filter(|_| !self.truth.went_back) {
                        assert_eq!(self.truth.key_of(body), key, "{id} has another key");
                    }
                }
            }
            Told::Refused(ticket, why) => {
                self.say(|| format!("{life} {ticket:?} {why:?}"));
                self.truth.answer(ticket, Fate::Refused);
            }
            Told::Unknown(ticket) => {
                self.say(|| format!("{life} {ticket:?} unknown"));
                self.truth.answer(ticket, Fate::Unknown);
            }
            Told::Confirmed(ticket) => {
                self.say(|| format!("{life} {ticket:?} is confirmed"));
                assert!(self.truth.confirming.remove(&ticket.0), "{ticket:?} is confirmed twice");
                let body = &self.truth.submitted[&ticket.0].body;
                let has = self.confirmed.as_ref().is_some_and(|data| data.had(body));
                let may_lack = self.truth.was_gone || self.truth.went_back;
                assert!(has || may_lack, "{body} is confirmed, and the replica does not have it");
            }
            Told::Unconfirmed(ticket) => {
                self.say(|| format!("{life} {ticket:?} is not confirmed"));
                assert!(self.truth.confirming.remove(&ticket.0), "{ticket:?} is confirmed twice");
            }
            Told::State(state) => self.say(|| format!("{life} is {state:?}")),
        }
    }

    fn command(&mut self, node: usize, no: ConnNo, command: Command) {
        let life = self.nodes[node].life.clone();
        match command {
            Command::Close => self.nodes[node].conn = None,
            Command::Connect => {
                self.nodes[node].no = no;
                self.nodes[node].conn = None;
                self.connect(node, life, no);
            }
            command => {
                let Some(conn) = self.nodes[node].conn else { return };
                let which = match command {
                    Command::Read(..) => 1,
                    Command::Confirm => 2,
                    _ => 0,
                };
                let lag = if self.rng.u32(0..30) == 0 { 800_000 } else { 3_000 };
                let when = Moment(self.now.0 + self.rng.u64(50..lag));
                let last = self.arrivals.entry((node, no.0, which)).or_insert(when);
                *last = when.max(*last);
                let when = *last;
                self.at(when, Event::Arrives { node, life, no, conn, command });
            }
        }
    }

    fn connect(&mut self, node: usize, life: String, no: ConnNo) {
        let server = self.nodes[node].route.map(|route| (route, &self.servers[route]));
        let what = match server {
            Some((_, server)) if server.busy_until > self.now => return,
            Some((route, server)) if server.is_up(self.now) && server.is_master => {
                self.nodes[node].conn = Some(Conn { server: route, process: server.process });
                Happened::Connected(Ok(()))
            }
            _ => Happened::Broken,
        };
        self.reply(node, life, no, what, None);
    }

    fn reply(&mut self, node: usize, life: String, no: ConnNo, what: Happened, data: Option<Arc<Data>>) {
        let lag = if self.rng.u32(0..30) == 0 { 800_000 } else { 3_000 };
        self.later(lag, Event::Happens { node, life, no, what, data });
    }

    /// A command reaches its server.
    fn arrive(&mut self, node: usize, life: String, no: ConnNo, conn: Conn, command: Command) {
        let holder = &self.nodes[node];
        let is_open = holder.life == life && holder.no == no && holder.conn.is_some();
        let server = &self.servers[conn.server];
        if server.process != conn.process || !server.is_up(self.now) {
            if is_open {
                self.reply(node, life, no, Happened::Broken, None);
            }
            return;
        }
        if server.busy_until > self.now {
            let when = server.busy_until;
            return self.at(when, Event::Arrives { node, life, no, conn, command });
        }
        if !is_open && self.rng.u32(0..100) >= self.late {
            return;
        }
        self.execute(node, life, no, conn, command);
    }

    fn execute(&mut self, node: usize, life: String, no: ConnNo, conn: Conn, command: Command) {
        let server = &mut self.servers[conn.server];
        let replid = server.replid;
        let is_full = server.full_until > self.now;
        let is_closed = server.closed_until > self.now;
        let what = match command {
            Command::Attach(_) | Command::Append(_) | Command::Confirm if !server.is_master => {
                Happened::Broken
            }
            Command::Attach(call) if is_closed && server.data.would_begin(replid, &call) => Happened::Broken,
            Command::Attach(call) => {
                let answer = server.change(|data| data.attach(replid, &call));
                if let AttachAnswer::Here(here) = &answer {
                    let terms = here.lineage.terms().len();
                    let newest = here.newest;
                    self.say(|| format!("{life} attaches to {}: {newest}, {terms} terms", conn.server));
                }
                Happened::Attached(answer)
            }
            Command::Append(call) if is_full => {
                Happened::Appended(call.seq, AppendAnswer::Closed(Closed::Full))
            }
            Command::Append(call) if is_closed => {
                Happened::Appended(call.seq, AppendAnswer::Closed(Closed::Unsafe))
            }
            Command::Append(call) => {
                let before = server.data.log.last().map(|logged| logged.entry.id);
                let answer = server.change(|data| data.append(replid, &life, &call));
                self.check_appended(conn.server, before);
                self.say(|| format!("{life} appends {} to {}: {answer:?}", call.tag, conn.server));
                Happened::Appended(call.seq, answer)
            }
            Command::Confirm => {
                let other = &self.servers[1 - conn.server];
                let is_there = other.is_in_step && other.is_up(self.now);
                let data = is_there.then(|| other.data.clone());
                return self.reply(node, life, no, Happened::Confirmed(is_there), data);
            }
            Command::Probe(id) => Happened::Probed(server.data.first_from(id)),
            Command::Read(after, entries_max) => {
                let blocked = Blocked { node, life, no, conn, after, entries_max };
                return self.block(blocked);
            }
            Command::Connect | Command::Close => unreachable!("they reach no server"),
        };
        self.reply(node, life, no, what, None);
        self.wrote(conn.server);
    }

    /// Whoever was told that a batch is not there is right.
    fn check_appended(&self, server: usize, before: Option<EntryId>) {
        let log = &self.servers[server].data.log;
        let Some(newest) = log.last().filter(|newest| Some(newest.entry.id) != before) else { return };
        if let Content::Batches(batches) = &newest.entry.content {
            for batch in batches {
                self.truth.appended(&text(&batch.body));
            }
        }
    }

    fn block(&mut self, blocked: Blocked) {
        let key = self.next_event + 1;
        self.at(self.now + Duration::from_secs(1), Event::Waited(key));
        let server = blocked.conn.server;
        self.blocked.insert(key, blocked);
        self.wake_readers(server);
    }

    /// Readers are given what there is.
    fn wake_readers(&mut self, server: usize) {
        let data = self.servers[server].data.clone();
        let mut ready = Vec::new();
        for (key, blocked) in &self.blocked {
            let Blocked { conn, after, entries_max, .. } = blocked;
            if conn.server == server && conn.process == self.servers[server].process {
                let entries = data.read(*after, *entries_max);
                if !entries.is_empty() {
                    ready.push((*key, entries));
                }
            }
        }
        for (key, entries) in ready {
            let Blocked { node, life, no, .. } = self.blocked.remove(&key).expect("it was found");
            self.reply(node, life, no, Happened::Read(entries), Some(data.clone()));
        }
    }

    /// Something was written to a server: it trims, replicates, and its readers are given it.
    pub(crate) fn wrote(&mut self, server: usize) {
        let entries_max = self.entries_max;
        Arc::make_mut(&mut self.servers[server].data).trim(entries_max);
        let other = 1 - server;
        if self.servers[server].is_master && self.servers[other].is_in_step {
            let (data, replid) = (self.servers[server].data.clone(), self.servers[server].replid);
            self.servers[other].data = data;
            self.servers[other].replid = replid;
            self.wake_readers(other);
        }
        self.wake_readers(server);
    }

    fn publish(&mut self) {
        let node = self.rng.usize(0..self.nodes.len());
        for _ in 0..self.rng.usize(1..4) {
            self.submit(node);
        }
        self.attend(node);
    }

    fn submit(&mut self, node: usize) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let (body, count) = (format!("b{}", ticket.0), self.rng.u32(1..4));
        let key = (self.rng.u32(0..5) == 0).then(|| (self.rng.u128(0..30), self.rng.u128(0..2)));
        let once = key.map(|(key, content)| OnceKey {
            key,
            content,
            time: Duration::from_hours(1),
            first: 0,
            count,
        });
        self.truth.submit(ticket, body.clone(), key);
        let batch = Batch { body: body.into(), count, once: once.into_iter().collect() };
        self.nodes[node].link.submit(self.now, ticket, batch);
    }

    /// One master is left, everybody can reach it, and nothing goes wrong any more.
    fn heal(&mut self) {
        let master = (0..2).find(|server| self.servers[*server].is_master).unwrap_or(0);
        self.say(|| format!("all is well again, {master} is the master"));
        for (index, server) in self.servers.iter_mut().enumerate() {
            server.is_master = index == master;
            server.is_in_step = false;
            server.down_until = Moment(0);
            server.busy_until = Moment(0);
            server.full_until = Moment(0);
            server.closed_until = Moment(0);
        }
        for node in &mut self.nodes {
            node.route = Some(master);
        }
        self.events.retain(|_, event| !matches!(event, Event::Trouble | Event::Publish));
        let events = &self.events;
        self.queue.retain(|Reverse((_, key))| events.contains_key(key));
        // A node on the other server finds out by itself.
        if self.servers[1 - master].process > 0 || self.rng.bool() {
            self.servers[1 - master].process += 1;
        }
    }

    /// Everybody is in step within a while.
    fn settle(&mut self) {
        self.run_until(self.now + Duration::from_secs(20));
        for node in 0..self.nodes.len() {
            self.submit(node);
            self.attend(node);
        }
        self.run_until(self.now + Duration::from_secs(10));
        let master = self.servers.iter().find(|server| server.is_master).expect("one is");
        let meta = master.data.meta.as_ref().expect("nodes attached");
        for node in &self.nodes {
            assert!(node.is_live(), "{} is {:?}", node.life, node.link.state());
            assert_eq!(node.link.applied(), Some(meta.newest), "{} is not in step", node.life);
            node.check(&master.data, Offset::MAX);
            node.check_ids(&meta.lineage, &master.data);
        }
        for (ticket, submitted) in &self.truth.submitted {
            let is_lost = submitted.fate == Fate::Waiting;
            assert!(!is_lost || self.next_life > self.nodes.len() as u64, "{ticket} has no answer");
        }
        let are_answered = self.truth.confirming.is_empty() || self.next_life > self.nodes.len() as u64;
        assert!(are_answered, "{:?} wait for a confirmation", self.truth.confirming);
    }
}
