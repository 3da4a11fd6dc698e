//! What a shard needs of a network: real sockets in production, fakes that accept 0, 1 or n bytes in tests.

use std::io;

use crate::shard::key::ConnKey;
use crate::shard::reason::CloseReason;

/// Sends bytes and watches sockets.
pub trait Net {
    /// One connection.
    type Socket;

    /// Starts to watch `socket` for its end, under `key`.
    ///
    /// # Errors
    ///
    /// If the operating system refuses.
    fn open(&mut self, socket: &mut Self::Socket, key: ConnKey) -> io::Result<()>;

    /// Writes as much of `bytes` as is accepted at once.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket accepts nothing; any other error ends the connection.
    fn send(&mut self, socket: &mut Self::Socket, bytes: &[u8]) -> io::Result<usize>;

    /// Starts or stops to watch for room to write.
    ///
    /// # Errors
    ///
    /// If the operating system refuses.
    fn want_write(&mut self, socket: &mut Self::Socket, key: ConnKey, want: bool) -> io::Result<()>;

    /// Ends the connection. With `abort`, bytes the peer has not taken are thrown away at once, so that the kernel does
    /// not keep them for a reader that is stuck.
    fn close(&mut self, socket: Self::Socket, abort: bool);
}

/// What the result of a [`Net::send`] means: how many bytes went out, none if there was no room, or why the connection
/// ends. `is_full` if the socket had not taken everything before.
pub(super) fn sent(result: io::Result<usize>, is_full: bool) -> Result<usize, CloseReason> {
    use io::ErrorKind as Kind;
    result.or_else(|err| match err.kind() {
        Kind::WouldBlock | Kind::Interrupted => Ok(0),
        Kind::BrokenPipe | Kind::ConnectionReset => Err(CloseReason::Client),
        kind => Err(failed(kind, is_full)),
    })
}

/// Why a connection ends whose socket has failed. The kernel also times out (tcp(7), `TCP_USER_TIMEOUT`) on a peer that
/// acknowledges every probe but keeps its window shut, such as one that reads a byte at a time. If the socket was full,
/// the peer is such a slow reader, which the shard would have closed itself a moment later.
pub(super) fn failed(kind: io::ErrorKind, is_full: bool) -> CloseReason {
    if kind == io::ErrorKind::TimedOut && is_full { CloseReason::Stalled } else { CloseReason::Error }
}
