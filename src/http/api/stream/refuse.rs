//! Refuses a stream: softly, if the reason may pass.

use std::net::IpAddr;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use crate::answer::headers;
use crate::answer::problem::{Code, Problem};
use crate::config::RefusalStyle;
use crate::engine::Engine;
use crate::http::api::query::StreamQuery;
use crate::http::api::stream::negotiate::accepts;
use crate::http::conn::response_body::ResponseBody;
use crate::hub::refusal::Refusal;
use crate::types::moment::jittered;
use crate::types::name::RoomName;
use crate::wire::control;

/// 204 ends an `EventSource` for good (WHATWG HTML §9.2.3).
pub(super) fn stay_away() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::EMPTY);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Answers a refusal that may pass. An `EventSource` stops for good on any status but 200, so it gets a stream that
/// says when to come back, and ends. With `refusal = "status"`, or if the client does not ask for an event stream, the
/// answer is a status.
pub(super) fn refuse(engine: &Engine, refusal: Refusal, headers: &HeaderMap) -> Response<ResponseBody> {
    let config = &engine.config;
    let wait = jittered(config.retry * REFUSAL_PATIENCE, fastrand::f64());
    let wants_stream = accepts(headers, header::ACCEPT, "text/event-stream");
    if config.refusal == RefusalStyle::Status || !wants_stream {
        let code = match refusal {
            Refusal::Full => Code::Full,
            Refusal::Draining => Code::Draining,
            Refusal::User => Code::UserConnectionsExceeded,
            Refusal::Address => Code::AddressConnectionsExceeded,
            Refusal::Unidentified => Code::AuthUnavailable,
            Refusal::RoomFull => Code::RoomFull,
            Refusal::Memory => Code::MemoryExhausted,
            Refusal::Waiting => Code::WaitingFull,
        };
        let seconds = u32::try_from(wait.as_secs().max(1)).unwrap_or(u32::MAX);
        return Problem::new(code).retry_after_s(seconds).into_response();
    }
    let mut body = Vec::new();
    control::put_overload(wait, refusal.as_str(), &mut body);
    let mut response = stream_response(Bytes::from(body).into());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// How many times the usual `retry:` a refused client waits.
const REFUSAL_PATIENCE: u32 = 2;

/// The head of every answer that is an event stream.
pub(super) fn stream_response(body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    headers::add_of_stream(response.headers_mut());
    response
}

/// Logs a soft refusal. It is no error, so the log of errors does not contain it.
pub(super) fn log_refusal(reason: &str, query: &StreamQuery, user: Option<&str>, client: Option<IpAddr>) {
    let room = query.rooms.first().map(RoomName::as_str);
    let (rooms, client) = (query.rooms.len(), client.map(tracing::field::display));
    tracing::debug!(reason, room, rooms, user, client, "stream refused");
}
