//! What one write may have: of a key the newest event alone, where the policy says so; and a poll's answer is one write.

use std::collections::HashSet;

use tidegate::types::position::Offset;

use super::client::{Client, Item};
use super::listener::{Listener, is_published};
use super::model::Order;
use super::net::Wire;

impl Listener {
    /// Checks every write to this subscriber. An event belongs to the write with its last byte.
    pub(crate) fn check_writes(&self, wire: &Wire, order: &Order, is_over: bool) {
        let mut client = Client::new(self.encoding, &self.presented);
        let mut answers = 0;
        for (nth, write) in wire.writes.iter().enumerate() {
            let before = client.items().len();
            let end = wire.writes.get(nth + 1).map_or(wire.bytes.len(), |next| next.at);
            client.take(&wire.bytes[write.at..end]);
            let items = &client.items()[before..];
            answers += usize::from(items.iter().any(|item| item.is("gap") || is_published(item)));
            self.check_keys(items, order, write.is_catching_up);
        }
        if self.poll && !wire.was_short {
            assert!(answers <= usize::from(is_over), "a poll ends with its answer: {self:?}");
        }
    }

    fn check_keys(&self, items: &[Item], order: &Order, is_catching_up: bool) {
        let offset_of = |item: &Item| match item {
            Item::Event { data, .. } if is_published(item) => Some(order.offset_of(data)),
            _ => None,
        };
        let offsets: HashSet<Offset> = items.iter().filter_map(offset_of).collect();
        for offset in &offsets {
            let newer = order.successor(*offset).filter(|newer| offsets.contains(newer));
            let is_hidden = newer.is_some() && order.is_hidden_in_one_write(*offset, is_catching_up);
            assert!(!is_hidden, "{offset} in one write with the newer {newer:?}: {self:?}");
        }
    }
}
