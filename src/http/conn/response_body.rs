//! Bodies of responses: bytes, or a stream that the shard writes instead of hyper.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::http::conn::held::Held;

/// Bytes of a body that hyper is given at once. It copies them, and takes the next piece when they are written, so an
/// answer that is not read costs one extra piece.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// A response's body.
pub enum ResponseBody {
    /// These bytes.
    Full(Bytes),
    /// Bytes in pieces, of an answer that may be large, and what it holds of the shared budget.
    Held(Bytes, Held),
    /// Of unknown length, so that hyper frames it as chunks or up to the close. It never yields anything: the
    /// connection is handed over first.
    Stream,
}

impl ResponseBody {
    /// No bytes.
    pub const EMPTY: Self = Self::Full(Bytes::new());

    /// `bytes` in pieces, for which `held` was taken.
    #[must_use]
    pub fn held(bytes: Bytes, held: Held) -> Self {
        held.exchange().set_has_more(!bytes.is_empty());
        Self::Held(bytes, held)
    }

    /// Whether the whole body is present, and the connection stays HTTP.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !matches!(self, Self::Stream)
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Full(bytes) | Self::Held(bytes, _) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Held(bytes, held) => {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES_MAX));
                held.exchange().set_has_more(!bytes.is_empty());
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Self::Stream => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(bytes) | Self::Held(bytes, _) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) | Self::Held(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream => SizeHint::default(),
        }
    }
}
