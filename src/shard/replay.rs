//! What a newcomer is given of the histories of its rooms: the newest events, up to a number of bytes.
//!
//! Bounded: no more is held than is given, in whatever order events are offered, and however many there are.

use std::collections::BTreeMap;

use crate::hub::log::entry::Entry;
use crate::shard::batch::Item;
use crate::types::position::Offset;

/// The newest of the events that were offered.
#[derive(Debug)]
pub(super) struct Newest {
    /// By offset. Invariant: their frames have `bytes`, at most `bytes_max`.
    items: BTreeMap<Offset, Item>,
    bytes: usize,
    bytes_max: usize,
    /// Events below do not fit, because this one does not.
    floor: Offset,
    left_out: usize,
}

impl Newest {
    /// None yet, and never more than `bytes_max` bytes of them.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { items: BTreeMap::new(), bytes: 0, bytes_max, floor: 0, left_out: 0 }
    }

    /// Takes `entry`, and leaves out those that it is too much for, itself included.
    pub(super) fn offer(&mut self, entry: &Entry) {
        if entry.offset < self.floor {
            self.left_out += 1;
            return;
        }
        self.bytes += entry.frame.len();
        self.items.insert(entry.offset, Item::from(entry));
        while self.bytes > self.bytes_max {
            let (offset, oldest) = self.items.pop_first().expect("they have bytes");
            self.bytes -= oldest.frame.len();
            self.floor = offset;
            self.left_out += 1;
        }
    }

    /// Events and bytes that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.items.len(), self.items.values().map(|item| item.frame.len()).sum())
    }

    /// The events, oldest first, and how many were left out.
    pub(super) fn into_items(self) -> (Vec<Item>, usize) {
        (self.items.into_values().collect(), self.left_out)
    }
}
