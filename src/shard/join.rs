//! A connection's beginning: where its stream starts, and the first bytes it is sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::shard::Shard;
use crate::shard::advance::{Turn, is_for};

use crate::hub::Hub;
use crate::hub::log::Log;
use crate::hub::log::entry::Entry;
use crate::hub::room_policy::Replay;
use crate::hub::seats::Seats;
use crate::hub::source::{ABSENT, Source};
use crate::rights::identity::Session;
use crate::shard::batch::{self, BATCH_BYTES_MAX, Item, Piece};
use crate::shard::conn::{Conn, ConnKey, Membership, flag};
use crate::shard::expiry::Expiry;
use crate::shard::net::Net;
use crate::shard::presence;
pub use crate::shard::presence::Presence;
use crate::shard::reason::{CloseReason, GapReason};
use crate::shard::replay::Newest;
use crate::shard::room::LocalRoom;
use crate::types::lineage::Presented;
use crate::types::moment::Moment;
use crate::types::name::{EVENT_ID_BYTES_MAX, is_id_byte};
use crate::types::position::Offset;
use crate::wire::control::{self, Connected, Heartbeat};
use crate::wire::encoding::Encoding;
use crate::wire::gzip;

/// Rooms one connection may be in.
pub const ROOMS_MAX: usize = 64;

/// Where a stream starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Start {
    /// With the next event.
    Now,
    /// With what the policy of each room says ([`Replay`]).
    ByPolicy,
    /// With this many of the newest events that it may have.
    History(usize),
    /// After the event with this id, as the subscriber presents it.
    After(String),
}

impl Start {
    /// Whether a stream of `sources` with this start begins with events that they hold.
    pub fn is_replay<'a>(&self, hub: &Hub, sources: impl IntoIterator<Item = &'a Arc<Source>>) -> bool {
        let after = match self {
            Self::Now | Self::History(0) => return false,
            Self::ByPolicy => return sources.into_iter().any(is_replayed),
            Self::History(_) => 0,
            Self::After(id) => match hub.lineage().read(id) {
                Presented::Here(offset) | Presented::Beyond(offset) => offset,
                Presented::Elsewhere => 0,
                // A stream with an unknown id begins with a gap up to now.
                Presented::Foreign => hub.find(id).unwrap_or(Offset::MAX),
            },
        };
        let has_later =
            |source: &Arc<Source>| source.log().get().and_then(Log::last).is_some_and(|last| last > after);
        sources.into_iter().any(has_later)
    }
}

/// Whether a stream that begins as the policies say begins with events of `source`.
fn is_replayed(source: &Arc<Source>) -> bool {
    let replays = source.with_policy(|policy| !matches!(policy.replay, Replay::Off | Replay::Newest(0)));
    replays && source.log().get().is_some_and(|log| !log.is_empty())
}

/// A connection that is to join.
pub struct Join<S> {
    /// The socket. Nothing of the response has been written to it.
    pub socket: S,
    /// The response's head, as it goes out.
    pub head: Bytes,
    /// Framing and compression of its bytes.
    pub encoding: Encoding,
    /// What its heartbeats contain.
    pub heartbeat: Heartbeat,
    /// Up to [`ROOMS_MAX`] different rooms. Empty only if there is a user.
    pub rooms: Seats,
    /// The inbox of its user, which counts it already.
    pub user: Option<Arc<Source>>,
    /// Its address, where connections are bounded by address. It is counted already.
    pub address: Option<IpAddr>,
    /// Its session, where authentication is required.
    pub session: Option<Session>,
    /// Where its stream starts.
    pub start: Start,
    /// If set, the stream ends after the first flush with an event or a gap, or after this time: 1 to 60 seconds.
    pub poll: Option<Duration>,
    /// What it is told about who is in its rooms. [`Presence::Off`] unless its session may know.
    pub presence: Presence,
    /// Whether it may be told names although it has no session that says so: while no authentication is set up.
    pub sees_names: bool,
    /// Whether it is the server's own probe.
    pub probe: bool,
}

/// Where a stream begins, and what it is told about that.
struct Beginning {
    cursor: Offset,
    /// The id of `connected`: never ahead of what was written.
    id: Option<String>,
    gap: Option<(Offset, GapReason)>,
    /// Events at or below the cursor that it is sent first, because the policies of its rooms say so.
    replay: Vec<Item>,
    /// How many of these did not fit.
    left_out: usize,
}

impl<N: Net> Shard<N> {
    /// Adds a connection and writes its first bytes: head, `connected`, a gap if there is one, and the events it
    /// resumes with.
    ///
    /// # Errors
    ///
    /// If the operating system refuses to watch the socket. Then its places are given back.
    pub fn join(&mut self, join: Join<N::Socket>, now: Moment) -> std::io::Result<ConnKey> {
        let count = join.rooms.rooms().len();
        debug_assert!(count <= ROOMS_MAX, "the request was checked");
        debug_assert!(count > 0 || join.user.is_some(), "the request was checked");
        self.now = now;
        let mut socket = join.socket;
        let key = self.conns.next_key();
        if let Err(err) = self.net.open(&mut socket, key) {
            if !join.probe {
                self.hub.leave(join.user.as_deref(), join.address);
            }
            return Err(err);
        }
        let mut flags = if join.poll.is_some() { flag::POLL } else { 0 };
        if count > 1 {
            flags |= flag::SEVERAL;
        }
        if self.hub.settings().delivery.is_some() && join.user.is_some() {
            flags |= flag::RATE_LIMITED;
        }
        if join.probe {
            flags |= flag::PROBE;
        } else {
            self.stats.connections.add(1);
            self.stats.opened.add(1);
            self.hub.all().enter(u32::MAX);
        }
        let rooms = join.rooms.keep();
        let rooms = rooms.map(|(room, is_counted)| self.enter(&room, is_counted, key.slot)).collect();
        let inserted = self.conns.insert(Conn {
            cursor: 0,
            flags,
            sees: presence::flags(join.presence, join.sees_names),
            encoding: join.encoding,
            heartbeat: join.heartbeat,
            socket,
            written: now,
            user: join.user,
            lag: None,
            rooms,
            next_of_user: ABSENT,
            opened: now,
            address: join.address.map(Box::new),
            identity: None,
            expiry: Expiry::NEVER,
        });
        debug_assert_eq!(inserted, key);
        self.set_session(key.slot, join.session.as_ref());
        self.link_user(key.slot);
        // Read only now: a later event is announced to this shard, an earlier one is at or below this head.
        let head = self.hub.head();
        let beginning = self.beginning(key.slot, &join.start, head);
        self.begin_stream(key, &join.head, &beginning, &join.start);
        if let Some(time) = join.poll {
            self.start_poll(key, time);
        }
        if self.is_draining() {
            // It was admitted before the drain began, and is not among the connections whose closes are spread.
            self.close(key.slot, CloseReason::Drain);
        } else if self.is_away(key.slot) {
            // Its user was told to stay away after its admission, before there was a connection to close.
            self.leave_at_once(key.slot, |shard, room| shard.is_away_from(key.slot, room));
            self.close(key.slot, CloseReason::Disconnected);
        }
        Ok(key)
    }

    /// Adds `slot` to the room `source`, which may have counted the connection already. Attaches the shard to it, if it
    /// is not attached yet.
    fn enter(&mut self, source: &Arc<Source>, is_counted: bool, slot: u32) -> Membership {
        if !is_counted {
            source.enter(u32::MAX);
        }
        let shard = self.settings.index;
        let room = if let Some(room) = source.local(shard) {
            room
        } else {
            let entry = self.rooms.vacant_entry();
            let room = u32::try_from(entry.key()).expect("fewer rooms than 2^32");
            let head = self.hub.head();
            source.attach(shard, room, head);
            entry.insert(LocalRoom::new(source.clone(), head));
            room
        };
        let head = self.hub.head();
        let place = self.rooms[room as usize].enter(slot, self.settings.portion, head);
        Membership { room, place }
    }

    fn link_user(&mut self, slot: u32) {
        let shard = self.settings.index;
        let head = self.hub.head();
        let Some(user) = self.conns.get(slot).and_then(|conn| conn.user.clone()) else {
            return;
        };
        let next = user.local(shard).unwrap_or(ABSENT);
        user.attach(shard, slot, head);
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.next_of_user = next;
        }
        self.note_oldest(&user);
    }

    fn beginning(&self, slot: u32, start: &Start, head: Offset) -> Beginning {
        let lineage = self.hub.lineage();
        let id = |offset| Some(lineage.position(offset).as_str().to_owned());
        match start {
            Start::Now => {
                Beginning { cursor: head, id: id(head), gap: None, replay: Vec::new(), left_out: 0 }
            }
            Start::ByPolicy => {
                let (replay, left_out) = self.replay_by_policy(slot, head);
                // With an id, a connection that breaks before the replay would come back and not get it.
                let id = id(head).filter(|_| replay.is_empty() && left_out == 0);
                Beginning { cursor: head, id, gap: None, replay, left_out }
            }
            Start::History(count) => {
                let cursor = self.before_newest(slot, *count, head);
                Beginning { cursor, id: id(cursor), gap: None, replay: Vec::new(), left_out: 0 }
            }
            Start::After(presented) => {
                let id = Some(presented.clone()).filter(|id| is_repeatable(id));
                let known = match lineage.read(presented) {
                    Presented::Here(offset) if offset <= head => Ok(offset),
                    Presented::Here(_) => Err((head, GapReason::Unknown)),
                    // Everything that is still there follows the gap.
                    Presented::Beyond(end) => Err((end, self.beyond())),
                    Presented::Elsewhere => Err((0, GapReason::Restart)),
                    Presented::Foreign => {
                        self.offset_of(slot, presented, head).ok_or((head, GapReason::Unknown))
                    }
                };
                let expired_to =
                    self.sources(slot).map(|source| source.log().expired_to()).max().unwrap_or(0);
                let (cursor, gap) = match known {
                    Ok(offset) if offset >= expired_to => (offset, None),
                    Ok(offset) => (offset, Some((expired_to, GapReason::Evicted))),
                    Err((from, reason)) => (from, Some((from.max(expired_to), reason))),
                };
                Beginning { cursor, id, gap, replay: Vec::new(), left_out: 0 }
            }
        }
    }

    /// Why events above the end of a term are gone.
    fn beyond(&self) -> GapReason {
        if self.hub.is_shared() { GapReason::Failover } else { GapReason::Restart }
    }

    /// The newest events that the policies of a connection's rooms give to a newcomer, oldest first and about
    /// [`BATCH_BYTES_MAX`] bytes at most: all of them are held for a socket that takes less. And how many did not fit.
    fn replay_by_policy(&self, slot: u32, head: Offset) -> (Vec<Item>, usize) {
        let Some(conn) = self.conns.get(slot) else {
            return (Vec::new(), 0);
        };
        let mut newest = Newest::new(BATCH_BYTES_MAX);
        for membership in conn.memberships() {
            let room = &self.rooms[membership.room as usize];
            let replay = room.policy.replay;
            if replay == Replay::Off {
                continue;
            }
            let log = room.source.log();
            let Some(log) = log.get() else {
                continue;
            };
            let is_owed = |entry: &&Entry| entry.offset <= head && is_for(entry, &room.source, conn);
            let offer = |entry: &Entry| newest.offer(entry);
            match replay {
                Replay::Off => {}
                Replay::Latest => log.newest_of_keys(head).filter(is_owed).for_each(offer),
                Replay::Newest(count) => log.newest_first().filter(is_owed).take(count).for_each(offer),
            }
        }
        newest.into_items()
    }

    /// The cursor below the newest `count` events that the connection may have.
    fn before_newest(&self, slot: u32, count: usize, head: Offset) -> Offset {
        let Some(conn) = self.conns.get(slot) else {
            return head;
        };
        let mut newest = Vec::new();
        let mut expired_to = 0;
        for source in self.sources(slot) {
            let log = source.log();
            expired_to = expired_to.max(log.expired_to());
            if let Some(log) = log.get() {
                let is_owed = |entry: &&Entry| entry.offset <= head && is_for(entry, source, conn);
                newest.extend(log.newest_first().filter(is_owed).map(|entry| entry.offset).take(count));
            }
        }
        newest.sort_unstable_by(|a, b| b.cmp(a));
        newest.truncate(count);
        newest.last().map_or(head, |oldest| oldest - 1).max(expired_to)
    }

    /// The offset, up to `head`, of the event with the own id `id`, if the connection may have that event. Otherwise a
    /// subscriber could find out by its id that the event exists.
    fn offset_of(&self, slot: u32, id: &str, head: Offset) -> Option<Offset> {
        let offset = self.hub.find(id).filter(|offset| *offset <= head)?;
        let conn = self.conns.get(slot)?;
        let is_in = |source: &Arc<Source>| {
            let log = source.log();
            let entry = log.get().and_then(|log| log.range(offset - 1, offset).next());
            let own = entry.filter(|entry| entry.id.as_ref().is_some_and(|own| own.as_str() == id));
            own.is_some_and(|own| is_for(own, source, conn))
        };
        self.sources(slot).any(is_in).then_some(offset)
    }

    fn begin_stream(&mut self, key: ConnKey, head: &[u8], beginning: &Beginning, start: &Start) {
        let slot = key.slot;
        let retry = self.retry();
        let mut plain = Vec::new();
        {
            let conn = self.conns.get(slot).expect("just inserted");
            let rooms =
                conn.memberships().map(|membership| self.rooms[membership.room as usize].source.name());
            let rooms: Vec<&str> = rooms.collect();
            let connection = key.name(self.settings.index);
            let user = conn.user.as_ref().map(|user| user.name());
            let data = Connected { connection: &connection, user, rooms: &rooms };
            control::put_connected(retry, beginning.id.as_deref(), &data, &mut plain);
        }
        self.begin_presence(slot, &mut plain);
        let encoding = self.conns.get(slot).map(|conn| conn.encoding).unwrap_or_default();
        let mut bytes = head.to_vec();
        if encoding.gzip {
            let mut first = gzip::HEADER.to_vec();
            gzip::stored(&plain, &mut first);
            encoding.put_framed(&first, &mut bytes);
        } else {
            encoding.put_framed(&plain, &mut bytes);
        }
        let mut cursor = beginning.cursor;
        let (published, events) = self.put_replay(slot, beginning, &mut bytes);
        let is_answer = beginning.gap.is_some() || events > 0;
        let mut pieces = vec![Piece { bytes: bytes.into(), upto: cursor, published, events }];
        if let Some((to, reason)) = beginning.gap {
            let Start::After(presented) = start else { unreachable!("only a resume has gaps") };
            let from_id = if is_repeatable(presented) { presented.as_str() } else { "" };
            let gap = self.gap_piece_from(slot, cursor, from_id, to, reason);
            batch::push_gap(&mut pieces, gap);
            cursor = to;
        }
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.cursor = cursor;
        }
        let turn = if is_answer { Turn::Answers } else { Turn::Ordinary };
        self.advance_in(slot, pieces, turn);
        self.refresh_presence(slot);
    }

    /// Appends what the policies give to a stream's first `bytes`, and `replayed` with the id of its cursor: the newest of
    /// the events may be old, and a later resume from it would bring what the policies left out, or a gap. All of it is
    /// one piece: logs do not have what is below the cursor. Returns when the oldest was published, and the number of
    /// events.
    fn put_replay(&mut self, slot: u32, beginning: &Beginning, bytes: &mut Vec<u8>) -> (Moment, u32) {
        let (items, left_out) = (&beginning.replay, beginning.left_out);
        let Some(conn) = self.conns.get(slot).filter(|_| items.len() + left_out > 0) else {
            return (self.now, 0);
        };
        if !items.is_empty() {
            bytes.extend(batch::contiguous(items, conn.encoding, &mut self.deflater, &self.stats));
        }
        let mut plain = Vec::new();
        let id = self.hub.position(beginning.cursor);
        control::put_replayed(id.as_str(), items.len(), left_out, &mut plain);
        conn.encoding.put(&plain, bytes);
        let published = items.first().map_or(self.now, |oldest| oldest.published);
        (published, u32::try_from(items.len()).unwrap_or(u32::MAX))
    }

    /// Undoes [`Shard::enter`].
    pub(super) fn leave_room(&mut self, membership: Membership) {
        let Membership { room, place } = membership;
        let local = &mut self.rooms[room as usize];
        local.source.leave();
        if let Some(moved) = local.leave(place, self.settings.portion) {
            let moved = self.conns.get_mut(moved).and_then(|conn| conn.membership_mut(room));
            moved.expect("members are connections that are in the room").place = place;
        } else if local.is_empty() {
            local.source.detach(self.settings.index);
            self.rooms.remove(room as usize);
        }
    }
}

/// Whether the server may repeat an id that a subscriber presented.
fn is_repeatable(id: &str) -> bool {
    !id.is_empty() && id.len() <= EVENT_ID_BYTES_MAX && id.bytes().all(is_id_byte)
}
