//! Counters of requests, shared by all threads.

use crate::answer::problem::Code;
use crate::hub::admission::Refusal;
use crate::types::count::{Count, Level};
use crate::types::words::words;

words! {
    /// Why a request was refused, as `refused_total` counts it.
    Refused {
        /// All places for streams are taken.
        Full = "full",
        /// The server is on its way out.
        Draining = "draining",
        /// The user has as many streams as one may have.
        UserConnections = "user_connections",
        /// The address has as many streams as one may have.
        AddressConnections = "address_connections",
        /// The user was told to stay away from the room.
        StayAway = "stay_away",
        /// A stream was refused because memory is short.
        Memory = "memory",
        /// Another request was refused because memory is short.
        MemoryRequests = "memory_requests",
        /// Bodies and answers hold as many bytes as they may.
        Buffers = "buffers",
        /// As many requests wait as may.
        Waiting = "waiting",
        /// The publisher is above its rate.
        RateLimited = "rate_limited",
        /// A shard has too much mail.
        Busy = "busy",
        /// No more revocations can be remembered.
        Revocations = "revocations",
        /// No more users can be told to stay away.
        Disconnects = "disconnects",
        /// An id was used before.
        Repeated = "repeated",
        /// The request is wrong.
        BadRequest = "bad_request",
        /// The page it comes from may not ask.
        Origin = "origin",
        /// Who asks cannot be found out now.
        AuthUnavailable = "auth_unavailable",
        /// A credential is missing or wrong.
        Unauthorized = "unauthorized",
        /// The credential does not allow it.
        Forbidden = "forbidden",
        /// The address is not allowed.
        Address = "address",
        /// A required header is missing.
        Header = "header",
        /// The program is not allowed.
        UserAgent = "user_agent",
        /// The name of the server is not allowed.
        Host = "host",
        /// The connection does not begin with a PROXY protocol header.
        ProxyHeader = "proxy_header",
    }
}

/// What requests count.
#[derive(Debug, Default)]
pub struct HttpStats {
    refused: [Count; Refused::ALL.len()],
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
        self.count(refusal.into());
    }

    /// Counts a listener that was told to stay away.
    pub fn sent_away(&self) {
        self.streams_refused.add();
        self.count(Refused::StayAway);
    }

    /// Counts a refusal.
    pub fn count(&self, refused: Refused) {
        self.refused[refused as usize].add();
    }

    /// Refusals by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refused::ALL.iter().zip(&self.refused).map(|(reason, count)| (reason.as_str(), count.get()))
    }
}

/// As what a request is counted that was answered with `code`. Streams that are asked to come back are not
/// answered with one, whatever their status ([`HttpStats::refused`]).
#[must_use]
pub fn reason(code: Code) -> Refused {
    match code {
        Code::AddressForbidden => Refused::Address,
        Code::HeaderRequired => Refused::Header,
        Code::UserAgentForbidden => Refused::UserAgent,
        Code::HostForbidden => Refused::Host,
        Code::OriginForbidden => Refused::Origin,
        Code::Unauthorized => Refused::Unauthorized,
        Code::Forbidden => Refused::Forbidden,
        Code::RateLimited => Refused::RateLimited,
        Code::AuthUnavailable => Refused::AuthUnavailable,
        Code::MemoryExhausted => Refused::MemoryRequests,
        Code::BuffersFull => Refused::Buffers,
        Code::WaitingFull => Refused::Waiting,
        Code::RevocationsFull => Refused::Revocations,
        Code::StayAwayFull => Refused::Disconnects,
        Code::EventIdRepeated => Refused::Repeated,
        Code::Draining => Refused::Draining,
        Code::Full => Refused::Busy,
        _ => Refused::BadRequest,
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::Full,
            Refusal::Draining => Self::Draining,
            Refusal::User => Self::UserConnections,
            Refusal::Address => Self::AddressConnections,
            Refusal::Memory => Self::Memory,
            Refusal::Unidentified => Self::AuthUnavailable,
            Refusal::Waiting => Self::Waiting,
        }
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
            assert_eq!(Refused::from(*refusal).as_str(), refusal.as_str(), "{refusal:?}");
        }
        for code in Code::ALL {
            let is_own_fault = code.status().is_server_error() && !ELSEWHERE.contains(code);
            assert!(!is_own_fault || reason(*code) != Refused::BadRequest, "{code}");
        }
    }
}
