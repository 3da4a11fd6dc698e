//! A bounded queue of notices, from many threads to one reader that tells the application. Adding takes a short lock:
//! no wait, no I/O.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

/// Notices that may wait. The next is dropped, and counted.
pub const NOTICES_MAX: usize = 16_384;

#[derive(Debug)]
struct Inner<T> {
    waiting: VecDeque<T>,
    waker: Option<Waker>,
}

/// A bounded queue of notices, from many threads to one reader.
#[derive(Debug)]
pub struct Notices<T> {
    inner: Mutex<Inner<T>>,
    dropped: AtomicU64,
}

// Not derived: that would ask for `T: Default`.
impl<T> Default for Notices<T> {
    fn default() -> Self {
        let inner = Inner { waiting: VecDeque::new(), waker: None };
        Self { inner: Mutex::new(inner), dropped: AtomicU64::new(0) }
    }
}

impl<T> Notices<T> {
    /// Adds a notice, or drops and counts it if the queue is full. Returns the reader's waker if it waits, to be woken
    /// once no lock is held.
    #[must_use]
    pub fn put(&self, notice: T) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if inner.waiting.len() >= NOTICES_MAX {
            drop(inner);
            self.drop_count(1);
            return None;
        }
        inner.waiting.push_back(notice);
        inner.waker.take()
    }

    /// Takes up to `max` notices, oldest first. Pending if there are none: then the next notice wakes `waker`.
    pub fn poll_take(&self, max: usize, waker: &Waker) -> Poll<Vec<T>> {
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

    #[test]
    fn the_queue_is_bounded_and_counts_what_it_drops() {
        let notices = Notices::default();
        for notice in 0..NOTICES_MAX + 3 {
            assert!(notices.put(notice).is_none(), "nobody waits");
        }
        assert_eq!((notices.waiting(), notices.dropped()), (NOTICES_MAX, 3));
        let Poll::Ready(taken) = notices.poll_take(2, Waker::noop()) else { panic!("there are some") };
        assert_eq!(taken, [0, 1]);
        assert_eq!(notices.waiting(), NOTICES_MAX - 2);
    }

    #[test]
    fn an_empty_queue_is_waited_for() {
        let notices = Notices::default();
        assert!(notices.poll_take(1, Waker::noop()).is_pending());
        assert!(notices.put(1).is_some() && notices.put(2).is_none(), "the reader is woken once");
        assert!(notices.poll_take(1, Waker::noop()).is_ready());
    }
}
