//! Promise: a subscriber gets exactly its events, in order, in exactly the bytes that the standard requires.

use crate::common;

use common::conn::request;
use common::stream::{End, Listener};
use common::{BASE, TestServer};
use serde_json::json;

#[test]
fn the_head_and_connected_come_with_the_first_read() {
    let server = TestServer::start();
    let mut conn = server.connect();
    conn.send(request("GET", &format!("{BASE}/stream/a/u"), &[], b""));
    assert!(conn.fill());
    let head = conn.head();
    assert_eq!(
        head.without_date(),
        "HTTP/1.1 200 OK\r\n\
         content-type: text/event-stream\r\n\
         cache-control: no-store, no-transform\r\n\
         x-accel-buffering: no\r\n\
         connection: close\r\n\
         x-content-type-options: nosniff\r\n\
         transfer-encoding: chunked\r\n\
         date: -\r\n\r\n"
    );
    let rest = String::from_utf8(conn.take_unread()).unwrap();
    let retry = rest.split_once("retry: ").and_then(|(_, rest)| rest.split('\n').next()).unwrap();
    assert!((2250..=3750).contains(&retry.parse().unwrap()), "{retry} is three seconds, jittered");
    let name = rest.split("\"connection\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let event = format!(
        "retry: {retry}\nevent: connected\nid: {}\n\
         data: {{\"connection\":\"{name}\",\"user\":\"u\",\"rooms\":[\"a\"]}}\n\n",
        server.id(0)
    );
    assert_eq!(rest, format!("{:x}\r\n{event}\r\n", event.len()));
}

#[test]
fn every_form_of_the_request_joins_what_it_names() {
    let server = TestServer::start();
    let table = [
        ("/stream/a/u", json!({"user": "u", "rooms": ["a"]})),
        ("/stream?room=a&user=u", json!({"user": "u", "rooms": ["a"]})),
        ("/stream?group=a&id=u", json!({"user": "u", "rooms": ["a"]})),
        ("/stream?room=b&group=a&room=b", json!({"rooms": ["b", "a"]})),
        ("/stream?room=a", json!({"rooms": ["a"]})),
        ("/stream/a%2Fb%20c/caf%C3%A9", json!({"user": "café", "rooms": ["a/b c"]})),
        ("/stream?room=a+b&user=%22", json!({"user": "\"", "rooms": ["a b"]})),
        ("/stream/a/u?unknown=1", json!({"user": "u", "rooms": ["a"]})),
    ];
    for (path, wanted) in table {
        let listener = server.listen(path);
        let mut data = listener.connected.json();
        let name = data.as_object_mut().and_then(|data| data.remove("connection"));
        assert!(name.is_some_and(|name| name.is_string()), "{path}");
        assert_eq!(data, wanted, "{path}");
    }
}

#[test]
fn http_1_0_gets_bare_bytes_up_to_the_close() {
    let server = TestServer::start();
    let mut conn = server.connect();
    conn.send(format!("GET {BASE}/stream/a/old HTTP/1.0\r\n\r\n"));
    let mut listener = Listener::answered(conn);
    assert!(listener.head.0.starts_with("HTTP/1.0 200 OK\r\n"), "{}", listener.head.0);
    assert_eq!(listener.head.header("transfer-encoding"), None);
    assert_eq!(listener.head.header("content-length"), None);
    assert!(listener.event().contains("event: connected\n"));
    let id = server.publish(&json!({"room": "a", "data": "x"}));
    assert_eq!(listener.event(), format!("id: {id}\nroom: a\ndata: x\n\n"));
    server.post("/disconnect/a/old", &[], "");
    listener.closing("disconnected");
}

#[test]
fn an_event_reaches_its_target_and_nobody_else() {
    let server = TestServer::start();
    let mut in_a = server.listen("/stream/a/u");
    let mut in_b = server.listen("/stream/b/u");
    let mut other = server.listen("/stream/a/v");
    let mut anonymous = server.listen("/stream?room=a");

    let publish = |body: serde_json::Value| server.publish(&body);
    let to_room = publish(json!({"room": "a", "data": "room"}));
    let to_user = publish(json!({"user": "u", "data": "user"}));
    let to_all = publish(json!({"all": true, "data": "all"}));
    let (room, user, all) = (
        format!("id: {to_room}\nroom: a\ndata: room\n\n"),
        format!("id: {to_user}\ndata: user\n\n"),
        format!("id: {to_all}\ndata: all\n\n"),
    );
    assert_eq!(in_a.events(3), [room.clone(), user.clone(), all.clone()]);
    assert_eq!(in_b.events(2), [user, all.clone()]);
    assert_eq!(other.events(2), [room.clone(), all.clone()]);
    assert_eq!(anonymous.events(2), [room, all]);
}

#[test]
fn the_excluded_user_misses_exactly_that_event() {
    let server = TestServer::start();
    let mut sender = server.listen("/stream/a/sender");
    let mut second_tab = server.listen("/stream/a/sender");
    let mut other = server.listen("/stream/a/other");
    let mut anonymous = server.listen("/stream?room=a");
    server.publish(&json!({"room": "a", "data": "1", "exclude": "sender"}));
    server.publish(&json!({"room": "a", "data": "2"}));
    server.publish(&json!({"all": true, "data": "3", "exclude": "sender"}));
    server.publish(&json!({"room": "a", "data": "4", "exclude": "nobody"}));
    for listener in [&mut sender, &mut second_tab] {
        assert_eq!([listener.data(), listener.data()], ["2", "4"]);
    }
    for listener in [&mut other, &mut anonymous] {
        assert_eq!([(); 4].map(|()| listener.data()), ["1", "2", "3", "4"]);
    }
    // A resume does not reveal it either.
    let start = sender.start_id().to_owned();
    let mut again = server.resume("/stream/a/sender", &start);
    assert_eq!([again.data(), again.data()], ["2", "4"]);
}

#[test]
fn data_goes_out_in_exact_bytes() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let table = [
        (r#""hello""#, "data: hello\n"),
        (r#""""#, "data: \n"),
        (r#""a\nb\rc\r\nd\n""#, "data: a\ndata: b\ndata: c\ndata: d\ndata: \n"),
        (r#"" leading, :colon""#, "data:  leading, :colon\n"),
        (r#""id: forged\n\nevent: gap""#, "data: id: forged\ndata: \ndata: event: gap\n"),
        (r#""é😀\u0000\u2028""#, "data: é😀\0\u{2028}\n"),
        ("null", "data: null\n"),
        ("true", "data: true\n"),
        ("1.50", "data: 1.50\n"),
        ("123456789012345678901234567890", "data: 123456789012345678901234567890\n"),
        ("{ \"b\" : 1,\n\t\"a\" : [ 1 , \"x y\" ] }", "data: {\"b\":1,\"a\":[1,\"x y\"]}\n"),
        (r#"["\n"]"#, "data: [\"\\n\"]\n"),
    ];
    for (at, (data, lines)) in (1..).zip(table) {
        let answer = server.post("/publish", &[], format!(r#"{{"room":"a","data":{data}}}"#));
        assert_eq!(answer.status(), 200, "{data}");
        assert_eq!(listener.event(), format!("id: {}\nroom: a\n{lines}\n", server.id(at)), "{data}");
    }
}

#[test]
fn names_and_ids_of_the_publisher_go_out_as_given() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let id = server.publish(&json!({"room": "a", "event": "price", "data": "1"}));
    assert_eq!(listener.event(), format!("event: price\nid: {id}\nroom: a\ndata: 1\n\n"));
    // The answer has the position, which works for a resume too.
    let position = server.publish(&json!({"group": "a", "id": "order-17_a.b~c", "data": "2"}));
    assert_eq!(position, server.id(2));
    assert_eq!(listener.event(), "id: order-17_a.b~c\nroom: a\ndata: 2\n\n");
    server.publish(&json!({"room": "a", "event": "connected2", "id": "order-18", "data": "3"}));
    assert_eq!(listener.event(), "event: connected2\nid: order-18\nroom: a\ndata: 3\n\n");

    for after in ["order-17_a.b~c", &position] {
        let mut resumed = server.resume("/stream/a/u", after);
        assert_eq!(resumed.start_id(), after);
        assert_eq!(resumed.event(), "event: connected2\nid: order-18\nroom: a\ndata: 3\n\n");
    }
}

#[test]
fn a_batch_arrives_in_its_order() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream?room=a&room=b&user=u");
    let batch = json!([
        {"room": "b", "data": 1},
        {"room": "a", "data": 2},
        {"user": "u", "data": 3},
        {"room": "elsewhere", "data": "no"},
        {"all": true, "data": 4},
        {"room": "b", "data": 5, "event": "last"},
    ]);
    let answer = server.post("/publish", &[], batch.to_string());
    assert_eq!(
        answer.text(),
        format!(r#"{{"id":"{}","subscribers":5,"durability":"memory","published":6}}"#, server.id(6))
    );
    let wanted = [(1, "room: b\n", 1), (2, "room: a\n", 2), (3, "", 3), (5, "", 4)]
        .map(|(at, room, n)| format!("id: {}\n{room}data: {n}\n\n", server.id(at)));
    assert_eq!(listener.events(4), wanted);
    assert_eq!(listener.event(), format!("event: last\nid: {}\nroom: b\ndata: 5\n\n", server.id(6)));
}

#[test]
fn rooms_share_one_order() {
    let server = TestServer::start();
    let mut both = server.listen("/stream?room=a&room=b");
    let mut seen = Vec::new();
    for n in 0..40 {
        let room = if n % 3 == 0 { "a" } else { "b" };
        server.publish(&json!({"room": room, "data": n.to_string()}));
    }
    for n in 0..40 {
        let event = both.event();
        assert!(event.ends_with(&format!("\ndata: {n}\n\n")), "{event}");
        seen.push(event.lines().next().and_then(|line| line.strip_prefix("id: ")).unwrap().to_owned());
    }
    // One id is enough to resume all rooms, from any position.
    for at in [0, 1, 17, 38] {
        let mut resumed = server.resume("/stream?room=b&room=a", &seen[at]);
        for n in at + 1..40 {
            assert_eq!(resumed.data(), n.to_string());
        }
    }
}

#[test]
fn everyone_gets_everything_whatever_the_shard() {
    let server = TestServer::with(|config| config.shards = 3);
    let mut listeners: Vec<_> = (0..60).map(|n| server.listen(&format!("/stream/a/u{n}"))).collect();
    for n in 0..50 {
        server.publish(&json!({"room": "a", "data": n.to_string()}));
    }
    for listener in &mut listeners {
        for n in 1..=50 {
            assert_eq!(listener.event(), format!("id: {}\nroom: a\ndata: {}\n\n", server.id(n), n - 1));
        }
    }
    server.wait_for("tidegate_events_delivered_total", 3000.0);
    let metrics = server.metrics();
    metrics.assert("tidegate_events_published_total", 50.0);
    metrics.assert("tidegate_connections", 60.0);
    metrics.assert("tidegate_connections_total{outcome=\"opened\"}", 60.0);
    metrics.assert("tidegate_users", 60.0);
    metrics.assert("tidegate_delivery_seconds_count", 3000.0);
}

#[test]
fn bytes_after_the_request_do_not_disturb_the_stream() {
    let server = TestServer::start();
    let mut conn = server.connect();
    let get = request("GET", &format!("{BASE}/stream/a/u"), &[], b"");
    conn.send([&get[..], &get[..]].concat());
    let mut listener = Listener::answered(conn);
    assert!(listener.event().contains("event: connected\n"));
    server.publish(&json!({"room": "a", "data": "x"}));
    assert_eq!(listener.data(), "x");
    server.post("/disconnect/a/u", &[], "");
    listener.closing("disconnected");
    assert_eq!(listener.end(), End::LastChunk);
}

/// `event_room = "off"`, for those who count bytes.
#[test]
fn where_that_is_off_no_event_says_which_room_it_is_from() {
    for (is_on, line) in [(true, "room: a\n"), (false, "")] {
        let server = TestServer::with(|config| config.event_room = is_on);
        let mut conn = server.connect();
        conn.send(request("GET", &format!("{BASE}/stream/a/u"), &[], b""));
        assert!(conn.fill());
        let _head = conn.head();
        conn.take_unread();
        let mut expect = |event: String| {
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            let mut bytes = Vec::new();
            while bytes.len() < chunk.len() && conn.fill() {
                bytes.extend(conn.take_unread());
            }
            assert_eq!(String::from_utf8(bytes).expect("text"), chunk);
        };
        let id = server.publish(&json!({"room": "a", "event": "say", "data": "x\ny"}));
        expect(format!("event: say\nid: {id}\n{line}data: x\ndata: y\n\n"));
        let id = server.publish(&json!({"user": "u", "data": "z"}));
        expect(format!("id: {id}\ndata: z\n\n"));
    }
}
