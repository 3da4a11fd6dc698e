//! Promise: Redis and sentinels are reached over TLS with a login, and nobody else's certificate will do.

use std::fs;
use std::net::TcpListener;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tidegate::order::redis::link::LinkState;
use tidegate::upstream::redis::Address;

use super::node::{Node, keep, wait_in_step};
use super::places::Sentinel;
use super::server::{RedisServer, redis_or_skip};
use crate::common::eventually;
use crate::common::neighbours::Folder;
use crate::common::process::{FREE_PORTS, command};
use crate::nodes::logged_until;

/// An authority, a certificate that it gave to 127.0.0.1, and what programs need of them, in files.
struct Certificates {
    folder: Folder,
}

impl Certificates {
    fn new() -> Self {
        let folder = Folder::new();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let files = [
            ("ca.pem", authority.pem()),
            ("certificate.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ];
        for (name, text) in files {
            fs::write(folder.file(name), text).expect("a file");
        }
        Self { folder }
    }

    fn authority(&self) -> String {
        self.folder.file("ca.pem")
    }

    /// The settings of a Redis or a sentinel that speaks TLS on `port` and asks nobody for a certificate.
    fn settings(&self, port: u16) -> Vec<(&'static str, String)> {
        vec![
            ("tls-port", port.to_string()),
            ("tls-cert-file", self.folder.file("certificate.pem")),
            ("tls-key-file", self.folder.file("key.pem")),
            ("tls-ca-cert-file", self.authority()),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-replication", "yes".to_owned()),
        ]
    }
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    free.expect("a free port").port()
}

/// A Redis with TLS, and its port for that.
fn redis_with(certificates: &Certificates) -> Option<(RedisServer, u16)> {
    let port = free_port();
    let settings = certificates.settings(port);
    let options = settings.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]);
    let options: Vec<String> = options.collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Some((RedisServer::start(&options)?, port))
}

fn at(url: &str, authority: &str) -> Address {
    Address::parse(url).expect("an address").with_ca_file(Some(authority.into()))
}

#[test]
fn a_redis_with_tls_and_a_login_in_files_is_followed() {
    let certificates = Certificates::new();
    let Some((server, port)) = redis_with(&certificates) else { return };
    let _: () = server.ask("ACL SETUSER pusher on >secret ~* +@all");
    let folder = Folder::new();
    let password = folder.file("password");
    fs::write(&password, "secret\n").expect("a file");
    let address = at(&format!("rediss://pusher@127.0.0.1:{port}"), &certificates.authority());
    let secure = Node::at(address.with_password_file(Some(password.into())), keep());
    secure.wait_live();
    let plain = Node::start(&server);
    secure.append("a");
    plain.append("b");
    wait_in_step(&server, &[&secure, &plain]);
}

/// By an authority that is not the one in the file, by one of the system if there is no file, and for another name.
#[test]
fn a_certificate_that_is_not_trusted_is_refused_with_its_reason() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let Some((_server, port)) = redis_with(&certificates) else { return };
    let cases = [
        ("127.0.0.1", Some(others.authority()), "certificate"),
        ("127.0.0.1", None, "certificate"),
        ("localhost", Some(certificates.authority()), "localhost"),
        ("127.0.0.1", Some(certificates.folder.file("missing.pem")), "missing.pem: No such file"),
        ("127.0.0.1", Some(certificates.folder.file("key.pem")), "key.pem: it has no certificate"),
    ];
    for (host, authority, reason) in cases {
        let order = format!("rediss://{host}:{port}");
        let file = authority.as_deref().unwrap_or("off");
        let args = [&FREE_PORTS[..], &["--order", &order, "--order-ca-file", file]].concat();
        let line = logged_until(&mut command(&args), "Redis is lost");
        assert!(line.contains(reason), "{host} {file}: {line}");
    }
}

#[test]
fn sentinels_with_tls_and_a_password_say_where_the_master_is() {
    let certificates = Certificates::new();
    let Some((master, port)) = redis_with(&certificates) else { return };
    let _: () = master.ask("CONFIG SET requirepass secret");
    let sentinel_port = free_port();
    let mut settings = certificates.settings(sentinel_port);
    settings.push(("port", "0".to_owned()));
    settings.push(("requirepass", "secret".to_owned()));
    settings.push(("sentinel auth-pass main", "secret".to_owned()));
    let Some(_sentinel) = Sentinel::with(port, sentinel_port, &settings) else { return };
    let place = format!("127.0.0.1:{sentinel_port}/main");
    let node = Node::at(at(&format!("rediss+sentinel://:secret@{place}"), &certificates.authority()), keep());
    node.wait_live();
    node.append("a");
    let wrong = at(&format!("rediss+sentinel://:wrong@{place}"), &certificates.authority());
    let refused = Node::at(wrong, keep());
    eventually("it is not let in", || refused.state() == Some(LinkState::Lost));
    assert_eq!(node.bodies(), ["a"]);
}

/// Most sentinels want no password, whatever their Redis wants.
#[test]
fn sentinels_without_a_password_are_asked_without() {
    let master = redis_or_skip!();
    let _: () = master.ask("CONFIG SET requirepass secret");
    let port = free_port();
    let settings = [("port", port.to_string()), ("sentinel auth-pass main", "secret".to_owned())];
    let Some(_sentinel) = Sentinel::with(master.port(), port, &settings) else { return };
    let node = Node::with(&format!("redis+sentinel://:secret@127.0.0.1:{port}/main"), keep());
    node.wait_live();
    node.append("a");
    assert_eq!(node.bodies(), ["a"]);
}

#[test]
fn a_socket_is_reached_with_a_password_from_a_file() {
    let server = redis_or_skip!();
    let _: () = server.ask("CONFIG SET requirepass secret");
    let folder = Folder::new();
    let password = folder.file("password");
    fs::write(&password, "secret").expect("a file");
    let address = Address::parse(&format!("unix:{}", server.socket().display())).expect("an address");
    let node = Node::at(address.with_password_file(Some(password.into())), keep());
    node.wait_live();
    node.append("a");
    assert_eq!(node.bodies(), ["a"]);
}
