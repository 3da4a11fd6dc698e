//! Promise: the end of a request is unambiguous. What two readers could frame in two ways is refused, the requests
//! before it are answered, and the peer gets the reason, whatever it still sends.

use crate::common;

use common::conn::{Conn, request};
use common::{BASE, TestServer, assert_problem};

/// A publish of `data` to room `a` in chunks.
fn chunked(data: &str, chunks: &str) -> String {
    let body = format!(r#"{{"room":"a","data":"{data}"}}"#);
    let whole = format!("{:x}\r\n{body}\r\n", body.len());
    format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{whole}{chunks}")
}

#[test]
fn heads_that_could_be_read_in_two_ways_are_refused() {
    let server = TestServer::start();
    let publish =
        |fields: &str| format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n0\r\n\r\n");
    let table = [
        publish("content-length: 5\r\ntransfer-encoding: chunked"),
        publish("transfer-encoding: chunked\r\ncontent-length: 5"),
        publish("content-length: 5\r\ncontent-length: 5"),
        publish("content-length: 5, 5"),
        publish("content-length: +5"),
        publish("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        publish("transfer-encoding: identity"),
        publish("transfer-encoding: \u{b}chunked"),
        publish("transfer-encoding : chunked"),
        publish("x: a\r\n b"),
        publish("x: a\rb"),
        publish("x: a\nb: c"),
        publish("x: \u{1}"),
        format!("POST {BASE}/publish HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("GET {BASE}/info HTTP/1.1\nhost: x\n\n"),
        format!("GET {BASE}/info HTTP/1.1\r\nhost: x\n\r\n"),
        format!("GET\t{BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\r\n".repeat(9),
    ];
    let count = u32::try_from(table.len()).unwrap();
    for text in table {
        let mut conn = server.connect();
        conn.send(&text);
        assert_problem(&conn.response(), 400, "request_malformed");
        assert!(conn.is_closed(), "{text}");
        // After a good request, which is answered all the same.
        let mut conn = server.connect();
        let mut both = request("GET", &format!("{BASE}/info"), &[], b"");
        both.extend(text.as_bytes());
        conn.send(both);
        assert_eq!(conn.response().status(), 200, "{text}");
        assert_problem(&conn.response(), 400, "request_malformed");
        assert!(conn.is_closed(), "{text}");
    }
    server.wait_for("tidegate_refused_total{reason=\"bad_request\"}", f64::from(2 * count));
    assert_eq!(server.get("/info").json()["rooms"], 0);
}

#[test]
fn a_request_hidden_behind_another_is_not_served() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let hidden = r#"{"room":"a","data":"hidden"}"#;
    let inner = format!(
        "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    let mut conn = server.connect();
    conn.send(format!(
        "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        5 + inner.len()
    ));
    assert_problem(&conn.response(), 400, "request_malformed");
    assert!(conn.is_closed(), "nothing is answered behind it");
    server.publish(&serde_json::json!({"room": "a", "data": "seen"}));
    assert_eq!(listener.data(), "seen");
}

#[test]
fn a_broken_body_is_told_and_publishes_nothing() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(300));
    let table = [
        "xyz\r\n\r\n",
        "1;a=\u{1}\r\n \r\n0\r\n\r\n",
        "1\n \r\n0\r\n\r\n",
        "1\r\n  \r\n0\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\nx: \0\r\n\r\n",
        "fffffffffffffffff\r\n",
        &long,
    ];
    for chunks in table {
        let mut conn = server.connect();
        conn.send(chunked("broken", chunks));
        assert_problem(&conn.response(), 400, "request_malformed");
        assert!(conn.is_closed(), "{chunks}");
    }
    // A body that ends too early, from a peer that still reads.
    for text in [
        chunked("cut", "5\r\n"),
        format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{{\"room\":\"a\","),
    ] {
        let mut conn = server.connect();
        conn.send(&text);
        conn.end_sending();
        assert_problem(&conn.response(), 400, "request_malformed");
        assert!(conn.is_closed());
    }
    let mut conn = server.connect();
    conn.send(chunked("whole", "1;name=\"value\"\r\n \r\n0\r\ntrailer: x\r\n\r\n"));
    assert_eq!(conn.response().status(), 200);
    assert_eq!(listener.data(), "whole");
}

/// Faults of a request with a body, from the line after its `host` on.
fn broken_requests() -> Vec<String> {
    let fields = [
        "content-length: -1\r\n\r\n",
        "content-length: +5\r\n\r\n12345",
        "content-length: 0x5\r\n\r\n12345",
        "content-length: 5_0\r\n\r\n12345",
        "content-length: 1 2\r\n\r\n12345",
        "content-length: 5,5\r\n\r\n12345",
        "content-length: 5\r\ncontent-length: 6\r\n\r\n12345",
        "content-length:\r\n\r\n",
        "content-length : 5\r\n\r\n12345",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        "transfer-encoding:\r\n\r\n0\r\n\r\n",
        "transfer-encoding\r\n : chunked\r\n\r\n0\r\n\r\n",
        "x: a\r\n b\r\n\r\n",
        " x: a\r\n\r\n",
        "x: a\n\r\n",
        "x: a\rb\r\n\r\n",
        "x: a\0b\r\n\r\n",
        "x y: a\r\n\r\n",
        ": a\r\n\r\n",
        "no colon\r\n\r\n",
    ];
    let chunks = [
        "x\r\n",
        "\r\n",
        "-5\r\n12345\r\n0\r\n\r\n",
        "+5\r\n12345\r\n0\r\n\r\n",
        "0x5\r\n12345\r\n0\r\n\r\n",
        "5_0\r\n12345\r\n0\r\n\r\n",
        " 5\r\n12345\r\n0\r\n\r\n",
        "5 \r\n12345\r\n0\r\n\r\n",
        "5,5\r\n12345\r\n0\r\n\r\n",
        "5;a\n12345\r\n0\r\n\r\n",
        "5;a\rb\r\n12345\r\n0\r\n\r\n",
        "5;a\0\r\n12345\r\n0\r\n\r\n",
        "5\n12345\r\n0\r\n\r\n",
        "5\r\n123456\r\n0\r\n\r\n",
        "5\r\n1234\r\n0\r\n\r\n",
        "5\r\n12345\n0\r\n\r\n",
        "5\r\n123450\r\n\r\n",
        "5\r\n12345\r\nx\r\n\r\n",
        "fffffffffffffffff\r\n",
        "100000000000000005\r\n12345\r\n0\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "0\r\nx: a\n\r\n",
        "0\r\nx : a\r\n\r\n",
        "0\r\ncontent-length: 5\r\n\r\n",
        "0\r\ntransfer-encoding: chunked\r\n\r\n",
        "0\r\nhost: y\r\n\r\n",
        "0\n\n",
    ];
    let chunked = chunks.iter().map(|chunks| format!("transfer-encoding: chunked\r\n\r\n{chunks}"));
    fields.iter().map(|fields| (*fields).to_owned()).chain(chunked).collect()
}

/// Where the body was not read, the request was once answered as if it had none: 200, 404 or 405. A proxy in front may
/// frame it as another request, so it must be refused everywhere.
#[test]
fn what_is_broken_is_refused_whatever_it_asks_for() {
    let server = TestServer::start();
    let public: [(&str, &str); 8] = [
        ("POST", "/publish"),
        ("GET", "/info"),
        ("POST", "/info"),
        ("GET", "/stream/a/u"),
        ("POST", "/stream/a/u"),
        ("POST", "/nothing"),
        ("OPTIONS", "/publish"),
        ("POST", "/disconnect/a/u"),
    ];
    let admin = ["GET /livez", "POST /livez", "GET /metrics", "POST /nothing", "GET /dashboard/stream"];
    let public = public.map(|(method, path)| (server.addr, format!("{method} {BASE}{path}")));
    let admin = admin.map(|line| (server.admin, line.to_owned()));
    let mut count = 0_u32;
    for rest in broken_requests() {
        for (addr, line) in public.iter().chain(&admin) {
            let text = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{rest}");
            let mut conn = Conn::tcp(*addr);
            conn.send(&text);
            let answer = conn.response();
            assert_eq!((answer.status(), answer.header("connection")), (400, Some("close")), "{text}");
            assert_problem(&answer, 400, "request_malformed");
            conn.end_sending();
            assert_eq!(conn.take_to_end().escape_ascii().to_string(), "", "nothing follows: {text}");
            count += 1;
        }
    }
    server.wait_for("tidegate_refused_total{reason=\"bad_request\"}", f64::from(count));
    server.metrics().assert("tidegate_connections", 0.0);
}

#[test]
fn request_lines_that_are_none_are_refused_on_every_listener() {
    let server = TestServer::start();
    for (addr, path) in [(server.addr, format!("{BASE}/info")), (server.admin, "/livez".to_owned())] {
        for line in [
            format!("GET  {path} HTTP/1.1"),
            format!("GET {path}  HTTP/1.1"),
            format!(" GET {path} HTTP/1.1"),
            format!("GET {path} HTTP/1.1 "),
            format!("GET {path} http/1.1"),
            format!("GET {path} HTTP/1.10"),
            format!("GET {path} HTTP/3.0"),
            format!("GET {path} HTTP/1"),
            format!("GET {path}"),
            format!("G@T {path} HTTP/1.1"),
            format!("GET {path}#x HTTP/1.1"),
            format!("GET {path}\u{7f} HTTP/1.1"),
            "GET".to_owned(),
        ] {
            let mut conn = Conn::tcp(addr);
            conn.send(format!("{line}\r\nhost: localhost\r\n\r\n"));
            assert_problem(&conn.response(), 400, "request_malformed");
            assert!(conn.is_closed(), "{line}");
        }
    }
}

/// The faulty chunk comes with the request, or after the answer. In the first case two answers came: a client would
/// have taken the second for the answer to its next request.
#[test]
fn nothing_follows_an_answer_that_ends_its_connection() {
    let server = TestServer::start();
    let head =
        |path: &str| format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    for (addr, path) in [(server.addr, "/nothing"), (server.admin, "/nothing")] {
        let mut conn = Conn::tcp(addr);
        conn.send(head(path) + "xyz\r\n");
        assert_problem(&conn.response(), 400, "request_malformed");
        conn.end_sending();
        assert_eq!(conn.take_to_end(), b"", "{path}");

        let mut conn = Conn::tcp(addr);
        conn.send(head(path));
        assert_eq!(conn.response().status(), 404);
        let _ = conn.try_send(b"xyz\r\n");
        conn.end_sending();
        assert_eq!(conn.take_to_end(), b"", "{path}");
    }
    // The client asks for the end, by a header or by its version.
    let info = format!("GET {BASE}/info HTTP/");
    for last in ["1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "1.0\r\n\r\n"] {
        let mut conn = server.connect();
        conn.send(format!("{info}{last}GET /\0"));
        assert_eq!(conn.response().status(), 200, "{last}");
        conn.end_sending();
        assert_eq!(conn.take_to_end(), b"", "{last}");
    }
}

/// A faulty body once ended the connection, and with it the answer to the request before it.
#[test]
fn requests_before_a_broken_body_are_answered() {
    let server = TestServer::start();
    let good = String::from_utf8(request("GET", &format!("{BASE}/info"), &[], b"")).expect("text");
    for bad in ["/publish", "/nothing"] {
        let bad =
            format!("POST {BASE}{bad} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n");
        for goods in 1..4 {
            let mut conn = server.connect();
            conn.send(good.repeat(goods) + &bad);
            for _ in 0..goods {
                assert_eq!(conn.response().status(), 200);
            }
            assert_problem(&conn.response(), 400, "request_malformed");
            assert!(conn.is_closed());
        }
    }
}

#[test]
fn a_request_names_the_host_it_is_for() {
    let server = TestServer::start();
    let info = |hosts: &str| format!("GET {BASE}/info HTTP/1.1\r\n{hosts}\r\n");
    for hosts in
        ["", "host: a\r\nhost: a\r\n", "host: \r\n", "host: a b\r\n", "host: a@b\r\n", "host: a/b\r\n"]
    {
        let conn = server.connect();
        assert_problem(&conn.round(info(hosts).as_bytes()), 400, "host_invalid");
    }
    for hosts in ["host: a.example:8080\r\n", "host: [::1]:8080\r\n"] {
        assert_eq!(server.connect().round(info(hosts).as_bytes()).status(), 200, "{hosts}");
    }
    let old = format!("GET {BASE}/info HTTP/1.0\r\n\r\n");
    assert_eq!(server.connect().round(old.as_bytes()).status(), 200);
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", 6.0);
}

#[test]
fn only_options_goes_with_an_asterisk_and_nothing_with_connect() {
    let server = TestServer::start();
    let ask = |line: &str| server.connect().round(format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
    let options = ask("OPTIONS *");
    let all = "GET, HEAD, POST, PUT, DELETE, OPTIONS";
    assert_eq!((options.status(), options.header("allow")), (204, Some(all)));
    assert_problem(&ask("GET *"), 400, "path_invalid");
    assert_problem(&ask("CONNECT example.test:443"), 405, "method_not_allowed");
}

/// The connection was once closed with most of the body unread, which reset it: a client that writes first and reads
/// later lost the answer with it.
#[test]
fn whoever_still_sends_reads_why_it_was_refused() {
    let server = TestServer::start();
    for head in [
        format!(
            "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\ncontent-type: text/html\r\n\r\n"
        ),
        format!("GET {BASE}/info HTTP/1.1\r\nhost: x\r\nx: {}\r\n", "x".repeat(17 << 10)),
        format!("GET {BASE}/info HTTP/1.1\nhost: x\r\n\r\n"),
    ] {
        let mut conn = server.connect();
        conn.send(&head);
        // The answer must arrive however late the rest comes.
        let answered = conn.head();
        assert!(matches!(answered.status(), 400 | 415 | 431), "{}", answered.0);
        for _ in 0..8 {
            conn.send(vec![b'x'; 100_000]);
        }
        conn.end_sending();
        let rest = String::from_utf8(conn.take_to_end()).unwrap();
        assert!(rest.ends_with('}'), "{rest}");
    }
}
