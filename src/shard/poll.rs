//! Streams that end early: long polling. The same stream, with the same bytes, up to the first flush that has an event or
//! a gap, or up to a time. Its end is that of the answer, without an event.

use std::time::Duration;

use crate::shard::conn::{Conn, ConnKey, flag};
use crate::shard::net::Net;
use crate::shard::reason::CloseReason;
use crate::shard::{Shard, Work};

impl<N: Net> Shard<N> {
    /// Ends the stream of `key` after `time`, if nothing ends it before.
    pub(super) fn start_poll(&mut self, key: ConnKey, time: Duration) {
        self.schedule(self.now + time, Work::Poll(key));
    }

    /// Ends a poll whose time is over. If its socket is full, it ends when what it has begun is written.
    pub(super) fn end_poll(&mut self, key: ConnKey) {
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
