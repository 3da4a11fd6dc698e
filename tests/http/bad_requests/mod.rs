//! Promise: whatever a peer sends, the answer has the right status and code in less than a kilobyte, says where to
//! look, repeats nothing of the request but the name of a field, and is counted; and the server goes on.

mod heads;
mod hints;
mod requests;
mod servers;

use std::collections::{BTreeMap, BTreeSet};

use tidegate::answer::problem::Code;
use tidegate::engine::lifecycle::Stage;

use self::servers::{keyless, scenes};
use crate::common::application::Application;
use crate::common::conn::{Response, chunk, request};
use crate::common::metrics::Metrics;
use crate::common::stream::Listener;
use crate::common::{BASE, TestServer, assert_problem, eventually};

/// A text that every request contains and no answer may contain.
const MARK: &str = "zXyMark";

fn assert_refused(response: &Response, status: u16, code: &str) {
    assert_problem(response, status, code);
    let whole = format!("{}{}", response.head.0, response.text());
    assert!(!whole.contains(MARK), "{whole}");
    // A code with many causes comes with a detail.
    let many = ["not_found", "path_invalid", "query_invalid", "room_missing", "body_malformed"];
    assert!(!many.contains(&code) || response.json()["detail"].is_string(), "{whole}");
    assert!(code != "field_unknown" || response.json()["field"].is_string(), "{whole}");
}

/// A request on a connection of its own, and the status and code of its answer.
type Row = (Vec<u8>, u16, &'static str);

/// A server, the streams that keep its state, and the requests that it refuses.
struct Scene {
    server: TestServer,
    kept: Vec<Listener>,
    /// Asked by the server.
    application: Option<Application>,
    rows: Vec<Row>,
}

impl Scene {
    fn new(server: TestServer, rows: Vec<Row>) -> Self {
        Self { server, kept: Vec::new(), application: None, rows }
    }

    fn beside(self, application: Application) -> Self {
        Self { application: Some(application), ..self }
    }

    /// Opens a stream at `path` that stays open.
    fn keeping(mut self, path: &str) -> Self {
        self.kept.push(self.server.listen(path));
        self
    }
}

fn get(path: &str) -> Vec<u8> {
    get_with(path, &[])
}

fn get_with(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request("GET", &format!("{BASE}{path}"), headers, b"")
}

fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    request("POST", &format!("{BASE}{path}"), headers, body.as_bytes())
}

/// Changes the presence of the user `u`.
fn put(path: &str, body: &str) -> Vec<u8> {
    request("PUT", &format!("{BASE}{path}"), &[("tidegate-user", "u")], body.as_bytes())
}

fn publish(body: &str) -> Vec<u8> {
    post("/publish", &[], body)
}

/// Codes that need more than one request, their status, and the tests that show them.
const ELSEWHERE: [(&str, u16, &str); 10] = [
    ("mutes_full", 503, include_str!("../../access/mute.rs")),
    ("buffers_full", 503, include_str!("../../stream/limits.rs")),
    ("waiting_full", 503, include_str!("../places.rs")),
    ("dashboard_full", 503, include_str!("../../watch/dashboard.rs")),
    ("memory_exhausted", 503, include_str!("../../memory.rs")),
    ("revocations_full", 503, include_str!("../../access/sessions.rs")),
    ("stay_away_full", 503, include_str!("../../stream/limits.rs")),
    ("disk_full", 507, include_str!("../../order/full.rs")),
    ("publish_unknown", 503, include_str!("../../order/nodes.rs")),
    ("order_unavailable", 503, include_str!("../../order/failing.rs")),
];

#[test]
fn codes_that_are_shown_elsewhere_are() {
    for (code, status, test) in ELSEWHERE {
        let asserted = format!("{status}, \"{code}\");");
        let shows =
            |line: &str| line.trim_start().starts_with("assert_problem(") && line.ends_with(&asserted);
        assert!(test.lines().any(shows), "{code}");
    }
}

/// Returns the reason under which a refusal is counted. A second list, so that an error in the first one shows.
fn reason(code: &'static str) -> &'static str {
    match code {
        "buffers_full" => "buffers",
        "waiting_full" => "waiting",
        "user_connections_exceeded" => "user_connections",
        "address_connections_exceeded" => "address_connections",
        "origin_forbidden" => "origin",
        "address_forbidden" => "address",
        "header_required" => "header",
        "user_agent_forbidden" => "user_agent",
        "host_forbidden" => "host",
        "room_full" => "room_full",
        "event_id_repeated" => "repeated",
        "idempotency_mismatch" | "idempotency_busy" => "idempotency",
        "room_unknown" | "publish_keys_only" | "event_name_forbidden" | "repeated" => "room_policy",
        "publish_refused" => "application",
        "full"
        | "draining"
        | "muted"
        | "callback_unavailable"
        | "rate_limited"
        | "auth_unavailable"
        | "unauthorized"
        | "forbidden" => code,
        _ => "bad_request",
    }
}

/// Returns how many requests were refused, by reason.
fn refusals(metrics: &Metrics) -> BTreeMap<String, f64> {
    let reason = |series: &str| {
        let labels = series.strip_prefix("tidegate_refused_total{reason=\"")?;
        Some(labels.strip_suffix("\"}").expect("one label").to_owned())
    };
    let all = metrics.series.iter().filter_map(|(series, count)| Some((reason(series)?, *count)));
    all.filter(|(_, count)| *count > 0.0).collect()
}

#[test]
fn every_bad_request_has_its_status_and_code() {
    let mut seen = BTreeSet::from(ELSEWHERE.map(|(code, ..)| code));
    for Scene { server, kept, application, rows } in scenes() {
        let before = server.metrics();
        let mut counted = BTreeMap::<String, f64>::new();
        for (bytes, status, code) in rows {
            let mut conn = server.connect();
            // The server may answer before the request has come whole.
            let _ = conn.try_send(&bytes);
            let response = conn.response();
            let what = bytes[..bytes.len().min(200)].escape_ascii();
            assert_eq!((response.status(), &response.json()["code"]), (status, &code.into()), "{what}");
            assert_refused(&response, status, code);
            *counted.entry(reason(code).to_owned()).or_default() += 1.0;
            seen.insert(code);
        }
        eventually(&format!("{counted:?}"), || refusals(&server.metrics()) == counted);
        let published = "tidegate_events_published_total";
        server.metrics().assert(published, before.get(published));
        // Only requests that could have been accepted take a place among the connections.
        let open = kept.len();
        server.wait_for("tidegate_connections", f64::from(u32::try_from(open).expect("a few")));
        drop(application);
    }
    let all: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(seen, all, "each code is in a row");
}

#[test]
fn what_is_no_stream_is_not_counted_as_one() {
    let Scene { server, rows, .. } = keyless();
    for (bytes, ..) in rows {
        server.connect().round(&bytes);
    }
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"auth_unavailable\"}", 3.0);
    metrics.assert("tidegate_connections_total{outcome=\"refused\"}", 1.0);
}

#[test]
fn lines_that_a_drain_cuts_short_are_counted() {
    let server = TestServer::start();
    let mut listener = server.listen("/stream/a/u");
    let mut lines = server.connect();
    let head = "host: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked";
    lines.send(format!("POST {BASE}/publish HTTP/1.1\r\n{head}\r\n\r\n"));
    lines.send(chunk("{\"room\":\"a\",\"data\":\"x\"}\n"));
    assert_eq!(listener.data(), "x");
    server.server().engine().lifecycle.stage.send_replace(Stage::Ending);
    assert_problem(&lines.response(), 503, "draining");
    let metrics = server.metrics();
    metrics.assert("tidegate_refused_total{reason=\"draining\"}", 1.0);
    metrics.assert("tidegate_connections_total{outcome=\"refused\"}", 0.0);
}
