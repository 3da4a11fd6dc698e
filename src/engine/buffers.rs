//! Bytes that bodies of requests and answers hold, of all connections together: one budget, taken before anything is
//! buffered.
//!
//! Guarantees: beyond [`FREE_BYTES`] for each request and one answer, no more than the bound is held at once; a request over it is refused
//! with [`Code::BuffersFull`]; what was taken is given back when its holder is dropped. Small requests never ask.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes that each request or answer may hold without asking: its place is charged with them. Nearly all requests are
/// smaller, so they get through however much the large ones hold.
pub const FREE_BYTES: usize = 16 << 10;

/// The budget.
#[derive(Debug)]
pub struct Buffers {
    held: AtomicUsize,
    /// What answers hold of it, which is half of the bound at most: answers that are not read keep no body out.
    answers: AtomicUsize,
    bytes_max: usize,
    refused: AtomicU64,
    /// Bytes that a body, and an answer, was refused last.
    wanted: [AtomicUsize; 2],
}

impl Buffers {
    /// Nothing is held of `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let (held, answers, refused, wanted) = Default::default();
        Self { held, answers, bytes_max, refused, wanted }
    }

    /// Bytes that are held beyond [`FREE_BYTES`] each.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The bound.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// How many were refused so far. While it rises, holders that do not get on make room ([`Places::expire`]).
    ///
    /// [`Places::expire`]: crate::http::conn::places::Places::expire
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Notes what was refused, with what its holder had of it already.
    pub(crate) fn want(&self, what: Holds, bytes: usize) {
        self.wanted[what as usize].store(bytes, Ordering::Relaxed);
    }

    /// Bytes that have to go for those to find room that were refused last, and a quarter of the bound at least; and the same
    /// of the answers' share.
    #[must_use]
    pub fn crowded(&self) -> (usize, usize) {
        let excess = |held: &AtomicUsize, max: usize, what: Holds| {
            let wanted = self.wanted[what as usize].load(Ordering::Relaxed).max(max / 4);
            held.load(Ordering::Relaxed).saturating_sub(max.saturating_sub(wanted))
        };
        let (all, half) = (self.bytes_max, self.bytes_max / 2);
        (excess(&self.held, all, Holds::Body), excess(&self.answers, half, Holds::Answer))
    }

    pub(crate) fn take(&self, what: Holds, bytes: usize) -> bool {
        let taken = match what {
            Holds::Body => add(&self.held, bytes, self.bytes_max),
            Holds::Answer => self.take_for_answer(bytes),
        };
        if !taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// An answer that is the only one is never too large: it could be asked for again and again in vain.
    fn take_for_answer(&self, bytes: usize) -> bool {
        let is_only = self.answers.compare_exchange(0, bytes, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_only {
            self.held.fetch_add(bytes, Ordering::Relaxed);
            return true;
        }
        if !add(&self.answers, bytes, self.bytes_max / 2) {
            return false;
        }
        let taken = add(&self.held, bytes, self.bytes_max);
        if !taken {
            self.answers.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    pub(crate) fn give(&self, what: Holds, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        if what == Holds::Answer {
            self.answers.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// Adds `bytes` to `sum`, unless that would be more than `max`.
fn add(sum: &AtomicUsize, bytes: usize, max: usize) -> bool {
    let fits = |sum: usize| sum.checked_add(bytes).filter(|sum| *sum <= max);
    sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
}

/// What holds bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holds {
    /// What a peer sends.
    Body,
    /// What it is sent.
    Answer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_the_bound_and_all_of_it_comes_back() {
        let buffers = Buffers::new(100);
        assert!(buffers.take(Holds::Body, 60) && buffers.take(Holds::Body, 40));
        assert!(!buffers.take(Holds::Body, 1) && !buffers.take(Holds::Body, usize::MAX));
        assert_eq!((buffers.held(), buffers.refused()), (100, 2));
        buffers.give(Holds::Body, 60);
        assert!(buffers.take(Holds::Body, 59));
        assert_eq!((buffers.held(), buffers.refused()), (99, 2));
    }

    /// Only a quarter was once made free, which was too little for a large body, again and again.
    #[test]
    fn room_is_made_for_what_was_refused() {
        let buffers = Buffers::new(100);
        assert!(buffers.take(Holds::Body, 60));
        assert_eq!(buffers.crowded(), (0, 0), "a quarter is free");
        buffers.want(Holds::Body, 50);
        assert_eq!(buffers.crowded(), (10, 0));
        assert!(buffers.take(Holds::Answer, 40));
        buffers.want(Holds::Answer, 20);
        assert_eq!(buffers.crowded(), (50, 10));
    }

    /// Readers of a public room who did not read once kept every large publish out.
    #[test]
    fn answers_leave_half_of_it_to_bodies() {
        let buffers = Buffers::new(100);
        assert!(buffers.take(Holds::Answer, 50) && !buffers.take(Holds::Answer, 1));
        assert!(buffers.take(Holds::Body, 50) && !buffers.take(Holds::Body, 1));
        buffers.give(Holds::Answer, 20);
        assert!(buffers.take(Holds::Body, 20) && !buffers.take(Holds::Answer, 1));
        buffers.give(Holds::Body, 70);
        assert!(buffers.take(Holds::Answer, 20) && !buffers.take(Holds::Answer, 1));
        buffers.give(Holds::Answer, 50);
        assert_eq!(buffers.held(), 0);
        assert!(buffers.take(Holds::Answer, 1000), "the only one");
        assert!(!buffers.take(Holds::Answer, 1) && !buffers.take(Holds::Body, 1));
        buffers.give(Holds::Answer, 1000);
        assert!(buffers.take(Holds::Body, 100));
    }
}
