//! Counters of a link. One thread writes them, and whoever is asked for metrics reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::order::redis::link::{LinkState, Loss};
use crate::types::count::Count;
use crate::types::histogram::{Histogram, TIME_BUCKETS};
use crate::types::words::words;

words! {
    /// What became of a batch that this node was to append.
    Fate {
        /// It is in the order, and was read back.
        Placed = "placed",
        /// Its key is known: it was there before.
        Repeated = "repeated",
        /// Its key came with something else before.
        Mismatch = "mismatch",
        /// Redis cannot be reached or used.
        Away = "away",
        /// Too much waits.
        Busy = "busy",
        /// Redis is full.
        Full = "full",
        /// Redis cannot save, or has too few replicas.
        Unsafe = "unsafe",
        /// Redis did not answer in time, or not with what was asked for.
        Unknown = "unknown",
    }
}

/// The words for the states of a link, each with all that it stands for.
pub const STATES: [&str; 7] = ["connecting", "attaching", "catching_up", "live", "late", "lost", "unfit"];

/// Counters of a link.
#[derive(Debug)]
pub struct LinkStats {
    /// Times that Redis said where the order is.
    pub attaches: Count,
    /// Terms that began while this node followed.
    pub terms: Count,
    /// Times that a part of what was applied was lost. The process starts anew then.
    pub losses: Count,
    /// Events of this node's batches that were read back.
    pub appended_events: Count,
    /// Batches of all nodes that were applied.
    pub applied_batches: Count,
    /// Their events.
    pub applied_events: Count,
    /// Publishes that were in Redis, and whose publisher was not told so: nothing said that a replica or the disk has them.
    pub unconfirmed: Count,
    /// How long this node's batches took until they were read back, in microseconds.
    pub times: Histogram<TIME_BUCKETS>,
    fates: [Count; Fate::ALL.len()],
    state: AtomicU64,
    begun: Instant,
    /// When something that this node sent came back last, in microseconds since it began.
    echoed_us: AtomicU64,
}

impl Default for LinkStats {
    fn default() -> Self {
        let (attaches, terms, losses, appended_events, applied_batches, applied_events) = Default::default();
        Self {
            attaches,
            terms,
            losses,
            appended_events,
            applied_batches,
            applied_events,
            unconfirmed: Count::default(),
            times: Histogram::new(64),
            fates: Default::default(),
            state: AtomicU64::new(0),
            begun: Instant::now(),
            echoed_us: AtomicU64::new(0),
        }
    }
}

impl LinkStats {
    /// A batch of this node has its answer.
    pub fn note(&self, fate: Fate) {
        self.fates[fate as usize].add();
    }

    /// Batches of this node with that answer.
    #[must_use]
    pub fn with(&self, fate: Fate) -> u64 {
        self.fates[fate as usize].get()
    }

    /// The link does something else than before.
    pub fn note_state(&self, state: LinkState) {
        let at = STATES.iter().position(|word| *word == state.as_str()).expect("each state has its word");
        self.state.store(at as u64, Ordering::Relaxed);
    }

    /// What the link does, as an index of [`STATES`].
    #[must_use]
    pub fn state(&self) -> usize {
        usize::try_from(self.state.load(Ordering::Relaxed)).expect("an index")
    }

    /// The order is another one than before.
    pub fn note_loss(&self, loss: Loss) {
        match loss {
            Loss::Start => {}
            Loss::Nothing => self.terms.add(),
            Loss::Failover | Loss::Evicted | Loss::Restart => self.losses.add(),
        }
    }

    /// Something that this node sent came back at `then`.
    pub fn note_echo(&self, then: Instant) {
        let since = then.saturating_duration_since(self.begun);
        self.echoed_us.store(u64::try_from(since.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Seconds since something that this node sent came back; since the start, if nothing has.
    #[must_use]
    pub fn echo_age_s(&self) -> f64 {
        let echoed = std::time::Duration::from_micros(self.echoed_us.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(echoed).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::redis::link::Unfit;

    #[test]
    fn every_state_has_its_word() {
        let stats = LinkStats::default();
        for state in [
            LinkState::Connecting,
            LinkState::Attaching,
            LinkState::CatchingUp,
            LinkState::Live,
            LinkState::Late,
            LinkState::Lost,
            LinkState::Unfit(Unfit::Version),
        ] {
            stats.note_state(state);
            assert_eq!(STATES[stats.state()], state.as_str());
        }
    }
}
