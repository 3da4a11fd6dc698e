//! What asking other servers counts, and the log lines that go with it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::shard::stats::{Histogram, TIME_BUCKETS};
use crate::types::count::Count;
use crate::types::words::words;

words! {
    /// Why somebody is asked.
    Kind {
        /// The application is asked whether a listener may come in.
        Callback = "callback",
        /// The application is told of streams that ended.
        Notice = "notice",
        /// The keys of tokens are fetched.
        Jwks = "jwks",
    }
}

impl Kind {
    /// How one of this kind can end.
    #[must_use]
    pub fn outcomes(self) -> &'static [Outcome] {
        match self {
            Self::Callback => Outcome::ALL,
            Self::Notice => &[Outcome::Ok, Outcome::Timeout, Outcome::Unreachable, Outcome::Status],
            Self::Jwks => {
                &[Outcome::Ok, Outcome::Timeout, Outcome::Unreachable, Outcome::Status, Outcome::Malformed]
            }
        }
    }
}

words! {
    /// How asking ended.
    Outcome {
        /// With what was asked for.
        Ok = "ok",
        /// With a no.
        Refused = "refused",
        /// With nothing in time.
        Timeout = "timeout",
        /// Without a connection, or with one that broke.
        Unreachable = "unreachable",
        /// With a status that is no answer.
        Status = "status",
        /// With something that can't be understood, or is too long.
        Malformed = "malformed",
        /// Before it began: too many were before it.
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
    requests: [[Count; Outcome::ALL.len()]; Kind::ALL.len()],
    /// From a question's being sent to the end of its answer, in microseconds. Written by the upstream thread alone.
    pub callback: Histogram<TIME_BUCKETS>,
}

impl Default for UpstreamStats {
    fn default() -> Self {
        Self { requests: Default::default(), callback: Histogram::new(64) }
    }
}

impl UpstreamStats {
    /// Counts a request that ended.
    pub fn ended(&self, kind: Kind, outcome: Outcome) {
        debug_assert!(kind.outcomes().contains(&outcome), "{outcome:?} has a series");
        self.requests[kind as usize][outcome as usize].add();
    }

    /// How many requests of `kind` ended so.
    #[must_use]
    pub fn requests(&self, kind: Kind, outcome: Outcome) -> u64 {
        self.requests[kind as usize][outcome as usize].get()
    }
}

/// Whether a server does its part, so that the log tells of changes and not of every request.
#[derive(Debug, Default)]
pub(super) struct Health {
    failing: AtomicBool,
}

impl Health {
    /// Notes how a request ended. True if that is news.
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
        assert!(Kind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        assert!(Outcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
    }

    #[test]
    fn only_changes_are_news() {
        let health = Health::default();
        let news = [Outcome::Ok, Outcome::Timeout, Outcome::Status, Outcome::Refused, Outcome::Ok];
        assert_eq!(news.map(|outcome| health.note(outcome)), [false, true, false, true, false]);
    }
}
