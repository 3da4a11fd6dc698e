//! Promise: on a listener that requires it, a PROXY protocol header names the client of a connection, if a trusted
//! proxy wrote it; a connection without a header is closed; no byte after the header is lost, and other listeners
//! accept no header.

use crate::common::{self, neighbours};

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::conn::{Conn, request};
use common::stream::Listener;
use common::{BASE, LOOPBACK, TempPath, TestServer, assert_problem};
use neighbours::{Folder, Port};
use serde_json::json;
use tidegate::config::{AddressRange, Config, Listen, ListenAddr};

/// A denied address, which shows the client that the server assumes.
const DENIED: &str = "198.51.100.7";

fn proxied(address: ListenAddr) -> Listen {
    Listen { address, proxied: true }
}

fn range(text: &str) -> AddressRange {
    AddressRange::Net(text.parse().expect("a network"))
}

/// A server whose only port requires headers, accepts them from loopback and refuses [`DENIED`].
fn server_with(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.listen = vec![proxied(LOOPBACK)];
        config.trusted_proxies = vec![range("127.0.0.0/8")];
        config.denied_addresses = vec![range("198.51.100.7/32")];
        change(config);
    })
}

fn server() -> TestServer {
    server_with(|_| {})
}

fn info() -> Vec<u8> {
    request("GET", &format!("{BASE}/info"), &[], b"")
}

fn line(client: &str) -> Vec<u8> {
    let (kind, own) = if client.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    format!("PROXY {kind} {client} {own} 4711 8080\r\n").into_bytes()
}

/// A header of version 2: command, family and transport, and the rest.
fn binary(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, kind][..], &length, rest].concat()
}

fn binary_for(client: &str, more: &[u8]) -> Vec<u8> {
    let client: IpAddr = client.parse().expect("an address");
    let (kind, source, own) = match client {
        IpAddr::V4(client) => (0x11, client.octets().to_vec(), vec![127, 0, 0, 1]),
        IpAddr::V6(client) => (0x21, client.octets().to_vec(), vec![0; 16]),
    };
    binary(0x21, kind, &[&source, &own, &[0x12, 0x67, 0x1f, 0x90][..], more].concat())
}

/// Returns the status of the answer to a request after `header`.
fn status(conn: Conn, header: &[u8]) -> u16 {
    conn.round(&[header, &info()].concat()).status()
}

#[test]
fn a_connection_is_whose_the_header_says() {
    let server = server();
    for (header, wanted) in [
        (line(DENIED), 403),
        (line("198.51.100.8"), 200),
        (line("::ffff:198.51.100.7"), 403),
        (line("2001:db8::7"), 200),
        (binary_for(DENIED, &[]), 403),
        (binary_for(DENIED, &[0x04, 0, 3, 1, 2, 3]), 403),
        (binary_for("198.51.100.8", &[]), 200),
        (binary_for("::ffff:198.51.100.7", &[]), 403),
        (binary_for("2001:db8::7", &[0x20; 500]), 200),
        (binary(0x21, 0x12, &[198, 51, 100, 7, 127, 0, 0, 1, 0, 1, 0, 2]), 403),
        // The proxy speaks for itself, or for a client that it cannot name.
        (b"PROXY UNKNOWN\r\n".to_vec(), 200),
        (format!("PROXY UNKNOWN {DENIED} {DENIED} 1 2\r\n").into_bytes(), 200),
        (binary(0x20, 0x11, &[198, 51, 100, 7, 127, 0, 0, 1, 0, 1, 0, 2]), 200),
        (binary(0x20, 0x00, &[]), 200),
        (binary(0x21, 0x00, &[]), 200),
        (binary(0x21, 0x31, &[b'/'; 216]), 200),
    ] {
        assert_eq!(status(server.connect(), &header), wanted, "{}", header.escape_ascii());
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"address\"}", 6.0);
    metrics.assert("tidegate_refused_total{reason=\"proxy_header\"}", 0.0);
}

/// After a header without an address, an address that the client names does not count.
#[test]
fn whoever_is_not_named_by_the_header_names_nobody() {
    let server = server();
    let forwarded = request("GET", &format!("{BASE}/info"), &[("x-forwarded-for", DENIED)], b"");
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        binary(0x20, 0x00, &[]),
        binary(0x21, 0x00, &[]),
        binary(0x21, 0x31, &[b'/'; 216]),
    ] {
        let answer = server.connect().round(&[&header[..], &forwarded].concat());
        assert_eq!(answer.status(), 200, "{}", header.escape_ascii());
    }
}

/// After each header come two requests and a stream, whose first bytes come with the header or later.
#[test]
fn nothing_is_lost_however_it_arrives() {
    let server = server();
    for header in
        [line("198.51.100.8"), binary_for("2001:db8::7", &[0x20; 40]), b"PROXY UNKNOWN\r\n".to_vec()]
    {
        let all = [&header[..], &info(), &info()].concat();
        for step in [1, 7, header.len(), header.len() + 1, all.len()] {
            let mut conn = server.connect();
            for piece in all.chunks(step) {
                conn.send(piece);
            }
            assert_eq!((conn.response().status(), conn.response().status()), (200, 200), "{step}");
            let mut listener = Listener::open(conn, "/stream/a/u", &[]);
            let id = server.publish_behind(&line("198.51.100.9"), step);
            assert_eq!(listener.event(), format!("id: {id}\nroom: a\ndata: {step}\n\n"));
        }
    }
}

trait Publish {
    /// Publishes `data` to room `a` on a connection that begins with `header`.
    fn publish_behind(&self, header: &[u8], data: usize) -> String;
}

impl Publish for TestServer {
    fn publish_behind(&self, header: &[u8], data: usize) -> String {
        let body = json!({"room": "a", "data": data}).to_string();
        let publish = request("POST", &format!("{BASE}/publish"), &[], body.as_bytes());
        let answer = self.connect().round(&[header, &publish].concat());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }
}

#[test]
fn a_connection_without_a_header_is_closed_unanswered() {
    let server = server();
    let table = [
        info(),
        b"\r\n".to_vec(),
        b"proxy TCP4 198.51.100.8 127.0.0.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.8 127.0.0.1 1\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.8 127.0.0.1 1 2\n".to_vec(),
        b"PROXY TCP4 198.51.100.8, 127.0.0.1 1 2\r\n".to_vec(),
        b"PROXY UNKNOWN\rGET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![b'P'; 20],
        [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(),
        binary(0x21, 0x11, &[0; 11]),
        binary(0x11, 0x11, &[0; 12]),
        binary(0x22, 0x11, &[0; 12]),
        binary(0x21, 0x44, &[0; 12]),
        binary(0x21, 0x00, &[0; 4096]),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ];
    let count = u32::try_from(table.len()).expect("a short table");
    for bytes in table {
        let mut conn = server.connect();
        let _ = conn.try_send(&[&bytes[..], &info()].concat());
        assert!(conn.is_closed(), "{}", bytes.escape_ascii());
    }
    // A header that ends in the middle.
    let mut conn = server.connect();
    conn.send(&line("198.51.100.8")[..20]);
    conn.end_sending();
    assert!(conn.is_closed());
    server.wait_for("tidegate_refused_total{reason=\"proxy_header\"}", f64::from(count + 1));
    server.metrics().assert("tidegate_refused_total{reason=\"bad_request\"}", 0.0);
    // A second header counts as a request, which is malformed.
    let twice = [line("198.51.100.8"), line(DENIED)].concat();
    assert_eq!(status(server.connect(), &twice), 400);
}

#[test]
fn a_header_that_does_not_come_is_not_waited_for() {
    let server = server_with(|config| config.request_timeout = Duration::from_secs(1));
    // A probe that only connects and closes is not counted as refused.
    let mut probe = server.connect();
    probe.end_sending();
    assert!(probe.is_closed());
    server.metrics().assert("tidegate_refused_total{reason=\"proxy_header\"}", 0.0);

    let mut silent = server.connect();
    let mut half = server.connect();
    half.send(&line("198.51.100.8")[..20]);
    let mut large = server.connect();
    large.send(&binary(0x21, 0x00, &[0; 4000])[..3000]);
    for conn in [&mut silent, &mut half, &mut large] {
        assert!(conn.is_closed());
    }
    server.wait_for("tidegate_refused_total{reason=\"proxy_header\"}", 3.0);
    // After the header, the request's time goes on; a client with half a head is refused as everywhere.
    let mut conn = server.connect();
    conn.send([&line("198.51.100.8")[..], b"GET / HTT"].concat());
    assert_problem(&conn.response(), 408, "request_timeout");
}

#[test]
fn only_a_trusted_proxy_is_believed() {
    let server = server_with(|config| {
        config.trusted_proxies = vec![range("10.0.0.0/8")];
        config.denied_addresses = vec![range("127.0.0.1/32")];
    });
    // Whatever header the peer writes, its own address counts.
    for header in [line("198.51.100.8"), line("10.0.0.1"), binary_for("10.0.0.1", &[])] {
        assert_eq!(status(server.connect(), &header), 403);
    }
}

#[test]
fn forwarded_addresses_count_behind_a_header_of_a_proxy() {
    let server = server_with(|config| config.trusted_proxies.push(range("10.0.0.0/8")));
    let ask = |header: &[u8], forwarded: &str| {
        let headers = [("x-forwarded-for", forwarded)];
        let request = request("GET", &format!("{BASE}/info"), &headers, b"");
        server.connect().round(&[header, &request].concat()).status()
    };
    // The header names another proxy, which names the client.
    assert_eq!(ask(&line("10.0.0.5"), DENIED), 403);
    assert_eq!(ask(&line("10.0.0.5"), "198.51.100.8"), 200);
    // The header names the client, whose own `x-forwarded-for` does not count.
    assert_eq!(ask(&line("198.51.100.8"), DENIED), 200);
    assert_eq!(ask(&line(DENIED), "198.51.100.8"), 403);
}

#[test]
fn limits_by_address_go_by_the_header() {
    let server = server_with(|config| config.max_connections_per_address = Some(1));
    let listen = |client: &str, user: &str| {
        let mut conn = server.connect();
        conn.send(line(client));
        let path = format!("{BASE}/stream/a/{user}");
        conn.send(request("GET", &path, &[("accept", "text/event-stream")], b""));
        Listener::answered(conn)
    };
    let (mut first, mut other) = (listen("198.51.100.8", "a"), listen("198.51.100.9", "b"));
    for listener in [&mut first, &mut other] {
        assert!(listener.event().contains("event: connected\n"));
    }
    assert!(listen("198.51.100.8", "c").event().contains("event: overload\n"));
}

#[test]
fn each_listener_has_its_own_way() {
    let (with, without) = (TempPath::new(), TempPath::new());
    let server = server_with(|config| {
        config.listen = vec![LOOPBACK.into(), proxied(with.listen()), without.listen().into()];
        config.trusted_proxies = vec![AddressRange::Unix];
    });
    assert_eq!(server.server().listens()[1].to_string(), format!("proxy:unix:{}", with.0.display()));
    let header = line(DENIED);
    assert_eq!(status(Conn::unix(&with.0), &header), 403);
    assert_eq!(status(Conn::unix(&with.0), &line("198.51.100.8")), 200);
    assert_eq!(status(Conn::unix(&without.0), b""), 200);
    assert_eq!(status(server.connect(), b""), 200);
    // On a listener that does not require it, a header is a bad request.
    assert_eq!(status(Conn::unix(&without.0), &header), 400);
    assert_eq!(status(server.connect(), &header), 400);
    let mut conn = Conn::unix(&with.0);
    conn.send(info());
    assert!(conn.is_closed());
    server.wait_for("tidegate_refused_total{reason=\"proxy_header\"}", 1.0);
}

/// nginx that passes connections on unchanged, with a header in front.
struct Nginx {
    child: Child,
    port: Port,
}

impl Nginx {
    fn start(program: &Path, folder: &Folder, upstream: SocketAddr) -> Self {
        let port = Port::new();
        let address = port.address;
        let conf = format!(
            "load_module {STREAM_MODULE};\nuser root;\npid {pid};\nerror_log {log};\nevents {{}}\n\
             stream {{ server {{ listen {address} reuseport; proxy_pass {upstream}; proxy_protocol on; }} }}\n",
            pid = folder.file("pid"),
            log = folder.file("error.log"),
        );
        std::fs::write(folder.path().join("nginx.conf"), conf).expect("our folder");
        let child = Command::new(program)
            .args(["-c", &folder.file("nginx.conf"), "-g", "daemon off;"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        common::eventually("nginx", || std::net::TcpStream::connect(address).is_ok());
        Self { child, port }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // If it were killed, its workers would stay behind.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

#[test]
fn nginx_says_whom_it_forwards() {
    let Some(program) = neighbours::find("nginx") else { return };
    if neighbours::find_at(STREAM_MODULE).is_none() {
        return;
    }
    // Its workers connect from 127.0.0.1, and so does the test, except for the clients that are denied.
    let server = server_with(|config| config.denied_addresses = vec![range("127.0.0.2/32")]);
    let folder = Folder::new();
    let nginx = Nginx::start(&program, &folder, server.addr);
    let from = |own: [u8; 4]| {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((own, 0)).into()).expect("all of 127.0.0.0/8 is ours");
        socket.connect(&nginx.port.address.into()).expect("nginx listens");
        Conn::of(socket.into())
    };
    assert_eq!(status(from([127, 0, 0, 1]), b""), 200);
    assert_eq!(status(from([127, 0, 0, 2]), b""), 403);
    let mut listener = Listener::open(from([127, 0, 0, 3]), "/stream/a/u", &[]);
    let id = server.publish_behind(&line("198.51.100.8"), 1);
    assert_eq!(listener.event(), format!("id: {id}\nroom: a\ndata: 1\n\n"));
    // The test's own check for nginx came with a header, too.
    server.metrics().assert("tidegate_refused_total{reason=\"proxy_header\"}", 0.0);
}
