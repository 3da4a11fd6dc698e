//! Streams as hyper's bodies: the shard's "socket" is a queue, and hyper writes what is in it.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::admin::live::Dashboard;
use crate::shard::conn::ConnKey;
use crate::shard::net::Net;

/// Writes of the shard that may wait for one reader: the whole history, which takes a few, and then one for each
/// sample. A reader further behind counts as slow for the shard.
const WRITES_WAITING_MAX: usize = 32;

/// The shard's end of a stream.
pub(super) struct BodySocket {
    /// Set when the shard registers the socket.
    key: Option<ConnKey>,
    writes: Sender<Bytes>,
    /// Closes the connection that carries the stream.
    cut: Arc<Notify>,
}

impl BodySocket {
    /// Returns a socket and the receiver of its bytes.
    pub(super) fn pair(cut: Arc<Notify>) -> (Self, Receiver<Bytes>) {
        let (writes, chunks) = channel(WRITES_WAITING_MAX);
        (Self { key: None, writes, cut }, chunks)
    }
}

/// The shard's network, with queues as sockets.
#[derive(Default)]
pub(super) struct Bodies {
    /// The streams whose queue was full.
    waiting: Vec<ConnKey>,
}

impl Bodies {
    /// Takes the streams whose queue was full at the last write.
    pub(super) fn waiting(&self) -> Vec<ConnKey> {
        self.waiting.clone()
    }
}

impl Net for Bodies {
    type Socket = BodySocket;

    fn open(&mut self, socket: &mut BodySocket, key: ConnKey) -> io::Result<()> {
        socket.key = Some(key);
        Ok(())
    }

    fn send(&mut self, socket: &mut BodySocket, bytes: &[u8]) -> io::Result<usize> {
        match socket.writes.try_send(Bytes::copy_from_slice(bytes)) {
            Ok(()) => Ok(bytes.len()),
            Err(TrySendError::Full(_)) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TrySendError::Closed(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn want_write(&mut self, _socket: &mut BodySocket, key: ConnKey, want: bool) -> io::Result<()> {
        self.waiting.retain(|waiting| *waiting != key);
        self.waiting.extend(want.then_some(key));
        Ok(())
    }

    fn close(&mut self, socket: BodySocket, abort: bool) {
        self.waiting.retain(|waiting| Some(*waiting) != socket.key);
        if abort {
            socket.cut.notify_one();
        }
    }
}

/// The body of `/dashboard/stream`. Ends when the shard ends the stream; leaves the shard when hyper drops it.
pub struct StreamBody {
    chunks: Receiver<Bytes>,
    _leave: Leave,
}

impl StreamBody {
    pub(super) fn new(chunks: Receiver<Bytes>, leave: Leave) -> Self {
        Self { chunks, _leave: leave }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// A stream's attachment to the shard. Leaves when dropped.
pub(super) struct Leave {
    pub(super) dashboard: Arc<Dashboard>,
    pub(super) key: ConnKey,
    pub(super) _place: OwnedSemaphorePermit,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.dashboard.leave(self.key);
    }
}
