//! What is proposed to an order that has to commit it first: a queue from the threads that publish to the one that commits.
//!
//! Bounded by itself: whoever proposes may go away, and what it proposed is committed all the same. So those who wait for an
//! answer are not a bound while a disk hangs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use parking_lot::{Condvar, Mutex};

use crate::hub::Published;
use crate::hub::draft::Draft;
use crate::hub::own_ids::Repeats;
use crate::hub::source::Source;
use crate::order::change::Change;
use crate::order::claims::RequestClaim;
use crate::order::decide::Proposed;
use crate::order::entry;
use crate::order::memory::MemoryOrder;
use crate::order::refused::{Refused, Why};

/// Proposals that wait at once. One more is refused.
pub const PROPOSALS_MAX: usize = 16_384;

/// Bytes of events that wait at once. One publish is always let in.
pub const PROPOSED_BYTES_MAX: usize = 64 << 20;

/// A queue of proposals.
#[derive(Default)]
pub struct Proposals {
    queue: Mutex<Queue>,
    bell: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Proposal>,
    /// Bytes of the events in it.
    bytes: usize,
    is_closed: bool,
}

/// Something that is to be committed.
pub(super) enum Proposal {
    /// Events.
    Events(Events),
    /// A change, and when it can be forgotten, in seconds since 1970.
    Change(Change, u64, oneshot::Sender<Result<(), Refused>>),
    /// The readiness probe's event, for this source.
    Probe(Arc<Source>, oneshot::Sender<Result<Published, Refused>>),
}

/// Events that are to be committed.
pub(super) struct Events {
    pub(super) proposed: Proposed,
    /// Their bytes, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Where the bytes of each end.
    pub(super) ends: Vec<usize>,
    pub(super) answer: oneshot::Sender<Result<Published, Refused>>,
}

impl Proposals {
    /// Proposes `drafts`, and waits until they are committed and applied.
    ///
    /// # Errors
    ///
    /// If one of them is refused, or they cannot be committed.
    ///
    /// # Panics
    ///
    /// If there are no drafts.
    pub async fn publish(
        &self,
        order: &MemoryOrder,
        drafts: Vec<Draft>,
        request: Option<RequestClaim>,
        repeats: Repeats,
    ) -> Result<Published, Refused> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(drafts.len()));
        for draft in &drafts {
            entry::put_event(draft, &mut bytes);
            ends.push(bytes.len());
        }
        let proposed = Proposed::new(order.hub(), drafts, request, repeats);
        let (answer, answered) = oneshot::channel();
        self.push(Proposal::Events(Events { proposed, bytes, ends, answer }))?;
        answered.await.unwrap_or(Err(Refused::whole(Why::Closed)))
    }

    /// Proposes `change`, which can be forgotten at `until`, in seconds since 1970, and waits until it is committed.
    ///
    /// # Errors
    ///
    /// If it cannot be committed.
    pub async fn change(&self, change: Change, until: u64) -> Result<(), Refused> {
        let (answer, answered) = oneshot::channel();
        self.push(Proposal::Change(change, until, answer))?;
        answered.await.unwrap_or(Err(Refused::whole(Why::Closed)))
    }

    /// Proposes the readiness probe's event for `source`, and waits until it is committed and applied.
    ///
    /// # Errors
    ///
    /// If it cannot be committed.
    pub async fn probe(&self, source: Arc<Source>) -> Result<Published, Refused> {
        let (answer, answered) = oneshot::channel();
        self.push(Proposal::Probe(source, answer))?;
        answered.await.unwrap_or(Err(Refused::whole(Why::Closed)))
    }

    fn push(&self, proposal: Proposal) -> Result<(), Refused> {
        let mut queue = self.queue.lock();
        if queue.is_closed {
            return Err(Refused::whole(Why::Closed));
        }
        let bytes = queue.bytes + proposal.bytes();
        let is_full = queue.waiting.len() >= PROPOSALS_MAX || bytes > PROPOSED_BYTES_MAX;
        if is_full && !queue.waiting.is_empty() {
            return Err(Refused::whole(Why::Busy));
        }
        queue.bytes = bytes;
        queue.waiting.push_back(proposal);
        drop(queue);
        self.bell.notify_one();
        Ok(())
    }

    /// Moves what was proposed to the end of `taken`, until that has `bytes_max` bytes, and waits for something at most
    /// `patience` if `taken` is empty. Returns false once the queue is closed and nothing is left.
    pub(super) fn take(&self, taken: &mut VecDeque<Proposal>, bytes_max: usize, patience: Duration) -> bool {
        let mut queue = self.queue.lock();
        if taken.is_empty() && queue.waiting.is_empty() && !queue.is_closed {
            self.bell.wait_for(&mut queue, patience);
        }
        let mut bytes: usize = taken.iter().map(Proposal::bytes).sum();
        while bytes < bytes_max
            && let Some(proposal) = queue.waiting.pop_front()
        {
            bytes += proposal.bytes();
            queue.bytes -= proposal.bytes();
            taken.push_back(proposal);
        }
        !(queue.is_closed && taken.is_empty())
    }

    /// Takes no more proposals. Those in the queue are still committed.
    pub fn close(&self) {
        self.queue.lock().is_closed = true;
        self.bell.notify_all();
    }
}

impl Proposal {
    /// Bytes of its events.
    fn bytes(&self) -> usize {
        match self {
            Self::Events(events) => events.bytes.len(),
            Self::Change(..) | Self::Probe(..) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::hub::admission::Caps;
    use crate::hub::draft::Target;
    use crate::hub::history::HistoryBounds;
    use crate::hub::log::rules::LogBounds;
    use crate::hub::room_policy::RoomPolicy;
    use crate::hub::source::SourceKind;
    use crate::hub::{Hub, HubSettings};
    use crate::types::position::Epoch;

    fn order() -> MemoryOrder {
        let log = LogBounds { events_max: 1, bytes_max: 1000 };
        MemoryOrder::new(Hub::new(HubSettings {
            shards: 1,
            epoch: Epoch::new(1),
            history: HistoryBounds { log, bytes_max: 1000, age_max: Duration::from_secs(1) },
            caps: Caps { connections_max: 1, per_user_max: None, replace: false, per_address_max: None },
            delivery: None,
        }))
    }

    /// About as much, with what an event has beside its data.
    const MEBIBYTE: usize = (1 << 20) - 100;

    /// What `future` is now.
    fn look<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn taken(proposals: &Proposals) -> usize {
        let mut taken = VecDeque::new();
        let _ = proposals.take(&mut taken, 1 << 20, Duration::ZERO);
        taken.len()
    }

    /// The queue was bounded by those who wait. They could go away while the disk hung, and come again.
    #[test]
    fn who_proposes_and_goes_away_does_not_fill_the_memory() {
        let (proposals, order) = (Proposals::default(), order());
        let publish = |bytes: usize| {
            let draft = Draft::to(Target::All, "x".repeat(bytes));
            look(proposals.publish(&order, vec![draft], None, Repeats::RefuseAll))
        };
        let mut let_in = 0;
        while publish(MEBIBYTE).is_pending() {
            let_in += 1;
        }
        assert_eq!(let_in, PROPOSED_BYTES_MAX >> 20, "about so many mebibytes");
        assert_eq!(publish(MEBIBYTE), Poll::Ready(Err(Refused::whole(Why::Busy))));
        assert_eq!(taken(&proposals), 2, "a group takes no more than it can commit");
        assert!(publish(MEBIBYTE).is_pending(), "there is room again");
    }

    #[test]
    fn no_more_wait_than_may_and_one_is_let_in_whatever_its_size() {
        let (proposals, order) = (Proposals::default(), order());
        let draft = Draft::to(Target::All, "x".repeat(PROPOSED_BYTES_MAX + 1));
        assert!(look(proposals.publish(&order, vec![draft], None, Repeats::RefuseAll)).is_pending());
        assert_eq!(taken(&proposals), 1);
        let room = Arc::new(Source::new(SourceKind::Room, "r", 1, 0, RoomPolicy::example()));
        for _ in 0..PROPOSALS_MAX {
            assert!(look(proposals.probe(room.clone())).is_pending());
        }
        assert_eq!(look(proposals.probe(room.clone())), Poll::Ready(Err(Refused::whole(Why::Busy))));
        proposals.close();
        assert_eq!(look(proposals.probe(room)), Poll::Ready(Err(Refused::whole(Why::Closed))));
    }
}
