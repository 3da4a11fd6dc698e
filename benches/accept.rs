//! Connect and hand-over: from `connect` to the `connected` event over loopback, against a server in this process.
//!
//! `cargo bench --bench accept`. Both ends share the machine; `loadtest accept` measures the server's part alone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::config::{Config, ListenAddr};
use tidegate::server::Server;

fn connect_and_hand_over(c: &mut Criterion) {
    let any_port = ListenAddr::Tcp(([127, 0, 0, 1], 0).into());
    let config = Config {
        listen: vec![any_port.into()],
        admin_listen: None,
        max_connections_per_user: None,
        ..Config::default_for(4096)
    };
    let server = Server::start(config).expect("loopback is there");
    let ListenAddr::Tcp(address) = server.addresses()[0] else { unreachable!("it was asked for") };
    let mut first = [0; 1024];
    c.bench_function("connect to connected", |b| {
        b.iter(|| {
            let mut stream = TcpStream::connect(address).expect("the server listens");
            stream
                .write_all(b"GET /api/v1/sse/stream/bench/user HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n")
                .expect("the server reads");
            let count = stream.read(&mut first).expect("the server answers");
            assert!(first[..count].ends_with(b"}\n\n\r\n"), "head and `connected` come in one piece");
        });
    });
}

criterion_group!(benches, connect_and_hand_over);
criterion_main!(benches);
