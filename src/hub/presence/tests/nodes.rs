//! Claim: whatever nodes do, once all of them have read the order, all know the same members with the same data, and these are the
//! users that have a stream somewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Poll;

use fastrand::Rng;

use super::*;
use crate::hub::presence::notice::{PresenceKind, PresenceNotices};
use crate::hub::presence::report::{By, MemberReport};
use crate::types::node::NodeId;

const NAMES: [&str; 4] = ["ann", "bob", "cem", "dee"];

/// An entry of the order, with names in place of a node's own sources.
#[derive(Clone, Debug)]
enum Entry {
    Members(usize, Vec<(String, MemberReport)>),
    Withdraw(usize, String, bool),
    /// The node has ended, and others begin to know it.
    Ended(usize),
    Hello(usize),
}

struct Node {
    world: World,
    /// Streams of each user, by their seats, and whether they count still.
    streams: Vec<(String, Seat)>,
    /// Entries that it has applied.
    read: usize,
    notices: Arc<PresenceNotices>,
    is_dead: bool,
}

/// Some nodes, and the order between them.
struct Cluster {
    nodes: Vec<Node>,
    order: Vec<Entry>,
    rng: Rng,
    /// Users whose streams are silent: a node's streams up to a seat.
    silent: BTreeMap<(usize, String), Seat>,
    /// Users that have left on a node, and soon will on the others.
    withdrawing: Vec<(usize, String, bool)>,
}

impl Cluster {
    fn new(seed: u64, policy: PresencePolicy) -> Self {
        let (rng, silent) = (Rng::with_seed(seed), BTreeMap::new());
        let mut cluster = Self { nodes: vec![], order: vec![], rng, silent, withdrawing: vec![] };
        (0..3).for_each(|_| cluster.start(policy));
        cluster
    }

    fn start(&mut self, policy: PresencePolicy) {
        let (world, notices) = (World::new(policy), Arc::new(PresenceNotices::default()));
        let index = self.nodes.len();
        world.presence.report();
        world.presence.stats().tell(notices.clone());
        let read = self.order.len();
        self.nodes.push(Node { world, streams: vec![], read, notices, is_dead: false });
        self.order.push(Entry::Hello(index));
    }

    fn living(&mut self) -> usize {
        let living: Vec<usize> = (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_dead).collect();
        living[self.rng.usize(..living.len())]
    }

    fn step(&mut self, may_die: bool, policy: PresencePolicy) {
        let at = self.living();
        let name = NAMES[self.rng.usize(..NAMES.len())].to_owned();
        match self.rng.u32(..100) {
            0..25 => {
                let node = &mut self.nodes[at];
                let seat = node.world.enter(&name);
                node.streams.push((name, seat));
            }
            25..45 => self.end_stream(at),
            45..55 => {
                let data = format!("{}", self.rng.u32(..9));
                let _ = self.nodes[at].world.put(&name, Some(&data));
            }
            55..58 => {
                let knew = self.nodes[at].world.members().contains(&name);
                self.nodes[at].world.withdraw(&name);
                self.silence(at, &name);
                self.withdrawing.push((at, name, knew));
            }
            58..62 => self.withdraw(),
            62..75 => self.report(at),
            75..95 => self.read(at, 3),
            95..97 if may_die && self.nodes.iter().filter(|node| !node.is_dead).count() > 1 => {
                self.nodes[at].is_dead = true;
                self.nodes[at].streams.clear();
                self.order.push(Entry::Ended(at));
            }
            97 if may_die && self.nodes.len() < 6 => self.start(policy),
            // Everybody believes that it has ended, and it has not.
            98 if may_die => self.order.push(Entry::Ended(at)),
            _ => {
                let time = Duration::from_millis(self.rng.u64(..3000));
                self.nodes.iter_mut().for_each(|node| node.world.pass(time));
            }
        }
    }

    /// The oldest of what was withdrawn gets its place in the order, if its node lives.
    fn withdraw(&mut self) {
        if !self.withdrawing.is_empty() {
            let (at, name, knew) = self.withdrawing.remove(0);
            if !self.nodes[at].is_dead {
                self.order.push(Entry::Withdraw(at, name, knew));
            }
        }
    }

    fn silence(&mut self, at: usize, name: &str) {
        let newest =
            self.nodes[at].streams.iter().filter(|(user, _)| user == name).map(|(_, seat)| *seat).max();
        if let Some(newest) = newest {
            self.silent.insert((at, name.to_owned()), newest);
        }
    }

    fn end_stream(&mut self, at: usize) {
        let count = self.nodes[at].streams.len();
        if count > 0 {
            let (name, seat) = self.nodes[at].streams.swap_remove(self.rng.usize(..count));
            let at_once = self.rng.u32(..5) == 0;
            self.nodes[at].world.leave(&name, seat, at_once);
        }
    }

    /// The node reports what it has to, once it has read what it reported before; sometimes the order does not take it, or takes it without a word.
    fn report(&mut self, at: usize) {
        let mine = |entry: &Entry| matches!(entry, Entry::Members(from, _) if *from == at);
        let newest = self.order.iter().rposition(mine).map_or(0, |newest| newest + 1);
        self.read(at, newest.saturating_sub(self.nodes[at].read));
        let bytes = self.rng.usize(1..200);
        let fate = self.rng.u32(..10);
        let reports = self.nodes[at].world.presence.take_reports(bytes);
        for room in &reports {
            let members =
                room.members.iter().map(|said| (said.user.name().to_owned(), said.clone())).collect();
            if fate != 0 {
                self.order.push(Entry::Members(at, members));
            }
        }
        if fate < 2 {
            self.nodes[at].world.presence.report_again(&reports);
        }
    }

    fn read(&mut self, at: usize, most: usize) {
        for _ in 0..most {
            let place = self.nodes[at].read;
            let Some(entry) = self.order.get(place).cloned() else { return };
            self.nodes[at].read += 1;
            self.apply(at, entry, place as u64 + 1);
        }
    }

    fn apply(&mut self, at: usize, entry: Entry, position: u64) {
        let node = &mut self.nodes[at];
        let (room, now) = (node.world.room.clone(), node.world.now);
        match entry {
            Entry::Members(from, members) => {
                let mut said = vec![];
                for (name, report) in members {
                    said.push(MemberReport { user: node.world.user(&name), ..report });
                }
                let presence = &node.world.presence;
                let _ = if from == at {
                    presence.apply_own(&room, said, position, now)
                } else {
                    presence.apply_report(NodeId(from as u64), &room, said, position, now)
                };
            }
            Entry::Withdraw(from, name, knew) if from != at => {
                let user = node.world.user(&name);
                _ = node.world.presence.withdraw(&room, &user, By::Elsewhere { knew }, now);
                self.silence(at, &name);
            }
            Entry::Ended(ended) if ended == at => _ = node.world.presence.report_all(),
            Entry::Ended(ended) => {
                let teller = (0..self.nodes.len()).find(|node| *node != ended && !self.nodes[*node].is_dead);
                let teller = teller.filter(|teller| *teller != at).map(|teller| NodeId(teller as u64));
                _ = self.nodes[at].world.presence.node_ended(NodeId(ended as u64), teller, now);
            }
            Entry::Hello(from) if from != at => _ = node.world.presence.report_all(),
            Entry::Withdraw(_, name, _) => {
                let user = node.world.user(&name);
                _ = node.world.presence.withdrawn(&room, &user);
            }
            Entry::Hello(_) => {}
        }
    }

    /// Everything is reported and read, and graces end.
    fn settle(&mut self) {
        while !self.withdrawing.is_empty() {
            self.withdraw();
        }
        for _ in 0..20 {
            let before = self.order.len();
            for at in (0..self.nodes.len()).filter(|at| !self.nodes[*at].is_dead).collect::<Vec<_>>() {
                self.read(at, usize::MAX);
                let reports = self.nodes[at].world.presence.take_reports(usize::MAX);
                assert!(reports.len() <= 2, "a room is reported once, and those that are gone");
                for room in reports {
                    let name = |said: &MemberReport| (said.user.name().to_owned(), said.clone());
                    self.order.push(Entry::Members(at, room.members.iter().map(name).collect()));
                }
            }
            self.nodes.iter_mut().for_each(|node| node.world.pass(Duration::from_secs(20)));
            if self.order.len() == before {
                return;
            }
        }
        panic!("the nodes do not come to rest");
    }

    fn expected(&self) -> BTreeSet<String> {
        let living = self.nodes.iter().enumerate().filter(|(_, node)| !node.is_dead);
        let streams = living.flat_map(|(at, node)| node.streams.iter().map(move |stream| (at, stream)));
        let counts = |(at, (name, seat)): &(usize, &(String, Seat))| {
            self.silent.get(&(*at, name.clone())).is_none_or(|silent| silent < seat)
        };
        streams.filter(counts).map(|(_, (name, _))| name.clone()).collect()
    }
}

/// The members as a node shows them, with their data and connections.
fn shown(world: &World) -> Vec<(String, Option<String>, u32)> {
    let member = |info: &MemberInfo| {
        let data = info.data.as_ref().map(|data| data.as_str().to_owned());
        (info.user.name().to_owned(), data, info.connections)
    };
    world.page().members.iter().map(member).collect()
}

fn simulate(seed: u64, may_die: bool) {
    let mut cluster = Cluster::new(seed, POLICY);
    let steps = cluster.rng.usize(10..150);
    for _ in 0..steps {
        cluster.step(may_die, POLICY);
    }
    cluster.settle();
    let living: Vec<&Node> = cluster.nodes.iter().filter(|node| !node.is_dead).collect();
    let first = shown(&living[0].world);
    for node in &living {
        assert_eq!(shown(&node.world), first, "seed {seed}: all nodes know the same");
        let total: u32 = first.iter().map(|(_, _, connections)| connections).sum();
        assert_eq!(node.world.page().connections, total, "seed {seed}");
    }
    let names: BTreeSet<String> = first.into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, cluster.expected(), "seed {seed}: those who have a stream");
    if !may_die {
        told_once_at_least(seed, &cluster, &names);
    }
}

/// The application was told of everybody who is there, and of everybody who is not any more.
fn told_once_at_least(seed: u64, cluster: &Cluster, names: &BTreeSet<String>) {
    let mut told: BTreeMap<String, VecDeque<PresenceKind>> = BTreeMap::new();
    for node in &cluster.nodes {
        while let Poll::Ready(notices) = node.notices.poll_take(100, std::task::Waker::noop()) {
            for notice in notices {
                if let Some(user) = notice.user {
                    told.entry(user.name().to_owned()).or_default().push_back(notice.kind);
                }
            }
        }
    }
    for (name, kinds) in told {
        let is_there = names.contains(&name);
        assert!(kinds.contains(&PresenceKind::Join), "seed {seed}: {name} came: {kinds:?}");
        assert!(is_there || kinds.contains(&PresenceKind::Leave), "seed {seed}: {name} left: {kinds:?}");
    }
}

#[test]
fn all_nodes_know_the_same_members() {
    for seed in 0..3000 {
        simulate(seed, false);
    }
}

#[test]
fn nodes_that_end_and_begin_change_nothing_of_that() {
    for seed in 0..3000 {
        simulate(seed, true);
    }
}

#[test]
fn a_member_is_one_wherever_its_connections_are() {
    let mut cluster = Cluster::new(1, POLICY);
    for at in 0..2 {
        let seat = cluster.nodes[at].world.enter("ann");
        cluster.nodes[at].streams.push(("ann".into(), seat));
    }
    cluster.settle();
    for node in &cluster.nodes {
        assert_eq!(shown(&node.world), [("ann".to_owned(), None, 2)]);
    }
}

/// What a page shows on one node must not depend on where it was put.
#[test]
fn data_outlives_the_node_on_which_it_was_put() {
    let mut cluster = Cluster::new(1, POLICY);
    for at in 0..2 {
        let seat = cluster.nodes[at].world.enter("ann");
        cluster.nodes[at].streams.push(("ann".into(), seat));
    }
    cluster.settle();
    assert!(matches!(cluster.nodes[0].world.put("ann", Some("7")), Put::Done { .. }));
    cluster.settle();
    cluster.nodes[0].is_dead = true;
    cluster.order.push(Entry::Ended(0));
    cluster.settle();
    cluster.start(POLICY);
    cluster.settle();
    for node in &cluster.nodes[1..] {
        assert_eq!(shown(&node.world), [("ann".to_owned(), Some("7".to_owned()), 1)]);
    }
}

/// A room may lose its presence by a reload on one node alone.
#[test]
fn a_node_whose_room_has_no_presence_any_more_takes_its_members_back() {
    let mut cluster = Cluster::new(1, POLICY);
    cluster.nodes[0].world.enter("ann");
    cluster.settle();
    cluster.nodes[0].world.set_policy(None);
    cluster.settle();
    assert_eq!(shown(&cluster.nodes[1].world), []);
}
