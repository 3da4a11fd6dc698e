//! Promise: a polyfill that reconnects with the id in its URL resumes where it was, as a browser does with its header.
//! Shown with the polyfill that is most in use, unchanged.

use crate::common::{self, neighbours};

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use common::{BASE, PATIENCE, TestServer};
use serde_json::json;

const POLYFILL: &str = "tests/npm/node_modules/event-source-polyfill/src/eventsource.js";

/// Prints the data of each event, until it is stopped.
const PAGE: &str = "
    const { EventSourcePolyfill } = require(require('node:path').resolve(process.argv[1]));
    new EventSourcePolyfill(process.argv[2]).onmessage = (event) => console.log(event.data);
";

/// A page, which is closed with the value.
struct Page {
    node: Child,
    lines: Receiver<String>,
}

impl Page {
    fn open(url: &str) -> Option<Self> {
        let program = neighbours::find("node")?;
        neighbours::find_at(POLYFILL)?;
        let mut command = Command::new(program);
        command.args(["-e", PAGE, POLYFILL, url]).stdout(Stdio::piped());
        let mut node = command.spawn().expect("node starts");
        let printed = BufReader::new(node.stdout.take().expect("it is piped")).lines();
        let (print, lines) = channel();
        // Ends with node.
        thread::spawn(move || printed.map_while(Result::ok).try_for_each(|line| print.send(line)));
        Some(Self { node, lines })
    }

    fn line(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("an event")
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

/// Events published while the polyfill was away were once lost without a gap: the server ignored its parameter
/// `lastEventId`.
#[test]
fn a_polyfill_misses_nothing_while_it_is_away() {
    // It stays away long enough for a publish.
    let server = TestServer::with(|config| config.retry = Duration::from_secs(1));
    let Some(mut page) = Page::open(&format!("http://{}{BASE}/stream/a/u", server.addr)) else {
        return;
    };
    server.wait_for("tidegate_connections", 1.0);
    for round in 0..2 {
        server.publish(&json!({"room": "a", "data": format!("seen {round}")}));
        assert_eq!(page.line(), format!("seen {round}"));
        assert_eq!(server.post("/disconnect/a/u?stay_away=0", &[], "").json()["disconnected"], 1);
        let event = json!({"room": "a", "data": format!("while away {round}")});
        server.publish(&event);
        assert_eq!(page.line(), format!("while away {round}"));
    }
    server.metrics().assert("tidegate_gaps_total{reason=\"unknown\"}", 0.0);
}
