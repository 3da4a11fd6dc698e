//! One listener.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use mio::net::TcpStream;
use socket2::{Domain, SockRef, Socket, Type};

use crate::track::Track;
use crate::wire::stream::{OnGzip, Stream};

/// How a listener stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Waits for `connected`.
    Opening,
    /// Gets events.
    Open,
    /// Got `connected`, then the stream ended.
    Ended,
    /// Ended before `connected`.
    Failed,
}

/// What is kept of one connection.
#[derive(Debug)]
pub struct Listener {
    /// Its number, from zero.
    pub index: usize,
    /// How it stands.
    pub standing: Standing,
    /// Its sequence of events.
    pub track: Track,
    /// Its parser.
    pub stream: Stream,
    /// Stops reading once connected.
    pub is_stuck: bool,
    pub(super) socket: Option<TcpStream>,
    /// Whether the request still has to be sent.
    pub(super) has_request: bool,
    pub(super) opened_ns: u64,
}

impl Listener {
    pub(super) fn new(index: usize, socket: TcpStream, on_gzip: OnGzip, opened_ns: u64) -> Self {
        Self {
            index,
            standing: Standing::Opening,
            track: Track::default(),
            stream: Stream::new(on_gzip),
            is_stuck: false,
            socket: Some(socket),
            has_request: true,
            opened_ns,
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

/// Begins to connect listener `index` to `addr`, with a small receive buffer if it is going to be stuck.
///
/// On loopback the source address changes every [`PORTS_PER_ADDRESS`] connections, so ports are plenty and are found at
/// the first try.
pub(super) fn connect(addr: SocketAddr, index: usize, is_stuck: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), None)?;
    if is_stuck {
        socket.set_recv_buffer_size(STUCK_RECEIVE_BYTES)?;
    }
    if addr.ip().is_loopback() && addr.is_ipv4() {
        // At most 20,000 connections, so the last part stays far below 255.
        let last = 2 + u8::try_from(index / PORTS_PER_ADDRESS).unwrap_or(200);
        let source = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0);
        socket.bind(&SocketAddr::V4(source).into())?;
    }
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(err) if err.raw_os_error() == Some(EINPROGRESS) => {}
        Err(err) => return Err(err),
    }
    Ok(TcpStream::from_std(socket.into()))
}

const PORTS_PER_ADDRESS: usize = 4_000;
const STUCK_RECEIVE_BYTES: usize = 4_096;
/// connect(2): the connection of a non-blocking socket is under way.
const EINPROGRESS: i32 = 115;
