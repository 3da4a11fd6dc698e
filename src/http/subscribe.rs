//! `GET {base}/stream…`: from a request to a place in a shard.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode, Version};

use super::body_out::BodyOut;
use super::caller::Caller;
use super::context::Context;
use super::exchange::Exchange;
use super::problem::{Code, Problem};
use super::query::StreamQuery;
use super::service::problem_response;
use crate::auth::grant::Action;
use crate::auth::identity::Session;
use crate::config::RefusalStyle;
use crate::hub::moment::jittered;
use crate::hub::name::UserName;
use crate::hub::presence::Permit;
use crate::hub::pressure::Rung;
use crate::hub::source::Source;
use crate::hub::{Hub, Refusal};
use crate::shard::join::{Join, Start};
use crate::wire::control;
use crate::wire::encoding::Encoding;

/// A stream that was granted, on its way to the shard.
pub struct Subscription {
    rooms: Vec<Arc<Source>>,
    permit: Permit,
    session: Option<Session>,
    start: Start,
    encoding: Encoding,
}

impl Subscription {
    /// The connection for the shard.
    #[must_use]
    pub fn into_join(self, socket: socket2::Socket, head: Bytes) -> Join<socket2::Socket> {
        let Self { rooms, permit, session, start, encoding } = self;
        let (user, address) = permit.keep();
        Join { socket, head, encoding, rooms, user, address, session, start, probe: false }
    }
}

/// Answers a request for a stream. If it is granted, `exchange` is told.
///
/// # Errors
///
/// That `caller` may not have it, or [`Code::RoomMissing`] if there would be nothing to listen to.
pub fn subscribe(
    context: &Context,
    exchange: &Rc<Exchange>,
    caller: &Caller,
    query: &StreamQuery,
    version: Version,
    headers: &HeaderMap,
    address: Option<IpAddr>,
) -> Result<Response<BodyOut>, Problem> {
    let shared = &context.shared;
    let now = shared.clock.now();
    query.rooms.iter().try_for_each(|room| caller.may(Action::Read(room.as_str())))?;
    let user = caller.listens_as(query.user.clone()).inspect_err(|problem| {
        if problem.code == Code::Forbidden {
            tracing::debug!("the URL names another user than the token or the application, without sse:user");
        }
    })?;
    let user = user.as_ref().map(UserName::as_str);
    if query.rooms.is_empty() && user.is_none() {
        return Err(Code::RoomMissing.into());
    }
    if let Some(user) = user
        && query.rooms.iter().any(|room| shared.hub.is_away(user, room.as_str(), now))
    {
        shared.stats.sent_away();
        return Ok(stay_away());
    }
    let start = start(query, headers, shared.config.history_events);
    let admitted = if is_given_up(&shared.hub, &start, query, user) {
        Err(Refusal::Memory)
    } else {
        shared.hub.admit(user, address, now)
    };
    let permit = match admitted {
        Ok(permit) => permit,
        Err(refusal) => {
            shared.stats.refused(refusal);
            return Ok(refuse(context, refusal, headers));
        }
    };
    let gzip = shared.config.gzip && accepts_gzip(headers);
    let encoding = Encoding { chunked: version > Version::HTTP_10, gzip };
    let rooms = query.rooms.iter().map(|room| shared.hub.rooms().get_or_create(room.as_str())).collect();
    let session = caller.identity().map(|identity| shared.session(identity.clone()));
    exchange.subscribe(Subscription { rooms, permit, session, start, encoding });
    let mut response = stream_response(BodyOut::Stream);
    if shared.config.gzip {
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// Whether the stream would begin with a replay while memory is short of that. Who comes back later misses nothing.
fn is_given_up(hub: &Hub, start: &Start, query: &StreamQuery, user: Option<&str>) -> bool {
    if hub.rung() < Rung::Replays {
        return false;
    }
    let rooms = query.rooms.iter().filter_map(|room| hub.rooms().get(room.as_str()));
    let inbox = user.and_then(|user| hub.users().get(user));
    let sources: Vec<Arc<Source>> = rooms.chain(inbox).chain([hub.all().clone()]).collect();
    start.is_replay(hub, &sources)
}

/// The head of every answer that is an event stream.
fn stream_response(body: BodyOut) -> Response<BodyOut> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx would otherwise collect events until its buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// 204 ends an `EventSource` for good (WHATWG HTML §9.2.3).
fn stay_away() -> Response<BodyOut> {
    let mut response = Response::new(BodyOut::Full(None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A refusal that may pass. An `EventSource` stops for good on any status but 200, so it gets a stream that tells it
/// when to come back, and ends. With `refusal = "status"`, or if the client does not ask for an event stream, it is a
/// status after all.
pub(super) fn refuse(context: &Context, refusal: Refusal, headers: &HeaderMap) -> Response<BodyOut> {
    let config = &context.shared.config;
    let wait = jittered(config.retry * REFUSAL_PATIENCE, fastrand::f64());
    let wants_stream = accepts(headers, header::ACCEPT, "text/event-stream");
    if config.refusal == RefusalStyle::Status || !wants_stream {
        let code = match refusal {
            Refusal::Full => Code::Full,
            Refusal::Draining => Code::Draining,
            Refusal::User => Code::UserConnectionsExceeded,
            Refusal::Address => Code::AddressConnectionsExceeded,
            Refusal::Unidentified => Code::AuthUnavailable,
            Refusal::Memory => Code::MemoryExhausted,
        };
        let seconds = u32::try_from(wait.as_secs().max(1)).unwrap_or(u32::MAX);
        return problem_response(Problem::new(code).retry_after_s(seconds));
    }
    let mut body = Vec::new();
    control::put_overload(wait, refusal.as_str(), &mut body);
    let mut response = stream_response(Bytes::from(body).into());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// How many times the usual `retry:` a refused listener is asked to wait.
const REFUSAL_PATIENCE: u32 = 2;

/// Where the stream starts.
fn start(query: &StreamQuery, headers: &HeaderMap, history_max: usize) -> Start {
    match (query.presented(headers), query.history) {
        (Some(id), _) => Start::After(id),
        (None, Some(count)) if count > 0 => Start::History(count.min(history_max)),
        _ => Start::Now,
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    accepts(headers, header::ACCEPT_ENCODING, "gzip")
}

/// Whether a list such as `Accept` has `wanted` and does not rule it out with `q=0` (RFC 9110 §12.4.2).
fn accepts(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    let items = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    for item in items {
        let mut parts = item.split(';').map(str::trim);
        if parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(wanted)) {
            let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            return quality.and_then(|quality| quality.parse().ok()).is_none_or(|quality: f32| quality > 0.0);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_rules_gzip_out_gets_none() {
        for (value, wanted) in [
            ("gzip, deflate, br", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, br", false),
            ("deflate", false),
            ("x-gzip", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_gzip(&headers), wanted, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn a_reconnecting_browsers_header_outranks_its_url() {
        let query = StreamQuery::parse(Some("room=a&last_event_id=old&history=5")).unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(start(&query, &headers, 10), Start::After("old".into()));
        headers.insert("last-event-id", HeaderValue::from_static("new"));
        assert_eq!(start(&query, &headers, 10), Start::After("new".into()));
        let query = StreamQuery::parse(Some("room=a&history=50")).unwrap();
        assert_eq!(start(&query, &HeaderMap::new(), 10), Start::History(10));
    }
}
