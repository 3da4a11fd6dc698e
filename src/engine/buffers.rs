//! Bytes that bodies of requests, answers and questions to the application hold, of all connections together: one budget,
//! from which bytes are taken before anything is buffered.
//!
//! Guarantees: beyond [`FREE_BYTES`] for each request, one answer, one question and what its answers give, no more than the bound is held at once; a request
//! over it is refused with [`Code::BuffersFull`](crate::answer::problem::Code::BuffersFull); bytes are given back when their holder is dropped. Small requests
//! never use the budget.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes that each request or answer may hold without taking them from the budget: its place includes them. Nearly all
/// requests are smaller, so they get through however much the large ones hold.
pub const FREE_BYTES: usize = 16 << 10;

/// The budget.
#[derive(Debug)]
pub struct Buffers {
    held: AtomicUsize,
    /// Bytes of the budget that answers hold, at most half of the bound: answers that clients do not read must not keep
    /// bodies out.
    answers: AtomicUsize,
    bytes_max: usize,
    refused: AtomicU64,
    /// Bytes that a body, and an answer, wanted when they were refused last.
    wanted: [AtomicUsize; 2],
}

impl Buffers {
    /// A budget of `bytes_max`, with nothing held.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let (held, answers, refused, wanted) = Default::default();
        Self { held, answers, bytes_max, refused, wanted }
    }

    /// Bytes held beyond [`FREE_BYTES`] each.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The bound.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// The number of refusals so far. While it rises, holders that make no progress are closed ([`Places::expire`]).
    ///
    /// [`Places::expire`]: crate::http::conn::places::Places::expire
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Records a refusal, with the bytes that its holder had taken before.
    pub(crate) fn want(&self, what: Holds, bytes: usize) {
        self.wanted[what as usize].store(bytes, Ordering::Relaxed);
    }

    /// Bytes that must be freed to make room for what was refused last, and at least a quarter of the bound; and the
    /// same for the share of answers.
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

    /// The only answer always fits: otherwise every retry of it would be refused.
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

/// Adds `bytes` to `sum`, unless the result would exceed `max`.
fn add(sum: &AtomicUsize, bytes: usize, max: usize) -> bool {
    let fits = |sum: usize| sum.checked_add(bytes).filter(|sum| *sum <= max);
    sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
}

/// The use of the bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holds {
    /// A request's body.
    Body,
    /// An answer.
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

    /// Only a quarter used to be freed, which was too little for a large body in every attempt.
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

    /// Clients of a public room that did not read used to keep every large publish out.
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
