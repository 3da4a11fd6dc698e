//! The order of one process, in memory: the next number is the next position, without agreement between nodes.

use std::sync::Arc;
use std::task::Waker;

use crate::hub::apply::{Counts, Fate, Prepared};
use crate::hub::draft::Draft;
use crate::hub::own_ids::{Repeated, Repeats};
use crate::hub::source::Source;
use crate::hub::{Hub, Published};
use crate::types::moment::Moment;

/// The order in memory. Its positions are those of the hub to which it applies.
#[derive(Clone)]
pub struct MemoryOrder {
    hub: Arc<Hub>,
}

impl MemoryOrder {
    /// The order that `hub` follows.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Publishes `drafts` next to each other.
    ///
    /// # Errors
    ///
    /// If one of them has an id that was used before. Then none is published.
    ///
    /// # Panics
    ///
    /// If `drafts` is empty.
    pub fn publish(
        &self,
        drafts: impl IntoIterator<Item = Draft>,
        now: Moment,
    ) -> Result<Published, Repeated> {
        self.propose(drafts, Repeats::RefuseAll, now, |_, _, waker| waker.wake())
    }

    /// Publishes `drafts` next to each other, and calls `wake` for each sleeping shard that has news now.
    ///
    /// # Errors
    ///
    /// If one of them has an id that was used before. `repeats` says whether the events before it are published.
    ///
    /// # Panics
    ///
    /// If there are no drafts.
    pub fn propose(
        &self,
        drafts: impl IntoIterator<Item = Draft>,
        repeats: Repeats,
        now: Moment,
        mut wake: impl FnMut(&Published, usize, Waker),
    ) -> Result<Published, Repeated> {
        let mut events: Vec<Prepared> = drafts.into_iter().map(|draft| self.hub.prepare(draft)).collect();
        assert!(!events.is_empty(), "at least one event was given");
        let mut applying = self.hub.applying(Counts::Yes);
        applying.pass_outdated(&mut events);
        let repeated = applying.claim(&mut events, repeats);
        if let (Some(index), true) = (repeated, events.is_empty()) {
            return Err(Repeated { index, before: None });
        }
        let mut published = Published { offset: applying.newest(), subscribers: 0, skipped: 0 };
        for event in events {
            match event.fate() {
                Fate::Published => {
                    published.offset += 1;
                    published.subscribers += u64::from(applying.apply(published.offset, event, now));
                }
                Fate::Outdated => published.skipped += 1,
                Fate::Replayed(_) => {}
            }
        }
        for (shard, waker) in applying.finish(now) {
            wake(&published, shard, waker);
        }
        match repeated {
            Some(index) => Err(Repeated { index, before: Some(published) }),
            None => Ok(published),
        }
    }

    /// Publishes the readiness probe's event to `source`. It is not counted, and not kept after its delivery.
    #[must_use]
    pub fn publish_probe(&self, source: &Arc<Source>, data: &str, now: Moment) -> Published {
        let event = Prepared::own(source, data);
        let mut applying = self.hub.applying(Counts::No);
        let offset = applying.newest() + 1;
        let subscribers = u64::from(applying.apply(offset, event, now));
        for (_, waker) in applying.finish(now) {
            waker.wake();
        }
        Published { offset, subscribers, skipped: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hub::HubSettings;
    use crate::hub::admission::Caps;
    use crate::hub::draft::Target;
    use crate::hub::history::HistoryBounds;
    use crate::hub::log::LogBounds;
    use crate::hub::memory_level::MemoryLevel;
    use crate::types::name::RoomName;
    use crate::types::position::Epoch;

    /// With publishes refused, nothing new drove old events out: the engine stayed on the last level until they were too old.
    #[test]
    fn on_the_last_rung_an_eighth_of_the_history_goes_at_a_time() {
        let log = LogBounds { events_max: 1000, bytes_max: 1 << 20 };
        let hub = Hub::new(HubSettings {
            shards: 1,
            epoch: Epoch::new(1),
            history: HistoryBounds { log, bytes_max: 1 << 30, age_max: Duration::from_hours(1) },
            caps: Caps { connections_max: 1, per_user_max: None, replace: false, per_address_max: None },
            delivery: None,
        });
        let order = MemoryOrder::new(hub.clone());
        for n in 0..800 {
            let target = Target::Room(RoomName::new(&format!("{}", n % 8)).expect("a name"));
            let data = "x".repeat(500);
            let draft = Draft::to(target, data);
            order.publish([draft], Moment(1)).expect("no id");
        }
        let events_after = |level| {
            hub.set_memory_level(level);
            hub.tidy(Moment(1));
            hub.history().0
        };
        assert_eq!(events_after(MemoryLevel::NoNewcomers), 800);
        let (once, twice) = (events_after(MemoryLevel::NoPublishes), events_after(MemoryLevel::NoPublishes));
        assert!((690..=710).contains(&once) && (600..=620).contains(&twice), "{once} {twice}");
        assert_eq!(events_after(MemoryLevel::Normal), twice);
    }
}
