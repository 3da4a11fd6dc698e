//! One subscriber.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use mio::net::TcpStream;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket, Type};

use super::newest::Newest;
use crate::client::track::Track;
use crate::client::wire::stream::{OnGzip, Stream};

/// The state of a subscriber.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Standing {
    /// Waits for `connected`.
    Opening,
    /// Gets events.
    Open,
    /// Has left and will come back.
    Away,
    /// Got `connected`, then the stream ended.
    Ended,
    /// Ended before `connected`, and does not try again.
    Failed,
}

/// What one subscriber ended with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Account {
    /// Its number, from zero.
    pub index: usize,
    /// Its last state.
    pub standing: Standing,
    /// Its sequence of events.
    pub track: Track,
    /// Stopped reading once connected.
    pub is_stuck: bool,
    /// Its stream was compressed and only counted.
    pub is_counted: bool,
    /// Its stream was compressed and inflated.
    pub is_inflated: bool,
    /// Body bytes of its last stream, without framing, as sent.
    pub body_bytes: u64,
}

/// What is kept of one connection.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is one thing of its own about a connection")]
pub(super) struct Subscriber {
    /// Its number, from zero.
    pub(super) index: usize,
    /// Its state.
    pub(super) standing: Standing,
    /// Its sequence of events, over all its connections.
    pub(super) track: Track,
    /// The newest of each key, where events have keys.
    pub(super) newest: Newest,
    /// Members of its room, as its current stream was told last; none before its first message.
    pub(super) members: Option<u64>,
    /// Its parser.
    pub(super) stream: Stream,
    /// Stops reading once connected.
    pub(super) is_stuck: bool,
    /// Reads a little at a time once connected.
    pub(super) is_slow: bool,
    pub(super) socket: Option<TcpStream>,
    /// Whether the request still has to be sent.
    pub(super) has_request: bool,
    /// When the current connection began.
    pub(super) opened_ns: u64,
    /// Whether it was connected before.
    pub(super) is_returning: bool,
    /// Attempts to come back since it was last connected.
    pub(super) attempts: u32,
}

impl Subscriber {
    pub(super) fn new(index: usize, socket: TcpStream, on_gzip: OnGzip, opened_ns: u64) -> Self {
        Self {
            index,
            standing: Standing::Opening,
            track: Track::default(),
            newest: Newest::default(),
            members: None,
            stream: Stream::new(on_gzip),
            is_stuck: false,
            is_slow: false,
            socket: Some(socket),
            has_request: true,
            opened_ns,
            is_returning: false,
            attempts: 0,
        }
    }

    /// A further connection of the same subscriber: it goes on where the last one ended.
    pub(super) fn reopen(&mut self, socket: TcpStream, opened_ns: u64) {
        let mut stream = Stream::new(OnGzip::Inflate);
        stream.keep_id(self.stream.last_id().to_vec());
        self.stream = stream;
        self.members = None;
        self.socket = Some(socket);
        self.has_request = true;
        self.opened_ns = opened_ns;
        self.standing = Standing::Opening;
    }

    /// What it ended with.
    pub(super) fn into_account(self) -> Account {
        Account {
            index: self.index,
            standing: self.standing,
            track: self.track,
            is_stuck: self.is_stuck,
            is_counted: self.stream.is_counted(),
            is_inflated: self.stream.is_inflated(),
            body_bytes: self.stream.body_bytes(),
        }
    }

    /// Closes with a reset, so that thousands of rounds leave no port in `TIME_WAIT`.
    pub(super) fn close(&mut self) {
        if let Some(socket) = self.socket.take() {
            // Failing leaves a port busy for a minute; there are enough.
            let _ = SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

/// Begins to connect subscriber `index` to `addr`, with a small receive buffer if it is going to be stuck or slow.
///
/// On loopback the source address changes every [`PORTS_PER_ADDRESS`] connections, so ports are plenty and are found at
/// the first try.
pub(super) fn connect(addr: SocketAddr, index: usize, is_late: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), None)?;
    if is_late {
        socket.set_recv_buffer_size(LATE_RECEIVE_BYTES)?;
    }
    if addr.ip().is_loopback() && addr.is_ipv4() {
        let source = SocketAddrV4::new(source_address(index), 0);
        socket.bind(&SocketAddr::V4(source).into())?;
    }
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(err) if err.raw_os_error() == Some(EINPROGRESS) => {}
        Err(err) => return Err(err),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// 127.0.0.2 and up. At most a million connections, so the address stays in 127.0.0.0/8 by far.
fn source_address(index: usize) -> Ipv4Addr {
    let nth = u32::try_from(index / PORTS_PER_ADDRESS).unwrap_or(0);
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + nth)
}

const PORTS_PER_ADDRESS: usize = 4_000;
const LATE_RECEIVE_BYTES: usize = 4_096;
/// connect(2): the connection of a non-blocking socket is under way.
const EINPROGRESS: i32 = 115;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_connections_have_loopback_addresses_and_none_is_the_servers() {
        assert_eq!(source_address(0), Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(source_address(PORTS_PER_ADDRESS * 254), Ipv4Addr::new(127, 0, 1, 0));
        assert!((0..1_000_000).step_by(PORTS_PER_ADDRESS).all(|index| source_address(index).is_loopback()));
    }
}
