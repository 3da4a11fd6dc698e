//! A Redis process: what it has, what it had, and whether it is a master.

use std::sync::Arc;

use tidegate::types::moment::Moment;

use super::data::{Data, Replid};

/// States of the past that may come back.
const PAST_MAX: usize = 40;

#[derive(Debug, Default)]
pub(crate) struct Server {
    pub data: Arc<Data>,
    pub replid: Replid,
    pub is_master: bool,
    /// Its master replicates to it.
    pub is_in_step: bool,
    /// Counts its processes. A connection is to one of them.
    pub process: u64,
    pub down_until: Moment,
    /// It runs no command before.
    pub busy_until: Moment,
    /// It takes no writes before.
    pub full_until: Moment,
    /// It takes no writes at all before, not even to begin a term.
    pub closed_until: Moment,
    /// Newest last.
    pub past: Vec<Arc<Data>>,
}

impl Server {
    pub(crate) fn is_up(&self, now: Moment) -> bool {
        self.down_until <= now
    }

    /// Its data changes. What it was is remembered.
    pub(crate) fn change<T>(&mut self, change: impl FnOnce(&mut Data) -> T) -> T {
        if self.past.len() == PAST_MAX {
            self.past.remove(0);
        }
        self.past.push(self.data.clone());
        change(Arc::make_mut(&mut self.data))
    }
}
