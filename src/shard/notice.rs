//! Notices of ended streams, for the application. Shards only add them to a queue.

use std::sync::Arc;

use crate::hub::source::Source;
use crate::shard::conn::ConnKey;
use crate::shard::reason::CloseReason;
use crate::types::moment::Moment;

/// A stream that ended.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The user's inbox.
    pub user: Option<Arc<Source>>,
    /// The rooms it was in.
    pub rooms: Vec<Arc<Source>>,
    /// The shard it was on.
    pub shard: usize,
    /// Its key there.
    pub key: ConnKey,
    /// Why it ended.
    pub reason: CloseReason,
    /// When it began.
    pub opened: Moment,
    /// When it ended.
    pub closed: Moment,
}

/// The queue of these notices, from all shards to the thread that sends them.
pub type Notices = crate::hub::notices::Notices<Notice>;
