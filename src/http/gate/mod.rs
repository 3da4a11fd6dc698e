//! Everything that decides about a request before anyone asks who sent it, in its order. What is refused here is counted
//! by its reason.

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

/// What is known of a request by then.
pub struct Arrival {
    /// The client's address, as far as it is known.
    pub address: Option<IpAddr>,
    /// What its answer tells browsers: a page that is allowed to may read why it was refused.
    pub access: Access,
    /// Whether it may go on; the first thing that is wrong with it, if not.
    pub verdict: Result<(), Problem>,
}

/// Looks at `request`, which came over a connection from `peer`, and of whose body so much has come as `exchange` has seen.
#[must_use]
pub fn receive<B>(policy: &Policy, exchange: &Exchange, request: &Request<B>, peer: Peer) -> Arrival {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let address = peer.client(&policy.trusted_proxies, headers);
    // Without the query, which may have secrets in it.
    tracing::trace!(%method, path = uri.path(), client = ?address, agent = ?headers.get(USER_AGENT), "request");
    let verdict = exchange
        .check_body()
        .and_then(|()| host::check(method, request.version(), uri, headers))
        .and_then(|()| policy.checks.check(peer.address, address, uri, headers))
        .and_then(|()| policy.cors.check(method, headers));
    Arrival { address, access: policy.cors.access(headers), verdict }
}
