//! What is proposed to an order that has to commit it first: a queue from the threads that publish to the one that commits.
//!
//! Bounded by those who wait for an answer: each has one proposal in the queue at most, and HTTP bounds how many there are
//! and how many bytes they hold.

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

/// A queue of proposals.
#[derive(Default)]
pub struct Proposals {
    queue: Mutex<Queue>,
    bell: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Proposal>,
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
        queue.waiting.push_back(proposal);
        drop(queue);
        self.bell.notify_one();
        Ok(())
    }

    /// Moves what was proposed to the end of `taken`, and waits for that at most `patience` if `taken` is empty. Returns
    /// false once the queue is closed and nothing is left.
    pub(super) fn take(&self, taken: &mut VecDeque<Proposal>, patience: Duration) -> bool {
        let mut queue = self.queue.lock();
        if taken.is_empty() && queue.waiting.is_empty() && !queue.is_closed {
            self.bell.wait_for(&mut queue, patience);
        }
        taken.append(&mut queue.waiting);
        !(queue.is_closed && taken.is_empty())
    }

    /// Takes no more proposals. Those in the queue are still committed.
    pub fn close(&self) {
        self.queue.lock().is_closed = true;
        self.bell.notify_all();
    }
}
