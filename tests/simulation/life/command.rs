//! Commands to a shard while it is busy, and how far its subscribers had come at that moment.

use futures_channel::oneshot;
use tidegate::hub::mailbox::Command;
use tidegate::hub::mailbox::Reply;
use tidegate::shard::Step;
use tidegate::shard::conn::{Conn, flag};
use tidegate::types::position::Offset;

use super::super::client::{Client, Item};
use super::super::listener::{Listener, is_published};
use super::Life;

impl Life<'_> {
    /// Does what a shard has to do by the clock, so that a command is the next thing it handles. Returns false if the
    /// shard is in the middle of a step. Often the mailbox has new events as well.
    pub(super) fn prepare(&mut self, at: usize) -> bool {
        if self.rng.bool() {
            self.publish();
        }
        let is_at_rest = self.step(at) != Step::Again;
        if self.rng.bool() {
            self.publish();
        }
        is_at_rest
    }

    /// Sends a shard a command, and runs the steps to handle it.
    pub(super) fn have_handled<T: Send + 'static>(
        &mut self,
        at: usize,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> T {
        let (reply, mut got) = oneshot::channel();
        assert!(self.hub.mailbox(at).send(command(reply)).is_ok());
        loop {
            let step = self.step(at);
            if let Ok(Some(answer)) = got.try_recv() {
                return answer;
            }
            assert_eq!(step, Step::Again, "a command is handled before anybody sleeps");
        }
    }

    /// Returns the meant subscribers that are neither closed nor closing.
    pub(super) fn open(&self, at: usize, is_meant: impl Fn(&Listener) -> bool) -> Vec<usize> {
        let node = &self.nodes[at];
        let is_open =
            |wire: &usize| is_meant(&node.listeners[*wire]) && !self.conn(at, *wire).has(flag::CLOSING);
        node.live.iter().copied().filter(is_open).collect()
    }

    fn conn(&self, at: usize, wire: usize) -> &Conn<usize> {
        let mut conns = self.nodes[at].shard.conns().iter().map(|(_, conn)| conn);
        conns.find(|conn| conn.socket == wire).expect("the live are connected")
    }

    /// Returns a subscriber's cursor, and the number of warnings that were begun. Checks the cursor: once the events
    /// that were begun are written, no event up to it is owed, and no event above it has been begun. Rights are checked
    /// anew for bytes that the socket was offered beyond that.
    pub(super) fn cursor(&mut self, at: usize, wire: usize) -> (Offset, usize) {
        let conn = self.conn(at, wire);
        let (cursor, rest) = (conn.cursor, conn.lag.as_ref().map(|lag| lag.rest.clone()).unwrap_or_default());
        let node = &mut self.nodes[at];
        let (listener, wire) = (&node.listeners[wire], &mut node.shard.net_mut().wires[wire]);
        assert!(wire.refused.starts_with(&rest), "only what was offered is begun");
        wire.refused.truncate(rest.len());
        let (mut client, _) = listener.hear(wire);
        client.take(&wire.refused);
        let walk = listener.walk(client.items(), &self.order, self.hub.epoch());
        assert!(walk.position <= cursor, "{listener:?} has been sent what is above {cursor}");
        let owed = self.order.next_for(listener, walk.position);
        assert!(owed.is_none_or(|owed| owed > cursor), "{listener:?} at {cursor} is owed {owed:?}");
        (cursor, walk.warnings)
    }

    /// Narrows down the first event to which a subscriber's new right applied: it is above what the subscriber was sent
    /// before, and no later than what it was sent since.
    pub(super) fn find_out_from_where(&mut self, at: usize, wire: usize) {
        if !self.nodes[at].shard.net_mut().wires[wire].is_closed {
            let (cursor, _) = self.cursor(at, wire);
            self.nodes[at].listeners[wire].rights.decides_above(cursor);
        }
        let node = &mut self.nodes[at];
        let (listener, wire) = (&mut node.listeners[wire], &node.shard.net_mut().wires[wire]);
        let Some(bytes) = wire.handled_at else {
            return;
        };
        let mut client = Client::new(listener.encoding, &listener.presented);
        client.take(&wire.bytes[..bytes]);
        let before = client.items().len();
        client.take(&wire.bytes[bytes..]);
        let first = client.items()[before..].iter().find(|item| is_published(item));
        if let Some(Item::Event { data, .. }) = first {
            listener.rights.decides_above(self.order.offset_of(data) - 1);
        }
    }
}
