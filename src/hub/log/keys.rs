//! The newest event of each key in a log, and its version.

use hashbrown::HashMap;

use crate::types::name::EventKey;
use crate::types::position::Offset;

/// The newest events of the keys in one log. Bounded by the log: each key has an event there.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Allocated with the first key: nearly no log has any.
    newest: Option<Box<HashMap<EventKey, Newest>>>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    offset: Offset,
    version: Option<u64>,
    stored: bool,
}

impl Keys {
    /// Notes the event at `offset` as the newest of `key`. Returns the offset of the one that it supersedes.
    ///
    /// An event that is not stored does not supersede one that is: a newcomer would get neither.
    pub(super) fn set(
        &mut self,
        key: &EventKey,
        offset: Offset,
        version: Option<u64>,
        stored: bool,
    ) -> Option<Offset> {
        let newest = self.newest.get_or_insert_default();
        let Some(before) = newest.get_mut(key) else {
            newest.insert(key.clone(), Newest { offset, version, stored });
            return None;
        };
        before.version = version.or(before.version);
        if before.stored && !stored {
            return None;
        }
        before.stored = stored;
        Some(std::mem::replace(&mut before.offset, offset))
    }

    /// The version of the newest event of `key`.
    pub(super) fn version(&self, key: &EventKey) -> Option<u64> {
        self.newest.as_ref()?.get(key)?.version
    }

    /// Forgets `key` if the event at `offset`, which leaves the log, is the newest of it.
    pub(super) fn forget(&mut self, key: Option<&EventKey>, offset: Offset) {
        let (Some(newest), Some(key)) = (&mut self.newest, key) else {
            return;
        };
        if newest.get(key).is_some_and(|newest| newest.offset == offset) {
            newest.remove(key);
        }
        if newest.is_empty() {
            self.newest = None;
        } else if newest.len() < newest.capacity() / 4 {
            newest.shrink_to(2 * newest.len());
        }
    }

    /// Number of keys.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.newest.as_ref().map_or(0, |newest| newest.len())
    }
}
