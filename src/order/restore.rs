//! An order that goes on after a restart: its batches are applied again, each at its position and with its time.

use crate::hub::Published;
use crate::hub::apply::Counts;
use crate::hub::draft::Draft;
use crate::order::change::Change;
use crate::order::claims::{Claimed, Kind};
use crate::order::entry::{self, DecodeError, Entry};
use crate::order::memory::MemoryOrder;
use crate::types::moment::Moment;
use crate::types::position::Offset;

impl MemoryOrder {
    /// Applies a batch again whose entries are at the positions from `first` on, and which was committed at `then`. What is
    /// too old by now goes with the next housekeeping. Of a batch that is below the floor of the order, only what was
    /// claimed and changed still counts. Returns the changes in it, each with its position and until when it is in force.
    ///
    /// # Errors
    ///
    /// If it is no batch.
    pub fn restore(
        &self,
        first: Offset,
        batch: &[u8],
        then: Moment,
        is_below: bool,
    ) -> Result<Vec<(Change, u64, Offset)>, DecodeError> {
        let mut changes = Vec::new();
        let mut claimed = self.claimed();
        let mut applying = self.hub().applying(Counts::No);
        let mut next = first;
        let take = |next: &mut Offset| std::mem::replace(next, *next + 1);
        entry::read(batch, |entry| match entry {
            Entry::Event(draft, subscribers) => {
                let position = take(&mut next);
                restore_claims(&mut claimed, &draft, then, Published::one(position, subscribers));
                if draft.store && !is_below {
                    applying.restore(position, self.hub().prepare(*draft), then);
                }
            }
            Entry::Change(change, until) => changes.push((change, until, take(&mut next))),
            Entry::Answer(claim, answer) => {
                let turn = claimed.next_turn();
                claimed.of_mut(Kind::Key).restore(&claim, turn, then, answer);
            }
            Entry::Report(..) | Entry::Tick => _ = take(&mut next),
            Entry::Publish(..) => {}
        })?;
        // Nobody listens yet.
        drop(applying.finish(then));
        Ok(changes)
    }
}

fn restore_claims(claimed: &mut Claimed, draft: &Draft, then: Moment, answer: Published) {
    let turn = claimed.next_turn();
    if let Some(once) = &draft.claims.once {
        claimed.of_mut(Kind::Key).restore(once, turn, then, answer);
    }
    if let Some(repeat) = &draft.claims.repeat {
        claimed.of_mut(Kind::Data).restore(repeat, turn, then, answer);
    }
}
