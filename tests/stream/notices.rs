//! Promise: if the settings say so, the application is notified of every stream that ends, also of those that a drain
//! closes; an application that does not answer loses only its own notices.

use crate::common;

use serde_json::Value;
use tidegate::config::{Config, UpstreamUrl};
use tidegate::upstream::notices::ATTEMPTS_MAX;

use self::common::application::{Application, Asked, Reply};
use self::common::conn::{Conn, request};
use self::common::stream::Listener;
use self::common::{TestServer, eventually};

fn telling(application: &Application) -> TestServer {
    let url = UpstreamUrl::parse(&application.url("/gone"));
    TestServer::with(|config: &mut Config| config.disconnect_callback = url)
}

fn ok() -> Reply {
    Reply::With(204, String::new())
}

/// Returns all streams in the application's notices, in order.
fn told(asked: &[Asked]) -> Vec<Value> {
    asked.iter().flat_map(|asked| asked.json()["events"].as_array().cloned().expect("a list")).collect()
}

#[test]
fn a_stream_that_ends_is_told_with_all_that_names_it() {
    let application = Application::always(ok());
    let server = telling(&application);
    let listener = server.listen("/stream?room=a&room=b&user=me");
    let connected = listener.connected.json();
    drop(listener);
    eventually("the application is told", || application.count() == 1);
    let asked = application.asked();
    assert_eq!(asked[0].line, "POST /gone");
    assert_eq!(asked[0].header("content-type"), Some("application/json"));
    assert_eq!(asked[0].json()["epoch"], server.server().engine().hub.epoch().as_str());
    let [event] = &told(&asked)[..] else { panic!("{asked:?}") };
    for name in ["user", "rooms", "connection"] {
        assert_eq!(event[name], connected[name], "{event}");
    }
    assert_eq!(event["reason"], "client");
    let ago = |name: &str| event[name].as_f64().expect("seconds");
    assert!(ago("opened_s_ago") >= ago("closed_s_ago") && ago("closed_s_ago") >= 0.0, "{event}");
    server.wait_for(r#"tidegate_upstream_requests_total{kind="notice",outcome="ok"}"#, 1.0);
}

#[test]
fn the_servers_own_streams_are_nobodys_business() {
    let application = Application::always(ok());
    let mut server = telling(&application);
    // The probe and a page of the dashboard are streams as well.
    assert_eq!(server.admin("/readyz").status(), 200);
    let mut conn = Conn::tcp(server.admin);
    conn.send(request("GET", "/dashboard/stream", &[("accept", "text/event-stream")], b""));
    let mut page = Listener::answered(conn);
    assert_eq!(page.head.status(), 200, "{}", page.head.0);
    page.event();
    let listener = server.listen("/stream/lobby/me");
    server.take().drain().expect("no panic");
    let told = told(&application.asked());
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["user"], "me");
    drop((listener, page));
}

#[test]
fn streams_that_a_drain_closes_are_told_before_the_end() {
    let application = Application::always(ok());
    let mut server = telling(&application);
    let listeners: Vec<_> = (0..20).map(|user| server.listen(&format!("/stream/lobby/{user}"))).collect();
    server.take().drain().expect("no panic");
    let told = told(&application.asked());
    assert_eq!(told.len(), listeners.len());
    assert!(told.iter().all(|event| event["reason"] == "drain"), "{told:?}");
}

#[test]
fn what_ends_while_the_application_is_busy_goes_together() {
    let application = Application::always(Reply::Held(200, String::new()));
    let server = telling(&application);
    drop(server.listen("/stream/lobby/first"));
    eventually("the first is told", || application.under_way().0 == 1);
    let listeners: Vec<_> = (0..20).map(|user| server.listen(&format!("/stream/lobby/{user}"))).collect();
    drop(listeners);
    server.wait_for(r#"tidegate_connections_closed_total{reason="client"}"#, 21.0);
    application.release();
    eventually("all are told", || told(&application.asked()).len() == 21);
    assert_eq!(application.count(), 2);
}

#[test]
fn a_batch_is_sent_again_until_it_arrives() {
    let failures = std::sync::atomic::AtomicU32::new(2);
    let application = Application::start(move |_| {
        let left = failures.load(std::sync::atomic::Ordering::Relaxed);
        failures.store(left.saturating_sub(1), std::sync::atomic::Ordering::Relaxed);
        if left > 0 { Reply::With(503, String::new()) } else { ok() }
    });
    let server = telling(&application);
    drop(server.listen("/stream/lobby/me"));
    server.wait_for(r#"tidegate_upstream_requests_total{kind="notice",outcome="ok"}"#, 1.0);
    let told = told(&application.asked());
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|event| event["connection"] == told[0]["connection"]));
    let metrics = server.metrics();
    assert!(metrics.is(r#"tidegate_upstream_requests_total{kind="notice",outcome="status"}"#, 2.0));
    assert!(metrics.is("tidegate_notices_dropped_total", 0.0));
}

#[test]
fn a_batch_that_never_arrives_is_dropped_and_counted() {
    let application = Application::always(Reply::With(500, String::new()));
    let server = telling(&application);
    drop(server.listen("/stream/lobby/me"));
    server.wait_for("tidegate_notices_dropped_total", 1.0);
    assert_eq!(application.count(), usize::try_from(ATTEMPTS_MAX).expect("a small number"));
}

/// An application that receives the notices of a drain and never answers delays the end only for as long as is planned.
#[test]
fn an_application_that_never_answers_does_not_keep_the_server_from_ending() {
    let application = Application::always(Reply::Held(200, String::new()));
    let mut server = telling(&application);
    let listener = server.listen("/stream/lobby/me");
    server.take().drain().expect("no panic");
    assert_eq!(application.count(), 1);
    drop(listener);
}
