//! A server with everything set up that tells who asks, and requests to it.

use tidegate::config::Config;

use crate::common::bearer::{SECRET, bearer, key, token};
use crate::common::conn::{Response, request};
use crate::common::stream::Listener;
use crate::common::{BASE, TestServer};

/// A credential that nginx with `auth_basic` has checked and passes on.
pub(crate) const BASIC: &str = "Basic YW5uOnNlY3JldA==";

/// Sets up everything: tokens, keys, the cookie `t`, `?token=`, and `lobby` for everyone.
pub(crate) fn guarded(config: &mut Config) {
    config.token_keys = vec![key(SECRET)];
    config.public_rooms = vec![public("lobby")];
    config.token_cookie = Some("t".to_owned());
    config.token_query = true;
}

fn public(room: &str) -> tidegate::config::RoomPattern {
    room.parse().expect("a pattern")
}

pub(crate) fn start() -> TestServer {
    TestServer::with(guarded)
}

/// Sends a request with these headers. For a stream, returns the head and the first event.
pub(crate) fn ask(
    server: &TestServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let mut conn = server.connect();
    let headers = [&[("accept", "text/event-stream")], headers].concat();
    conn.send(request(method, &format!("{BASE}{path}"), &headers, body.as_bytes()));
    let head = conn.head();
    if head.header("transfer-encoding") == Some("chunked") {
        let event = conn.take_until(b"\n\n").expect("the first event");
        return Response { head, body: event };
    }
    let length = head.header("content-length").map_or(0, |length| length.parse().expect("a number"));
    let body = conn.take(length).expect("the whole body");
    Response { head, body }
}

pub(crate) fn ask_as(server: &TestServer, method: &str, path: &str, token: &str, body: &str) -> Response {
    ask(server, method, path, &[("authorization", &bearer(token))], body)
}

/// Returns all that a caller sees of an answer.
pub(crate) fn seen(Response { head, body }: &Response) -> (String, String) {
    (head.without_date(), String::from_utf8_lossy(body).into_owned())
}

pub(crate) fn listen_as(server: &TestServer, path: &str, token: &str) -> Listener {
    server.listen_with(path, &[("authorization", &bearer(token))])
}

/// Returns the data of all events in a room's history.
pub(crate) fn history(server: &TestServer, room: &str) -> Vec<String> {
    let answer = ask_as(server, "GET", &format!("/rooms/{room}/history"), &token("r", &["sse:read"]), "");
    let events = answer.json()["events"].as_array().expect("a page").clone();
    events.iter().map(|event| event["data"].as_str().expect("text").to_owned()).collect()
}
