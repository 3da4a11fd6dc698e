//! Promise: a Unix socket serves like a port; what a crash leaves behind is replaced, and what is in use is not taken.

mod common;

use std::error::Error as _;
use std::io::ErrorKind;
use std::os::unix::net::UnixListener;

use common::conn::{Conn, request};
use common::stream::Listener;
use common::{BASE, LOOPBACK, TempPath, TestServer, config};
use serde_json::json;
use tidegate::config::{Config, ListenAddr};
use tidegate::server::Server;

fn info(path: &TempPath) -> u16 {
    Conn::unix(&path.0).round(&request("GET", &format!("{BASE}/info"), &[], b"")).status()
}

/// Why a server with `config` does not start.
fn refusal(config: Config) -> (String, ErrorKind) {
    let err = Server::start(config).err().expect("in use");
    let source = err.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    (err.to_string(), source.expect("the system's own reason").kind())
}

#[test]
fn streams_and_publishes_go_over_either() {
    let path = TempPath::new();
    let server = TestServer::with(|config| config.listen = vec![path.listen().into(), LOOPBACK.into()]);
    let mut local = Listener::open(Conn::unix(&path.0), "/stream/a/local", &[]);
    let mut remote = server.listen("/stream/a/remote");
    let publish = |conn: Conn, data: &str| {
        let body = json!({"room": "a", "data": data}).to_string();
        let answer = conn.round(&request("POST", &format!("{BASE}/publish"), &[], body.as_bytes()));
        assert_eq!(answer.json()["subscribers"], 2);
    };
    publish(Conn::unix(&path.0), "1");
    publish(server.connect(), "2");
    for listener in [&mut local, &mut remote] {
        assert_eq!(listener.events(2), [1, 2].map(|n| format!("id: {}\ndata: {n}\n\n", server.id(n))));
    }
    drop(local);
    server.wait_for("tidegate_connections", 1.0);
}

#[test]
fn many_connections_are_spread_over_the_shards() {
    let path = TempPath::new();
    let server = TestServer::with(|config| {
        config.listen = vec![path.listen().into()];
        config.shards = 2;
    });
    let mut listeners: Vec<_> =
        (0..50).map(|n| Listener::open(Conn::unix(&path.0), &format!("/stream/a/u{n}"), &[])).collect();
    let published = server.server().shared().hub.publish(
        [tidegate::hub::draft::Draft {
            target: tidegate::hub::draft::Target::All,
            name: None,
            id: None,
            data: "x".into(),
            exclude: None,
            require: None,
        }],
        server.server().shared().clock.now(),
    );
    published.expect("it has no id of its own");
    for listener in &mut listeners {
        assert_eq!(listener.data(), "x");
    }
    // A cap by address has nothing to count here.
    server.metrics().assert("tidegate_connections", 50.0);
}

#[test]
fn a_socket_left_behind_is_replaced() {
    let path = TempPath::new();
    drop(UnixListener::bind(&path.0).unwrap());
    assert!(path.0.exists(), "closing does not remove it");
    let mut server = TestServer::with(|config| config.listen = vec![path.listen().into()]);
    assert_eq!(info(&path), 200);
    server.take().drain().unwrap();
    assert!(!path.0.exists(), "an orderly end does");
}

#[test]
fn a_socket_in_use_is_not_taken() {
    let path = TempPath::new();
    let _server = TestServer::with(|config| config.listen = vec![path.listen().into()]);
    let (text, kind) = refusal(Config { listen: vec![path.listen().into()], ..config() });
    let wanted = "wanted an address that can be listened on";
    assert_eq!(text, format!("listen=\"unix:{}\": {wanted}", path.0.display()));
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert_eq!(info(&path), 200, "the first one serves on");
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let path = TempPath::new();
    std::fs::write(&path.0, "precious").unwrap();
    let (_, kind) = refusal(Config { listen: vec![path.listen().into()], ..config() });
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert_eq!(std::fs::read(&path.0).unwrap(), b"precious");
}

#[test]
fn a_port_in_use_is_not_shared() {
    let server = TestServer::start();
    let listen = ListenAddr::Tcp(server.addr);
    let (text, kind) = refusal(Config { listen: vec![listen.clone().into()], ..config() });
    let wanted = "an address that can be listened on";
    assert_eq!(text, format!("listen=\"{}\": wanted {wanted}", server.addr));
    assert_eq!(kind, ErrorKind::AddrInUse);
    let admin = ListenAddr::Tcp(server.admin);
    let (text, kind) = refusal(Config { admin_listen: Some(admin), ..config() });
    assert_eq!(text, format!("admin_listen=\"{}\": wanted off or {wanted}", server.admin));
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert_eq!(server.get("/info").status(), 200);
    // Once it is free, it can be had at once, with the last connections still dying away.
    let addr = server.addr;
    drop(server);
    let again = Server::start(Config { listen: vec![listen.into()], ..config() }).unwrap();
    assert_eq!(again.addresses(), [ListenAddr::Tcp(addr)]);
}

#[test]
fn the_admin_listener_may_be_a_socket_too() {
    let path = TempPath::new();
    let server = Server::start(Config { admin_listen: Some(path.listen()), ..config() }).unwrap();
    let answer = Conn::unix(&path.0).round(&request("GET", "/readyz", &[], b""));
    assert_eq!((answer.status(), answer.text()), (200, "ready\n".to_owned()));
    drop(server);
    assert!(!path.0.exists());
}
