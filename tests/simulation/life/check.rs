//! Invariants that hold at any time, and for every connection at its end.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tidegate::hub::source::Source;
use tidegate::shard::conn::{Conn, flag};
use tidegate::shard::reason::CloseReason;

use super::super::listener::Walk;
use super::super::model::To;
use super::super::plan::{ROOMS, USERS};
use super::{Life, room_name, user_name};

impl Life<'_> {
    /// Processes the connections that a shard has closed.
    pub(super) fn collect(&mut self, at: usize) {
        self.nodes[at].note_the_slow();
        let closed = std::mem::take(&mut self.nodes[at].shard.net_mut().closed);
        for wire in closed {
            self.say(|| format!("socket {wire} of shard {at} is closed"));
            let walk = self.judge(at, wire, true);
            self.nodes[at].live.retain(|live| *live != wire);
            self.note_leaving(at, wire, &walk);
            if let Some(last) = walk.ids.last() {
                let any = self.rng.choice(&walk.ids).expect("there is a last").clone();
                self.ids.extend([any, last.clone()]);
            }
            let too_many = self.ids.len().saturating_sub(64);
            self.ids.drain(..too_many);
        }
    }

    /// Checks all that a subscriber got, and adds it to the counts expected of its shard.
    pub(super) fn judge(&mut self, at: usize, wire: usize, is_over: bool) -> Walk {
        let epoch = self.hub.epoch();
        let node = &mut self.nodes[at];
        let listener = &node.listeners[wire];
        let wire = &node.shard.net_mut().wires[wire];
        let (mut client, delivered) = listener.hear(wire);
        let walk = listener.walk(client.items(), &self.order, epoch);
        listener.check_writes(wire, &self.order, is_over);
        if is_over {
            let is_expired = walk.closing.as_deref() == Some(CloseReason::Expired.as_str());
            let end = listener.rights.newest().and_then(|token| token.ends);
            assert!(!is_expired || end.is_some_and(|end| end.0 <= self.now), "closed before {end:?}");
            node.tally.add_end(listener, wire, &walk, &client);
        }
        // A gap or heartbeat counts from when it is offered.
        client.take(&wire.refused);
        let offered = listener.walk(client.items(), &self.order, epoch);
        node.tally.add(listener, wire, delivered, &offered);
        walk
    }

    /// Checks the invariants that hold at any time.
    pub(super) fn check_counts(&mut self) {
        let live = self.live().count();
        assert_eq!(self.hub.connections() as usize, live + self.waiting.len(), "places");
        assert_eq!(self.hub.all().connections() as usize, live);
        for room in 0..ROOMS {
            let counted = self.hub.rooms().get(&room_name(room)).map_or(0, |room| room.connections());
            assert_eq!(u64::from(counted), self.listening(To::Room(room)), "room {room}");
        }
        let mut users = 0;
        for user in 0..USERS {
            let counted = self.hub.users().get(&user_name(user)).map_or(0, |user| user.connections());
            assert_eq!(u64::from(counted), self.listening(To::User(user)), "user {user}");
            users += usize::from(counted > 0);
        }
        assert_eq!(self.hub.users_connected(), users);
        for node in &mut self.nodes {
            let rooms: BTreeSet<usize> =
                node.live.iter().flat_map(|live| node.listeners[*live].rooms.iter().copied()).collect();
            assert_eq!(node.shard.rooms(), rooms.len());
            assert_eq!(node.shard.conns().len(), node.live.len());
            assert_eq!(node.stats.connections.get(), node.live.len() as u64);
            let waits = flag::BLOCKED | flag::DEFERRED | flag::QUEUED;
            let is_light = |(_, conn): (u32, &Conn<usize>)| conn.lag.is_none() || conn.has(waits);
            assert!(node.shard.conns().iter().all(is_light), "who keeps up takes no memory for a lag");
            let wires = &node.shard.net_mut().wires;
            let lagging = wires.iter().filter(|wire| wire.wants_write).count();
            assert_eq!(node.stats.lagging.get(), lagging as u64);
        }
        self.check_history();
        self.check_members();
    }

    pub(super) fn check_history(&self) {
        let (mut events, mut bytes) = (0, 0);
        let known = &self.order.known;
        let bounds: HashMap<String, usize> =
            (0..ROOMS).map(|room| (room_name(room), known[room].events_max())).collect();
        let mut add = |source: &Arc<Source>| {
            if let Some(log) = source.log().get() {
                let events_max = bounds.get(source.name()).unwrap_or(&self.plan.history.log.events_max);
                assert!(log.held() <= *events_max, "{} holds {}", source.name(), log.held());
                assert!(log.lost_to() <= log.evicted_to() && log.evicted_to() <= log.expired_to());
                events += log.held();
                bytes += log.cost() + if log.is_empty() { 0 } else { source.attachment_bytes() };
            }
        };
        self.hub.rooms().for_each(&mut add);
        self.hub.users().for_each(&mut add);
        add(self.hub.all());
        assert_eq!(self.hub.history(), (events, bytes), "history");
    }

    pub(super) fn check_tallies(&mut self) {
        for at in 0..self.nodes.len() {
            for wire in self.nodes[at].live.clone() {
                self.judge(at, wire, false);
            }
            let node = &self.nodes[at];
            let is_unrated = self.plan.delivery.is_none() && self.plan.kinds.is_none();
            node.tally.check(&node.stats, is_unrated, self.plan.is_unlimited_together());
        }
    }
}
