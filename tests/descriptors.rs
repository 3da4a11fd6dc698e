//! Promise: a server takes no more descriptors than the settings reserve for it, however many shards and listeners it
//! has. A file of its own, because no other test may open any beside it.

mod common;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use common::{TestServer, eventually};
use tidegate::config::{LISTEN_ADDRS_MAX, Listen, ListenAddr, SHARD_RESERVE};

/// The admin thread and this test take far fewer than the reserve for the process.
const OTHERS_MAX: u64 = 16;

fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").expect("Linux has it").count() as u64
}

/// A loopback address of its own, so that its port is free.
fn listen(at: usize) -> Listen {
    let last = u8::try_from(at + 1).expect("a few");
    ListenAddr::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).into()
}

#[test]
fn a_shard_takes_what_is_kept_back_for_it() {
    const SHARDS: usize = 16;
    let before = open_files();
    for listeners in [1, LISTEN_ADDRS_MAX] {
        let server = TestServer::with(|config| {
            config.shards = SHARDS;
            config.listen = (0..listeners).map(listen).collect();
        });
        // Every shard is at work.
        assert_eq!(server.admin("/readyz").status(), 200);
        // Each listener may have one connection more, which waits for a place.
        let kept = SHARDS as u64 * (SHARD_RESERVE - (2 * LISTEN_ADDRS_MAX - listeners) as u64);
        let mut taken = 0;
        eventually("what was asked with is closed", || {
            taken = open_files() - before;
            taken <= kept + OTHERS_MAX
        });
        assert!(taken > kept - OTHERS_MAX, "{taken} of {kept}: it is not worth keeping back that much");
        drop(server);
    }
}
