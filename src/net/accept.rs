//! Sockets that listen, and the connections they accept.

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

/// The same, once the runtime knows it.
pub enum AsyncListener {
    /// Over IP.
    Tcp(TcpListener),
    /// From this machine.
    Unix(UnixListener),
}

impl Listener {
    /// `socket`, which listens at `address`.
    #[must_use]
    pub fn new(address: &ListenAddr, socket: socket2::Socket) -> Self {
        match address {
            ListenAddr::Tcp(_) => Self::Tcp(socket),
            ListenAddr::Unix(_) => Self::Unix(socket),
        }
    }

    /// Makes it known to the runtime.
    ///
    /// # Errors
    ///
    /// If the runtime does not take it.
    pub fn into_async(self) -> io::Result<AsyncListener> {
        Ok(match self {
            Self::Tcp(socket) => AsyncListener::Tcp(TcpListener::from_std(socket.into())?),
            Self::Unix(socket) => AsyncListener::Unix(UnixListener::from_std(socket.into())?),
        })
    }
}

impl AsyncListener {
    /// The next connection, and where it comes from; `None` on a Unix socket. Loses nothing if dropped.
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

/// What to do after `accept(2)` failed.
pub enum Accept {
    /// Go on.
    Retry,
    /// Wait a little.
    Pause,
}

/// Sorts `accept(2)` errors. Linux also reports the new socket's own pending network errors here, which concern
/// nobody else. What remains is mostly EMFILE.
#[must_use]
pub fn classify(err: &io::Error) -> Accept {
    use io::ErrorKind as Kind;
    match err.kind() {
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted => Accept::Retry,
        _ => Accept::Pause,
    }
}
