//! Streams that end early: long polling. The same stream, with the same bytes, up to the first flush that has an event or
//! a gap, or up to a time. Its end is that of the answer, without an event.
//!
//! The time of a poll that has ended before waits in the queue of what is due, for up to a minute. Bounded: once there are
//! [`TIMERS_KEPT`] and twice as many as polls were under way at the last look, those of ended polls are removed.

use std::cmp::Reverse;
use std::time::Duration;

use crate::shard::conn::{Conn, ConnKey, flag};
use crate::shard::net::Net;
use crate::shard::reason::CloseReason;
use crate::shard::{Shard, Work};

/// Times of polls that wait before those of ended polls are looked for.
pub(super) const TIMERS_KEPT: usize = 1024;

/// How many times of polls wait.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Those that are due or will be.
    pub(super) timers: usize,
    /// As many of them are looked through again.
    look_at: usize,
}

impl<N: Net> Shard<N> {
    /// Ends the stream of `key` after `time`, if nothing ends it before.
    pub(super) fn start_poll(&mut self, key: ConnKey, time: Duration) {
        if self.polls.timers >= self.polls.look_at.max(TIMERS_KEPT) {
            self.forget_ended_polls();
        }
        self.polls.timers += 1;
        self.schedule(self.now + time, Work::Poll(key));
    }

    /// Removes the times of polls that have ended. O(what is due), and once for as many polls as there are.
    fn forget_ended_polls(&mut self) {
        let Self { due, conns, polls, .. } = self;
        due.retain(|Reverse((_, work))| match work {
            Work::Poll(key) => {
                let is_open = conns.find(*key).is_some();
                polls.timers -= usize::from(!is_open);
                is_open
            }
            _ => true,
        });
        polls.look_at = 2 * polls.timers;
    }

    /// Ends a poll whose time is over. If its socket is full, it ends when what it has begun is written.
    pub(super) fn end_poll(&mut self, key: ConnKey) {
        self.polls.timers -= 1;
        if let Some(slot) = self.conns.find(key) {
            self.close(slot, CloseReason::Poll);
        }
    }

    /// Ends a poll that has what it waited for.
    pub(super) fn end_if_answered(&mut self, slot: u32) {
        let is_done = |conn: &Conn<N::Socket>| {
            conn.has(flag::POLL) && conn.has(flag::ANSWERED) && !conn.has(flag::BLOCKED | flag::CLOSING)
        };
        if self.conns.get(slot).is_some_and(is_done) {
            self.send_closing(slot, CloseReason::Poll);
        }
    }
}
