//! How nginx and the engine reach each other: by name, over a socket or a port, without systemd, and several nodes.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::{fs, io};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    BASE, INSIDE, Nginx, RETRY, Upstream, adapt, configure, connections, engine, message, patiently,
};
use crate::common::eventsource::connect;
use crate::common::neighbours::{Folder, Port, Server, find};

/// Browsers ask for a site by its name. Behind nginx, a request with that name comes from loopback, and so would one
/// with the name of an attacker.
#[tokio::test]
async fn browsers_reach_a_site_by_its_name() {
    let Some(program) = find("nginx") else { return };
    let by_name = async |address: SocketAddr, method: &str, path: &str, body: &str| {
        let mut socket = connect(INSIDE, address).await.expect("it listens");
        let head = format!(
            "{method} {BASE}{path} HTTP/1.1\r\nhost: push.example\r\nconnection: close\r\naccept-language: en"
        );
        let length = body.len();
        let request =
            format!("{head}\r\norigin: http://push.example\r\ncontent-length: {length}\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer).await;
        answer
    };
    // As shipped, over TCP as the comments say, and over TCP without trust in nginx.
    for (over_tcp, trusted, status) in [(false, "unix", "200"), (true, "127.0.0.1", "200"), (true, "", "403")]
    {
        let folder = Folder::new();
        let (server, path) = engine(&folder, &[("TRUSTED_PROXIES", trusted)]).await;
        let upstream = if over_tcp { Upstream::Tcp(server.address) } else { Upstream::Unix(&path) };
        let nginx = Nginx::start(&program, &folder, &upstream).await;
        for (method, path, body) in [("GET", "/info", ""), ("POST", "/publish", r#"{"room":"a","data":1}"#)] {
            let answer = by_name(nginx.address, method, path, body).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{trusted:?} {method}: {answer}");
            assert_eq!(answer.contains("host_forbidden"), status == "403", "{answer}");
        }
    }
    // The few lines of the page on proxies do not pass the name on, so they need no trust.
    let folder = Folder::new();
    let server = Server::start(&[]).await;
    let page = include_str!("../../../docs/proxies.md")
        .split("```nginx\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let location = page.expect("a block").replace("127.0.0.1:8080", &server.address.to_string());
    let port = Port::new();
    let address = port.address;
    let conf = format!(
        "pid {pid};\nerror_log {log};\nuser root;\nevents {{}}\nhttp {{ access_log off; server {{ listen {address} reuseport;\n{location}}} }}\n",
        pid = folder.file("pid"),
        log = folder.file("error.log"),
    );
    fs::write(folder.path().join("nginx.conf"), conf).expect("our folder");
    let _nginx = Nginx::run(&program, &folder, port).await;
    let answer = by_name(address, "GET", "/stream?nowhere", "").await;
    assert!(answer.contains("room_missing"), "it went all the way: {answer}");
}

/// As shipped, nginx runs as `www-data`. Without systemd the socket was once open only to the server's own user: 502.
#[tokio::test]
async fn without_systemd_nginx_is_let_in_by_its_group() {
    let Some(program) = find("nginx") else { return };
    if fs::metadata("/proc/self").expect("procfs").uid() != 0 {
        // Not by `eprintln!`, whose output is shown only if the test fails.
        let _ = writeln!(io::stderr(), "skipped: only root can run nginx as another user");
        return;
    }
    let folder = Folder::new();
    let path = folder.file("http.sock");
    let listen = format!("127.0.0.1:0,unix:{path};mode=0660;group=www-data");
    let _server = Server::start(&[("LISTEN", &listen), ("TRUSTED_PROXIES", "unix")]).await;
    let port = Port::new();
    configure(&folder, port.address, &Upstream::Unix(&path), None);
    let conf = folder.path().join("nginx.conf");
    let text = fs::read_to_string(&conf).expect("it was written");
    fs::write(&conf, adapt(&text, &[("user root;", "user www-data;")])).expect("our folder");
    let nginx = Nginx::run(&program, &folder, port).await;
    let mut listener = nginx.listener(0, "/stream/a/u");
    patiently("connected", listener.message_of("connected")).await;
    nginx.publish(&json!({"room": "a", "data": "let in"})).await;
    assert_eq!(patiently("the event", listener.message()).await, message("let in"));
}

#[tokio::test]
async fn rooms_can_be_divided_among_servers() {
    const ROOMS: usize = 40;

    let Some(program) = find("nginx") else { return };
    let folder = Folder::new();
    let nodes = [Server::start(&[RETRY]).await, Server::start(&[RETRY]).await];
    let nginx =
        Nginx::start(&program, &folder, &Upstream::Divided([nodes[0].address, nodes[1].address])).await;
    let mut listeners: Vec<_> =
        (0..ROOMS).map(|n| nginx.listener(n, &format!("/stream/r{n}/u{n}"))).collect();
    for listener in &mut listeners {
        patiently("connected", listener.message_of("connected")).await;
    }
    for (n, listener) in listeners.iter_mut().enumerate() {
        let event = json!({"room": format!("r{n}"), "data": n}).to_string();
        let path = format!("{BASE}/publish?room=r{n}");
        let (status, answer) = nginx.ask(INSIDE, "POST", &path, "", &event).await;
        assert!(status == 200 && answer.contains(r#""subscribers":1,"#), "{answer}");
        assert_eq!(patiently("the event", listener.message()).await, message(&n.to_string()));
    }
    let [first, second] = [connections(&nodes[0]).await, connections(&nodes[1]).await];
    assert!(first > 0 && second > 0 && first + second == ROOMS as u64, "{first} and {second}");
    // By query or by path, a room belongs to the same node.
    for n in 0..ROOMS {
        let mut other = nginx.listener(n, &format!("/stream?room=r{n}&user=v{n}"));
        patiently("connected", other.message_of("connected")).await;
        let (status, text) = nginx.ask(INSIDE, "GET", &format!("{BASE}/rooms/r{n}"), "", "").await;
        let room: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((status, &room["connections"]), (200, &json!(2)), "{text}");
    }
}
