//! Who is present in a room: the users with a stream there that says so, and those within their grace.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate::hub::presence::Put;
use tidegate::hub::presence::data::PresenceData;
use tidegate::hub::source::Source;
use tidegate::shard::Step;
use tidegate::shard::conn::flag;
use tidegate::shard::join::Presence;
use tidegate::shard::reason::CloseReason;

use super::super::kind::GRACE;
use super::super::listener::{Listener, Walk};
use super::super::plan::USERS;
use super::super::present::Members;
use super::{Life, room_name, user_name};

/// Until when users without a stream are certainly still members, by user and room.
pub(super) type Graces = HashMap<(usize, usize), u64>;

impl Life<'_> {
    /// A user shows something in a room, or leaves it although its streams stay.
    pub(super) fn change_a_member(&mut self) {
        let (user, room) = (self.rng.usize(0..USERS), self.rng.usize(0..self.plan.rooms));
        let (Some(inbox), Some(source)) =
            (self.hub.users().get(&user_name(user)), self.hub.rooms().get(&room_name(room)))
        else {
            return;
        };
        if self.one_in(3) {
            self.withdraw(user, room, &inbox, &source);
        } else {
            self.put(user, room, &inbox, &source);
        }
        self.check_members();
    }

    fn put(&mut self, user: usize, room: usize, inbox: &Arc<Source>, source: &Arc<Source>) {
        let data = (!self.one_in(4)).then(|| PresenceData::new(&self.rng.u8(..).to_string()).unwrap());
        let is_member = self.hub.presence().has(source, &user_name(user));
        let put = self.publisher.show(source, inbox, data.clone(), self.moment());
        self.say(|| format!("user {user} shows {data:?} in room {room}: {put:?}"));
        match put {
            Put::Done { .. } => {
                let page = self.hub.presence().page(source, None, USERS, usize::MAX, self.moment());
                let own = page.members.iter().find(|member| Arc::ptr_eq(&member.user, inbox));
                assert_eq!(own.map(|own| own.data.clone()), Some(data), "it shows what it put");
            }
            Put::NotPresent => assert!(!is_member, "user {user} is in room {room}"),
            Put::Full => panic!("a few bytes fit"),
            Put::Limited(at) => assert!(is_member && at > self.moment(), "{at:?}"),
        }
    }

    /// Its streams of before are not the member's any more, nor those of this moment.
    fn withdraw(&mut self, user: usize, room: usize, inbox: &Arc<Source>, source: &Arc<Source>) {
        self.now += 1;
        self.say(|| format!("user {user} leaves room {room}"));
        let wakers = self.publisher.withdraw(source, inbox, self.moment());
        wakers.into_iter().for_each(std::task::Waker::wake);
        assert!(!self.hub.presence().has(source, &user_name(user)));
        self.graces.remove(&(user, room));
        for node in &mut self.nodes {
            for wire in &node.live {
                let listener = &mut node.listeners[*wire];
                if listener.user == Some(user) && listener.rooms.contains(&room) {
                    listener.withdrawn.push(room);
                }
            }
        }
        self.now += 1;
    }

    /// Notes that a room has no presence: nobody is a member, and streams that are open are silent if it comes back.
    pub(super) fn end_members(&mut self, room: usize) {
        self.graces.retain(|(_, of), _| *of != room);
        for node in &mut self.nodes {
            for wire in &node.live {
                node.listeners[*wire].withdrawn.push(room);
            }
        }
    }

    /// Notes that a stream has ended: the grace of its user begins in the rooms in which no other has it present.
    pub(super) fn note_leaving(&mut self, at: usize, wire: usize, walk: &Walk) {
        let listener = &self.nodes[at].listeners[wire];
        let is_over_at_once = |reason: &str| {
            let at_once = [CloseReason::Disconnected, CloseReason::Revoked];
            at_once.iter().any(|one| one.as_str() == reason)
        };
        // A stream that was cut off does not say why. One whose right was taken away may have left before its socket ended.
        let is_told = !listener.is_doomed && (listener.ended_by_us.is_some() || walk.closing.is_some());
        let has_grace = is_told && !walk.closing.as_deref().is_some_and(is_over_at_once);
        let Some(user) = listener.user.filter(|_| listener.presence == Presence::Member) else {
            return;
        };
        let until = self.now + u64::try_from(GRACE.as_micros()).expect("short");
        for room in listener.rooms.clone() {
            if listener.withdrawn.contains(&room) || self.has_present(user, room) {
                continue;
            }
            if has_grace {
                self.graces.insert((user, room), until);
            } else {
                self.graces.remove(&(user, room));
            }
        }
    }

    /// Whether a stream has the user present in the room.
    fn has_present(&self, user: usize, room: usize) -> bool {
        self.live().any(|listener| listener.user == Some(user) && listener.is_present_in(room))
    }

    /// Checks that everybody is present who must be, and nobody who never was.
    pub(super) fn check_members(&self) {
        for room in (0..self.plan.rooms).filter(|room| self.kinds[*room].presence.is_some()) {
            let Some(source) = self.hub.rooms().get(&room_name(room)) else {
                continue;
            };
            for user in 0..USERS {
                let has_grace = self.graces.get(&(user, room)).is_some_and(|until| *until > self.now);
                let must_be = has_grace || self.has_present(user, room);
                let is_member = self.hub.presence().has(&source, &user_name(user));
                assert!(
                    is_member || !must_be,
                    "user {user} is present in room {room}, in grace: {has_grace}"
                );
            }
        }
    }

    /// Lets all graces end, and checks that every stream that sees presence knows exactly who is there.
    pub(super) fn check_presence(&mut self) {
        let round = GRACE / 2;
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
        for room in (0..self.plan.rooms).filter(|room| self.kinds[*room].presence.is_some()) {
            self.check_presence_of(room);
        }
    }

    fn check_presence_of(&self, room: usize) {
        let members = (0..USERS).filter(|user| self.has_present(*user, room)).map(user_name);
        let expected: BTreeSet<String> = members.collect();
        let Some(source) = self.hub.rooms().get(&room_name(room)) else {
            return assert!(expected.is_empty(), "rooms with members exist");
        };
        let page = self.hub.presence().page(&source, None, USERS, usize::MAX, self.moment());
        let data = |data: Option<PresenceData>| {
            data.map_or(Value::Null, |data| serde_json::from_str(data.as_str()).unwrap())
        };
        let members: Members =
            page.members.into_iter().map(|one| (one.user.name().to_owned(), data(one.data))).collect();
        assert!(members.keys().eq(&expected), "members of {room}: {members:?}, not {expected:?}");
        for node in &self.nodes {
            let sees =
                |listener: &&Listener| listener.presence != Presence::Off && listener.rooms.contains(&room);
            for (wire, listener) in node.live_ones().filter(|(_, listener)| sees(listener)) {
                let (client, _) = listener.hear(&node.shard.net().wires[wire]);
                let walk = listener.walk(client.items(), &self.order, self.hub.epoch());
                let known = walk.present.get(&room_name(room)).expect("every stream begins with a state");
                assert_eq!(known.total, members.len() as u64, "members of {room}: {members:?}, {known:?}");
                let is_named = self.kinds[room].names_always() && listener.sees_names(room);
                assert!(!is_named || known.members.is_some(), "{known:?}, {listener:?}");
                assert!(listener.sees_names(room) || known.members.is_none(), "{known:?}, {listener:?}");
                let knows = known.members.as_ref().is_none_or(|known| *known == members);
                assert!(knows, "{members:?}, {known:?}");
            }
        }
    }
}
