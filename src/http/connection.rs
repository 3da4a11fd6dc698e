//! One connection while it is HTTP: driven by hyper until it ends, is given up, or becomes a stream. Where a proxy has to
//! introduce it, that comes first.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};

use super::always;
use super::client::Peer;
use super::context::Context;
use super::exchange::{Exchange, Io, Stream};
use super::places::Places;
use super::proxy_header::{self, NotAHeader, Progress};
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

/// A connection that was just accepted.
pub struct Accepted {
    /// Its socket.
    pub stream: Stream,
    /// Where it comes from; `None` on a Unix socket.
    pub peer: Option<IpAddr>,
    /// Whether it has to begin with a PROXY protocol header.
    pub proxied: bool,
}

/// Serves a connection until it is closed or handed over to the shard.
pub async fn serve(context: Rc<Context>, accepted: Accepted) {
    let exchange = Exchange::new(context.shared.times());
    let watched = context.places.watch(exchange.clone());
    let handed_over = introduce_and_drive(&context, &exchange, accepted).await;
    drop(watched);
    let (Some((subscription, head)), Some(socket)) = (exchange.take_subscription(), handed_over) else {
        return;
    };
    let shared = &context.shared;
    let now = shared.clock.now();
    let mut shard = context.shard();
    let joined = shard.join(subscription.into_join(socket, head), now);
    // Under the same lock: what was revoked since it was looked at would not be closed by anyone else.
    if let Ok(key) = joined {
        shard.review_one(key, &|standing| shared.lets_stay(standing), now);
    }
    drop(shard);
    if let Err(err) = joined {
        tracing::warn!(%err, "a connection could not be watched");
    }
    context.changed.notify_one();
}

/// Finds out who the connection is for, and lets hyper work.
async fn introduce_and_drive(
    context: &Rc<Context>,
    exchange: &Rc<Exchange>,
    Accepted { stream, peer, proxied }: Accepted,
) -> Option<socket2::Socket> {
    if !proxied {
        let peer = Peer { address: peer, may_forward: true };
        return answer(context, exchange, (stream, Bytes::new()), peer).await;
    }
    match introduce(context, exchange, &stream).await {
        Ok(Introduced { client, ahead }) => {
            // Anybody may write a header. Only a proxy of ours is believed, as of now: a reload may have changed which.
            let trusted = context.shared.policy.load().trusted_proxies.iter().any(|proxy| proxy.covers(peer));
            let address = client.filter(|_| trusted).or(peer);
            let peer = Peer { address, may_forward: client.is_some() };
            answer(context, exchange, (stream, ahead), peer).await
        }
        Err(NotIntroduced::Refused) => {
            let client = peer.map(tracing::field::display);
            tracing::debug!(client, "a connection does not begin with a PROXY protocol header");
            context.shared.stats.refused_as("proxy_header");
            None
        }
        Err(NotIntroduced::Left) => None,
    }
}

/// What a PROXY protocol header said.
struct Introduced {
    /// Who the connection is for, if not the proxy itself.
    client: Option<IpAddr>,
    /// What was read behind the header.
    ahead: Bytes,
}

/// Why there is no such header.
enum NotIntroduced {
    /// What came is none, or it took too long.
    Refused,
    /// Nothing came. A load balancer that looks whether somebody is there does that, and nobody is refused.
    Left,
}

/// Reads the header that the connection begins with, and maybe more.
async fn introduce(
    context: &Context,
    exchange: &Exchange,
    stream: &Stream,
) -> Result<Introduced, NotIntroduced> {
    let mut read = Vec::new();
    poll_fn(|cx| {
        loop {
            match proxy_header::parse(&read) {
                Ok(Progress::Complete { length, client }) => {
                    exchange.spare();
                    let ahead = Bytes::from(std::mem::take(&mut read)).split_off(length);
                    return Poll::Ready(Ok(Introduced { client, ahead }));
                }
                Ok(Progress::Partial) => {}
                Err(NotAHeader) => return Poll::Ready(Err(NotIntroduced::Refused)),
            }
            let mut buf = [0; INTRODUCTION_BYTES];
            match stream.try_read(&mut buf) {
                Ok(count @ 1..) => read.extend_from_slice(&buf[..count]),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    if exchange.poll_expired(cx) {
                        let overdue = exchange.is_overdue(context.shared.clock.now());
                        return Poll::Ready(Err(unfinished(overdue || !read.is_empty())));
                    }
                    ready!(stream.poll_readable(cx));
                }
                // The end.
                _ => return Poll::Ready(Err(unfinished(!read.is_empty()))),
            }
        }
    })
    .await
}

fn unfinished(refused: bool) -> NotIntroduced {
    if refused { NotIntroduced::Refused } else { NotIntroduced::Left }
}

/// Bytes read at once for a header, which is mostly one of a hundred.
const INTRODUCTION_BYTES: usize = 512;

/// Answers the requests of a connection, from whose `stream` the bytes in `ahead` were read already. Gives the bare socket
/// back if it became a stream.
async fn answer(
    context: &Rc<Context>,
    exchange: &Rc<Exchange>,
    opened: (Stream, Bytes),
    peer: Peer,
) -> Option<socket2::Socket> {
    let service = service_fn(|request: Request<Incoming>| {
        let (context, exchange) = (context.clone(), exchange.clone());
        exchange.handling(&request);
        async move {
            let mut response = service::answer(&context, &exchange, request, peer).await;
            always::add(response.headers_mut());
            if response.headers().get(CONNECTION).is_some_and(|value| value == "close") {
                exchange.closes();
            }
            exchange.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    // Who has said all there is to say may still listen. Without this, it depends on how its bytes are cut whether a request
    // that came with the end of its connection is answered, or dropped half-way.
    http.half_close(true);
    let socket = drive(&context.places, exchange, opened, http, service).await;
    if exchange.is_refused() {
        let client = peer.address.map(tracing::field::display);
        tracing::debug!(
            client,
            "a request was refused before it was read: it is malformed, too large or too late"
        );
    }
    socket
}

/// Lets hyper work, by the rules of `http` and the bounds of all. Gives the bare socket back if the exchange says that it
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
    // hyper's buffers take 16 KiB. Whoever only connects is not given them.
    let came = poll_fn(|cx| {
        if !ahead.is_empty() {
            return Poll::Ready(true);
        }
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
    let shared = places.shared();
    let head_bytes_max = shared.config.max_head_bytes;
    let io = Io::new(stream, ahead, exchange.clone(), head_bytes_max);
    // The first counts only while a head is incomplete.
    http.max_buf_size(head_bytes_max).max_header_size(head_bytes_max).writev(false);
    let mut connection = http.serve_connection(io, service);
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
        places.look_at(exchange);
        polled.map(|result| {
            if let Err(err) = result {
                tracing::debug!(%err, "connection ended");
            }
            Ended::Closed
        })
    });
    let socket = match ended.await {
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
    };
    if exchange.is_refused() {
        shared.stats.refused_as("bad_request");
    }
    socket
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
