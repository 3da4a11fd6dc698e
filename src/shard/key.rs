//! The name of one connection.

/// Names one connection for its whole life, and nothing afterwards.
///
/// `slab` hands a freed slot to the next connection. A room that still held the old key would then write one user's
/// events to another user's socket; `generation` turns that into `None`. It repeats after 2^32 connections of a shard.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnKey {
    /// Place in the slab.
    pub slot: u32,
    /// Which of the connections that have had this place.
    pub generation: u32,
}

impl ConnKey {
    /// As one number, for the kernel to hold.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The name that subscribers and the application are given: `<shard>.<slot>.<generation>`.
    #[must_use]
    pub fn name(self, shard: usize) -> String {
        format!("{shard}.{}.{}", self.slot, self.generation)
    }

    /// The key of which [`ConnKey::to_u64`] made `key`.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
    pub fn from_u64(key: u64) -> Self {
        Self { slot: key as u32, generation: (key >> 32) as u32 }
    }
}
