//! Sockets that take everything, nothing, one byte or some, get stuck, and break.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use tidegate::shard::conn::ConnKey;
use tidegate::shard::net::Net;
use tidegate::shard::reason::CloseReason;

/// How a socket takes the bytes it is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Temper {
    Eager,
    Moody,
    Stuck,
}

/// Bytes that a socket took at one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    /// Where they begin.
    pub at: usize,
    /// Whether the subscriber had fallen behind, and has taken now what was begun.
    pub is_catching_up: bool,
}

/// One socket, from the kernel's side.
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Wire {
    /// The bytes it took.
    pub bytes: Vec<u8>,
    /// By what calls.
    pub writes: Vec<Write>,
    /// Their number when it last took all it was offered.
    pub whole: usize,
    /// The bytes it was offered last and did not take.
    pub refused: Vec<u8>,
    pub temper: Temper,
    pub key: ConnKey,
    pub wants_write: bool,
    /// Whether it ever took less than it was offered.
    pub was_short: bool,
    /// The next call fails.
    pub breaks: bool,
    /// How a failed call is to be counted.
    pub broke: Option<CloseReason>,
    /// Number of bytes it had taken when it was first sent bytes after a [watched](FakeNet::watch_handling) command.
    pub handled_at: Option<usize>,
    pub is_closed: bool,
}

/// A shard's network.
pub(crate) struct FakeNet {
    rng: Rng,
    /// Every socket ever opened.
    pub wires: Vec<Wire>,
    /// Sockets closed since the last check.
    pub closed: Vec<usize>,
    /// The temper of the next socket.
    pub next_temper: Temper,
    /// Whether registering the next socket fails.
    pub refuses: bool,
    /// The socket whose room to write is being announced.
    pub poked: Option<usize>,
    /// Whether the watched command has been handled.
    is_handled: Arc<AtomicBool>,
}

impl FakeNet {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            wires: Vec::new(),
            closed: Vec::new(),
            next_temper: Temper::Eager,
            refuses: false,
            poked: None,
            is_handled: Arc::default(),
        }
    }

    /// Returns a flag that a command sets the moment it is handled. From then on each socket records how much it was
    /// sent before.
    pub(crate) fn watch_handling(&mut self) -> Arc<AtomicBool> {
        self.is_handled = Arc::default();
        self.wires.iter_mut().for_each(|wire| wire.handled_at = None);
        self.is_handled.clone()
    }

    /// Returns how many bytes of `len` are taken.
    fn accepted(&mut self, temper: Temper, len: usize) -> io::Result<usize> {
        match temper {
            Temper::Eager => Ok(len),
            Temper::Stuck => Err(io::ErrorKind::WouldBlock.into()),
            Temper::Moody => match self.rng.u32(0..20) {
                0..3 => Err(io::ErrorKind::WouldBlock.into()),
                3 => Err(io::ErrorKind::Interrupted.into()),
                4..7 => Ok(1),
                7..12 => Ok(self.rng.usize(0..=len)),
                // All but the very end: between an event and its chunk's end, if there is one.
                12..14 => Ok(len.saturating_sub(self.rng.usize(1..4))),
                _ => Ok(len),
            },
        }
    }
}

impl Net for FakeNet {
    type Socket = usize;

    fn open(&mut self, socket: &mut usize, key: ConnKey) -> io::Result<()> {
        if self.refuses {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        *socket = self.wires.len();
        self.wires.push(Wire {
            bytes: Vec::new(),
            writes: Vec::new(),
            whole: 0,
            refused: Vec::new(),
            temper: self.next_temper,
            key,
            wants_write: false,
            was_short: false,
            breaks: false,
            broke: None,
            handled_at: None,
            is_closed: false,
        });
        Ok(())
    }

    fn send(&mut self, socket: &mut usize, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "an empty send says nothing");
        let wire = &mut self.wires[*socket];
        assert!(!wire.is_closed && wire.broke.is_none(), "nothing is written after the end");
        assert!(
            !wire.wants_write || self.poked == Some(*socket),
            "a full socket is left alone until it has room"
        );
        if self.is_handled.load(Ordering::Relaxed) {
            wire.handled_at.get_or_insert(wire.bytes.len());
        }
        bytes.clone_into(&mut wire.refused);
        if wire.breaks {
            let (kind, reason) = match self.rng.u32(0..3) {
                0 => (io::ErrorKind::BrokenPipe, CloseReason::Client),
                1 => (io::ErrorKind::ConnectionReset, CloseReason::Client),
                _ => (io::ErrorKind::HostUnreachable, CloseReason::Error),
            };
            wire.broke = Some(reason);
            return Err(kind.into());
        }
        let temper = wire.temper;
        let result = self.accepted(temper, bytes.len());
        let wire = &mut self.wires[*socket];
        let sent = *result.as_ref().unwrap_or(&0);
        let is_catching_up = self.poked == Some(*socket) && !wire.wants_write;
        wire.writes.push(Write { at: wire.bytes.len(), is_catching_up });
        wire.refused.drain(..sent);
        wire.bytes.extend_from_slice(&bytes[..sent]);
        if sent == bytes.len() {
            wire.whole = wire.bytes.len();
        } else {
            wire.was_short = true;
        }
        result
    }

    fn want_write(&mut self, socket: &mut usize, key: ConnKey, want: bool) -> io::Result<()> {
        let wire = &mut self.wires[*socket];
        assert_eq!(wire.key, key);
        if wire.breaks && self.rng.bool() {
            wire.broke = Some(CloseReason::Error);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        assert_ne!(wire.wants_write, want, "asked once");
        wire.wants_write = want;
        Ok(())
    }

    fn close(&mut self, socket: usize, _abort: bool) {
        let wire = &mut self.wires[socket];
        assert!(!wire.is_closed, "closed once");
        wire.is_closed = true;
        wire.wants_write = false;
        self.closed.push(socket);
    }
}
