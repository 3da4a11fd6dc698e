//! Promise: settings that no other promise covers do what the reference says, as a client sees it.

use crate::common;

use std::net::SocketAddr;
use std::time::Duration;

use common::bearer::{SECRET, bearer, key, now, sign, token};
use common::conn::{Conn, request};
use common::stream::Listener;
use common::{BASE, LOOPBACK, TempPath, TestServer, assert_problem, eventually};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tidegate::config::AddressRange;

#[test]
fn everything_is_served_below_base_path_and_nowhere_else() {
    for base in ["", "/push/v2"] {
        let server = TestServer::with(|config| config.base_path = base.to_owned());
        let ask = |method: &str, path: &str, body: &str| {
            server.connect().round(&request(method, path, &[], body.as_bytes()))
        };
        let mut conn = server.connect();
        conn.send(request("GET", &format!("{base}/stream/a/u"), &[], b""));
        let mut listener = Listener::answered(conn);
        assert!(listener.event().contains("event: connected\n"), "{base:?}");
        let event = r#"{"room":"a","data":"x"}"#;
        assert_eq!(ask("POST", &format!("{base}/publish"), event).json()["subscribers"], 1, "{base:?}");
        assert_eq!(listener.data(), "x");
        assert_eq!(ask("GET", &format!("{base}/rooms/a"), "").json()["connections"], 1, "{base:?}");
        assert_problem(&ask("GET", &format!("{BASE}/stream/a/u"), ""), 404, "not_found");
        // The welcome names the paths.
        let welcome = ask("GET", "/", "").text();
        for path in ["/stream/ROOM/USER\n", "/publish\n", "/info\n"] {
            assert!(welcome.contains(&format!(" {base}{path}")), "{welcome}");
        }
    }
}

#[test]
fn only_addresses_that_are_allowed_are_served() {
    let path = TempPath::new();
    let server = TestServer::with(|config| {
        config.listen = vec![LOOPBACK.into(), path.listen().into()];
        config.allowed_addresses = vec![AddressRange::Net("127.0.0.2/31".parse().expect("a network"))];
    });
    let info = request("GET", &format!("{BASE}/info"), &[], b"");
    let from = |own: [u8; 4]| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((own, 0)).into()).expect("all of 127.0.0.0/8 is ours");
        socket.connect(&server.addr.into()).expect("the server listens");
        Conn::of(socket.into())
    };
    assert_eq!(from([127, 0, 0, 2]).round(&info).status(), 200);
    assert_eq!(from([127, 0, 0, 3]).round(&info).status(), 200);
    assert_problem(&from([127, 0, 0, 4]).round(&info), 403, "address_forbidden");
    assert_problem(&Conn::unix(&path.0).round(&info), 403, "address_forbidden");
    server.metrics().assert("tidegate_refused_total{reason=\"address\"}", 2.0);
}

#[test]
fn who_is_disconnected_stays_away_for_as_long_as_is_set() {
    let events = [("accept", "text/event-stream")];
    for (stay_away, status) in [(7, 204), (0, 200)] {
        let server = TestServer::with(|config| config.stay_away = Duration::from_secs(stay_away));
        let mut listener = server.listen("/stream/a/u");
        let answer = server.post("/disconnect/a/u", &[], "");
        assert_eq!(answer.text(), format!(r#"{{"disconnected":1,"stay_away_s":{stay_away}}}"#));
        listener.closing("disconnected");
        let mut conn = server.connect();
        conn.send(request("GET", &format!("{BASE}/stream/a/u"), &events, b""));
        assert_eq!(conn.head().status(), status);
    }
}

/// Asks for the members of a room, which needs a token.
fn members(server: &TestServer, token: &str) -> u16 {
    let headers = [("authorization", &*bearer(token))];
    server.connect().round(&request("GET", &format!("{BASE}/rooms/a"), &headers, b"")).status()
}

#[test]
fn a_revocation_is_remembered_for_as_long_as_is_set() {
    let server = TestServer::with(|config| {
        config.token_keys = vec![key(SECRET)];
        config.revocation_time = Duration::from_secs(2);
    });
    let named =
        sign(SECRET, &json!({"jti": "j", "exp": now() + 900, "permissions": ["sse:members", "sse:read"]}));
    let mut listener = server.listen_with("/stream?room=a", &[("authorization", &bearer(&named))]);
    let admin = bearer(&token("ops", &["admin"]));
    assert_eq!(server.post("/revoke", &[("authorization", &admin)], r#"{"token":"j"}"#).status(), 200);
    listener.closing("revoked");
    // By default it would be a day.
    eventually("it is forgotten", || members(&server, &named) == 200);
    server.wait_for("tidegate_revocations", 0.0);
}

#[test]
fn only_tokens_of_the_issuer_that_is_set_are_believed() {
    let server = TestServer::with(|config| {
        config.token_keys = vec![key(SECRET)];
        config.token_issuer = Some("https://issuer.example".to_owned());
    });
    let issued_by = |issuer: Value| {
        sign(SECRET, &json!({"iss": issuer, "exp": now() + 900, "permissions": ["sse:members"]}))
    };
    assert_eq!(members(&server, &issued_by(json!("https://issuer.example"))), 200);
    for other in [json!("https://issuer.example/"), json!("https://ISSUER.example"), json!([]), Value::Null] {
        assert_eq!(members(&server, &issued_by(other.clone())), 401, "{other}");
    }
    let nobody = sign(SECRET, &json!({"exp": now() + 900, "permissions": ["sse:members"]}));
    assert_eq!(members(&server, &nobody), 401);
    let metrics = server.metrics();
    metrics.assert("tidegate_tokens_refused_total{reason=\"issuer\"}", 3.0);
    // An `iss` that is not a text makes the claims malformed.
    metrics.assert("tidegate_tokens_refused_total{reason=\"claims\"}", 2.0);
}
