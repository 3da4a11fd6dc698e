//! Counters of requests to other servers, and their state for log lines.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::types::count::Count;
use crate::types::histogram::{Histogram, TIME_BUCKETS};
use crate::types::words::words;

words! {
    /// The purpose of a request to another server.
    Purpose {
        /// The application is asked whether a subscriber may have a stream.
        Callback = "callback",
        /// The application is told of streams that ended.
        Notice = "notice",
        /// The application is told who comes and goes.
        Presence = "presence",
        /// The application is asked whether an event may be published.
        Publish = "publish",
        /// The keys of tokens are fetched.
        Jwks = "jwks",
    }
}

impl Purpose {
    /// The possible outcomes of this kind.
    #[must_use]
    pub fn outcomes(self) -> &'static [Outcome] {
        match self {
            Self::Callback | Self::Publish => Outcome::ALL,
            Self::Notice | Self::Presence => {
                &[Outcome::Ok, Outcome::Timeout, Outcome::Unreachable, Outcome::Status]
            }
            Self::Jwks => {
                &[Outcome::Ok, Outcome::Timeout, Outcome::Unreachable, Outcome::Status, Outcome::Malformed]
            }
        }
    }
}

words! {
    /// The outcome of a request.
    Outcome {
        /// A valid answer.
        Ok = "ok",
        /// A refusal.
        Refused = "refused",
        /// No answer in time.
        Timeout = "timeout",
        /// No connection, or one that broke.
        Unreachable = "unreachable",
        /// A status that counts as a failure.
        Status = "status",
        /// An answer that is invalid or too long.
        Malformed = "malformed",
        /// Not sent, because too many others were waiting; or there was no room for the answer.
        Busy = "busy",
    }
}

impl Outcome {
    /// Whether the other server did its part.
    #[must_use]
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Ok | Self::Refused)
    }
}

/// Counters of requests to other servers.
#[derive(Debug)]
pub struct UpstreamStats {
    requests: [[Count; Outcome::ALL.len()]; Purpose::ALL.len()],
    /// The time from sending a question to the end of its answer, in microseconds. Only the upstream thread writes it.
    pub callback: Histogram<TIME_BUCKETS>,
}

impl Default for UpstreamStats {
    fn default() -> Self {
        Self { requests: Default::default(), callback: Histogram::new(64) }
    }
}

impl UpstreamStats {
    /// Counts a request that ended.
    pub fn ended(&self, kind: Purpose, outcome: Outcome) {
        debug_assert!(kind.outcomes().contains(&outcome), "{outcome:?} has a series");
        self.requests[kind as usize][outcome as usize].add();
    }

    /// Requests of `kind` that ended with `outcome`.
    #[must_use]
    pub fn requests(&self, kind: Purpose, outcome: Outcome) -> u64 {
        self.requests[kind as usize][outcome as usize].get()
    }
}

/// Whether a server works, so that the log has changes and not every request.
#[derive(Debug, Default)]
pub(super) struct Health {
    failing: AtomicBool,
}

impl Health {
    /// Records how a request ended. Returns whether that is a change.
    pub(super) fn note(&self, outcome: Outcome) -> bool {
        let failing = !outcome.is_answer();
        self.failing.swap(failing, Ordering::Relaxed) != failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_those_of_the_lists() {
        assert!(Purpose::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        assert!(Outcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
    }

    #[test]
    fn only_changes_are_news() {
        let health = Health::default();
        let news = [Outcome::Ok, Outcome::Timeout, Outcome::Status, Outcome::Refused, Outcome::Ok];
        assert_eq!(news.map(|outcome| health.note(outcome)), [false, true, false, true, false]);
    }
}
