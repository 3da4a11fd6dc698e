//! Promise: a Unix socket serves like a port; the file that a crash leaves behind is replaced, and a socket in use is
//! not taken.

use crate::common;

use std::error::Error as _;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::conn::{Conn, request};
use common::process::{Process, TIDEGATE, command, command_of};
use common::stream::Listener;
use common::{BASE, LOOPBACK, PATIENCE, TempPath, TestServer, config};
use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};
use tidegate::config::{Config, ListenAddr};
use tidegate::server::Server;

fn info(path: &TempPath) -> u16 {
    Conn::unix(&path.0).round(&request("GET", &format!("{BASE}/info"), &[], b"")).status()
}

/// Returns why a server with `config` does not start.
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
        assert_eq!(
            listener.events(2),
            [1, 2].map(|n| format!("id: {}\nroom: a\ndata: {n}\n\n", server.id(n)))
        );
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
    let published = server.server().engine().order.publish(
        [tidegate::hub::draft::Draft::to(tidegate::hub::draft::Target::All, "x")],
        server.server().engine().clock.now(),
    );
    published.expect("it has no id of its own");
    for listener in &mut listeners {
        assert_eq!(listener.data(), "x");
    }
    // A limit by address has nothing to count here.
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
    let wanted = "wanted an address that can be listened on; another Tidegate runs there: stop it, or set another address";
    assert_eq!(text, format!("listen=\"unix:{}\": {wanted}", path.0.display()));
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert_eq!(info(&path), 200, "the first one serves on");
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let path = TempPath::new();
    std::fs::write(&path.0, "precious").unwrap();
    let (text, kind) = refusal(Config { listen: vec![path.listen().into()], ..config() });
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert!(
        text.ends_with("; a file that is not a socket is there: remove it, or set another path"),
        "{text}"
    );
    assert_eq!(std::fs::read(&path.0).unwrap(), b"precious");
}

#[test]
fn a_port_in_use_is_not_shared() {
    let server = TestServer::start();
    let listen = ListenAddr::Tcp(server.addr);
    let (text, kind) = refusal(Config { listen: vec![listen.clone().into()], ..config() });
    let wanted =
        "an address that can be listened on; another Tidegate runs there: stop it, or set another address";
    assert_eq!(text, format!("listen=\"{}\": wanted {wanted}", server.addr));
    assert_eq!(kind, ErrorKind::AddrInUse);
    let admin = ListenAddr::Tcp(server.admin);
    let (text, kind) = refusal(Config { admin_listen: Some(admin), ..config() });
    assert_eq!(text, format!("admin_listen=\"{}\": wanted off or {wanted}", server.admin));
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert_eq!(server.get("/info").status(), 200);
    // Once the address is free, it can be used at once, while the last connections still close.
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

/// The umask once decided the mode, and the group was the server's own: a neighbour's user could not connect.
#[test]
fn who_may_connect_is_as_asked_for_whatever_the_umask() {
    let probe = TempPath::new();
    let owner = UnixListener::bind(&probe.0).and_then(|_| probe.0.metadata()).expect("a file of ours");
    // Only root may give a file to a group that it is not in.
    let group = if owner.uid() == 0 { 4242 } else { owner.gid() };
    for (umask, mode) in [("000", 0o660), ("077", 0o660), ("777", 0o666), ("022", 0o600)] {
        let path = TempPath::new();
        let listen = format!("127.0.0.1:0,unix:{};mode={mode:o};group={group}", path.0.display());
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        let args = ["-c", &script, TIDEGATE, "--listen", &listen, "--admin-listen", "off"];
        let process = Process::spawn(&mut command_of("sh", &args));
        let file = path.0.metadata().expect("it listens there");
        assert_eq!((file.mode() & 0o7777, file.gid()), (mode, group), "umask {umask}");
        assert_eq!(info(&path), 200);
        let said = process.end();
        let told = format!("listen=unix:{};mode={mode:04o};group={group}", path.0.display());
        assert!(said.contains(&told), "{said}");
        assert!(!path.0.exists());
    }
}

#[test]
fn a_group_that_is_not_there_and_a_mode_that_is_none_are_errors_of_the_settings() {
    for (given, wanted) in [
        (
            "unix:/a;group=no-such-group",
            "a group of /etc/group, or the number of another, in place of no-such-group",
        ),
        ("unix:/a;mode=0999", "behind unix:/a options such as ;mode=0660 (octal, at most 0777)"),
        ("unix:/a;user=me", "behind unix:/a options such as ;mode=0660 (octal, at most 0777)"),
    ] {
        for key in ["listen", "admin-listen"] {
            let checked =
                command(&[&format!("--{key}={given}"), "--check-config"]).output().expect("it runs");
            let text = String::from_utf8(checked.stderr).expect("text");
            assert_eq!(checked.status.code(), Some(78), "{text}");
            assert!(text.contains(&format!("--{key}={given:?}: wanted ")) && text.contains(wanted), "{text}");
        }
    }
}

/// Waits for the end of a program that may hang, and returns its status and output.
fn ends(args: &[&str]) -> (Option<i32>, String) {
    let mut child =
        command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program is there");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("our child").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{args:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("it has ended");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// The server once waited for a place in the queue, without end and without a log line.
#[test]
fn a_socket_whose_queue_is_full_is_told_in_a_line() {
    let path = TempPath::new();
    let first = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let address = SockAddr::unix(&path.0).expect("a short path");
    first.bind(&address).and_then(|()| first.listen(1)).expect("a free path");
    let waiting = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        socket.connect(&address).ok().map(|()| socket)
    };
    let queue: Vec<Socket> = std::iter::from_fn(waiting).collect();
    assert!(!queue.is_empty());
    let place = format!("unix:{}", path.0.display());
    let (status, said) = ends(&["--listen", &place, "--admin-listen", "off"]);
    assert_eq!(status, Some(1), "{said}");
    let told = "another program listens there: stop it, or set another address: address in use";
    assert!(said.contains(&format!("listen={place:?}: wanted ")) && said.contains(told), "{said}");
    // The health check of a container once waited, too.
    let (status, said) = ends(&["--check-health", "--admin-listen", &place]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with("no answer at admin_listen: "), "{said}");
}
