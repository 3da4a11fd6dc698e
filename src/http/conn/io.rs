//! The IO that hyper uses: every byte passes the guard, the head of a stream's answer is kept for the hand-over, and
//! errors that hyper would answer without a body are answered with a problem.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt;
use hyper::{Response, StatusCode};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::answer::problem::{Code, Problem};
use crate::http::conn::exchange::{Awaits, Exchange, Phase};
use crate::http::conn::guard::Guard;
use crate::net::stream::Stream;

/// The IO that hyper uses.
pub struct Io {
    stream: Stream,
    /// What was read of the stream before hyper started.
    ahead: Bytes,
    exchange: Rc<Exchange>,
    guard: Guard,
}

impl Io {
    /// Wraps `stream`, of which `ahead` was already read. Heads may have up to `head_bytes_max` bytes.
    #[must_use]
    pub fn new(stream: Stream, ahead: Bytes, exchange: Rc<Exchange>, head_bytes_max: usize) -> Self {
        Self { stream, ahead, exchange, guard: Guard::new(head_bytes_max) }
    }

    /// Whether the peer was answered before it had sent everything, so that it may still be sending.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.exchange.refused.get() || self.guard.is_broken() || self.guard.is_inside()
    }

    /// The stream, when hyper is done with it.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Tells a peer whose head or body did not come in time, if its socket takes the answer at once.
    pub fn say_timeout(&self) {
        let unfinished = match self.exchange.phase() {
            Phase::Reading => !self.exchange.closes.get(),
            Phase::Handling => self.exchange.awaits.get() == Awaits::Body,
            _ => false,
        };
        if unfinished {
            self.exchange.refused.set(true);
            let _ = self.stream.try_write(&self.raw_response(Code::RequestTimeout));
        }
    }
}

impl Io {
    /// Reads `ahead` first, then the stream.
    fn poll_stream(&mut self, cx: &mut Context<'_>, read: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let fits = self.ahead.len().min(read.remaining());
            read.put_slice(&self.ahead.split_to(fits));
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, read),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, read),
        }
    }

    /// The answer to a request that the service does not get, or not to its end.
    fn raw_response(&self, code: Code) -> Vec<u8> {
        raw_response(code.into(), self.guard.asks_for_head())
    }

    /// Answers a request that the service does not get. Writes nothing after an answer that ends the connection.
    fn refuse(&self, code: Code) {
        if !self.exchange.closes.get() {
            self.exchange.refused.set(true);
            let _ = self.stream.try_write(&self.raw_response(code));
        }
    }

    /// The result of hyper's read after the last right byte.
    fn poll_broken(&self) -> Poll<io::Result<()>> {
        match self.exchange.phase() {
            // The requests before the wrong one are answered first.
            Phase::Handling | Phase::Answered | Phase::Subscribing if !self.exchange.has_broken_body() => {
                return Poll::Pending;
            }
            Phase::Waiting | Phase::Reading | Phase::Idle => {
                self.refuse(self.guard.refusal().unwrap_or(Code::RequestMalformed));
            }
            // The handler, which reads the body, answers.
            _ => {}
        }
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }
}

impl rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.guard.is_broken() {
            return self.poll_broken();
        }
        // Without `unsafe`, hyper's cursor can only be filled by copying. A head has a few hundred bytes.
        let mut bytes = [std::mem::MaybeUninit::uninit(); READ_BYTES_MAX];
        let want = buf.remaining().min(READ_BYTES_MAX);
        let mut read = ReadBuf::uninit(&mut bytes[..want]);
        ready!(self.poll_stream(cx, &mut read))?;
        let right = self.guard.pass(read.filled());
        if !read.filled().is_empty() {
            self.exchange.came(&self.guard);
        }
        if self.guard.is_broken() && right == 0 {
            return self.poll_broken();
        }
        buf.put_slice(&read.filled()[..right]);
        Poll::Ready(Ok(()))
    }
}

/// Bytes read at once.
const READ_BYTES_MAX: usize = 16 << 10;

impl rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.exchange.phase() {
            Phase::Subscribing => {
                self.exchange.head.borrow_mut().extend_from_slice(buf);
                return Poll::Ready(Ok(buf.len()));
            }
            // The service has no request, so hyper refuses the head by itself, with an empty body.
            Phase::Waiting | Phase::Reading | Phase::Idle => {
                self.refuse(own_refusal(buf));
                return Poll::Ready(Ok(buf.len()));
            }
            Phase::Handling | Phase::Answered | Phase::Parting => {}
        }
        let written = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        // A complete write is followed by a flush.
        if matches!(written, Poll::Ready(Ok(count)) if count < buf.len()) {
            self.exchange.taken();
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.exchange.phase() == Phase::Subscribing && !self.exchange.head.borrow().is_empty() {
            self.exchange.head_complete.set(true);
        }
        self.exchange.flushed(&self.guard);
        // Sockets have no buffer to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The code for the response that hyper made by itself: `HTTP/1.1 <status> ...`.
fn own_refusal(head: &[u8]) -> Code {
    let status = head.get(9..12).and_then(|status| StatusCode::from_bytes(status).ok());
    match status {
        Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG) => Code::HeadTooLarge,
        _ => Code::RequestMalformed,
    }
}

/// Renders a problem as a whole HTTP/1.1 response that ends the connection, without the body if it answers a `HEAD`.
fn raw_response(problem: Problem, to_head: bool) -> Vec<u8> {
    let body = problem.to_json();
    let response: Response<Bytes> = problem.into_response();
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut raw = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in response.headers() {
        raw.extend_from_slice(name.as_str().as_bytes());
        raw.extend_from_slice(b": ");
        raw.extend_from_slice(value.as_bytes());
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    if !to_head {
        raw.extend_from_slice(body.as_bytes());
    }
    raw
}
