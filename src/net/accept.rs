//! Listening sockets, and the connections they accept.

use std::io;
use std::net::IpAddr;

use socket2::Socket;
use tokio::net::{TcpListener, UnixListener};

use crate::config::ListenAddr;
use crate::net::stream::Stream;

/// A listener of either kind.
pub enum Listener {
    /// Over IP.
    Tcp(Socket),
    /// From this machine.
    Unix(Socket),
}

/// A listener that is registered with the runtime.
pub enum AsyncListener {
    /// Over IP.
    Tcp(TcpListener),
    /// From this machine.
    Unix(UnixListener),
}

impl Listener {
    /// A listener from `socket`, which listens at `address`.
    #[must_use]
    pub fn new(address: &ListenAddr, socket: socket2::Socket) -> Self {
        match address {
            ListenAddr::Tcp(_) => Self::Tcp(socket),
            ListenAddr::Unix(_) => Self::Unix(socket),
        }
    }

    /// Registers the listener with the runtime.
    ///
    /// # Errors
    ///
    /// If the runtime refuses it.
    pub fn into_async(self) -> io::Result<AsyncListener> {
        Ok(match self {
            Self::Tcp(socket) => AsyncListener::Tcp(TcpListener::from_std(socket.into())?),
            Self::Unix(socket) => AsyncListener::Unix(UnixListener::from_std(socket.into())?),
        })
    }
}

impl AsyncListener {
    /// Accepts the next connection. Returns the peer's address; `None` on a Unix socket. Cancel safe.
    ///
    /// # Errors
    ///
    /// As `accept(2)`.
    pub async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Some(peer.ip().to_canonical())))
            }
            Self::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), None)),
        }
    }
}

/// The action after `accept(2)` failed.
pub enum Accept {
    /// Accept again at once.
    Retry,
    /// Wait a little.
    Pause,
}

/// Sorts `accept(2)` errors. Linux also reports the new socket's own pending network errors here, which concern that
/// connection alone. Most of the others are EMFILE.
#[must_use]
pub fn classify(err: &io::Error) -> Accept {
    use io::ErrorKind as Kind;
    match err.kind() {
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted => Accept::Retry,
        _ => Accept::Pause,
    }
}
