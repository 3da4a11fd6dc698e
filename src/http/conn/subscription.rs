//! What is handed over with a connection that becomes a stream.

use std::sync::Arc;

use bytes::Bytes;

use crate::hub::admission::Permit;
use crate::hub::source::Source;
use crate::rights::identity::Session;
use crate::shard::join::{Join, Start};
use crate::wire::control::Heartbeat;
use crate::wire::encoding::Encoding;

/// A stream that was granted and has not joined its shard yet.
pub struct Subscription {
    /// The rooms it listens in.
    pub rooms: Vec<Arc<Source>>,
    /// Its place among the connections.
    pub permit: Permit,
    /// The credential's session, if authentication is set up.
    pub session: Option<Session>,
    /// Where it starts.
    pub start: Start,
    /// How its bytes are framed.
    pub encoding: Encoding,
    /// Which heartbeats it understands.
    pub heartbeat: Heartbeat,
}

impl Subscription {
    /// The connection for the shard.
    #[must_use]
    pub fn into_join(self, socket: socket2::Socket, head: Bytes) -> Join<socket2::Socket> {
        let Self { rooms, permit, session, start, encoding, heartbeat } = self;
        let (user, address) = permit.keep();
        Join { socket, head, encoding, heartbeat, rooms, user, address, session, start, probe: false }
    }
}
