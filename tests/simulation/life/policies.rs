//! Policies of rooms, which change under way, and who is present where that is known.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidegate::hub::mailbox::Command;
use tidegate::hub::room_policy::{RoomPolicies, RoomPolicy, Slow};
use tidegate::rights::pattern::Pattern;
use tidegate::shard::Step;
use tidegate::shard::conn::flag;
use tidegate::shard::join::Presence;

use super::super::listener::Listener;
use super::super::model::To;
use super::super::plan::{Kind, PRESENCE};
use super::{Life, room_name, user_name};

/// Number of names for keys.
const KEYS: u8 = 3;

impl Life<'_> {
    /// Sets the policies of all rooms, and tells the shards.
    pub(super) fn set_policies(&mut self) {
        for (skips, kind) in self.order.skips.iter_mut().zip(self.kinds) {
            *skips |= kind.conflates || kind.slow == Slow::Latest;
        }
        let table = |(room, kind): (usize, &Kind)| {
            let history = &self.plan.history;
            let policy = RoomPolicy {
                store: kind.stores,
                conflate: kind.conflates.then_some(self.plan.flush_interval),
                slow: kind.slow,
                presence: kind.presence.then_some(PRESENCE),
                ..RoomPolicy::of_server(history.log, history.age_max)
            };
            (Pattern::exactly(&room_name(room)), Arc::new(policy))
        };
        let tables = self.kinds.iter().enumerate().map(table).collect();
        self.hub.set_policies(RoomPolicies { tables, ..RoomPolicies::default() }, self.moment());
        for shard in 0..self.nodes.len() {
            assert!(self.hub.mailbox(shard).send(Command::Policies).is_ok());
        }
    }

    /// Changes the policy of one room, but not whether it has presence.
    pub(super) fn change_a_policy(&mut self) {
        if self.plan.kinds.is_none() {
            return;
        }
        let room = self.rng.usize(0..self.plan.rooms);
        let kind = &mut self.kinds[room];
        match self.rng.u32(0..3) {
            0 => {
                kind.conflates = !kind.conflates;
                self.has_reloaded = true;
            }
            1 => kind.stores = !kind.stores,
            _ => kind.slow = *self.rng.choice(&[Slow::Gap, Slow::Close, Slow::Latest]).unwrap(),
        }
        self.say(|| format!("room {room} becomes {:?}", self.kinds[room]));
        self.set_policies();
    }

    /// The key of an event to `to`, if it has one, and whether it asks to be stored.
    pub(super) fn key_and_store(&mut self, to: To) -> (Option<u8>, bool) {
        let is_room = matches!(to, To::Room(_));
        if !is_room || self.plan.kinds.is_none() {
            return (None, true);
        }
        let key = (!self.one_in(3)).then(|| self.rng.u8(0..KEYS));
        (key, !self.one_in(6))
    }

    /// Lets all graces end, and checks that every stream that sees presence knows exactly who is there.
    pub(super) fn check_presence(&mut self) {
        let round = PRESENCE.grace / 2;
        let mut quiet = Duration::ZERO;
        let mut live = self.live().count();
        for _ in 0..40 {
            self.now += u64::try_from(round.as_micros()).unwrap();
            for at in 0..self.nodes.len() {
                for wire in self.blocked(at) {
                    self.poke(at, wire);
                }
                while self.step(at) == Step::Again {}
            }
            let now_live = self.live().count();
            quiet = if now_live == live { quiet + round } else { Duration::ZERO };
            live = now_live;
        }
        if quiet < 8 * round {
            // Leases or tokens still end streams.
            return;
        }
        let mut conns = self.nodes.iter().flat_map(|node| node.shard.conns().iter());
        assert!(!conns.any(|(_, conn)| conn.has(flag::BLOCKED)), "they take all they are sent");
        for room in (0..self.plan.rooms).filter(|room| self.kinds[*room].presence) {
            self.check_presence_of(room);
        }
    }

    fn check_presence_of(&self, room: usize) {
        let is_member =
            |listener: &&Listener| listener.rooms.contains(&room) && listener.presence == Presence::Member;
        let members = self.live().filter(is_member).filter_map(|listener| listener.user);
        let members: BTreeSet<String> = members.map(user_name).collect();
        for node in &self.nodes {
            for wire in &node.live {
                let listener = &node.listeners[*wire];
                if listener.presence == Presence::Off || !listener.rooms.contains(&room) {
                    continue;
                }
                let (client, _) = listener.hear(&node.shard.net().wires[*wire]);
                let walk = listener.walk(client.items(), &self.order, self.hub.epoch());
                let known = walk.present.get(&room_name(room)).expect("every stream begins with a state");
                assert_eq!(known.total, members.len() as u64, "members of {room}: {members:?}, {known:?}");
                assert!(known.names.as_ref().is_none_or(|names| *names == members), "{members:?}, {known:?}");
            }
        }
    }
}
