//! Promise: where the application decides, a client gets exactly what the application allows. While the application
//! cannot be asked, every client is refused and asked to come back.

use crate::common;

use std::time::Duration;

use common::application::{Application, Asked, Reply};
use common::bearer::{TempFile, api_key_entry, bearer};
use common::conn::{Conn, Response, chunk, request};
use common::stream::Listener;
use common::{BASE, PATIENCE, TestServer, assert_problem};
use serde_json::{Value, json};
use tidegate::auth::api_keys;
use tidegate::config::{Config, RefusalStyle, UpstreamUrl};

fn asking(application: &Application) -> TestServer {
    asking_with(application, |_| {})
}

fn asking_with(application: &Application, change: impl FnOnce(&mut Config)) -> TestServer {
    let url = UpstreamUrl::parse(&application.url("/auth"));
    TestServer::with(|config| {
        config.auth_callback = url;
        // No cache, so that the application sees every question.
        config.auth_callback_cache = None;
        change(config);
    })
}

/// Names the user by a cookie, as applications do.
fn by_cookie(asked: &Asked) -> Reply {
    match asked.header("cookie") {
        Some("session=ann") => Reply::With(200, r#"{"user":"ann"}"#.to_owned()),
        Some("session=vip") => Reply::With(200, r#"{"permissions":["sse:read:a*","vip"]}"#.to_owned()),
        Some("session=bob") => Reply::With(403, String::new()),
        _ => Reply::With(401, String::new()),
    }
}

const STREAM: (&str, &str) = ("accept", "text/event-stream");

/// Returns the status and code of the answer to a stream that is not granted.
fn refused(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let headers = [&[STREAM], headers].concat();
    let answer = server.connect().round(&request("GET", &format!("{BASE}{path}"), &headers, b""));
    let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    (answer.status(), code)
}

#[test]
fn the_application_says_who_listens_and_where() {
    let application = Application::start(by_cookie);
    let server = asking(&application);
    let ann = Listener::open(server.connect(), "/stream?room=a", &[("cookie", "session=ann")]);
    assert_eq!(ann.connected.json()["user"], "ann");
    let asked = application.asked();
    assert_eq!((asked.len(), asked[0].line.as_str()), (1, "POST /auth"));
    assert_eq!(asked[0].json()["rooms"], json!(["a"]));

    let unauthorized = (401, "unauthorized".to_owned());
    let forbidden = (403, "forbidden".to_owned());
    assert_eq!(refused(&server, "/stream?room=a", &[]), unauthorized);
    assert_eq!(refused(&server, "/stream?room=a", &[("cookie", "session=eve")]), unauthorized);
    assert_eq!(refused(&server, "/stream?room=a", &[("cookie", "session=bob")]), forbidden);
    // The application may name the user; then a stream in another user's name is refused.
    assert_eq!(refused(&server, "/stream/a/bob", &[("cookie", "session=ann")]), forbidden);
    // It may also name the rooms.
    assert_eq!(refused(&server, "/stream?room=b", &[("cookie", "session=vip")]), forbidden);
}

#[test]
fn an_inbox_alone_is_asked_about_without_rooms() {
    let application = Application::start(by_cookie);
    let server = asking(&application);
    let ann = Listener::open(server.connect(), "/stream", &[("cookie", "session=ann")]);
    assert_eq!((&ann.connected.json()["user"], &ann.connected.json()["rooms"]), (&json!("ann"), &json!([])));
    let asked = application.asked()[0].json();
    assert_eq!((&asked["user"], &asked["rooms"]), (&json!(null), &json!([])));
    assert_eq!(refused(&server, "/stream?user=bob", &[]), (401, "unauthorized".to_owned()));
    assert_eq!(
        refused(&server, "/stream?user=bob", &[("cookie", "session=ann")]),
        (403, "forbidden".to_owned())
    );
    // A request without a room or user is refused without a question, and a client without a name has no inbox.
    let missing = (400, "room_missing".to_owned());
    let before = application.count();
    assert_eq!(refused(&server, "/stream", &[]), missing);
    assert_eq!(application.count(), before);
    assert_eq!(refused(&server, "/stream", &[("cookie", "session=vip")]), missing);
}

#[test]
fn each_connection_is_asked_about_again() {
    let application = Application::start(by_cookie);
    let server = asking(&application);
    for count in 1..=3 {
        let cookie = [("cookie", "session=ann"), ("last-event-id", "x-1")];
        drop(Listener::open(server.connect(), "/stream?room=a", &cookie));
        assert_eq!(application.count(), count);
        assert_eq!(application.asked()[count - 1].json()["last_event_id"], "x-1");
    }
}

#[test]
fn while_the_application_is_down_listeners_are_asked_to_come_back() {
    let application = Application::always(Reply::With(500, "{}".into()));
    let server = asking(&application);
    let request_bytes = request("GET", &format!("{BASE}/stream/a/u"), &[STREAM], b"");
    let mut conn = server.connect();
    conn.send(&request_bytes);
    let mut stream = Listener::answered(conn);
    assert_eq!(stream.head.status(), 200);
    let event = stream.event();
    assert!(
        event.contains("event: overload\n") && event.contains("\"reason\":\"auth_unavailable\""),
        "{event}"
    );
    assert!(event.starts_with("retry: "), "{event}");

    let by_status = asking_with(&application, |config| config.refusal = RefusalStyle::Status);
    assert_eq!(refused(&by_status, "/stream/a/u", &[]), (503, "auth_unavailable".to_owned()));
    by_status.wait_for(r#"tidegate_refused_total{reason="auth_unavailable"}"#, 1.0);
}

#[test]
fn what_anyone_may_have_needs_no_question() {
    let application = Application::start(by_cookie);
    let server = asking_with(&application, |config| {
        config.public_rooms = vec!["public-*".parse().expect("a pattern")];
    });
    let anyone = Listener::open(server.connect(), "/stream?room=public-1", &[]);
    assert_eq!((anyone.connected.json()["user"].as_str(), application.count()), (None, 0));
    // A client that shows a credential is known by it, in a public room as well.
    let ann = Listener::open(server.connect(), "/stream?room=public-1", &[("cookie", "session=ann")]);
    assert_eq!(ann.connected.json()["user"], "ann");
    assert_eq!(refused(&server, "/stream?room=public-1", &[("cookie", "session=eve")]).0, 401);
    assert_eq!(refused(&server, "/stream?room=public-1&room=b", &[]).0, 401);
}

/// `EventSource` cannot set a header, and a token need not be a JWT.
#[test]
fn a_token_in_the_url_is_passed_on_where_it_may_stand() {
    let application = Application::start(|asked| match asked.header("authorization") {
        Some("Bearer opaque+1") => Reply::With(200, r#"{"user":"ann"}"#.to_owned()),
        _ => Reply::With(401, String::new()),
    });
    let server = asking_with(&application, |config| config.token_query = true);
    let ann = Listener::open(server.connect(), "/stream?room=a&token=opaque%2B1", &[]);
    assert_eq!(ann.connected.json()["user"], "ann");
    let asked = &application.asked()[0];
    assert!(
        !asked.line.contains("opaque") && !asked.json().to_string().contains("opaque"),
        "only as a header"
    );
    let unauthorized = (401, "unauthorized".to_owned());
    assert_eq!(refused(&server, "/stream?room=a&token=wrong", &[]), unauthorized);
    assert_eq!(application.count(), 2);
    // Characters that would end the header are not passed on.
    assert_eq!(refused(&server, "/stream?room=a&token=opaque%2B1%0D%0Ax:y", &[]), unauthorized);
    assert_eq!(application.count(), 2);
    let ambiguous = (400, "token_ambiguous".to_owned());
    let bearer = [("authorization", "Bearer opaque+1")];
    assert_eq!(refused(&server, "/stream?room=a&token=opaque%2B1", &bearer), ambiguous);
    // Where the settings do not allow it, a token in the URL is ignored.
    let server = asking(&application);
    assert_eq!(refused(&server, "/stream?room=a&token=opaque%2B1", &[]), unauthorized);
    assert_eq!(application.asked()[2].header("authorization"), None);
}

/// A proxy in front uses HTTP Basic. The application sees the Basic credential if the request has no other. If the
/// application does not accept it, a public room is open to the visitor as to everyone.
#[test]
fn another_scheme_is_the_applications_business() {
    let application = Application::start(|asked| match asked.header("authorization") {
        Some("Basic YW5u") => Reply::With(200, r#"{"user":"ann"}"#.to_owned()),
        Some("Bearer opaque") => Reply::With(200, r#"{"user":"tok"}"#.to_owned()),
        _ => Reply::With(401, String::new()),
    });
    let server = asking_with(&application, |config| {
        config.public_rooms = vec!["public-*".parse().expect("a pattern")];
        config.token_query = true;
    });
    let known = [("authorization", "Basic YW5u")];
    let unknown = [("authorization", "Basic Ym9i")];
    let user = |path: &str, headers: &[(&str, &str)]| {
        let connected = Listener::open(server.connect(), path, headers).connected.json();
        connected["user"].as_str().map(str::to_owned)
    };
    assert_eq!(user("/stream?room=a", &known).as_deref(), Some("ann"));
    assert_eq!(user("/stream?room=public-1", &known).as_deref(), Some("ann"));
    assert_eq!(user("/stream?room=public-1", &unknown), None);
    assert_eq!(refused(&server, "/stream?room=a", &unknown), (401, "unauthorized".to_owned()));
    // Any other credential in the request is checked, in a public room as well.
    let with_cookie = [unknown[0], ("cookie", "session=eve")];
    assert_eq!(refused(&server, "/stream?room=public-1", &with_cookie).0, 401);
    // Many servers refuse two `Authorization` credentials, so the token goes alone.
    assert_eq!(user("/stream?room=a&token=opaque", &unknown).as_deref(), Some("tok"));
    assert_eq!(
        user("/stream?room=a", &[unknown[0], ("authorization", "Bearer opaque")]).as_deref(),
        Some("tok")
    );
}

#[test]
fn publishing_needs_a_key_all_the_same() {
    let application = Application::always(Reply::With(200, String::new()));
    let server = asking(&application);
    let body = br#"{"room":"a","data":1}"#;
    let headers = [("content-type", "application/json"), ("cookie", "session=ann")];
    let answer = server.connect().round(&request("POST", &format!("{BASE}/publish"), &headers, body));
    assert_eq!((answer.status(), application.count()), (401, 0));
}

/// The application's own program, which publishes and revokes by an API key.
struct Backend {
    key: String,
    file: TempFile,
}

impl Backend {
    fn new() -> Self {
        let key = api_keys::generate();
        let file = TempFile::new(&api_key_entry("app", &key, &["admin", "sse:publish"], ""));
        Self { key, file }
    }

    fn known_to(&self, config: &mut Config) {
        config.api_keys_file = Some(self.file.path().to_owned());
    }

    fn post(&self, server: &TestServer, path: &str, body: &Value) -> Response {
        let answer = server.post(path, &[("authorization", &bearer(&self.key))], body.to_string());
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer
    }

    /// Begins a stream of lines to room `hall` and sends the first one.
    fn begin_lines(&self, server: &TestServer) -> Conn {
        let mut conn = server.connect();
        conn.send(format!(
            "POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
             authorization: {}\r\ntransfer-encoding: chunked\r\n\r\n",
            bearer(&self.key)
        ));
        conn.send(chunk("{\"room\":\"hall\",\"data\":\"first\"}\n"));
        conn
    }

    fn publish_to_all(&self, server: &TestServer, data: &str) {
        self.post(server, "/publish", &json!({"all": true, "data": data}));
    }
}

fn listen(server: &TestServer, path: &str, session: &str) -> Listener {
    Listener::open(server.connect(), path, &[("cookie", &format!("session={session}"))])
}

#[test]
fn a_stream_lasts_as_long_as_the_application_said() {
    let application = Application::start(|asked| match asked.header("cookie") {
        Some("session=short") => Reply::With(200, r#"{"user":"ann","expires_in":2}"#.to_owned()),
        _ => Reply::With(200, String::new()),
    });
    let backend = Backend::new();
    let server = asking_with(&application, |config| backend.known_to(config));
    let mut endless = listen(&server, "/stream/a/bob", "endless");
    let mut short = listen(&server, "/stream?room=a", "short");
    // No announcement before: the client has no token to renew.
    short.closing("expired");
    backend.publish_to_all(&server, "still here");
    assert_eq!(endless.data(), "still here");
    // It is counted just after it was told.
    server.wait_for(r#"tidegate_connections_closed_total{reason="expired"}"#, 1.0);
}

/// A remembered answer counts for no more than the user it is about.
#[test]
fn whoever_is_revoked_is_out_although_the_application_said_yes_before() {
    let application = Application::always(Reply::With(200, String::new()));
    let backend = Backend::new();
    let server = asking_with(&application, |config| {
        backend.known_to(config);
        config.auth_callback_cache = Some(Duration::from_hours(1));
    });
    let mut ann = listen(&server, "/stream/a/ann", "1");
    let mut bob = listen(&server, "/stream/a/bob", "2");
    drop(listen(&server, "/stream/a/ann", "1"));
    assert_eq!(application.count(), 2, "the yes is remembered");
    server.wait_for(r#"tidegate_connections_closed_total{reason="client"}"#, 1.0);
    assert_eq!(backend.post(&server, "/revoke", &json!({"user": "ann"})).json()["closed"], 1);
    ann.closing("revoked");
    // The application is asked again. An answer from the very second of the revocation may be older than it.
    let again = request("GET", &format!("{BASE}/stream/a/ann"), &[("cookie", "session=1")], b"");
    assert_problem(&server.connect().round(&again), 503, "auth_unavailable");
    assert_eq!(application.count(), 3);
    backend.publish_to_all(&server, "still here");
    assert_eq!(bob.data(), "still here");
}

#[test]
fn a_reload_looks_again_at_those_the_application_let_in() {
    let application = Application::start(by_cookie);
    let backend = Backend::new();
    let server = asking_with(&application, |config| {
        backend.known_to(config);
        config.public_rooms = vec!["hall".parse().expect("a pattern")];
    });
    // The application was asked whether ann may listen there, and allowed it. For the other stream it named the rooms,
    // and this room is public.
    let mut by_answer = listen(&server, "/stream?room=hall", "ann");
    let mut by_permission = listen(&server, "/stream?room=a1", "vip");
    let mut as_anybody = listen(&server, "/stream?room=hall", "vip");
    let config = server.server().engine().config.clone();
    assert_eq!(server.server().reload(&config).expect("nothing is wrong with it"), [""; 0]);
    backend.publish_to_all(&server, "nothing has changed");
    for listener in [&mut by_answer, &mut by_permission, &mut as_anybody] {
        assert_eq!(listener.data(), "nothing has changed");
    }
    let private = Config { public_rooms: Vec::new(), ..config };
    assert_eq!(server.server().reload(&private).expect("nothing is wrong with it"), [""; 0]);
    as_anybody.closing("revoked");
    backend.publish_to_all(&server, "still here");
    for listener in [&mut by_answer, &mut by_permission] {
        assert_eq!(listener.data(), "still here");
    }
}

/// A reload once applied new settings about an application that only a restart begins or ceases to ask: either every
/// client was refused, or the application was no longer asked.
#[test]
fn a_reload_neither_begins_nor_ceases_to_ask() {
    let application = Application::start(by_cookie);
    let server = asking(&application);
    let asked = server.server().engine().config.clone();
    let unasked = Config { auth_callback: None, ..asked.clone() };
    assert_eq!(server.server().reload(&unasked).expect("nothing is wrong with it"), ["auth_callback"]);
    assert_eq!(refused(&server, "/stream?room=a", &[("cookie", "session=eve")]).0, 401);
    assert_eq!(application.count(), 1);

    let open = TestServer::start();
    let mut listener = open.listen("/stream/a/u");
    let asking = Config { auth_callback: asked.auth_callback, ..open.server().engine().config.clone() };
    assert_eq!(open.server().reload(&asking).expect("nothing is wrong with it"), ["auth_callback"]);
    open.publish(&json!({"room": "a", "data": "still here"}));
    assert_eq!(listener.data(), "still here");
}

/// The server once sent `expiring` to such a stream. Pages then refresh with a token that they do not have: 401.
#[test]
fn whom_the_application_lets_in_for_a_time_ends_and_comes_back() {
    let application = Application::always(Reply::With(200, r#"{"user":"ann","expires_in":2}"#.into()));
    let server = asking(&application);
    let mut listener = server.listen_with("/stream?room=a", &[("cookie", "session=ann")]);
    // The next event.
    listener.closing("expired");
    let back = server.listen_with("/stream?room=a", &[("cookie", "session=ann")]);
    assert_eq!((back.connected.json()["user"].as_str(), application.count()), (Some("ann"), 2));
}

/// Clients without a credential that asked for streams while the application hung once held every place for HTTP: a
/// publish with an API key took thirteen seconds.
#[test]
fn an_application_that_hangs_keeps_nobody_out_but_those_it_is_asked_about() {
    let application = Application::always(Reply::Held(200, "{}".into()));
    let backend = Backend::new();
    let server = asking_with(&application, |config| {
        backend.known_to(config);
        config.shards = 1;
        config.max_requests = 8;
        config.max_waiting_requests = 4;
        config.auth_callback_timeout = 2 * PATIENCE;
        config.public_rooms = vec!["hall".parse().expect("a pattern")];
    });
    let mut listener = server.listen("/stream?room=hall");
    // Begun by an accepted publisher: anonymous requests do not end it.
    let mut lines = backend.begin_lines(&server);
    assert_eq!(listener.data(), "first");
    let ask = |n: usize| {
        let mut conn = server.connect();
        let headers = [STREAM, ("cookie", &format!("session={n}"))];
        conn.send(request("GET", &format!("{BASE}/stream?room=a"), &headers, b""));
        conn
    };
    let mut waiting: Vec<Conn> = (0..2).map(ask).collect();
    server.wait_for("tidegate_waiting_requests", 3.0);
    for n in 2..20 {
        // A browser retries after this answer.
        let answer = ask(n).response();
        assert_eq!(answer.status(), 200);
        assert!(
            answer.text().ends_with("event: overload\ndata: {\"reason\":\"waiting\"}\n\n"),
            "{}",
            answer.text()
        );
        backend.publish_to_all(&server, "through");
        assert_eq!(listener.data(), "through");
    }
    assert_problem(
        &server.connect().round(&request("GET", &format!("{BASE}/stream?room=a"), &[("cookie", "s=1")], b"")),
        503,
        "waiting_full",
    );
    server.metrics().assert("tidegate_refused_total{reason=\"waiting\"}", 19.0);
    lines.send("0\r\n\r\n");
    assert_eq!(lines.response().status(), 200);
    application.release();
    for conn in &mut waiting {
        assert_eq!(conn.head().status(), 200);
    }
    server.wait_for("tidegate_waiting_requests", 0.0);
    assert_eq!(ask(20).head().status(), 200);
}
