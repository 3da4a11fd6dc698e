//! One connection while it is HTTP: driven by hyper until it ends, is given up, or becomes a stream.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::context::Context;
use super::exchange::{Exchange, Hold, Io, Stream};
use super::service;

/// How hyper's part ended.
enum Ended {
    /// The peer or we closed it.
    Closed,
    /// Its time was over.
    Expired,
    /// Its response's head is complete and the shard may have it.
    Stream,
}

/// Serves `stream` until it is closed or handed over to the shard.
pub async fn serve(context: Rc<Context>, stream: Stream, address: Option<IpAddr>) {
    let exchange = Exchange::new(context.times());
    let place = context.exchanges.borrow_mut().insert(exchange.clone());
    let handed_over = drive(&context, &exchange, stream, address).await;
    context.exchanges.borrow_mut().remove(place);
    if exchange.is_refused() {
        context.shared.stats.refused_as("bad_request");
    }
    let (Some((subscription, head)), Some(socket)) = (exchange.take_subscription(), handed_over) else {
        return;
    };
    let joined = context.shard().join(subscription.into_join(socket, head), context.shared.clock.now());
    if let Err(err) = joined {
        tracing::warn!(%err, "a connection could not be watched");
    }
    context.changed.notify_one();
}

/// Lets hyper work. Gives the bare socket back if the connection became a stream.
async fn drive(
    context: &Rc<Context>,
    exchange: &Rc<Exchange>,
    stream: Stream,
    address: Option<IpAddr>,
) -> Option<socket2::Socket> {
    // hyper's buffers take 16 KiB. Whoever only connects is not given them.
    let came = poll_fn(|cx| {
        if !exchange.poll_expired(cx) {
            return stream.poll_readable(cx).map(|()| true);
        }
        let came = stream.has_input();
        if came {
            exchange.spare();
        }
        Poll::Ready(came)
    });
    if !came.await {
        return None;
    }
    let service = service_fn(|request| {
        let (context, exchange) = (context.clone(), exchange.clone());
        exchange.handling();
        async move {
            let response = service::answer(&context, &exchange, request, address).await;
            exchange.answered();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let io = Io::new(stream, exchange.clone(), context.shared.config.max_head_bytes);
    let mut connection = http1::Builder::new()
        .max_buf_size(context.shared.config.max_head_bytes)
        .writev(false)
        .serve_connection(io, service);
    let ended = poll_fn(|cx| {
        let expired = exchange.poll_expired(cx);
        if expired && !exchange.is_answered() {
            return Poll::Ready(Ended::Expired);
        }
        let polled = Pin::new(&mut connection).poll(cx);
        if exchange.is_head_complete() {
            return Poll::Ready(Ended::Stream);
        }
        if expired && polled.is_pending() {
            if exchange.is_answered() {
                return Poll::Ready(Ended::Expired);
            }
            // The next request had come already.
            exchange.spare();
        }
        if matches!(exchange.holds(), Some((Hold::Nothing | Hold::Idle, ..))) {
            context.idle.notify_waiters();
        }
        polled.map(|result| {
            if let Err(err) = result {
                tracing::debug!(%err, "connection ended");
            }
            Ended::Closed
        })
    });
    match ended.await {
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
            socket.inspect_err(|err| tracing::warn!(%err, "a socket could not be taken over")).ok()
        }
    }
}

/// Time a peer that was interrupted gets to read why.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Bytes of what it still sends that are read meanwhile.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Closes a connection whose peer may still be sending. Closing with input unread resets a connection, and with that
/// the answer may be lost before the peer has read it (RFC 9112 §9.6).
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
    // Whether it ended, ran out of time or is in the way of others, nothing more is owed.
    tokio::select! {
        () = read_all => {}
        () = poll_fn(|cx| if exchange.poll_expired(cx) { Poll::Ready(()) } else { Poll::Pending }) => {}
    }
}
