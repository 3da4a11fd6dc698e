//! Flushes one source: the batch is built once and written to every connection it is for.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::source::Source;
use crate::rights::grant::PermissionName;
use crate::shard::Shard;
use crate::shard::batch::{BATCH_BYTES_MAX, Batch, Item, is_met};
use crate::shard::conn::{Conn, flag};
use crate::shard::net::Net;
use crate::shard::reason::SkipReason;
use crate::shard::room::{LocalRoom, Pace};
use crate::types::histogram::micros;
use crate::types::moment::Moment;
use crate::types::position::Offset;

/// Flushes of a source take at most one part in this many of the time. A room of ten thousand takes tens of
/// milliseconds to write to; flushing it again at once would send every event by itself, at full cost, and leave
/// subscribers no time to read. A small room is not affected.
const FLUSH_SHARE: f64 = 2.5;

/// Longest pause after a flush, so that a thread that was delayed does not delay subscribers a second time.
pub const FLUSH_PAUSE_MAX: Duration = Duration::from_millis(100);

/// The connections that a flush is for.
#[derive(Clone, Copy, Debug)]
enum Scope {
    /// A portion of a room's members, by the shard's index of the room.
    Room(u32, u32),
    /// Every connection.
    All,
}

/// A flush in progress. It may stop after any connection and continue in the next step.
#[derive(Debug)]
pub struct Job {
    source: Arc<Source>,
    scope: Scope,
    batch: Batch,
    /// Whether the source has more than the batch.
    more: bool,
    /// Events that are not in the batch because their keys have newer ones.
    conflated: usize,
    /// False if each connection must be advanced by itself, because a broadcast is due as well.
    shared: bool,
    /// How many connections are left to write to. Counts down: when a member leaves, the last one takes its place,
    /// which has been written to already.
    left: usize,
    started: Moment,
}

impl<N: Net> Shard<N> {
    pub(super) fn start_room(&mut self, index: u32, portion: u32) {
        // The room may be gone, or its index reused: then there is nothing new.
        let Some(room) = self.rooms.get_mut(index as usize) else {
            return;
        };
        let source = room.source.clone();
        let due_at = self.now + room.flush_interval(self.settings.flush_interval);
        let Some(members) = room.portion_mut(portion) else {
            return;
        };
        let read = read(&source, &mut members.pace, self.head, due_at);
        let left = members.members.len();
        self.begin(source, Scope::Room(index, portion), read, left);
    }

    pub(super) fn start_all(&mut self) {
        let source = self.hub.all().clone();
        let read = read(&source, &mut self.all, self.head, self.now + self.settings.flush_interval);
        let left = self.conns.slots() as usize;
        self.begin(source, Scope::All, read, left);
    }

    fn begin(&mut self, source: Arc<Source>, scope: Scope, read: Read, left: usize) {
        let Some(batch) = read.batch else {
            self.note_flushed(&source, scope);
            // The source has an event above the head that this shard knows, and its announcement may be taken already.
            // Its publisher may still be at work; it is not waited for here: time passes between two attempts.
            if source.last() > read.upto {
                let soon = Moment(self.now.0 + 1);
                if let Some(pace) = self.pace_mut(scope) {
                    pace.due_at = pace.due_at.max(soon);
                }
                self.again(scope);
            }
            return;
        };
        // Marks the senders' connections, which are few, instead of comparing every connection with every sender.
        for user in &batch.excluded {
            for slot in self.slots_of_user(user) {
                if let Scope::Room(index, portion) = scope
                    && self.portion_of(slot, index) != Some(portion)
                {
                    continue;
                }
                if let Some(conn) = self.conns.get_mut(slot) {
                    conn.flags |= flag::MARKED;
                }
            }
        }
        if !batch.required.is_empty() {
            self.mark_those_without(&batch.required, &source, scope);
        }
        self.stats.batch.record(batch.items.len() as u64, 1);
        let shared = matches!(scope, Scope::All) || !self.all.pending;
        let Read { more, conflated, .. } = read;
        self.job = Some(Job { source, scope, batch, more, conflated, shared, left, started: self.now });
    }

    /// Continues a flush for at most `budget` connections. Returns it if it is not finished.
    pub(super) fn run(&mut self, mut job: Job, budget: &mut usize) -> Option<Job> {
        if let Scope::Room(index, _) = job.scope {
            let same =
                self.rooms.get(index as usize).is_some_and(|room| Arc::ptr_eq(&room.source, &job.source));
            if !same {
                return None;
            }
        }
        let mut shared = 0;
        let mut done = false;
        while *budget > 0 {
            let Some(slot) = self.next_slot(&mut job) else {
                done = true;
                break;
            };
            let Some(conn) = self.conns.get_mut(slot) else {
                continue;
            };
            if job.shared && lacks_exactly(conn, &job, &self.rooms) {
                *budget -= 1;
                let bytes = job.batch.bytes(conn.encoding, &mut self.deflater, &self.stats);
                match self.net.send(&mut conn.socket, bytes) {
                    Ok(sent) if sent == bytes.len() => {
                        conn.cursor = job.batch.upto;
                        conn.written = self.now;
                        self.stats.bytes[usize::from(conn.encoding.gzip)].add(sent as u64);
                        shared += 1;
                    }
                    short => {
                        let pieces = job.batch.pieces(conn.encoding, &mut self.deflater, &self.stats);
                        self.fell_short(slot, short, &pieces);
                    }
                }
            } else if conn.cursor < job.batch.upto {
                *budget -= 1;
                self.advance(slot);
            }
        }
        self.stats.delivered.add(shared * job.batch.items.len() as u64);
        self.stats.skipped[SkipReason::Conflated as usize].add(shared * job.conflated as u64);
        self.unsettled.extend(job.batch.items.iter().map(|item| (item.published, shared)));
        if !done {
            return Some(job);
        }
        self.note_flushed(&job.source, job.scope);
        let took = self.now.since(job.started);
        self.stats.flush.record(micros(took), 1);
        // The room's other portions are flushed meanwhile.
        let whole = took * self.portions(job.scope);
        let rested_at = self.now + whole.mul_f64(FLUSH_SHARE).saturating_sub(took).min(FLUSH_PAUSE_MAX);
        if let Some(pace) = self.pace_mut(job.scope).filter(|_| !job.more) {
            pace.due_at = pace.due_at.max(rested_at);
        }
        if job.more || job.source.last() > job.batch.upto {
            self.again(job.scope);
        }
        None
    }

    /// Marks the connections that lack a required permission, so that each is advanced by itself. Visits every
    /// connection once, however many events and permissions there are.
    fn mark_those_without(&mut self, required: &[PermissionName], source: &Source, scope: Scope) {
        let lacks = |slot: &u32| {
            self.conns.get(*slot).is_some_and(|conn| {
                !required.iter().all(|permission| is_met(permission, source, conn.identity.as_deref()))
            })
        };
        let slots: Vec<u32> = match scope {
            Scope::Room(index, portion) => {
                let portion = self.rooms.get(index as usize).and_then(|room| room.portion(portion));
                let members = portion.map(|portion| &portion.members);
                members.into_iter().flatten().copied().filter(lacks).collect()
            }
            Scope::All => (0..self.conns.slots()).filter(lacks).collect(),
        };
        for slot in slots {
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.flags |= flag::MARKED;
            }
        }
    }

    fn next_slot(&self, job: &mut Job) -> Option<u32> {
        match job.scope {
            Scope::Room(index, portion) => {
                let members = &self.rooms.get(index as usize)?.portion(portion)?.members;
                // Members may have left since.
                job.left = job.left.min(members.len()).checked_sub(1)?;
                Some(members[job.left])
            }
            Scope::All => {
                job.left = job.left.checked_sub(1)?;
                u32::try_from(job.left).ok()
            }
        }
    }

    fn pace_mut(&mut self, scope: Scope) -> Option<&mut Pace> {
        match scope {
            Scope::Room(index, portion) => {
                Some(&mut self.rooms.get_mut(index as usize)?.portion_mut(portion)?.pace)
            }
            Scope::All => Some(&mut self.all),
        }
    }

    fn again(&mut self, scope: Scope) {
        match scope {
            Scope::Room(index, portion) => self.schedule_portion(index, portion),
            Scope::All => self.schedule_all(),
        }
    }

    fn portions(&self, scope: Scope) -> u32 {
        match scope {
            Scope::Room(index, _) => self.rooms.get(index as usize).map_or(1, LocalRoom::portions),
            Scope::All => 1,
        }
    }

    fn note_flushed(&self, source: &Source, scope: Scope) {
        let flushed_to = match scope {
            Scope::Room(index, _) => self.rooms.get(index as usize).map(LocalRoom::flushed_to),
            Scope::All => Some(self.all.flushed_to),
        };
        if let Some(flushed_to) = flushed_to {
            source.set_flushed(self.settings.index, flushed_to);
        }
    }
}

/// Whether `conn` lacks exactly the batch, and nothing else up to its end.
fn lacks_exactly<S>(conn: &Conn<S>, job: &Job, rooms: &slab::Slab<LocalRoom>) -> bool {
    if !job.batch.fits(conn.cursor) {
        return false;
    }
    if conn.flags == 0 && matches!(job.scope, Scope::Room(..)) {
        return true;
    }
    // Inbox news set `MARKED`. News of other rooms shows in their newest offset.
    conn.flags & !flag::SEVERAL == 0
        && conn.memberships().all(|membership| {
            let source = &rooms[membership.room as usize].source;
            Arc::ptr_eq(source, &job.source) || source.last() <= conn.cursor
        })
}

/// What a flush read from its source.
struct Read {
    batch: Option<Batch>,
    upto: Offset,
    more: bool,
    /// Events left out because their keys have newer ones.
    conflated: usize,
}

/// Takes what is new in `source` up to `head`.
fn read(source: &Source, pace: &mut Pace, head: Offset, due_at: Moment) -> Read {
    pace.pending = false;
    pace.due_at = due_at;
    let slot = source.log();
    let Some(log) = slot.get() else {
        return Read { batch: None, upto: head, more: false, conflated: 0 };
    };
    let (mut items, mut excluded, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut required: Vec<PermissionName> = Vec::new();
    let mut more = false;
    for entry in log.range(pace.flushed_to, head) {
        if bytes > 0 && bytes + entry.frame.len() > BATCH_BYTES_MAX {
            more = true;
            break;
        }
        bytes += entry.frame.len();
        items.push(Item::from(entry));
        excluded.extend(entry.exclude.clone());
        if let Some(permission) = entry.require.as_ref().filter(|name| !required.contains(*name)) {
            required.push(permission.clone());
        }
    }
    let upto = match items.last() {
        Some(last) if more => last.offset,
        _ => head.max(pace.flushed_to),
    };
    let conflated = log.conflated(pace.flushed_to, upto);
    let are_lost = items.is_empty() && log.evicted_to() > pace.flushed_to;
    pace.flushed_to = upto;
    pace.count_before = std::mem::replace(&mut pace.flushed_count, log.count_to(upto));
    let after = items.first().map_or(0, |first| log.before(first.offset));
    if more {
        pace.due_at = Moment(0);
    }
    let batch = if are_lost { Some(Batch::lost(upto)) } else { Batch::new(after, upto, items) };
    let batch = batch.map(|batch| batch.not_for(excluded, required));
    Read { batch, upto, more, conflated }
}
