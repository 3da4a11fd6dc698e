//! Counters of requests, shared by all threads.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::hub::Refusal;

/// A counter with several writers.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a request was refused, as `refused_total` counts it.
pub const REFUSED: [&str; 18] = [
    "full",
    "draining",
    "user_connections",
    "address_connections",
    "stay_away",
    "memory",
    "memory_requests",
    "rate_limited",
    "bad_request",
    "origin",
    "auth_unavailable",
    "unauthorized",
    "forbidden",
    "address",
    "header",
    "user_agent",
    "host",
    "proxy_header",
];

/// What requests count.
#[derive(Debug, Default)]
pub struct HttpStats {
    refused: [Count; REFUSED.len()],
    /// Connections accepted.
    pub accepted: Count,
    /// Connections closed because others needed their place.
    pub shed: Count,
    /// Times accepting paused because descriptors were short.
    pub accept_paused: Count,
}

impl HttpStats {
    /// Counts a refused subscription.
    pub fn refused(&self, refusal: Refusal) {
        self.refused_as(refusal.as_str());
    }

    /// Counts a refusal under one of [`REFUSED`].
    pub fn refused_as(&self, reason: &'static str) {
        let index = REFUSED.iter().position(|known| *known == reason);
        debug_assert!(index.is_some(), "{reason} is in the list");
        if let Some(index) = index {
            self.refused[index].add();
        }
    }

    /// Refusals by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REFUSED.into_iter().zip(&self.refused).map(|(reason, count)| (reason, count.get()))
    }
}

/// Whether this one of [`REFUSED`] refuses a stream.
#[must_use]
pub fn is_of_streams(reason: &str) -> bool {
    reason == "stay_away" || Refusal::ALL.iter().any(|refusal| refusal.as_str() == reason)
}
