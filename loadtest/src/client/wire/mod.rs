//! Reads event streams incrementally: HTTP/1.1 framing, optional gzip, then Server-Sent Events.
//!
//! Written apart from the server's encoder on purpose: a shared mistake would test nothing. Nothing here knows sockets.

pub mod body;
pub mod events;
pub mod stream;

use std::fmt;

/// Why a stream can't be read on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WireError {
    /// The response head isn't HTTP/1.x, or is longer than 64 KiB.
    Head,
    /// The status was not 200.
    Status(u16),
    /// A chunk's size or line end is wrong (RFC 9112 §7.1).
    Chunk,
    /// Bytes after the last chunk.
    Trailing,
    /// A line of more than 1 MiB.
    Line,
    /// Not valid gzip (RFC 1952).
    Gzip,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("response head can't be parsed"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Chunk => f.write_str("chunk framing is wrong"),
            Self::Trailing => f.write_str("bytes after the last chunk"),
            Self::Line => f.write_str("line too long"),
            Self::Gzip => f.write_str("gzip data is wrong"),
        }
    }
}

impl std::error::Error for WireError {}
