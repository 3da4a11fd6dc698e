//! Streams that begin: asked for, admitted or refused, and joined at once or later.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use tidegate::hub::admission::Permit;
use tidegate::shard::Step;
use tidegate::shard::join::{Join, Presence, Start};
use tidegate::types::name::RoomName;
use tidegate::wire::control::Heartbeat;
use tidegate::wire::encoding::Encoding;

use super::super::client::HEAD;
use super::super::listener::Listener;
use super::super::net::Temper;
use super::super::plan::USERS;
use super::super::right::Rights;
use super::{Life, room_name, user_name};

/// A place that was granted and is not used yet.
pub(super) struct Waiting {
    permit: Permit,
    pub user: Option<usize>,
    pub address: Option<u8>,
    rooms: Vec<usize>,
    /// Rooms that count it already, because their listeners are bounded.
    pub seats: Vec<usize>,
}

impl Life<'_> {
    pub(super) fn connect(&mut self) {
        let user = self.rng.bool().then(|| self.rng.usize(0..USERS));
        let address = self.rng.bool().then(|| self.rng.u8(0..3));
        let rooms = self.rooms_of_a_stream(user);
        let expected = self.expected_admission(&rooms, user, address);
        let name = user.map(user_name);
        let names: Vec<RoomName> =
            rooms.iter().map(|room| RoomName::new(&room_name(*room)).unwrap()).collect();
        let ip = address.map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
        match self.hub.admit_to(&names, name.as_deref(), ip, self.moment()) {
            Ok(permit) => {
                assert_eq!(expected, None, "admission");
                let is_bounded = |room: &usize| self.kinds[*room].listeners_max.is_some();
                let seats = rooms.iter().copied().filter(is_bounded).collect();
                let waiting = Waiting { permit, user, address, rooms, seats };
                match self.rng.u32(0..20) {
                    0 => drop(waiting),
                    1..4 => self.waiting.push(waiting),
                    _ => self.join(waiting),
                }
            }
            Err(refusal) => assert_eq!(Some(refusal), expected, "admission"),
        }
    }

    fn rooms_of_a_stream(&mut self, user: Option<usize>) -> Vec<usize> {
        let mut rooms: Vec<usize> = (0..self.plan.rooms).collect();
        self.rng.shuffle(&mut rooms);
        let several = if self.one_in(3) { self.rng.usize(1..=4) } else { 1 };
        let is_inbox_alone = user.is_some() && self.one_in(6);
        rooms.truncate(if is_inbox_alone { 0 } else { several });
        rooms
    }

    pub(super) fn join_a_waiting_one(&mut self) {
        if let Some(waiting) = self.waiting.pop() {
            self.join(waiting);
        }
    }

    pub(super) fn join(&mut self, waiting: Waiting) {
        let Waiting { mut permit, user, address: last, rooms, .. } = waiting;
        let at = self.rng.usize(0..self.nodes.len());
        let start = self.start(&rooms);
        while start == Start::ByPolicy && self.step(at) == Step::Again {}
        let token = (!self.one_in(5)).then(|| self.token(user));
        let pass = token.map(|token| token.pass);
        let opening = self.opening(&rooms, user, pass, &start);
        let sources = permit.take_rooms();
        let (inbox, address) = permit.keep();
        assert_eq!(address.is_some(), last.is_some() && self.plan.caps.per_address_max.is_some());
        let poll =
            (self.rng.u32(0..100) < self.plan.polling).then(|| Duration::from_millis(self.rng.u64(1..900)));
        let encoding = Encoding { chunked: !self.one_in(4), gzip: self.one_in(4) && poll.is_none() };
        let may_be_silent = pass.is_none_or(|pass| rooms.iter().all(|room| pass.sees_names(*room)));
        let presence = match self.rng.u32(0..3) {
            0 => Presence::Off,
            1 if may_be_silent => Presence::Silent,
            _ => Presence::Member,
        };
        let heartbeat = if self.rng.bool() { Heartbeat::Id } else { Heartbeat::Comment };
        let presented = match &start {
            Start::After(id) => id.clone(),
            _ => String::new(),
        };
        let temper = if self.rng.u32(0..100) < self.plan.moody { Temper::Moody } else { Temper::Eager };
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
            rooms: sources,
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
            let is_rated = user.is_some() && self.plan.delivery.is_some();
            let withdrawn =
                rooms.iter().copied().filter(|room| self.kinds[*room].presence.is_none()).collect();
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
                is_rated,
                presented,
                ended_by_us: None,
                poll: poll.is_some(),
                presence,
                is_doomed: false,
                joined_at: self.order.head(),
                opened: self.now,
                keeps_up: !is_rated && !self.plan.fat && self.plan.is_unlimited_together(),
                mutings: 0,
                withdrawn,
            });
            assert_eq!(node.listeners.len(), node.shard.net_mut().wires.len());
        }
        self.collect(at);
    }

    fn start(&mut self, rooms: &[usize]) -> Start {
        // What a log has that ceased to conflate depends on when it was tidied.
        let is_settled = rooms.iter().all(|room| self.order.known[*room].is_settled);
        let id = match self.rng.u32(0..14) {
            0..3 => return Start::Now,
            3..5 if is_settled => return Start::History(self.rng.usize(0..12)),
            12..14 if is_settled => return Start::ByPolicy,
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
