//! Changes of subscribers' rights while events are under way: refreshes, revocations, reviews.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate::hub::mailbox::Reply;
use tidegate::hub::mailbox::{Command, Refresh, Refreshed};
use tidegate::rights::identity::Standing;
use tidegate::rights::revocation::Whose;
use tidegate::rights::revocation::{Revoked, When};
use tidegate::shard::join::Presence;
use tidegate::shard::reason::CloseReason;
use tidegate::types::moment::Moment;
use tidegate::types::name::UserName;

use super::super::listener::Listener;
use super::super::plan::USERS;
use super::super::right::{ISSUED_UPTO, Pass, TOKENS, Token};
use super::{Life, room_name, user_name};

/// The longest duration of a right that has an end, in microseconds.
pub(super) const LASTS_MAX: u64 = 3_000_000;

impl Life<'_> {
    /// Returns a token with which a subscriber may come as `user`.
    pub(super) fn token(&mut self, user: Option<usize>) -> Token {
        let anyone = self.rng.bool().then(|| self.rng.usize(0..USERS));
        let ends = self.rng.u32(0..100) < self.plan.expiring;
        Token {
            pass: match self.rng.u32(0..4) {
                0 => Pass::Plain,
                1 => Pass::VipOf(self.rng.usize(0..self.plan.rooms)),
                _ => Pass::Vip,
            },
            owner: if self.one_in(4) { anyone } else { user },
            name: self.rng.bool().then(|| self.rng.usize(0..TOKENS)),
            issued: (!self.one_in(4)).then(|| self.rng.u64(0..ISSUED_UPTO)),
            ends: ends.then(|| Moment(self.now + self.rng.u64(0..LASTS_MAX))),
        }
    }

    /// Gives a user's connections at one shard, or one of them, another right, perhaps not for all rooms.
    pub(super) fn refresh(&mut self) {
        let Some((at, wire)) = self.any_live() else {
            return;
        };
        let somebody = self.rng.usize(0..USERS);
        let user = self.nodes[at].listeners[wire].user.unwrap_or(somebody);
        let Some(inbox) = self.hub.users().get(&user_name(user)) else {
            return;
        };
        let token = Token { owner: Some(user), ..self.token(Some(user)) };
        let unread = self.one_in(3).then(|| self.rng.usize(0..self.plan.rooms));
        let is_exact = self.prepare(at);
        let only = if self.one_in(3) { self.rng.choice(&self.nodes[at].live).copied() } else { None };
        self.say(|| {
            format!("refresh user {user} at shard {at}, only {only:?}, not in {unread:?}: {token:?}")
        });

        let is_meant = |listener: &Listener| {
            let owner = listener.rights.newest().and_then(|token| token.owner);
            listener.user == Some(user) && owner == Some(user)
        };
        let mut meant = self.open(at, is_meant);
        meant.retain(|wire| only.is_none_or(|only| only == *wire));
        let may_not = |listener: &Listener| {
            let is_seen = listener.presence != Presence::Silent;
            let may_be_silent = is_seen || listener.rooms.iter().all(|room| token.pass.sees_names(*room));
            !may_be_silent || unread.is_some_and(|room| listener.rooms.contains(&room))
        };
        let (kept, changed): (Vec<usize>, Vec<usize>) =
            meant.into_iter().partition(|wire| may_not(&self.nodes[at].listeners[*wire]));
        for wire in &changed {
            let (cursor, warned) = self.cursor(at, *wire);
            let upto = if is_exact { cursor } else { self.order.head() };
            self.nodes[at].listeners[*wire].rights.change(cursor, upto, warned, token);
        }

        let net = self.nodes[at].shard.net_mut();
        let connection = only.map(|wire| net.wires[wire].key.to_u64());
        let handles = net.watch_handling();
        let unread = unread.map(room_name);
        let may_read = move |room: &str| {
            handles.store(true, Ordering::Relaxed);
            unread.as_deref() != Some(room)
        };
        let refreshed: Refreshed = self.have_handled(at, |reply| {
            let (may_read, session) = (Arc::new(may_read), token.session());
            Command::Refresh(Box::new(Refresh { user: inbox, connection, session, may_read, reply }))
        });
        let count = |wires: &[usize]| u32::try_from(wires.len()).unwrap();
        let expected = Refreshed { connections: count(&changed), refused: count(&kept) };
        self.say(|| format!("{refreshed:?}, exactly: {is_exact}"));
        assert!(refreshed == expected || !is_exact, "{refreshed:?} of {expected:?}");
        for wire in changed {
            self.find_out_from_where(at, wire);
        }
    }

    /// Ends the streams of a user or a token, at one shard.
    pub(super) fn revoke(&mut self) {
        let at = self.rng.usize(0..self.nodes.len());
        let (user, name) = (self.rng.usize(0..USERS), self.rng.usize(0..TOKENS));
        let by_user = self.rng.bool();
        let when = When { at: self.rng.u64(0..ISSUED_UPTO), leeway_s: self.rng.u64(0..3) };
        let revoked = if by_user {
            Revoked::User(UserName::new(&user_name(user)).unwrap())
        } else {
            Revoked::Token(format!("token-{name}").into())
        };
        self.say(|| format!("revoke {revoked:?} at shard {at}, {when:?}"));
        let is_meant = |listener: &Listener| {
            listener.rights.newest().is_some_and(|token| {
                let is_older = token.issued.is_none_or(|issued| issued <= when.at + when.leeway_s);
                if by_user { token.owner == Some(user) && is_older } else { token.name == Some(name) }
            })
        };
        let whose = Whose::Revoked(revoked, when);
        self.end_those(at, is_meant, |reply| Command::Revoke { whose, reply });
    }

    /// Closes one room, or the inboxes of streams without a room, to connections without a token, or to all users but
    /// one, at one shard; or reviews one connection alone, as its hand-over does.
    pub(super) fn review(&mut self) {
        let at = self.rng.usize(0..self.nodes.len());
        let room = (!self.one_in(4)).then(|| self.rng.usize(0..self.plan.rooms));
        let host = self.rng.bool().then(|| self.rng.usize(0..USERS));
        self.say(|| format!("review shard {at}: {room:?} is for user {host:?} if any, else for tokens"));
        let is_meant = |listener: &Listener| {
            let may_stay = match host {
                Some(_) => listener.user == host,
                None => listener.rights.newest().is_some(),
            };
            let is_there = room.map_or(listener.rooms.is_empty(), |room| listener.rooms.contains(&room));
            is_there && !may_stay
        };
        let (room, host) = (room.map(room_name), host.map(user_name));
        let may_stay = Arc::new(move |standing: &Standing<'_>| {
            let is_let_in = match &host {
                Some(host) => standing.user == Some(host),
                None => standing.identity.is_some(),
            };
            standing.room != room.as_deref() || is_let_in
        });
        if self.one_in(3) {
            return self.review_one(at, is_meant, &*may_stay);
        }
        self.end_those(at, is_meant, |reply| Command::Review { may_stay, reply });
    }

    fn review_one(
        &mut self,
        at: usize,
        is_meant: impl Fn(&Listener) -> bool,
        may_stay: &dyn Fn(&Standing<'_>) -> bool,
    ) {
        let now = self.moment();
        let node = &mut self.nodes[at];
        let Some(wire) = self.rng.choice(&node.live).copied() else {
            return;
        };
        let is_meant = is_meant(&node.listeners[wire]);
        node.listeners[wire].is_doomed |= is_meant;
        let key = node.shard.net_mut().wires[wire].key;
        node.shard.review_one(key, may_stay, now);
        assert!(node.shard.net_mut().wires[wire].is_closed || !is_meant);
        self.collect(at);
    }

    /// Makes a shard end the meant connections, and checks that it returns how many there were, and that each got the
    /// events due to it and a closing event if there was room.
    fn end_those(
        &mut self,
        at: usize,
        is_meant: impl Fn(&Listener) -> bool,
        command: impl FnOnce(Reply<u32>) -> Command,
    ) {
        let is_exact = self.prepare(at);
        let open = self.open(at, &is_meant).len();
        let node = &mut self.nodes[at];
        let mut meant = node.live.clone();
        meant.retain(|wire| is_meant(&node.listeners[*wire]));
        for wire in &meant {
            node.listeners[*wire].is_doomed = true;
        }
        let wires = &node.shard.net_mut().wires;
        let taken = |wire: &usize| (wires[*wire].wants_write, wires[*wire].bytes.len());
        let before: Vec<(bool, usize)> = meant.iter().map(taken).collect();

        let ended = self.have_handled(at, command) as usize;
        self.say(|| format!("{ended} ended of {}, exactly: {is_exact}", meant.len()));
        assert!(ended == open || !is_exact && ended <= open, "{ended} ended of {open}");
        for (wire, (was_full, bytes)) in meant.into_iter().zip(before) {
            let node = &mut self.nodes[at];
            let (listener, wire) = (&node.listeners[wire], &node.shard.net_mut().wires[wire]);
            assert!(wire.is_closed, "{listener:?}");
            assert!(!was_full || wire.bytes.len() == bytes, "a full socket is left alone: {listener:?}");
            let walk = listener.walk(listener.hear(wire).0.items(), &self.order, self.hub.epoch());
            let is_told = walk.closing.as_deref() == Some(CloseReason::Revoked.as_str());
            // A busy shard may have had earlier mail, and closed the connection for another reason.
            let has_room = wire.refused.is_empty();
            assert!(
                is_told || !has_room || !is_exact,
                "{:?} in place of a farewell: {listener:?}",
                walk.closing
            );
            if is_told && !listener.is_rated && !self.plan.fat {
                let owed = self.order.next_for(listener, walk.position);
                assert_eq!(owed, None, "what is due comes before the farewell: {listener:?}");
            }
        }
    }
}
