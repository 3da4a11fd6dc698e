//! `GET {base}/stream…`: from a request to a place in a shard.

pub(in crate::http::api) mod negotiate;
mod refuse;
mod rooms;

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, Version};

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::http::api::query::StreamQuery;
use crate::http::api::stream::negotiate::{accepts_gzip, heartbeat, is_through_varnish};
use crate::http::api::stream::refuse::{log_refusal, refuse, stay_away, stream_response};
use crate::http::api::stream::rooms::may_have_rooms;
use crate::http::call::{Call, Handled};
use crate::http::conn::response_body::ResponseBody;
use crate::http::conn::subscription::Subscription;
use crate::http::gate::caller::Caller;
use crate::http::gate::identify;
use crate::http::gate::refusal::Requester;
use crate::hub::Hub;
use crate::hub::admission::Permit;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::refusal::Refusal;
use crate::hub::source::Source;
use crate::shard::join::Start;
use crate::types::lineage::Presented;
use crate::types::name::UserName;
use crate::wire::encoding::Encoding;

/// Answers a request for a stream. If the credential cannot be verified now, the client is told to come back. Stores in
/// `requester` the user name that an unknown client asks for.
///
/// # Errors
///
/// Any problem with `caller`; a refusal if `caller` may not have the stream; [`Code::RoomMissing`] if it would have no
/// source.
pub async fn stream(
    call: &Call<'_>,
    caller: Result<Caller, Problem>,
    query: &StreamQuery,
    requester: &mut Requester,
) -> Handled {
    let caller = match caller {
        Ok(caller) => identify::subscriber(call, caller, query).await,
        unknown => unknown,
    };
    if call.engine().hub.is_shared()
        && let Some(id) = query.presented(call.headers())
    {
        until_applied(call.engine(), &id).await;
    }
    let answered = match caller {
        Ok(caller) => subscribe(call, &caller, query),
        Err(problem) => refuse_unidentified(call, problem, query),
    };
    answered.inspect_err(|_| requester.user.clone_from(&query.user))
}

/// Waits a moment for the event with this id, which a subscriber has from another node: this one may be some milliseconds
/// behind, and that is no gap.
///
/// Anybody can name such an id. So few wait at once, and the others are told of a gap.
async fn until_applied(engine: &Engine, id: &str) {
    let hub = &engine.hub;
    let is_ahead = || matches!(hub.lineage().read(id), Presented::Here(offset) if offset > hub.head());
    if !is_ahead() {
        return;
    }
    let Some(_place) = engine.ahead.enter(AHEAD_MAX) else { return };
    for _ in 0..LOOKS_MAX {
        if !is_ahead() {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Subscribers that wait at once for an event which this node has not read.
const AHEAD_MAX: usize = 32;

/// How often, and how many times, a node looks whether it has an event by now: a second.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LOOKS_MAX: u32 = 200;

fn refuse_unidentified(call: &Call<'_>, problem: Problem, query: &StreamQuery) -> Handled {
    let refusal = match problem.code {
        Code::AuthUnavailable => Refusal::Unidentified,
        Code::WaitingFull => Refusal::Waiting,
        _ => return Err(problem),
    };
    call.engine().stats.refused(refusal);
    let user = query.user.as_ref().map(UserName::as_str);
    log_refusal(refusal.as_str(), query, user, call.address);
    Ok(refuse(call.engine(), refusal, call.headers()))
}

/// Grants a stream to `caller`, and hands it to the exchange.
///
/// # Errors
///
/// If `caller` may not have the stream; [`Code::RoomMissing`] if it would have no source.
fn subscribe(call: &Call<'_>, caller: &Caller, query: &StreamQuery) -> Handled {
    let (engine, headers, address) = (call.engine(), call.headers(), call.address);
    let now = engine.clock.now();
    may_have_rooms(&engine.hub, caller, query)?;
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
    let admitted = if is_short_of_memory(&engine.hub, &start, query, user) {
        Err(Refusal::Memory)
    } else {
        engine.hub.admit_to(&query.rooms, user, address, now)
    };
    match admitted {
        Ok(permit) => Ok(begin(call, caller, query, permit, start)),
        Err(refusal) => {
            engine.stats.refused(refusal);
            log_refusal(refusal.as_str(), query, user, address);
            Ok(refuse(engine, refusal, headers))
        }
    }
}

/// Hands the stream with this `permit` to the exchange, and returns its head.
fn begin(
    call: &Call<'_>,
    caller: &Caller,
    query: &StreamQuery,
    permit: Permit,
    start: Start,
) -> Response<ResponseBody> {
    let (engine, headers) = (call.engine(), call.headers());
    // A poll is not compressed: its client gets a whole answer, and a stream's gzip has no trailer.
    let gzip =
        engine.config.gzip && query.poll.is_none() && accepts_gzip(headers) && !is_through_varnish(headers);
    call.exchange.subscribe(Subscription {
        permit,
        session: caller.identity().map(|identity| engine.access.session(identity.clone())),
        start,
        poll: query.poll,
        presence: query.presence,
        sees_names: matches!(caller, Caller::Open),
        encoding: Encoding { chunked: call.request.version() > Version::HTTP_10, gzip },
        heartbeat: query.heartbeat.unwrap_or_else(|| heartbeat(headers)),
    });
    let mut response = stream_response(ResponseBody::Stream);
    let mut set = |name, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
    if engine.config.gzip {
        set(header::VARY, "accept-encoding");
    }
    if gzip {
        set(header::CONTENT_ENCODING, "gzip");
    }
    // The connection ends with the stream (RFC 9112 §9.6). A client that comes back at once, as after a poll, would find it
    // closed; a pool of connections would send its next request there.
    set(header::CONNECTION, "close");
    response
}

/// Whether the stream would begin with a replay while memory is short. A client that comes back later misses nothing.
fn is_short_of_memory(hub: &Hub, start: &Start, query: &StreamQuery, user: Option<&str>) -> bool {
    if hub.memory_level() < MemoryLevel::NoReplays {
        return false;
    }
    let rooms = query.rooms.iter().filter_map(|room| hub.rooms().get(room.as_str()));
    let inbox = user.and_then(|user| hub.users().get(user));
    let sources: Vec<Arc<Source>> = rooms.chain(inbox).chain([hub.all().clone()]).collect();
    start.is_replay(hub, &sources)
}

/// Where the stream starts.
fn start(query: &StreamQuery, headers: &HeaderMap, history_max: usize) -> Start {
    match (query.presented(headers), query.history) {
        (Some(id), _) => Start::After(id),
        (None, Some(0)) => Start::Now,
        (None, Some(count)) => Start::History(count.min(history_max)),
        (None, None) => Start::ByPolicy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn whoever_does_not_say_where_to_begin_gets_what_the_settings_say() {
        let start = |query| start(&StreamQuery::parse(Some(query)).unwrap(), &HeaderMap::new(), 10);
        assert_eq!(start("room=a"), Start::ByPolicy);
        assert_eq!(start("room=a&history=0"), Start::Now, "this is said");
        assert_eq!(start("room=a&last_event_id="), Start::ByPolicy, "polyfills without an id say so");
    }
}
