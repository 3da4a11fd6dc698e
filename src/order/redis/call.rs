//! What a node asks of Redis, and what it is answered.

use std::time::Duration;

use bytes::Bytes;

use crate::order::redis::entry::EntryId;
use crate::types::lineage::Lineage;
use crate::types::position::{Epoch, Offset};

/// A batch is published once under this key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OnceKey {
    /// A hash of what is claimed, and by whom.
    pub key: u128,
    /// A hash of what comes with it. Another one under the same key is a mistake.
    pub content: u128,
    /// How long it is remembered.
    pub time: Duration,
    /// Which events of the batch it is for: the index of the first, and how many.
    pub first: u32,
    /// Number of events.
    pub count: u32,
}

/// A batch on its way into the order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The batch.
    pub body: Bytes,
    /// Number of its events, 1..=4096.
    pub count: u32,
    /// It is appended only if none of these is known.
    pub once: Vec<OnceKey>,
}

impl Batch {
    /// What takes the place of a batch that has its answer when its entry is sent again: its key may be free by then.
    #[must_use]
    pub fn answered() -> Self {
        Self { body: Bytes::new(), count: 0, once: Vec::new() }
    }
}

/// Asks where the order is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttachCall {
    /// The node's epoch.
    pub epoch: Option<Epoch>,
    /// The newest offset of that epoch that the node knows to be given out.
    pub seen: Offset,
    /// The newest offset of any term that the node knows to be given out.
    pub high: Offset,
    /// The order is to begin anew if this is still its epoch: it contradicts what was applied.
    pub given_up: Option<Epoch>,
    /// The epoch of a term that may have to begin.
    pub fresh: Epoch,
}

/// The answer to [`AttachCall`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AttachAnswer {
    /// Where the order is.
    Here(Whereabouts),
    /// The fresh epoch is in use: ask with another one.
    Again,
    /// Another program wrote there, or a version with another format.
    Foreign,
}

/// Where an order is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Whereabouts {
    /// The newest offset.
    pub newest: Offset,
    /// The tag of the batch or fork that ends there.
    pub tag: String,
    /// Its terms.
    pub lineage: Lineage,
    /// The oldest entry that is kept.
    pub oldest: Option<Oldest>,
}

/// The oldest entry that is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Oldest {
    /// Its id.
    pub id: EntryId,
    /// Its tag.
    pub tag: String,
    /// The tag of the batch or fork before it.
    pub before: String,
    /// Number of its events.
    pub events: u64,
}

impl Whereabouts {
    /// The offset above which everything is kept.
    #[must_use]
    pub fn floor(&self) -> Offset {
        self.oldest.as_ref().map_or(self.newest, |oldest| oldest.id.offset.saturating_sub(oldest.events))
    }

    /// The tag of the batch or fork that ends at [`floor`](Self::floor).
    #[must_use]
    pub fn tag_at_floor(&self) -> &str {
        match &self.oldest {
            None => &self.tag,
            // It is a fork, which has its epoch for a tag; others have a colon.
            Some(oldest) if oldest.events == 0 && !oldest.tag.contains(':') => &oldest.tag,
            Some(oldest) => &oldest.before,
        }
    }
}

/// Appends batches as one entry.
#[derive(Clone, Debug)]
pub struct AppendCall {
    /// The epoch in which the node believes the order to be.
    pub epoch: Epoch,
    /// The newest offset of that epoch that it knows to be given out.
    pub seen: Offset,
    /// The number of the entry in this life of the node; `None` for a tick.
    pub seq: Option<u64>,
    /// The tag of this attempt.
    pub tag: String,
    /// The batches; none in a tick.
    pub batches: Vec<Batch>,
}

/// The answer to [`AppendCall`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AppendAnswer {
    /// It was run. The newest offset, and what became of each batch.
    Done(Offset, Vec<Became>),
    /// An earlier attempt has it, in the entry that ends here.
    Earlier(Offset),
    /// It is too late to tell: newer ones of this life are there.
    Stale,
    /// Nothing was changed: the order is elsewhere.
    Elsewhere,
    /// Nothing was changed: Redis takes no writes, because it is full or protects what it has.
    Closed(Closed),
}

/// Why Redis takes no writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closed {
    /// Its memory is full (`OOM`).
    Full,
    /// It cannot save (`MISCONF`), or has too few replicas (`NOREPLICAS`).
    Unsafe,
}

/// What is to have a batch beyond Redis itself, before its publish is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beyond {
    /// A replica (`WAIT`).
    Replica,
    /// The disk of Redis (`WAITAOF`).
    Disk,
}

/// What became of one batch of an append.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Became {
    /// It is in the entry.
    Appended,
    /// A key of it is known, with the same content.
    Repeat(Repeat),
    /// A key of it is known, with other content: which one.
    Other(usize),
    /// It was [answered](Batch::answered) before.
    Nothing,
}

/// What has the key already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Repeat {
    /// Which of the batch's keys is known.
    pub index: usize,
    /// The term of its events.
    pub epoch: Epoch,
    /// The first of its events.
    pub first: Offset,
    /// The last of them.
    pub last: Offset,
}
