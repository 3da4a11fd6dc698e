//! Why streams end, have gaps and lose events: the words of metrics, closing events and gaps.

use crate::types::words::words;

words! {
    /// Why a connection ended.
    CloseReason {
        /// The peer went away.
        Client = "client",
        /// The socket failed: reset, timed out.
        Error = "error",
        /// The oldest unsent event was older than `max_unsent_age`, or the socket was full until it timed out.
        Stalled = "stalled",
        /// The server is draining.
        Drain = "drain",
        /// The user's newer connection took its place.
        Replaced = "replaced",
        /// The application asked for it.
        Disconnected = "disconnected",
        /// The connection lease ended.
        Lease = "lease",
        /// Its token has expired.
        Expired = "expired",
        /// Its token, its user or the key behind it is not accepted any more.
        Revoked = "revoked",
        /// The peer kept sending bytes on a stream that goes one way.
        Flood = "flood",
        /// It could not keep up, in a room whose policy ends such streams.
        Slow = "slow",
        /// It asked for the next events only, and has them, or its time was over.
        Poll = "poll",
        /// It was among those furthest behind when memory was short.
        Memory = "memory",
    }
}

words! {
    /// Why events are missing from a stream.
    GapReason {
        /// The history no longer has them.
        Evicted = "evicted",
        /// The events belong to another epoch.
        Restart = "restart",
        /// The events are lost that the subscriber may have seen: the order went on without them.
        Failover = "failover",
        /// The stream was too slow to take them in time, or its user's rate limit held them back too long.
        Slow = "slow",
        /// The presented id is unknown.
        Unknown = "unknown",
    }
}

words! {
    /// Why a connected subscriber lost events.
    DropReason {
        /// They were evicted before its socket took them.
        Slow = "slow",
        /// They were above its user's delivery rate.
        Rate = "rate",
    }
}

words! {
    /// Why an event was left out for a connection, without a gap, as the policy of its room says.
    SkipReason {
        /// Its key had a newer event, in a room that conflates.
        Conflated = "conflated",
        /// The connection could not keep up, and its key had a newer event, in a room that then gives it the newest.
        Latest = "latest",
        /// The connection could not keep up, and the event was not to be kept.
        Unstored = "unstored",
    }
}
