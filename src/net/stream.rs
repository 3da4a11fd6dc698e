//! A connection of either kind, for as long as the runtime knows it.

use std::io;
use std::task::{Context, Poll};

use tokio::net::{TcpStream, UnixStream};

/// A connection of either kind.
pub enum Stream {
    /// Over IP.
    Tcp(TcpStream),
    /// From this machine, such as nginx.
    Unix(UnixStream),
}

impl Stream {
    /// The bare socket, no longer known to the runtime.
    ///
    /// # Errors
    ///
    /// If the runtime cannot let it go.
    pub fn into_socket(self) -> io::Result<socket2::Socket> {
        Ok(match self {
            Self::Tcp(stream) => stream.into_std()?.into(),
            Self::Unix(stream) => stream.into_std()?.into(),
        })
    }

    /// Ready when something has come, or the connection has ended.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let ready = match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        };
        // An error is for whoever reads.
        ready.map(drop)
    }

    /// Says that nothing more will be said.
    ///
    /// # Errors
    ///
    /// If the peer is gone.
    pub fn shutdown_write(&self) -> io::Result<()> {
        let socket = match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream),
            Self::Unix(stream) => socket2::SockRef::from(stream),
        };
        socket.shutdown(std::net::Shutdown::Write)
    }

    /// Reads what has come into `buf`; 0 is the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing has come.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buf),
            Self::Unix(stream) => stream.try_read(buf),
        }
    }

    /// Whether something has come, whatever the runtime knows of it.
    #[must_use]
    pub fn has_input(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit(); 1];
        let peeked = match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => socket2::SockRef::from(stream).peek(&mut byte),
        };
        matches!(peeked, Ok(1..))
    }

    /// Writes what the socket takes of `bytes` at once.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it takes nothing.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }
}
