//! Counters of requests, shared by all threads.

use crate::answer::problem::Code;
use crate::hub::Refusal;
use crate::types::count::{Count, Level};

/// Why a request was refused, as `refused_total` counts it.
pub const REFUSED: [&str; 24] = [
    "full",
    "draining",
    "user_connections",
    "address_connections",
    "stay_away",
    "memory",
    "memory_requests",
    "buffers",
    "waiting",
    "rate_limited",
    "busy",
    "revocations",
    "disconnects",
    "repeated",
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
    /// Streams that were refused for want of a place, or told to stay away; by reason they are among the others.
    pub streams_refused: Count,
    /// Connections accepted.
    pub accepted: Count,
    /// Connections that speak HTTP now.
    pub requests: Level,
    /// Those of them that may wait long.
    pub waiting: Level,
    /// Those of these that wait for the application.
    pub questions: Level,
    /// Connections closed because others needed their place.
    pub shed: Count,
    /// Times accepting paused because descriptors were short.
    pub accept_paused: Count,
}

impl HttpStats {
    /// Counts a stream that there is no place for.
    pub fn refused(&self, refusal: Refusal) {
        self.streams_refused.add();
        self.refused_as(refusal.as_str());
    }

    /// Counts a listener that was told to stay away.
    pub fn sent_away(&self) {
        self.streams_refused.add();
        self.refused_as("stay_away");
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

/// As which of [`REFUSED`] a request is counted that was answered with `code`. Streams that are asked to come back are not
/// answered with one, whatever their status ([`HttpStats::refused`]).
#[must_use]
pub fn reason(code: Code) -> &'static str {
    match code {
        Code::AddressForbidden => "address",
        Code::HeaderRequired => "header",
        Code::UserAgentForbidden => "user_agent",
        Code::HostForbidden => "host",
        Code::OriginForbidden => "origin",
        Code::Unauthorized => "unauthorized",
        Code::Forbidden => "forbidden",
        Code::RateLimited => "rate_limited",
        Code::AuthUnavailable => "auth_unavailable",
        Code::MemoryExhausted => "memory_requests",
        Code::BuffersFull => "buffers",
        Code::WaitingFull => "waiting",
        Code::RevocationsFull => "revocations",
        Code::StayAwayFull => "disconnects",
        Code::EventIdRepeated => "repeated",
        Code::Draining => "draining",
        Code::Full => "busy",
        _ => "bad_request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What only streams and the admin listener are answered.
    const ELSEWHERE: [Code; 3] =
        [Code::UserConnectionsExceeded, Code::AddressConnectionsExceeded, Code::DashboardFull];

    #[test]
    fn no_refusal_is_left_out_and_only_bad_requests_are_called_so() {
        for refusal in Refusal::ALL {
            assert!(REFUSED.contains(&refusal.as_str()), "{refusal:?}");
        }
        for code in Code::ALL {
            assert!(REFUSED.contains(&reason(*code)), "{code}");
            let is_own_fault = code.status().is_server_error() && !ELSEWHERE.contains(code);
            assert!(!is_own_fault || reason(*code) != "bad_request", "{code}");
        }
    }
}
