//! Advances one connection by itself: writes everything its sources have above its cursor, merged by offset.

use std::sync::Arc;

use crate::hub::Overflow;
use crate::hub::log::Log;
use crate::hub::log::entry::Entry;
use crate::hub::room_policy::Slow;
use crate::hub::source::{Source, SourceKind};
use crate::shard::batch::{self, BATCH_BYTES_MAX, Item, Piece};
use crate::shard::conn::{Conn, Lag, flag};
use crate::shard::net::{self, Net};
use crate::shard::reason::{CloseReason, DropReason, GapReason, SkipReason};
use crate::shard::{ConnKey, Shard};
use crate::types::moment::Moment;
use crate::types::position::Offset;
use crate::wire::control::{self, Gap};

/// Whether `conn` may have an event of `source`.
pub(super) fn is_for<S>(entry: &Entry, source: &Source, conn: &Conn<S>) -> bool {
    let is_excluded = match (&entry.exclude, &conn.user) {
        (Some(excluded), Some(user)) => Arc::ptr_eq(excluded, user),
        _ => false,
    };
    let may = |permission| batch::is_met(permission, source, conn.identity.as_deref());
    !is_excluded && entry.require.as_ref().is_none_or(may)
}

/// Adds to `missing` the events of `source` that `conn` lacks.
fn take<S>(source: &Source, conn: &Conn<S>, from: Offset, missing: &mut Missing) {
    let log = source.log();
    let is_behind = conn.lag.is_some() || log.evicted_to() > from;
    let slow = if is_behind { source.with_policy(|policy| policy.slow) } else { Slow::Gap };
    let lost_to = if slow == Slow::Latest { log.lost_to() } else { log.evicted_to() };
    if lost_to > from {
        missing.lost_to = missing.lost_to.max(Some(lost_to));
        missing.ends |= slow == Slow::Close;
    }
    let Some(log) = log.get() else {
        return;
    };
    if slow == Slow::Latest {
        missing.take(source, conn, log.newest_in(from, missing.upto));
    } else {
        missing.take(source, conn, log.range(from, missing.upto));
    }
}

/// Why a slow connection at `from` is not sent events of `source` in `(from, upto]`, and how many it is sent. `None` if
/// it lost some to a gap, which are counted with the gap.
fn left_out_as(source: &Source, log: &Log, from: Offset, upto: Offset) -> Option<(SkipReason, usize)> {
    let all = || log.range(from, upto).count();
    source.with_policy(|policy| match policy.slow {
        Slow::Latest => Some((SkipReason::Latest, log.newest_in(from, upto).count())),
        _ if log.evicted_to() > from => None,
        _ if policy.conflate.is_some() => Some((SkipReason::Conflated, all())),
        _ => Some((SkipReason::Unstored, all())),
    })
}

/// In which turn a connection is advanced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// In any turn.
    Ordinary,
    /// In its first, with what a poll waits for.
    Answers,
    /// In its last: it is closed for another reason than what is written now.
    Last,
}

/// The events that a connection lacks.
#[derive(Default)]
struct Missing {
    /// The events, by offset.
    items: Vec<Item>,
    /// The cursor once they are written.
    upto: Offset,
    /// Whether there is more above `upto`.
    more: bool,
    /// The offset up to which events are gone for good.
    lost_to: Option<Offset>,
    /// Whether a room whose events it lost ends streams that cannot keep up.
    ends: bool,
}

impl Missing {
    /// Adds those of `entries`, which are of `source`, that `conn` may have. Stops after about [`BATCH_BYTES_MAX`]: then
    /// later events of other sources must not overtake the rest.
    fn take<'a, S>(&mut self, source: &Source, conn: &Conn<S>, entries: impl Iterator<Item = &'a Entry>) {
        let mut bytes = 0;
        for entry in entries {
            if bytes > BATCH_BYTES_MAX {
                self.upto = entry.offset - 1;
                self.more = true;
                break;
            }
            // A newcomer gets nothing that was only for those who were there.
            let was_there = entry.stored || entry.published >= conn.opened;
            if was_there && is_for(entry, source, conn) {
                bytes += entry.frame.len();
                self.items.push(Item::from(entry));
            }
        }
    }

    /// Keeps the first event and those within `bytes_max` bytes; the rest waits for the next time. Each of many sources
    /// may have added that much, and a socket takes hardly more.
    fn cut_to(&mut self, bytes_max: usize) {
        let mut bytes = 0;
        let mut fits = |item: &Item| {
            bytes += item.frame.len();
            bytes <= bytes_max
        };
        let fitting = self.items.iter().take_while(|item| fits(item)).count().max(1);
        if fitting < self.items.len() {
            self.items.truncate(fitting);
            self.upto = self.items[fitting - 1].offset;
            self.more = true;
        }
    }
}

impl<N: Net> Shard<N> {
    /// Writes what the connection lacks, as far as its socket and its user's rate limiter allow.
    pub(super) fn advance(&mut self, slot: u32) {
        self.advance_in(slot, Vec::new(), Turn::Ordinary);
    }

    /// Like [`advance`](Self::advance), after `pieces` that are for this connection only.
    pub(super) fn advance_in(&mut self, slot: u32, mut pieces: Vec<Piece>, turn: Turn) {
        let head = self.hub.head();
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.has(flag::BLOCKED | flag::CLOSING | flag::DEFERRED) {
            // It continues by itself when it can.
            debug_assert!(pieces.is_empty(), "only a new connection has pieces of its own");
            return;
        }
        conn.flags &= !flag::MARKED;
        let (encoding, from) = (conn.encoding, conn.cursor);
        let mut missing = self.missing(slot, from, head);
        if let Some(to) = missing.lost_to {
            self.count_lost(slot, from, to);
            // A stream that begins has its head among the pieces. It gets a gap, and may be closed the next time.
            if missing.ends && turn != Turn::Last && pieces.is_empty() {
                return self.send_closing(slot, CloseReason::Slow);
            }
        }
        let deferred_to = self.apply_rate(slot, &mut missing);
        self.count_left_out(slot, from, missing.upto);
        if let Some(to) = missing.lost_to {
            let gap = self.gap_piece(slot, from, to, GapReason::Slow);
            batch::push_gap(&mut pieces, gap);
        }
        let is_answer = turn == Turn::Answers || missing.lost_to.is_some() || !missing.items.is_empty();
        if is_answer && turn != Turn::Last {
            self.set_answered(slot);
        }
        if !missing.items.is_empty() {
            if encoding.gzip {
                let bytes = batch::contiguous(&missing.items, encoding, &mut self.deflater, &self.stats);
                pieces.push(batch::segment(&missing.items, bytes, missing.upto));
            } else {
                pieces.extend(batch::pieces(&missing.items, encoding, missing.upto));
            }
        }
        if let Some(last) = pieces.last_mut() {
            // The cursor also passes events that are not for this connection: below them, their eviction would be a
            // gap.
            last.upto = missing.upto;
            self.write(slot, &pieces);
        } else if let Some(conn) = self.conns.get_mut(slot) {
            conn.cursor = missing.upto;
        }
        self.after_advance(slot, missing.more, deferred_to);
        self.schedule_above(slot, head);
        self.end_if_answered(slot);
    }

    fn set_answered(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get_mut(slot).filter(|conn| conn.has(flag::POLL)) {
            conn.flags |= flag::ANSWERED;
        }
    }

    /// Schedules sources that already have an event above `head`. Its publisher moves the head last, and may have
    /// appended the event just before this connection joined, or while this shard handled an earlier announcement.
    fn schedule_above(&mut self, slot: u32, head: Offset) {
        let ahead = |source: &&Arc<Source>| source.last() > head;
        let mut marked = false;
        // Hardly ever more than one. An empty list allocates nothing.
        let sources: Vec<Arc<Source>> = self.sources(slot).filter(ahead).cloned().collect();
        for source in sources {
            match (source.kind(), source.local(self.settings.index)) {
                (SourceKind::Room, Some(room)) => self.schedule_room(room),
                (SourceKind::All, _) => self.schedule_all(),
                (SourceKind::Inbox, _) => marked = true,
                (SourceKind::Room, None) => {}
            }
        }
        if marked && let Some(conn) = self.conns.get_mut(slot) {
            conn.flags |= flag::MARKED;
            // Does not wait for the publisher here: time passes between two attempts.
            self.schedule_one_at(slot, Moment(self.now.0 + 1));
        }
    }

    fn after_advance(&mut self, slot: u32, more: bool, deferred_to: Option<Moment>) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if !conn.has(flag::BLOCKED) {
            conn.lag = None;
            if deferred_to.is_some() {
                conn.flags |= flag::DEFERRED;
            }
            if more || deferred_to.is_some() {
                self.start_lag(slot, &[]);
            }
            if let Some(at) = deferred_to {
                // Not before the next microsecond, so that time passes between two attempts.
                self.schedule_one_at(slot, at.max(Moment(self.now.0 + 1)));
            } else if more {
                self.schedule_one_at(slot, Moment(0));
            }
        }
        self.note_inbox_flushed(slot);
    }

    /// What `slot` lacks between `from` and `head`.
    fn missing(&self, slot: u32, from: Offset, head: Offset) -> Missing {
        let mut missing = Missing { upto: head.max(from), ..Missing::default() };
        let Some(conn) = self.conns.get(slot) else {
            return missing;
        };
        let mut contributors = 0;
        for source in self.sources(slot).filter(|source| source.last() > from) {
            let before = missing.items.len();
            take(source, conn, from, &mut missing);
            contributors += usize::from(missing.items.len() > before);
        }
        let lost_to = missing.lost_to.unwrap_or(0);
        missing.upto = missing.upto.max(lost_to);
        missing.items.retain(|item| item.offset <= missing.upto && item.offset > lost_to);
        if contributors > 1 {
            missing.items.sort_unstable_by_key(|item| item.offset);
            missing.cut_to(BATCH_BYTES_MAX);
        }
        missing
    }

    /// The sources of a connection: its rooms, its inbox, the broadcast.
    pub(super) fn sources(&self, slot: u32) -> impl Iterator<Item = &Arc<Source>> {
        let conn = self.conns.get(slot);
        let rooms = conn.into_iter().flat_map(Conn::memberships);
        // Broadcasts would fill the probe's socket, which is read only on a request for readiness.
        let all = conn.filter(|conn| !conn.has(flag::PROBE)).map(|_| self.hub.all());
        rooms
            .map(|membership| &self.rooms[membership.room as usize].source)
            .chain(conn.and_then(|conn| conn.user.as_ref()))
            .chain(all)
    }

    /// Drops or defers events above the user's rate. If it defers some, returns until when.
    fn apply_rate(&mut self, slot: u32, missing: &mut Missing) -> Option<Moment> {
        let conn = self.conns.get(slot).filter(|conn| conn.has(flag::RATE_LIMITED))?;
        let user = conn.user.clone()?;
        let allowed = self.hub.deliveries_left(&user, self.now)? as usize;
        let count = missing.items.len();
        let (_, overflow) = self.hub.settings().delivery?;
        let granted = count.min(allowed);
        self.hub.take_deliveries(&user, u32::try_from(granted).unwrap_or(u32::MAX), self.now);
        if count <= allowed {
            return None;
        }
        if allowed == 0 {
            // The cursor stays at what has been written: it marks what waits.
            missing.upto = missing.lost_to.unwrap_or(conn.cursor);
            missing.items.clear();
            return Some(self.hub.allowed_at(&user, self.now));
        }
        match overflow {
            Overflow::Defer => {
                missing.items.truncate(allowed);
                missing.upto = missing.items[allowed - 1].offset;
                missing.more = false;
                Some(self.hub.allowed_at(&user, self.now))
            }
            Overflow::Drop => {
                let dropped = count - allowed;
                missing.lost_to = Some(missing.items[dropped - 1].offset);
                missing.items.drain(..dropped);
                self.stats.dropped[DropReason::Rate as usize].add(dropped as u64);
                None
            }
        }
    }

    /// An `event: gap` for `slot`, counted.
    pub(super) fn gap_piece(&mut self, slot: u32, from: Offset, to: Offset, reason: GapReason) -> Piece {
        let from_id = self.hub.position(from);
        self.gap_piece_from(slot, from, from_id.as_str(), to, reason)
    }

    /// Like `gap_piece`, for a subscriber that presented `from_id`, which may be any text.
    pub(super) fn gap_piece_from(
        &mut self,
        slot: u32,
        from: Offset,
        from_id: &str,
        to: Offset,
        reason: GapReason,
    ) -> Piece {
        self.stats.gaps[reason as usize].add(1);
        let to_id = self.hub.position(to);
        let all_may_have = matches!(reason, GapReason::Restart | GapReason::Failover | GapReason::Unknown);
        let may_have_lost = |source: &&Arc<Source>| {
            let log = source.log();
            all_may_have
                || log.expired_to() > from
                || log.get().is_some_and(|log| log.range(from, to).next().is_some())
        };
        let lost: Vec<&Arc<Source>> = self.sources(slot).filter(may_have_lost).collect();
        let of = |kind: SourceKind| lost.iter().filter(move |source| source.kind() == kind);
        let rooms: Vec<&str> = of(SourceKind::Room).map(|source| source.name()).collect();
        let gap = Gap {
            rooms: &rooms,
            from: from_id,
            to: to_id.as_str(),
            reason: reason.as_str(),
            inbox: of(SourceKind::Inbox).next().is_some(),
            all: of(SourceKind::All).next().is_some(),
        };
        let mut plain = Vec::new();
        control::put_gap(&gap, &mut plain);
        self.own_piece(slot, &plain, to)
    }

    /// `plain`, framed for `slot`. It carries no event and moves the cursor to `upto`.
    pub(super) fn own_piece(&self, slot: u32, plain: &[u8], upto: Offset) -> Piece {
        let mut bytes = Vec::new();
        let encoding = self.conns.get(slot).map(|conn| conn.encoding).unwrap_or_default();
        encoding.put(plain, &mut bytes);
        Piece { bytes: bytes.into(), upto, published: self.now, events: 0 }
    }

    fn count_lost(&mut self, slot: u32, from: Offset, to: Offset) {
        let mut lost = 0;
        for (nth, source) in self.sources(slot).enumerate() {
            let log = source.log();
            let Some(log) = log.get() else {
                continue;
            };
            lost += log.count_to(to).saturating_sub(self.count_had(slot, nth, source, log, from));
        }
        self.stats.dropped[DropReason::Slow as usize].add(lost);
    }

    /// Counts the events in `(from, upto]` that a connection that fell behind does not get, and is not told of.
    fn count_left_out(&self, slot: u32, from: Offset, upto: Offset) {
        if self.conns.get(slot).is_none_or(|conn| conn.lag.is_none()) {
            return;
        }
        for (nth, source) in self.sources(slot).enumerate().filter(|(_, source)| source.last() > from) {
            let log = source.log();
            let Some(log) = log.get() else {
                continue;
            };
            if let Some((reason, sent)) = left_out_as(source, log, from, upto) {
                let had = self.count_had(slot, nth, source, log, from);
                let left_out = log.count_to(upto).saturating_sub(had + sent as u64);
                self.stats.skipped[reason as usize].add(left_out);
            }
        }
    }

    /// How many events of its source number `nth` a connection at `cursor` has had.
    fn count_had(&self, slot: u32, nth: usize, source: &Source, log: &Log, cursor: Offset) -> u64 {
        let counts = self.conns.get(slot).and_then(|conn| conn.lag.as_ref()).map(|lag| &lag.counts);
        // Noted when it fell behind. Since then, events above its cursor may have been removed.
        let noted = counts.and_then(|counts| counts.get(nth).copied());
        noted.unwrap_or_else(|| self.count_at(slot, source, log, cursor))
    }

    /// How many events of `source` a connection at `cursor` has had. Events that were evicted above its cursor before
    /// any flush are counted from the last flush on: where the bound on all history evicts them, the count of lost
    /// events may be too high, not too low.
    fn count_at(&self, slot: u32, source: &Source, log: &Log, cursor: Offset) -> u64 {
        if log.evicted_to() <= cursor {
            return log.count_to(cursor);
        }
        match source.kind() {
            SourceKind::Inbox => log.flushed_count(self.settings.index),
            SourceKind::All => self.all.count_at(cursor),
            SourceKind::Room => {
                let portion = source
                    .local(self.settings.index)
                    .and_then(|room| self.rooms[room as usize].portion(self.portion_of(slot, room)?));
                portion.map_or(0, |portion| portion.pace.count_at(cursor))
            }
        }
    }

    /// Writes `pieces`, at least one, with one call.
    pub(super) fn write(&mut self, slot: u32, pieces: &[Piece]) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let bytes = if let [piece] = pieces {
            &piece.bytes[..]
        } else {
            self.scratch.clear();
            for piece in pieces {
                self.scratch.extend_from_slice(&piece.bytes);
            }
            &self.scratch
        };
        let result = self.net.send(&mut conn.socket, bytes);
        let short = !matches!(result, Ok(sent) if sent == bytes.len());
        if self.scratch.capacity() > 2 * BATCH_BYTES_MAX {
            self.scratch = Vec::new();
        }
        if short {
            return self.fell_short(slot, result, pieces);
        }
        conn.written = self.now;
        conn.cursor = pieces[pieces.len() - 1].upto;
        if conn.has(flag::PROBE) {
            // The probe's deliveries are not counted.
            return;
        }
        let opened = conn.opened;
        let bytes = pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
        self.stats.bytes[usize::from(conn.encoding.gzip)].add(bytes);
        self.count_delivered(pieces, opened);
    }

    fn count_delivered(&mut self, pieces: &[Piece], opened: Moment) {
        for piece in pieces.iter().filter(|piece| piece.events > 0) {
            self.count_piece(piece.published, u64::from(piece.events), opened);
        }
    }

    /// Counts events that were delivered to a connection. Those from before it was `opened` are left out of the
    /// latency: their age is not the time of a delivery.
    fn count_piece(&mut self, published: Moment, events: u64, opened: Moment) {
        self.stats.delivered.add(events);
        if published >= opened {
            self.unsettled.push((published, events));
        }
    }

    /// Handles a socket that took less than `pieces`: keeps the rest of the piece in which it stopped. What follows
    /// stays in the logs.
    pub(super) fn fell_short(&mut self, slot: u32, result: std::io::Result<usize>, pieces: &[Piece]) {
        let sent = match net::sent(result, false) {
            Ok(sent) => sent,
            Err(reason) => return self.remove(slot, reason),
        };
        let (mut done, mut rest) = (0, sent);
        while let Some(piece) = pieces.get(done)
            && rest >= piece.bytes.len()
        {
            rest -= piece.bytes.len();
            done += 1;
        }
        let Some(cut) = pieces.get(done) else {
            debug_assert!(false, "less was sent than there was");
            return;
        };
        let key = self.conns.key(slot);
        let Some(opened) = self.conns.get(slot).map(|conn| conn.opened) else {
            return;
        };
        self.count_delivered(&pieces[..done], opened);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        self.stats.bytes[usize::from(conn.encoding.gzip)].add(sent as u64);
        if sent > 0 {
            conn.written = self.now;
        }
        conn.cursor = cut.upto;
        conn.flags |= flag::BLOCKED;
        self.stats.lagging.add(1);
        if self.net.want_write(&mut conn.socket, key, true).is_err() {
            return self.remove(slot, CloseReason::Error);
        }
        let rest = Piece { bytes: cut.bytes.slice(rest..), ..cut.clone() };
        self.start_lag(slot, &[rest]);
    }

    /// Stores what a connection that cannot go on must be sent first, and how many events of each source it has had.
    fn start_lag(&mut self, slot: u32, rest: &[Piece]) {
        let Some(cursor) = self.conns.get(slot).map(|conn| conn.cursor) else {
            return;
        };
        let count = |source: &Arc<Source>| {
            source.log().get().map_or(0, |log| self.count_at(slot, source, log, cursor))
        };
        let counts = self.sources(slot).map(count).collect();
        let rest = rest.first();
        let lag = Lag {
            rest: rest.map(|piece| piece.bytes.clone()).unwrap_or_default(),
            published: rest.map_or(self.now, |piece| piece.published),
            events: rest.map_or(0, |piece| piece.events),
            counts,
            closing: None,
            closing_in_rest: false,
        };
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.lag = Some(Box::new(lag));
        }
    }

    /// Continues with the connection of `key`, whose socket has room again.
    pub fn on_writable(&mut self, key: ConnKey, now: Moment) {
        self.now = now;
        let Some(slot) = self.conns.find(key) else {
            return;
        };
        let Some(conn) = self.conns.get_mut(slot).filter(|conn| conn.has(flag::BLOCKED)) else {
            return;
        };
        let lag = conn.lag.as_mut().expect("a blocked connection has its rest");
        match net::sent(self.net.send(&mut conn.socket, &lag.rest), true) {
            Ok(sent) if sent < lag.rest.len() => {
                self.stats.bytes[usize::from(conn.encoding.gzip)].add(sent as u64);
                lag.rest = lag.rest.slice(sent..);
                if sent > 0 {
                    conn.written = now;
                }
            }
            Ok(sent) => {
                self.stats.bytes[usize::from(conn.encoding.gzip)].add(sent as u64);
                lag.rest = bytes::Bytes::new();
                conn.written = now;
                conn.flags &= !flag::BLOCKED;
                let (published, events, opened) = (lag.published, u64::from(lag.events), conn.opened);
                self.stats.lagging.sub(1);
                self.count_piece(published, events, opened);
                self.unblocked(slot);
            }
            Err(reason) => self.remove(slot, reason),
        }
    }

    fn unblocked(&mut self, slot: u32) {
        let key = self.conns.key(slot);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if self.net.want_write(&mut conn.socket, key, false).is_err() {
            return self.remove(slot, CloseReason::Error);
        }
        let closing = conn.lag.as_ref().and_then(|lag| Some((lag.closing?, lag.closing_in_rest)));
        match closing {
            Some((reason, true)) => self.remove(slot, reason),
            Some((reason, false)) => {
                conn.flags &= !flag::CLOSING;
                conn.lag = None;
                self.send_closing(slot, reason);
            }
            None => {
                self.advance(slot);
                self.refresh_presence(slot);
            }
        }
    }

    /// Notes in the user's inbox how far this shard's connections have come. Slow connections do not hold it back.
    pub(super) fn note_inbox_flushed(&self, slot: u32) {
        let Some(user) = self.conns.get(slot).and_then(|conn| conn.user.as_ref()) else {
            return;
        };
        if user.last() == 0 {
            return;
        }
        let keeps_up = |slot: &u32| {
            let conn = self.conns.get(*slot)?;
            (!conn.has(flag::BLOCKED | flag::DEFERRED)).then_some(conn.cursor)
        };
        let cursor = self.slots_of_user(user).iter().filter_map(keeps_up).min();
        let cursor = cursor.unwrap_or(Offset::MAX);
        user.set_flushed(self.settings.index, cursor);
        if let Some(log) = user.log().get_mut() {
            log.note_flushed_count(self.settings.index, cursor);
        }
    }
}
