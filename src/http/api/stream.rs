//! `GET {base}/stream…`: from a request to a place in a shard.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode, Version};

use crate::answer::headers;
use crate::answer::problem::{Code, Problem};
use crate::config::RefusalStyle;
use crate::http::api::problem_response;
use crate::http::api::query::StreamQuery;
use crate::http::conn::exchange::Exchange;
use crate::http::conn::response_body::BodyOut;
use crate::http::conn::subscription::Subscription;
use crate::http::context::Context;
use crate::http::gate::caller::Caller;
use crate::hub::Hub;
use crate::hub::admission::Refusal;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::source::Source;
use crate::rights::grant::Action;
use crate::shard::join::Start;
use crate::types::moment::jittered;
use crate::types::name::{RoomName, UserName};
use crate::wire::control::{self, Heartbeat};
use crate::wire::encoding::Encoding;

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
    let engine = &context.engine;
    let now = engine.clock.now();
    query.rooms.iter().try_for_each(|room| caller.may(Action::Read(room.as_str())))?;
    let user = caller.listens_as(query.user.clone()).inspect_err(|problem| {
        if problem.code == Code::Forbidden {
            tracing::debug!("the URL names another user than the token or the application, without sse:user");
        }
    })?;
    let user = user.as_ref().map(UserName::as_str);
    if query.rooms.is_empty() && user.is_none() {
        let detail = "name a room, /stream?room=ROOM, or a user, /stream?user=USER, or both in the path, /stream/ROOM/USER";
        return Err(Problem::new(Code::RoomMissing).with_detail(detail));
    }
    if let Some(user) = user
        && query.rooms.iter().any(|room| engine.hub.is_away(user, room.as_str(), now))
    {
        engine.stats.sent_away();
        log_refusal("stay_away", query, Some(user), address);
        return Ok(stay_away());
    }
    let start = start(query, headers, engine.config.history_events);
    let admitted = if is_given_up(&engine.hub, &start, query, user) {
        Err(Refusal::Memory)
    } else {
        engine.hub.admit(user, address, now)
    };
    let permit = match admitted {
        Ok(permit) => permit,
        Err(refusal) => {
            engine.stats.refused(refusal);
            log_refusal(refusal.as_str(), query, user, address);
            return Ok(refuse(context, refusal, headers));
        }
    };
    let gzip = engine.config.gzip && accepts_gzip(headers) && !is_through_varnish(headers);
    let heartbeat = query.heartbeat.unwrap_or_else(|| heartbeat(headers));
    let encoding = Encoding { chunked: version > Version::HTTP_10, gzip };
    let rooms = query.rooms.iter().map(|room| engine.hub.rooms().get_or_create(room.as_str())).collect();
    let session = caller.identity().map(|identity| engine.access.session(identity.clone()));
    exchange.subscribe(Subscription { rooms, permit, session, start, encoding, heartbeat });
    let mut response = stream_response(BodyOut::Stream);
    if engine.config.gzip {
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// A stream that is refused softly gets no error, so what is logged of errors does not tell of it.
pub(crate) fn log_refusal(reason: &str, query: &StreamQuery, user: Option<&str>, client: Option<IpAddr>) {
    let room = query.rooms.first().map(RoomName::as_str);
    let (rooms, client) = (query.rooms.len(), client.map(tracing::field::display));
    tracing::debug!(reason, room, rooms, user, client, "stream refused");
}

/// Whether the stream would begin with a replay while memory is short of that. Who comes back later misses nothing.
fn is_given_up(hub: &Hub, start: &Start, query: &StreamQuery, user: Option<&str>) -> bool {
    if hub.memory_level() < MemoryLevel::NoReplays {
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
    headers::add_of_stream(response.headers_mut());
    response
}

/// 204 ends an `EventSource` for good (WHATWG HTML §9.2.3).
fn stay_away() -> Response<BodyOut> {
    let mut response = Response::new(BodyOut::EMPTY);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A refusal that may pass. An `EventSource` stops for good on any status but 200, so it gets a stream that tells it
/// when to come back, and ends. With `refusal = "status"`, or if the client does not ask for an event stream, it is a
/// status after all.
pub(crate) fn refuse(context: &Context, refusal: Refusal, headers: &HeaderMap) -> Response<BodyOut> {
    let config = &context.engine.config;
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
            Refusal::Waiting => Code::WaitingFull,
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

/// Whether Varnish, or a service built on it, asks. It asks for gzip whatever its client takes, and unpacks it for those
/// who take none; what it unpacks it holds back until a buffer is full, so they would get nothing.
fn is_through_varnish(headers: &HeaderMap) -> bool {
    headers.contains_key("x-varnish")
        || list(headers, header::VIA).any(|hop| hop.to_ascii_lowercase().contains("varnish"))
}

/// Which heartbeats a listener understands, if its URL does not say. A browser's `EventSource` takes an id without an event
/// for what it is, and needs it to resume a quiet stream. It sends `Cache-Control: no-cache`, as the Fetch standard has it do
/// for its cache mode "no-store" (WHATWG HTML §9.2.2, Fetch §4.5), and `Pragma: no-cache`, which libraries that ask for no cache
/// by themselves leave out. Of other clients this is not known, and several take such an id for an empty message.
fn heartbeat(headers: &HeaderMap) -> Heartbeat {
    let says = |name| list(headers, name).any(|item| item.eq_ignore_ascii_case("no-cache"));
    let is_event_source = says(header::CACHE_CONTROL) && says(header::PRAGMA);
    if is_event_source { Heartbeat::Id } else { Heartbeat::Comment }
}

/// Whether a list such as `Accept` has `wanted` and does not rule it out with `q=0` (RFC 9110 §12.4.2).
fn accepts(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    for item in list(headers, name) {
        let mut parts = item.split(';').map(str::trim);
        if parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(wanted)) {
            let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            return quality.and_then(|quality| quality.parse().ok()).is_none_or(|quality: f32| quality > 0.0);
        }
    }
    false
}

/// The items of a header that is a list (RFC 9110 §5.6.1).
fn list(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        [(header::HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn varnish_is_known_by_what_it_adds() {
        for (name, value, wanted) in [
            ("x-varnish", "32770", true),
            ("via", "1.1 cache-fra (Varnish/7.1)", true),
            ("via", "1.1 varnish", true),
            ("via", "2 edge, 1.1 Varnish, 1.1 nginx", true),
            ("via", "1.1 nginx", false),
            ("x-forwarded-for", "varnish", false),
        ] {
            assert_eq!(is_through_varnish(&with(name, value)), wanted, "{name}: {value}");
        }
        assert!(!is_through_varnish(&HeaderMap::new()));
    }

    #[test]
    fn only_those_who_ask_as_browsers_do_get_ids_without_events() {
        for (cache_control, pragma, wanted) in [
            ("no-cache", "no-cache", Heartbeat::Id),
            ("max-age=0, No-Cache", "No-Cache", Heartbeat::Id),
            // What libraries send that ask for no cache by themselves.
            ("no-cache", "", Heartbeat::Comment),
            ("no-store", "no-cache", Heartbeat::Comment),
            ("max-age=0", "", Heartbeat::Comment),
            ("", "no-cache", Heartbeat::Comment),
        ] {
            let mut headers = with("cache-control", cache_control);
            headers.insert(header::PRAGMA, HeaderValue::from_static(pragma));
            assert_eq!(heartbeat(&headers), wanted, "{cache_control}, {pragma}");
        }
    }

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
