//! Drives one connection while it is HTTP: hyper serves it until it ends, expires or becomes a stream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};

use crate::engine::stats::Refused;
use crate::http::conn::exchange::Exchange;
use crate::http::conn::io::Io;
use crate::http::conn::places::Places;
use crate::net::stream::Stream;

/// How hyper's part ended.
enum Ended {
    /// The peer or the server closed it.
    Closed,
    /// It expired: it stayed in one phase for too long, or was shed.
    Expired,
    /// The head of its answer is complete, and the shard may have it.
    Stream,
}

/// Lets hyper serve the connection, with the options of `http` and the common bounds. Returns the bare socket if it
/// became a stream.
pub async fn drive<S, B>(
    places: &Places,
    exchange: &Rc<Exchange>,
    (stream, ahead): (Stream, Bytes),
    mut http: http1::Builder,
    service: S,
) -> Option<socket2::Socket>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // hyper's buffers take 16 KiB. A client that only connects does not get them.
    if ahead.is_empty() && !has_come(exchange, &stream).await {
        return None;
    }
    let engine = places.engine();
    let head_bytes_max = engine.config.max_head_bytes;
    let io = Io::new(stream, ahead, exchange.clone(), head_bytes_max);
    // `max_buf_size` applies only while a head is incomplete.
    http.max_buf_size(head_bytes_max).max_header_size(head_bytes_max).writev(false);
    let mut connection = http.serve_connection(io, service);
    let socket = match end_of(places, exchange, &mut connection).await {
        Ended::Closed => {
            let io = connection.into_parts().io;
            if io.is_interrupted() {
                linger(exchange, io.into_stream()).await;
            }
            None
        }
        Ended::Expired => {
            connection.into_parts().io.say_timeout();
            None
        }
        Ended::Stream => {
            let socket = connection.into_parts().io.into_stream().into_socket();
            socket.inspect_err(|err| tracing::warn!(%err, "a stream's socket could not be taken over")).ok()
        }
    };
    if exchange.is_refused() {
        engine.stats.count(Refused::BadRequest);
    }
    socket
}

/// Waits for input; without any, until the connection expires.
async fn has_come(exchange: &Exchange, stream: &Stream) -> bool {
    poll_fn(|cx| {
        if !exchange.poll_expired(cx) {
            return stream.poll_readable(cx).map(|()| true);
        }
        let came = stream.has_input();
        if came {
            exchange.spare();
        }
        Poll::Ready(came)
    })
    .await
}

/// Has hyper work until its part ends.
async fn end_of<C>(places: &Places, exchange: &Rc<Exchange>, connection: &mut C) -> Ended
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    poll_fn(|cx| {
        let expired = exchange.poll_expired(cx);
        if expired && !exchange.is_answered() {
            return Poll::Ready(Ended::Expired);
        }
        let polled = Pin::new(&mut *connection).poll(cx);
        if exchange.is_head_complete() {
            return Poll::Ready(Ended::Stream);
        }
        if expired && polled.is_pending() {
            if exchange.is_answered() {
                return Poll::Ready(Ended::Expired);
            }
            // The next request has already begun to arrive.
            exchange.spare();
        }
        places.look_at(exchange);
        polled.map(|result| {
            if let Err(err) = result {
                tracing::debug!(%err, "connection ended");
            }
            Ended::Closed
        })
    })
    .await
}

/// Time a peer that was interrupted gets to read the answer.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Bytes that are read meanwhile of what the peer still sends.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Closes a connection whose peer may still be sending. Closing with input unread resets a connection, and the answer
/// may then be lost before the peer has read it (RFC 9112 §9.6).
async fn linger(exchange: &Exchange, stream: Stream) {
    if stream.shutdown_write().is_err() {
        return;
    }
    exchange.part(LINGER_TIME);
    let mut left = LINGER_BYTES_MAX;
    let read_all = async {
        let mut buf = [0; 4 << 10];
        while left > 0 {
            poll_fn(|cx| stream.poll_readable(cx)).await;
            match stream.try_read(&mut buf) {
                Ok(count @ 1..) => left = left.saturating_sub(count),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
    };
    // Whether it ended, expired or was shed, the connection is closed now.
    tokio::select! {
        () = read_all => {}
        () = poll_fn(|cx| if exchange.poll_expired(cx) { Poll::Ready(()) } else { Poll::Pending }) => {}
    }
}
