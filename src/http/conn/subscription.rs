//! What is handed over with a connection that becomes a stream.

use std::time::Duration;

use bytes::Bytes;

use crate::hub::admission::Permit;
use crate::rights::identity::Session;
use crate::shard::join::{Join, Presence, Start};
use crate::wire::control::Heartbeat;
use crate::wire::encoding::Encoding;

/// A stream that was granted and has not joined its shard yet.
pub struct Subscription {
    /// Its place among the connections, and its rooms.
    pub permit: Permit,
    /// The credential's session, if authentication is set up.
    pub session: Option<Session>,
    /// Where it starts.
    pub start: Start,
    /// How long it waits for the first event; `None` if it goes on after that.
    pub poll: Option<Duration>,
    /// What it is told about who is in its rooms.
    pub presence: Presence,
    /// Whether it may be told names without a session that says so.
    pub sees_names: bool,
    /// How its bytes are framed.
    pub encoding: Encoding,
    /// Which heartbeats it understands.
    pub heartbeat: Heartbeat,
}

impl Subscription {
    /// The connection for the shard.
    #[must_use]
    pub fn into_join(self, socket: socket2::Socket, head: Bytes) -> Join<socket2::Socket> {
        let Self { mut permit, session, start, poll, presence, sees_names, encoding, heartbeat } = self;
        let rooms = permit.take_rooms();
        let (user, address) = permit.keep();
        Join {
            socket,
            head,
            encoding,
            heartbeat,
            rooms,
            user,
            address,
            session,
            start,
            poll,
            presence,
            sees_names,
            probe: false,
        }
    }
}
