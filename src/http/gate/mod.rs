//! Checks a request before its sender is identified, in a fixed order. Refusals are counted by reason.

pub mod caller;
pub mod client;
pub mod host;
pub mod identify;
pub mod refusal;

use std::net::IpAddr;

use hyper::Request;
use hyper::header::USER_AGENT;

use crate::answer::problem::Problem;
use crate::http::conn::exchange::Exchange;
use crate::http::gate::client::Peer;
use crate::policy::Policy;
use crate::policy::cors::Access;

/// The result of these checks.
pub struct Arrival {
    /// The client's address, if known.
    pub address: Option<IpAddr>,
    /// The CORS headers of its answer: an allowed page may read why it was refused.
    pub access: Access,
    /// Whether the request may continue; if not, the first problem with it.
    pub verdict: Result<(), Problem>,
}

/// Checks `request`, which came over a connection from `peer`. `exchange` has seen the part of the body that has
/// arrived.
#[must_use]
pub fn receive<B>(policy: &Policy, exchange: &Exchange, request: &Request<B>, peer: Peer) -> Arrival {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let address = peer.client(&policy.trusted_proxies, headers);
    // Without the query, which may contain secrets.
    tracing::trace!(%method, path = uri.path(), client = ?address, agent = ?headers.get(USER_AGENT), "request");
    let verdict = exchange
        .check_body()
        .and_then(|()| host::check(method, request.version(), uri, headers))
        .and_then(|()| policy.checks.check(peer.address, address, uri, headers))
        .and_then(|()| policy.cors.check(method, headers));
    Arrival { address, access: policy.cors.access(headers), verdict }
}
