//! A connection over TCP or a Unix socket, while it is registered with the runtime.

use std::io;
use std::task::{Context, Poll};

use tokio::net::{TcpStream, UnixStream};

/// A connection over TCP or a Unix socket.
pub enum Stream {
    /// Over IP.
    Tcp(TcpStream),
    /// From this machine, such as nginx.
    Unix(UnixStream),
}

impl Stream {
    /// The bare socket, no longer registered with the runtime.
    ///
    /// # Errors
    ///
    /// If the runtime cannot release it.
    pub fn into_socket(self) -> io::Result<socket2::Socket> {
        Ok(match self {
            Self::Tcp(stream) => stream.into_std()?.into(),
            Self::Unix(stream) => stream.into_std()?.into(),
        })
    }

    /// Ready when data has arrived, or the connection has ended.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let ready = match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        };
        // The next read reports an error.
        ready.map(drop)
    }

    /// Closes the sending side.
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

    /// Reads what has arrived into `buf`; 0 is the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing has arrived.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buf),
            Self::Unix(stream) => stream.try_read(buf),
        }
    }

    /// Whether data has arrived. Asks the kernel, not the runtime.
    #[must_use]
    pub fn has_input(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit(); 1];
        let peeked = match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => socket2::SockRef::from(stream).peek(&mut byte),
        };
        matches!(peeked, Ok(1..))
    }

    /// Writes as much of `bytes` as the socket accepts at once.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it accepts nothing.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }
}
