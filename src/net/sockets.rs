//! Bare sockets: the connections that remain after hyper has done its part.
//!
//! Each shard has its own epoll set for them, and that set is one descriptor in the runtime's. A connection needs no
//! task, timer or registration object: only four bytes for the descriptor, and the kernel returns its key.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;

use crate::shard::conn::ConnKey;
use crate::shard::net::Net;

/// Access to a shard's own epoll set.
pub struct Sockets {
    registry: Registry,
}

impl Sockets {
    /// Watches sockets through `registry`.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

/// The key as the kernel stores it.
fn token(key: ConnKey) -> Token {
    Token(usize::try_from(key.to_u64()).expect("Tidegate runs on 64-bit machines"))
}

impl Net for Sockets {
    type Socket = Socket;

    fn open(&mut self, socket: &mut Socket, key: ConnKey) -> io::Result<()> {
        // Only to see the end of the connection: a writable socket would wake the shard once for nothing.
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token(key), Interest::READABLE)
    }

    fn send(&mut self, socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
        // Rust's runtime ignores SIGPIPE, so no flag is needed.
        socket.send(bytes)
    }

    fn want_write(&mut self, socket: &mut Socket, key: ConnKey, want: bool) -> io::Result<()> {
        let interest = if want { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.registry.reregister(&mut SourceFd(&socket.as_raw_fd()), token(key), interest)
    }

    fn close(&mut self, socket: Socket, abort: bool) {
        if abort {
            // socket(7), SO_LINGER of zero: resets the connection, and frees what the peer did not read. A failure is
            // harmless.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}
