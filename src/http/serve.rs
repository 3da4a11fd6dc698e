//! Serves one connection of a public listener: reads its PROXY protocol header if there is one, answers request by
//! request, and hands it to the shard if it becomes a stream.

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;

use crate::answer::headers;
use crate::engine::stats::Refused;
use crate::http::api;
use crate::http::conn::drive::drive;
use crate::http::conn::exchange::{Exchange, Times};
use crate::http::conn::introduce::{Introduced, NotIntroduced, introduce};
use crate::http::context::Context;
use crate::http::gate::client::Peer;
use crate::net::stream::Stream;

/// A connection that was just accepted.
pub struct Accepted {
    /// Its socket.
    pub stream: Stream,
    /// Its peer's address; `None` on a Unix socket.
    pub peer: Option<IpAddr>,
    /// Whether it has to begin with a PROXY protocol header.
    pub proxied: bool,
}

/// Serves a connection until it is closed or handed over to the shard.
pub async fn serve(context: Rc<Context>, accepted: Accepted) {
    let exchange = Exchange::new(Times::of(&context.engine));
    let watched = context.places.watch(exchange.clone());
    let handed_over = introduce_and_drive(&context, &exchange, accepted).await;
    drop(watched);
    let (Some((subscription, head)), Some(socket)) = (exchange.take_subscription(), handed_over) else {
        return;
    };
    let engine = &context.engine;
    let mut shard = context.shard();
    // Under the lock: the shard's time does not go back.
    let now = engine.clock.now();
    let joined = shard.join(subscription.into_join(socket, head), now);
    // Under the same lock: a revocation since the check did not close this stream, because it had not joined.
    if let Ok(key) = joined {
        shard.review_one(key, &|standing| engine.access.lets_stay(standing), now);
    }
    drop(shard);
    if let Err(err) = joined {
        tracing::warn!(%err, "a stream's socket could not be registered for events");
    }
    context.changed.notify_one();
}

/// Finds out the client of the connection, then lets hyper serve it.
async fn introduce_and_drive(
    context: &Rc<Context>,
    exchange: &Rc<Exchange>,
    Accepted { stream, peer: peer_address, proxied }: Accepted,
) -> Option<socket2::Socket> {
    if !proxied {
        let peer = Peer { address: peer_address, may_forward: true };
        return answer(context, exchange, (stream, Bytes::new()), peer).await;
    }
    match introduce(context.engine.clock, exchange, &stream).await {
        Ok(Introduced { client, ahead }) => {
            // Any peer may write a header. It counts only from a proxy that is trusted now: a reload may have changed
            // the list.
            let trusted = context
                .engine
                .access
                .policy
                .load()
                .trusted_proxies
                .iter()
                .any(|proxy| proxy.covers(peer_address));
            let address = client.filter(|_| trusted).or(peer_address);
            let peer = Peer { address, may_forward: client.is_some() };
            answer(context, exchange, (stream, ahead), peer).await
        }
        Err(NotIntroduced::Refused) => {
            let client = peer_address.map(tracing::field::display);
            tracing::debug!(client, "a connection does not begin with a PROXY protocol header");
            context.engine.stats.count(Refused::ProxyHeader);
            None
        }
        Err(NotIntroduced::Left) => None,
    }
}

/// Answers the requests of a connection, from whose `stream` the bytes in `ahead` were already read. Returns the bare
/// socket if it became a stream.
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
            let mut response = api::answer(&context, &exchange, request, peer).await;
            headers::add(response.headers_mut());
            if response.headers().get(CONNECTION).is_some_and(|value| value == "close") {
                exchange.closes();
            }
            exchange.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    // A client that closed its sending side may still read. Without this, whether a request that came with the end of
    // its connection is answered depends on how its bytes are cut.
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
