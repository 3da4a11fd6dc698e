//! Counters of requests, shared by all threads.

use crate::answer::problem::Code;
use crate::hub::refusal::Refusal;
use crate::types::count::{Count, Gauge};
use crate::types::words::words;

words! {
    /// Why a request was refused, the `reason` of `refused_total`.
    Refused {
        /// All places for streams are taken.
        Full = "full",
        /// The server is draining.
        Draining = "draining",
        /// The user has as many streams as allowed.
        UserConnections = "user_connections",
        /// The address has as many streams as allowed.
        AddressConnections = "address_connections",
        /// A room has as many streams as allowed.
        RoomFull = "room_full",
        /// The user was told to stay away from the room.
        StayAway = "stay_away",
        /// A stream was refused because memory is short.
        Memory = "memory",
        /// Another request was refused because memory is short.
        MemoryRequests = "memory_requests",
        /// Bodies and answers hold as many bytes as allowed.
        Buffers = "buffers",
        /// As many requests wait as allowed.
        Waiting = "waiting",
        /// The publisher is above its rate.
        RateLimited = "rate_limited",
        /// A shard's mailbox is full.
        Busy = "busy",
        /// The table of revocations is full.
        Revocations = "revocations",
        /// The table of disconnected users is full.
        Disconnects = "disconnects",
        /// The table of muted users is full.
        Mutes = "mutes",
        /// An id was used before.
        Repeated = "repeated",
        /// An idempotency key was used for something else, or its first publish is not decided yet.
        Idempotency = "idempotency",
        /// The order could not be written.
        Order = "order",
        /// The room's policy does not allow the event.
        RoomPolicy = "room_policy",
        /// The application refuses the event.
        Application = "application",
        /// The application did not say whether the event may be published.
        CallbackUnavailable = "callback_unavailable",
        /// The user is muted.
        Muted = "muted",
        /// The request is wrong.
        BadRequest = "bad_request",
        /// The origin of the page is not allowed.
        Origin = "origin",
        /// The credential cannot be verified now.
        AuthUnavailable = "auth_unavailable",
        /// A credential is missing or wrong.
        Unauthorized = "unauthorized",
        /// The credential does not allow the request.
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

/// Counters of requests.
#[derive(Debug, Default)]
pub struct HttpStats {
    refused: [Count; Refused::ALL.len()],
    /// Streams that were refused for lack of a place, or told to stay away. Also counted by reason.
    pub streams_refused: Count,
    /// Connections accepted.
    pub accepted: Count,
    /// Connections that speak HTTP now.
    pub requests: Gauge,
    /// Connections in `requests` that may wait long.
    pub waiting: Gauge,
    /// Connections in `waiting` that wait for the application.
    pub questions: Gauge,
    /// Connections closed to make room for others.
    pub shed: Count,
    /// Times accepting paused because descriptors were short.
    pub accept_paused: Count,
}

impl HttpStats {
    /// Counts a stream that has no place.
    pub fn refused(&self, refusal: Refusal) {
        self.streams_refused.add();
        self.count(refusal.into());
    }

    /// Counts a subscriber that was told to stay away.
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

/// The reason to count for a request that was answered with `code`. Streams that are told to come back have no code,
/// whatever their status ([`HttpStats::refused`]).
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
        Code::PublishRefused => Refused::Application,
        Code::CallbackUnavailable => Refused::CallbackUnavailable,
        Code::MemoryExhausted => Refused::MemoryRequests,
        Code::DiskFull | Code::OrderUnavailable | Code::PublishUnknown => Refused::Order,
        Code::BuffersFull => Refused::Buffers,
        Code::WaitingFull => Refused::Waiting,
        Code::RevocationsFull => Refused::Revocations,
        Code::StayAwayFull => Refused::Disconnects,
        Code::MutesFull => Refused::Mutes,
        Code::EventIdRepeated => Refused::Repeated,
        Code::IdempotencyMismatch | Code::IdempotencyBusy => Refused::Idempotency,
        Code::RoomUnknown | Code::PublishKeysOnly | Code::EventNameForbidden | Code::Repeated => {
            Refused::RoomPolicy
        }
        Code::Muted => Refused::Muted,
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
            Refusal::RoomFull => Self::RoomFull,
            Refusal::Memory => Self::Memory,
            Refusal::Unidentified => Self::AuthUnavailable,
            Refusal::Waiting => Self::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes that only streams and the admin listener use.
    const ELSEWHERE: [Code; 4] = [
        Code::UserConnectionsExceeded,
        Code::AddressConnectionsExceeded,
        Code::RoomFull,
        Code::DashboardFull,
    ];

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
