//! Promise: a stream is open as long as its right lasts, and no longer: it ends with its token unless it is renewed,
//! and at once when the token is revoked. The tests use a thousand streams, to show that the other streams stay open.

use crate::common;

use std::collections::HashSet;
use std::sync::Barrier;
use std::time::Duration;

use common::bearer::{SECRET, bearer, key, nameless, now, sign, token};
use common::conn::{Response, request};
use common::stream::Listener;
use common::{BASE, TestServer, assert_problem, eventually};
use serde_json::{Value, json};
use tidegate::auth::revocation::REVOCATIONS_MAX;
use tidegate::config::Config;
use tidegate::rights::revocation::{Revoked, When};

/// Users, and streams of each user.
const USERS: usize = 250;
const STREAMS_EACH: usize = 4;

fn guarded(config: &mut Config) {
    config.token_keys = vec![key(SECRET)];
    config.token_leeway = Duration::ZERO;
    config.shards = 2;
    config.public_rooms = vec!["lobby".parse().expect("a pattern")];
}

fn start() -> TestServer {
    let limit = rlimit::increase_nofile_limit(8192).expect("a limit");
    assert!(limit >= 4096, "this test needs 4,096 descriptors, ulimit -Hn is {limit}");
    TestServer::with(guarded)
}

fn listen(server: &TestServer, path: &str, token: &str) -> Listener {
    server.listen_with(path, &[("authorization", &bearer(token))])
}

fn post(server: &TestServer, path: &str, token: &str, body: &Value) -> Response {
    server.post(path, &[("authorization", &bearer(token))], body.to_string())
}

fn may_connect(server: &TestServer, path: &str, token: &str) -> bool {
    let headers = [("authorization", &*bearer(token)), ("accept", "text/event-stream")];
    let mut conn = server.connect();
    conn.send(request("GET", &format!("{BASE}{path}"), &headers, b""));
    let head = conn.head();
    assert!(matches!(head.status(), 200 | 401), "{}", head.0);
    head.status() == 200
}

/// A token of `user` with an id of its own, valid for so many seconds.
fn named(user: &str, id: &str, seconds: u64) -> String {
    let claims = json!({"sub": user, "jti": id, "iat": now(), "exp": now() + seconds, "permissions": ["sse:read:room"]});
    sign(SECRET, &claims)
}

/// Opens a thousand streams, all in one room: the stream at `4 * n + i` is the `i`th of user `u<n>`, with a token
/// `t<n>-<i>`.
fn thousand(server: &TestServer) -> Vec<(Listener, String)> {
    let open = |n: usize| {
        let (user, id) =
            (format!("u{}", n / STREAMS_EACH), format!("t{}-{}", n / STREAMS_EACH, n % STREAMS_EACH));
        let token = named(&user, &id, 3600);
        (listen(server, &format!("/stream/room/{user}"), &token), token)
    };
    (0..USERS * STREAMS_EACH).map(open).collect()
}

/// Checks that every stream but those at `closed` gets an event published now.
fn assert_open_but(server: &TestServer, streams: &mut [(Listener, String)], closed: &HashSet<usize>) {
    // A listener reads the end of its stream before the server has forgotten the stream.
    let open = u32::try_from(streams.len() - closed.len()).expect("a few");
    server.wait_for("tidegate_connections", open.into());
    let publisher = token("app", &["sse:publish:room"]);
    let answer = post(server, "/publish", &publisher, &json!({"room": "room", "data": "still here"}));
    assert_eq!(answer.json()["subscribers"], streams.len() - closed.len());
    for (_, (listener, _)) in streams.iter_mut().enumerate().filter(|(n, _)| !closed.contains(n)) {
        assert_eq!(listener.data(), "still here");
    }
}

/// Reads the announcement of the end, and returns how many seconds are left.
fn expiring(listener: &mut Listener) -> u64 {
    let event = listener.event();
    let seconds =
        event.strip_prefix("event: expiring\ndata: {\"expires_in_s\":").unwrap_or_else(|| panic!("{event}"));
    seconds.strip_suffix("}\n\n").and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn a_thousand_tokens_end_and_each_listener_is_told_before() {
    let server = start();
    let mut lasting = Vec::new();
    let mut ending = Vec::new();
    for n in 0..1000 {
        let (user, is_ending) = (format!("u{n}"), n % 5 != 0);
        let claims = json!({"sub": user, "exp": now() + if is_ending { 5 } else { 3600 }, "permissions": ["sse:read:room"]});
        let listener = listen(&server, &format!("/stream/room/{user}"), &sign(SECRET, &claims));
        if is_ending { &mut ending } else { &mut lasting }.push((listener, String::new()));
    }
    for (listener, _) in &mut ending {
        assert!(expiring(listener) <= 5);
        listener.closing("expired");
    }
    assert_open_but(&server, &mut lasting, &HashSet::new());
    let metrics = server.metrics();
    metrics.assert("tidegate_connections_closed_total{reason=\"expired\"}", 800.0);
    metrics.assert("tidegate_connections", 200.0);
}

/// A token that ends soon shows which streams it was given to.
#[test]
fn a_new_token_counts_for_exactly_the_streams_it_is_for() {
    let server = start();
    let mut streams = thousand(&server);
    let soon = |user: &str| named(user, "new", 4);
    let connection =
        |streams: &[(Listener, String)], n: usize| streams[n].0.connected.json()["connection"].clone();

    // One stream of user 3, all of user 7; requests of other users change nothing.
    let one = json!({"connection": connection(&streams, 13)});
    assert_problem(&post(&server, "/refresh", &soon("u7"), &one), 404, "connection_unknown");
    assert_problem(&post(&server, "/refresh", &soon("nobody"), &json!({})), 404, "connection_unknown");
    assert_problem(&post(&server, "/refresh", &nameless(&["sse:read"]), &json!({})), 403, "forbidden");
    assert_problem(&server.post("/refresh", &[], ""), 401, "unauthorized");
    assert_problem(&post(&server, "/refresh", "x", &json!({})), 401, "unauthorized");
    for body in [json!({"connection": "x"}), json!({"connection": 1}), json!({"user": "u3"}), json!([])] {
        assert_problem(&post(&server, "/refresh", &soon("u3"), &body), 400, "body_malformed");
    }
    let roomless = token("u9", &["sse:read:other"]);
    assert_problem(&post(&server, "/refresh", &roomless, &json!({})), 403, "forbidden");

    let answer = post(&server, "/refresh", &soon("u3"), &one);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!((&answer.json()["refreshed"], &answer.json()["refused"]), (&json!(1), &json!(0)));
    assert!(answer.json()["expires_in_s"].as_u64().expect("an end") <= 4);
    let answer = post(&server, "/refresh", &soon("u7"), &json!({}));
    assert_eq!(answer.json()["refreshed"], 4);
    let refreshed = HashSet::from([13, 28, 29, 30, 31]);
    for n in &refreshed {
        let listener = &mut streams[*n].0;
        expiring(listener);
        listener.closing("expired");
    }
    assert_open_but(&server, &mut streams, &refreshed);
}

#[test]
fn a_stream_that_is_refreshed_in_time_stays() {
    let server = start();
    let short = |n: u32| named("ann", &format!("t{n}"), 6);
    let mut both = [short(1), short(2)].map(|token| listen(&server, "/stream/room/ann", &token));
    for listener in &mut both {
        expiring(listener);
    }
    let [mut kept, mut left] = both;
    let id = kept.connected.json()["connection"].clone();
    let answer = post(&server, "/refresh", &named("ann", "t3", 3600), &json!({"connection": id}));
    assert_eq!(answer.json()["refreshed"], 1, "{}", answer.text());
    left.closing("expired");
    assert_goes_on(&server, &mut kept);
}

/// The stream gets what is published to its room.
fn assert_goes_on(server: &TestServer, stream: &mut Listener) {
    let publisher = token("app", &["sse:publish:room"]);
    post(server, "/publish", &publisher, &json!({"room": "room", "data": "stays"}));
    assert_eq!(stream.data(), "stays");
}

/// The rights count when an event is written to a stream, not when the stream was opened.
#[test]
fn what_an_event_requires_is_held_against_the_newest_token() {
    let server = start();
    let (vip, plain) = (token("ann", &["sse:read:room", "vip"]), token("ann", &["sse:read:room"]));
    let [mut renewed, mut left] = [0, 1].map(|_| listen(&server, "/stream/room/ann", &vip));
    let connection = renewed.connected.json()["connection"].clone();
    let renew = |token: &str| {
        let answer = post(&server, "/refresh", token, &json!({"connection": connection}));
        assert_eq!(answer.json()["refreshed"], 1, "{}", answer.text());
    };
    let publisher = token("app", &["sse:publish:room"]);
    let publish = |secret: &str, open: &str| {
        let events =
            json!([{"room": "room", "data": secret, "require": "vip"}, {"room": "room", "data": open}]);
        assert_eq!(post(&server, "/publish", &publisher, &events).status(), 200);
    };
    publish("secret 1", "open 1");
    assert_eq!([renewed.data(), renewed.data()], ["secret 1", "open 1"]);
    renew(&plain);
    publish("secret 2", "open 2");
    assert_eq!(renewed.data(), "open 2");
    renew(&vip);
    publish("secret 3", "open 3");
    // Events that were withheld from the stream do not follow later.
    assert_eq!([renewed.data(), renewed.data()], ["secret 3", "open 3"]);
    for wanted in ["secret 1", "open 1", "secret 2", "open 2", "secret 3", "open 3"] {
        assert_eq!(left.data(), wanted, "only the one that was meant is renewed");
    }
}

/// Such a stream was once renewed, and so outlived the right by which it was open.
#[test]
fn what_somebody_opened_in_anothers_name_is_not_the_others_to_renew() {
    let server = start();
    let support = sign(
        SECRET,
        &json!({"sub": "cid", "exp": now() + 6, "permissions": ["sse:read:room", "sse:user:ann"]}),
    );
    let mut theirs = listen(&server, "/stream/room/ann", &support);
    let ann = token("ann", &["sse:read:room"]);
    assert_problem(&post(&server, "/refresh", &ann, &json!({})), 404, "connection_unknown");
    let mut own = listen(&server, "/stream/room/ann", &named("ann", "t", 6));
    expiring(&mut own);
    expiring(&mut theirs);
    assert_eq!(post(&server, "/refresh", &ann, &json!({})).json()["refreshed"], 1);
    theirs.closing("expired");
    assert_goes_on(&server, &mut own);
}

#[test]
fn where_nothing_is_set_up_there_is_nothing_to_renew_or_to_revoke_by() {
    let server = TestServer::start();
    let _listener = server.listen("/stream/room/ann");
    assert_problem(&server.post("/refresh", &[], ""), 404, "connection_unknown");
    assert_eq!(server.post("/revoke", &[], r#"{"user":"ann"}"#).json()["closed"], 0);
}

#[test]
fn a_revocation_closes_exactly_the_streams_it_means() {
    let server = start();
    let admin = token("ops", &["admin"]);
    let mut streams = thousand(&server);
    for (body, status, code) in [
        (json!({}), 422, "revocation_invalid"),
        (json!({"user": "u1", "token": "t"}), 422, "revocation_invalid"),
        (json!({"user": ""}), 422, "target_user_invalid"),
        (json!({"user": 7}), 422, "revocation_invalid"),
        (json!({"token": ""}), 422, "revocation_invalid"),
        (json!({"token": "x".repeat(257)}), 422, "revocation_invalid"),
        (json!({"users": ["u1"]}), 422, "revocation_invalid"),
    ] {
        assert_problem(&post(&server, "/revoke", &admin, &body), status, code);
    }
    assert_problem(
        &post(&server, "/revoke", &token("u1", &["admin:room"]), &json!({"user": "u1"})),
        403,
        "forbidden",
    );

    assert_eq!(post(&server, "/revoke", &admin, &json!({"user": "u5"})).json()["closed"], 4);
    assert_eq!(post(&server, "/revoke", &admin, &json!({"token": "t9-2"})).json()["closed"], 1);
    assert_eq!(post(&server, "/revoke", &admin, &json!({"token": "t9-2"})).json()["closed"], 0);
    assert_eq!(post(&server, "/revoke", &admin, &json!({"user": "u50000"})).json()["closed"], 0);
    let meant = HashSet::from([20, 21, 22, 23, 38]);
    for n in &meant {
        streams[*n].0.closing("revoked");
    }
    assert_open_but(&server, &mut streams, &meant);

    for n in &meant {
        let user = format!("/stream/room/u{}", n / STREAMS_EACH);
        assert!(!may_connect(&server, &user, &streams[*n].1), "{n}");
    }
    assert!(may_connect(&server, "/stream/room/u9", &streams[37].1), "the user's other tokens are good");
    let revoked_at = now();
    eventually("another second", || now() > revoked_at);
    assert!(may_connect(&server, "/stream/room/u5", &named("u5", "later", 60)));
    assert!(!may_connect(&server, "/stream/room/u9", &named("u9", "t9-2", 60)), "the name stays revoked");
    server.metrics().assert("tidegate_connections_closed_total{reason=\"revoked\"}", 5.0);
}

/// Streams are opened, renewed, or renewing while their token is revoked: none stays open.
#[test]
fn nobody_slips_past_a_revocation() {
    const CROWD: usize = 8;
    let server = start();
    let admin = token("ops", &["admin"]);
    for round in 0..25 {
        let (user, id) = (format!("r{round}"), format!("race{round}"));
        let old_id = format!("old{round}");
        let (old, raced) = (named(&user, &old_id, 3600), named(&user, &id, 3600));
        let path = format!("/stream/room/{user}");
        let mut renewed = listen(&server, &path, &old);
        let begin = Barrier::new(CROWD + 2);
        let late: Vec<Listener> = std::thread::scope(|scope| {
            let crowd: Vec<_> = (0..CROWD - 2)
                .map(|_| {
                    scope.spawn(|| {
                        let headers = [("authorization", &*bearer(&raced)), ("accept", "text/event-stream")];
                        let mut conn = server.connect();
                        begin.wait();
                        conn.send(request("GET", &format!("{BASE}{path}"), &headers, b""));
                        Listener::answered(conn)
                    })
                })
                .collect();
            let renewals: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        begin.wait();
                        post(&server, "/refresh", &raced, &json!({})).status()
                    })
                })
                .collect();
            scope.spawn(|| {
                begin.wait();
                assert_eq!(post(&server, "/revoke", &admin, &json!({"token": id})).status(), 200);
            });
            begin.wait();
            for renewal in renewals {
                assert!(matches!(renewal.join().expect("an answer"), 200 | 401));
            }
            crowd.into_iter().map(|listener| listener.join().expect("an answer")).collect()
        });
        for mut listener in late {
            if listener.head.status() == 200 {
                assert!(listener.event().contains("event: connected\n"));
                listener.closing("revoked");
            } else {
                assert_eq!(listener.head.status(), 401, "{}", listener.head.0);
            }
        }
        // If it is renewed before the revocation, the revocation closes it; if not, it goes on by the old token.
        let publisher = token("app", &["sse:publish:room"]);
        let answer = post(&server, "/publish", &publisher, &json!({"room": "room", "data": "left"}));
        match answer.json()["subscribers"].as_u64() {
            Some(1) => {
                assert_eq!(renewed.data(), "left");
                assert_eq!(post(&server, "/revoke", &admin, &json!({"token": old_id})).json()["closed"], 1);
                renewed.closing("revoked");
            }
            Some(0) => {
                renewed.closing("revoked");
            }
            others => panic!("{others:?} are left in round {round}"),
        }
    }
}

#[test]
fn no_revocation_is_forgotten_for_want_of_room() {
    let server = start();
    let admin = nameless(&["admin"]);
    let revocations = &server.server().engine().access.revocations;
    let when = When { at: now(), leeway_s: 0 };
    for n in 0..REVOCATIONS_MAX {
        revocations.add(&Revoked::Token(n.to_string().into()), when).expect("there is room");
    }
    assert_problem(&post(&server, "/revoke", &admin, &json!({"token": "one more"})), 503, "revocations_full");
    server.metrics().assert("tidegate_refused_total{reason=\"revocations\"}", 1.0);
    let known = post(&server, "/revoke", &admin, &json!({"token": "7"}));
    assert_eq!(known.status(), 200, "{}", known.text());
}
