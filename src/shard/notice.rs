//! Notices of ended streams, for the application. Shards only add them here: a short lock, no wait, no I/O.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::hub::source::Source;
use crate::shard::conn::ConnKey;
use crate::shard::reason::CloseReason;
use crate::types::moment::Moment;

/// Notices that may wait. The next is dropped, and counted.
pub const NOTICES_MAX: usize = 16_384;

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

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Notice>,
    waker: Option<Waker>,
}

/// A bounded queue of notices, from all shards to one reader.
#[derive(Debug, Default)]
pub struct Notices {
    inner: Mutex<Inner>,
    dropped: AtomicU64,
}

impl Notices {
    /// Adds a notice, or drops and counts it if the queue is full.
    pub fn put(&self, notice: Notice) {
        let waker = {
            let mut inner = self.inner.lock();
            if inner.waiting.len() >= NOTICES_MAX {
                drop(inner);
                return self.drop_count(1);
            }
            inner.waiting.push_back(notice);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes up to `max` notices, oldest first. Pending if there are none: then the next notice wakes `waker`.
    pub fn poll_take(&self, max: usize, waker: &Waker) -> Poll<Vec<Notice>> {
        let mut inner = self.inner.lock();
        if inner.waiting.is_empty() {
            inner.waker = Some(waker.clone());
            return Poll::Pending;
        }
        let count = inner.waiting.len().min(max);
        let taken = inner.waiting.drain(..count).collect();
        if inner.waiting.is_empty() {
            // A burst has passed: give the memory back.
            inner.waiting.shrink_to_fit();
        }
        Poll::Ready(taken)
    }

    /// Number of notices that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// Counts notices that are lost.
    pub fn drop_count(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Number of notices that were lost.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(generation: u32) -> Notice {
        Notice {
            user: None,
            rooms: Vec::new(),
            shard: 0,
            key: ConnKey { slot: 0, generation },
            reason: CloseReason::Client,
            opened: Moment(0),
            closed: Moment(1),
        }
    }

    #[test]
    fn the_queue_is_bounded_and_counts_what_it_drops() {
        let notices = Notices::default();
        for generation in 0..u32::try_from(NOTICES_MAX).unwrap() + 3 {
            notices.put(notice(generation));
        }
        assert_eq!((notices.waiting(), notices.dropped()), (NOTICES_MAX, 3));
        let Poll::Ready(taken) = notices.poll_take(2, Waker::noop()) else { panic!("there are some") };
        assert_eq!(taken.iter().map(|notice| notice.key.generation).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(notices.waiting(), NOTICES_MAX - 2);
    }

    #[test]
    fn an_empty_queue_is_waited_for() {
        let notices = Notices::default();
        assert!(notices.poll_take(1, Waker::noop()).is_pending());
        notices.put(notice(1));
        assert!(notices.poll_take(1, Waker::noop()).is_ready());
    }
}
