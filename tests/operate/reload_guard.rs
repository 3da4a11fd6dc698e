//! Promise: no reload turns authentication off. That takes a restart, which checks again on which addresses the server
//! may then listen.

use crate::common;

use std::net::{SocketAddr, TcpListener};

use common::bearer::{SECRET, TempFile, bearer, key, key_text, token};
use common::conn::{Conn, Response, request};
use common::process::Process;
use common::{BASE, TestServer, assert_problem, config};
use tidegate::config::{Config, ListenAddr, UpstreamUrl};
use tidegate::policy::PolicyError;
use tidegate::server::Server;
use tidegate::server::supervision::Supervision;

/// Any free port, open to every machine that reaches this one.
const EVERYWHERE: ListenAddr =
    ListenAddr::Tcp(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0));

/// Sends `GET /info`, which needs `admin` if authentication is on.
fn info(addr: SocketAddr, token: Option<&str>) -> Response {
    let bearer = token.map(bearer);
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", &**bearer)).collect();
    Conn::tcp(addr).round(&request("GET", &format!("{BASE}/info"), &headers, b""))
}

#[track_caller]
fn assert_guarded(addr: SocketAddr) {
    assert_problem(&info(addr, None), 401, "unauthorized");
    assert_eq!(info(addr, Some(&token("ops", &["admin"]))).status(), 200);
}

/// A file that an editor or a full disk had cut short once opened a server behind a proxy to everyone.
#[test]
fn a_file_that_was_cut_short_changes_nothing() {
    let keys = format!("token_keys = [\"{}\"]\n", key_text(SECRET));
    let file = TempFile::new(&keys);
    let process = Process::start(&["--config", file.text()], &[]);
    assert_guarded(process.addr);
    for left in ["", "# token_keys = []\n", "log_level = \"info\"\n"] {
        file.write(left);
        process.reload("the settings stay as they were");
        assert_guarded(process.addr);
    }
    let printed = process.printed();
    let line = printed.lines().rfind(|line| line.contains("stay as they were")).expect("just waited for");
    assert!(line.contains("ERROR") && line.contains("token_keys") && line.contains("restart"), "{line}");
    file.write(&keys);
    process.reload("the settings were read again");
    assert_guarded(process.addr);
    process.end();
}

/// Sockets of a service manager stay the same, whatever the settings say, and were once checked only at the start.
#[test]
fn sockets_that_were_handed_over_stay_guarded() {
    let socket = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let addr = socket.local_addr().expect("bound");
    let supervision = Supervision { sockets: vec![socket.into()], ..Supervision::default() };
    let guarded = Config { token_keys: vec![key(SECRET)], ..config() };
    let server = Server::start_supervised(guarded, supervision).expect("a socket");
    assert!(matches!(server.reload(&config()), Err(PolicyError::Unguarded)));
    assert_guarded(addr);
}

/// The settings are right by themselves: the new address needs no authentication, and an application decides. But both
/// take effect only with a restart; until then, the server once listened on every address without authentication.
#[test]
fn what_only_a_restart_takes_over_guards_nothing_yet() {
    let server = TestServer::with(|config| {
        config.listen = vec![EVERYWHERE.into()];
        config.token_keys = vec![key(SECRET)];
    });
    let with_callback = Config { auth_callback: UpstreamUrl::parse("http://127.0.0.1:9/auth"), ..config() };
    assert!(with_callback.authenticates());
    for wanted in [config(), with_callback] {
        assert!(matches!(server.server().reload(&wanted), Err(PolicyError::Unguarded)));
        assert_guarded(server.addr);
    }
}
