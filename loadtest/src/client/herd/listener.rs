//! One subscriber.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::reading::{Block, blocks};
use super::{Kept, Seen};
use crate::client::order::heard::{Heard, Id};
use crate::client::wire::WireError;
use crate::client::wire::body::Body;
use crate::number::Random;

/// What all subscribers have in common.
pub(super) struct Shared {
    nodes: Vec<SocketAddr>,
    room: String,
    registry: Registry,
    seen: Arc<Seen>,
    heard: Heard,
    refused: u64,
    damaged: u64,
    pub(super) random: Random,
    part: Vec<u8>,
}

impl Shared {
    pub(super) fn new(nodes: Vec<SocketAddr>, room: String, registry: Registry, seen: Arc<Seen>) -> Self {
        let (heard, random, part) = (Heard::default(), Random(1), vec![0; READ_BYTES]);
        Self { nodes, room, registry, seen, heard, refused: 0, damaged: 0, random, part }
    }

    pub(super) fn kept(self, behind: u64) -> Kept {
        let opened = self.seen.opened.load(Ordering::Relaxed);
        let Self { heard, refused, damaged, .. } = self;
        Kept { heard, opened, refused, damaged, behind }
    }

    fn node(&mut self) -> SocketAddr {
        let at = self.random.below(self.nodes.len() as u64);
        self.nodes[usize::try_from(at).unwrap_or(0)]
    }
}

/// One subscriber, with a stream or about to open one.
pub(super) struct Listener {
    index: usize,
    stream: Option<Stream>,
    due: Instant,
    /// The id that came last, as text.
    last: Vec<u8>,
    cursor: Option<Id>,
}

struct Stream {
    socket: TcpStream,
    /// What of the request is not sent yet.
    unsent: Vec<u8>,
    body: Body,
    /// A block that is not whole yet.
    carry: Vec<u8>,
}

impl Listener {
    pub(super) fn new(index: usize) -> Self {
        Self { index, stream: None, due: Instant::now(), last: Vec::new(), cursor: None }
    }

    pub(super) fn last_id(&self) -> &[u8] {
        &self.last
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.stream.is_none() && self.due <= now
    }

    /// Opens a stream on any node, with the last id.
    pub(super) fn open(&mut self, shared: &mut Shared) {
        let addr = shared.node();
        let opened = TcpStream::connect(addr).and_then(|mut socket| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            shared.registry.register(&mut socket, Token(self.index), interest)?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                let unsent = self.request(&shared.room, addr);
                self.stream = Some(Stream { socket, unsent, body: Body::default(), carry: Vec::new() });
            }
            Err(_) => self.wait(shared),
        }
    }

    fn request(&self, room: &str, addr: SocketAddr) -> Vec<u8> {
        // Some are told of their place when nothing comes, as browsers are.
        let query = if self.index.is_multiple_of(4) { "?heartbeat=id" } else { "" };
        let mut request = format!(
            "GET /api/v1/sse/stream/{room}/u{}{query} HTTP/1.1\r\nHost: {addr}\r\nAccept: text/event-stream\r\n",
            self.index
        )
        .into_bytes();
        if !self.last.is_empty() {
            request.extend_from_slice(b"Last-Event-ID: ");
            request.extend_from_slice(&self.last);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request
    }

    /// Its stream is gone. What of a block has come already will come again.
    fn wait(&mut self, shared: &mut Shared) {
        self.stream = None;
        self.due = Instant::now() + AWAY_MIN + Duration::from_millis(shared.random.below(AWAY_MS));
    }

    /// Its stream is cut.
    pub(super) fn cut(&mut self, shared: &mut Shared) {
        if self.stream.is_some() {
            self.wait(shared);
        }
    }

    /// Its socket can be written, or read, or has an error.
    pub(super) fn ready(&mut self, shared: &mut Shared) {
        let Some(mut stream) = self.stream.take() else { return };
        match self.read(&mut stream, shared) {
            Ok(()) => self.stream = Some(stream),
            Err(Ended::Closed) => self.wait(shared),
            Err(Ended::Wrong(err)) => {
                let count = if matches!(err, WireError::Status(_)) {
                    &mut shared.refused
                } else {
                    &mut shared.damaged
                };
                *count += 1;
                self.wait(shared);
            }
        }
        shared.seen.store(&shared.heard);
    }

    fn read(&mut self, stream: &mut Stream, shared: &mut Shared) -> Result<(), Ended> {
        while !stream.unsent.is_empty() {
            match stream.socket.write(&stream.unsent) {
                Ok(sent) => drop(stream.unsent.drain(..sent)),
                Err(err) if err.kind() == ErrorKind::NotConnected => return Ok(()),
                Err(err) if err.kind() == ErrorKind::WouldBlock => break,
                Err(err) => return Err(err.into()),
            }
        }
        let mut part = std::mem::take(&mut shared.part);
        let result = loop {
            match stream.socket.read(&mut part) {
                Ok(0) => break Err(Ended::Closed),
                Ok(len) => {
                    if let Err(ended) = self.take(&part[..len], stream, shared) {
                        break Err(ended);
                    }
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => break Err(err.into()),
            }
        };
        shared.part = part;
        result
    }

    fn take(&mut self, bytes: &[u8], stream: &mut Stream, shared: &mut Shared) -> Result<(), Ended> {
        let Stream { body, carry, .. } = stream;
        body.feed(bytes, &mut |_, slice| {
            blocks(carry, slice, |block| self.block(&block, shared));
            Ok::<(), WireError>(())
        })?;
        if body.is_done() { Err(Ended::Closed) } else { Ok(()) }
    }

    /// One whole block came.
    fn block(&mut self, block: &Block<'_>, shared: &mut Shared) {
        if block.event == b"connected" {
            shared.seen.opened.fetch_add(1, Ordering::Relaxed);
        }
        let Some(id) = block.id.and_then(|id| shared.heard.id(id, self.cursor)) else { return };
        let cursor = &mut self.cursor;
        match (block.event, block.number()) {
            (b"gap", _) => shared.heard.gap(cursor, id, block.reason()),
            (b"", Some(number)) => shared.heard.event(cursor, id, number),
            _ => shared.heard.position(cursor, id),
        }
        self.last.clear();
        self.last.extend_from_slice(block.id.unwrap_or_default());
    }
}

/// Why a stream is over.
enum Ended {
    /// It ended, or broke: that is what this is about.
    Closed,
    /// It is no stream.
    Wrong(WireError),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

impl From<WireError> for Ended {
    fn from(err: WireError) -> Self {
        Self::Wrong(err)
    }
}

const READ_BYTES: usize = 256 * 1024;
/// How soon it comes back.
const AWAY_MIN: Duration = Duration::from_millis(5);
const AWAY_MS: u64 = 60;
