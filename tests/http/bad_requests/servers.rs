//! Servers that refuse more: by their settings, or for what has happened before.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use tidegate::config::{
    AddressRange, Config, DeniedUserAgent, ForeignOrigins, HostPattern, JwksSource, KnownRooms, Rate,
    RequiredHeader, RoomSettings, RoomTable, Secret, UpstreamUrl,
};
use tidegate::http::api::publish::idempotency;
use tidegate::hub::room_policy::{PresencePolicy, RoomPolicies, RoomPolicy};
use tidegate::rights::pattern::Pattern;
use tidegate::types::name::OnceKey;

use super::requests::{bodies, events, messages, origins, paths, queries};
use super::{MARK, Row, Scene, get, get_with, post, publish, put};
use crate::common::application::{Application, Reply};
use crate::common::conn::request;
use crate::common::{BASE, TestServer, bearer, signer};

/// Every fault of a request, by the server that it is sent to. A code that is in no row fails the test.
pub(super) fn scenes() -> Vec<Scene> {
    let mut scenes = vec![
        Scene::new(
            TestServer::start(),
            [paths(), queries(), bodies(), events(), messages(), origins()].concat(),
        ),
        Scene::new(TestServer::with(strict), checks()),
        Scene::new(
            TestServer::with(|config| config.token_keys = vec![bearer::key(bearer::SECRET)]),
            credentials(),
        ),
        unreachable(),
        keyless(),
        Scene::new(
            TestServer::with(|config| config.request_timeout = Duration::from_secs(1)),
            vec![(format!("GET {BASE}/{MARK}").into_bytes(), 408, "request_timeout")],
        ),
        Scene::new(
            TestServer::with(|config| config.denied_addresses = vec![range("127.0.0.0/8")]),
            vec![(get("/info"), 403, "address_forbidden"), (publish("{"), 403, "address_forbidden")],
        ),
        Scene::new(
            TestServer::with(|config| config.max_connections = 1),
            vec![(get(&format!("/stream/a/{MARK}")), 503, "full")],
        )
        .keeping("/stream/a/u"),
        Scene::new(
            TestServer::with(|config| config.max_connections_per_user = Some(1)),
            vec![(get("/stream/a/u"), 503, "user_connections_exceeded")],
        )
        .keeping("/stream/a/u"),
        Scene::new(
            TestServer::with(|config| config.max_connections_per_address = Some(1)),
            vec![(get("/stream/a/other"), 503, "address_connections_exceeded")],
        )
        .keeping("/stream/a/u"),
        Scene::new(
            TestServer::with(|config| config.room_tables = vec![small_room()]),
            vec![(get(&format!("/stream/a?user={MARK}")), 503, "room_full")],
        )
        .keeping("/stream/a/u"),
        Scene::new(
            TestServer::with(|config| {
                config.rooms = KnownRooms::Listed;
                config.room_tables = vec![small_room()];
            }),
            vec![
                (get(&format!("/stream/{MARK}")), 403, "room_unknown"),
                (get(&format!("/rooms/{MARK}")), 403, "room_unknown"),
                (get(&format!("/rooms/{MARK}/history")), 403, "room_unknown"),
            ],
        ),
        present(),
        draining(),
        spent(),
        used(),
        ruled(),
    ];
    scenes.extend(refusing());
    scenes
}

/// The room `a`, with one listener.
fn small_room() -> RoomTable {
    let settings = RoomSettings { max_listeners: Some(1), ..RoomSettings::default() };
    RoomTable { pattern: "a".parse().expect("a pattern"), settings }
}

fn strict(config: &mut Config) {
    let key = RequiredHeader { name: "x-key".parse().expect("a name"), value: Some(Secret::new("open")) };
    config.required_headers = vec![key];
    config.denied_user_agents = vec![DeniedUserAgent::Containing("zxymark".to_owned())];
    config.allowed_hosts = vec![HostPattern::Exact("localhost".to_owned())];
    config.foreign_origins = ForeignOrigins::Refuse;
}

fn checks() -> Vec<Row> {
    let key = ("x-key", "open");
    let elsewhere =
        |host: &str| format!("GET {BASE}/info HTTP/1.1\r\nhost: {host}\r\nx-key: open\r\n\r\n").into_bytes();
    vec![
        (get("/info"), 403, "header_required"),
        (get_with("/info", &[("x-key", MARK)]), 403, "header_required"),
        (get_with("/info", &[key, ("x-key", MARK)]), 403, "header_required"),
        (get_with("/info", &[key, ("user-agent", MARK)]), 403, "user_agent_forbidden"),
        (elsewhere(MARK), 403, "host_forbidden"),
        (elsewhere("127.0.0.1"), 403, "host_forbidden"),
        (get_with("/info", &[key, ("origin", "https://zXyMark.example")]), 403, "origin_forbidden"),
    ]
}

/// Faulty credentials.
fn credentials() -> Vec<Row> {
    let with = |token: &str| bearer::bearer(token);
    let may_little = with(&bearer::token("u", &["sse:read:a", "sse:publish:a"]));
    let marked = with(&format!("{MARK}.{MARK}.{MARK}"));
    let stream = format!("/stream/a/{MARK}");
    let body = format!(r#"{{"room":"{MARK}","data":1}}"#);
    let by = |value: &'static str| ("authorization", value);
    let may_little: &'static str = may_little.leak();
    let may_revoke: &'static str = with(&bearer::token("ops", &["admin"])).leak();
    let marked: &'static str = marked.leak();
    let bad_require = r#"{"room":"a","data":1,"require":"zXyMark!"}"#;
    vec![
        (get(&stream), 401, "unauthorized"),
        (get_with(&stream, &[by(marked)]), 401, "unauthorized"),
        (get_with("/info", &[by("Basic zXyMark")]), 401, "unauthorized"),
        (post("/publish", &[], &body), 401, "unauthorized"),
        (get_with(&stream, &[by(may_little)]), 403, "forbidden"),
        (get_with("/info", &[by(may_little)]), 403, "forbidden"),
        (post("/publish", &[by(may_little)], &body), 403, "forbidden"),
        (post("/revoke", &[by(may_little)], "{}"), 403, "forbidden"),
        (post("/revoke", &[by(may_revoke)], "{}"), 422, "revocation_invalid"),
        (post("/revoke", &[by(may_revoke)], r#"{"users":["zXyMark"]}"#), 422, "revocation_invalid"),
        (post("/revoke", &[by(may_revoke)], "{\"user\":zXyMark"), 400, "body_malformed"),
        (post("/publish", &[by(may_little)], bad_require), 422, "require_invalid"),
        (post("/refresh", &[by(may_little)], ""), 404, "connection_unknown"),
        (get_with("/info", &[by(may_little), by(marked)]), 400, "token_ambiguous"),
    ]
}

/// A server whose application is not there.
fn unreachable() -> Scene {
    let server = TestServer::with(|config| {
        config.auth_callback = UpstreamUrl::parse("http://127.0.0.1:1/auth");
    });
    Scene::new(server, vec![(get(&format!("/stream/a/{MARK}")), 503, "auth_unavailable")])
}

/// A server whose application refuses each event, and one whose application is not there.
fn refusing() -> [Scene; 2] {
    let event = format!(r#"{{"room":"a","data":"{MARK}"}}"#);
    let me = bearer::bearer(&bearer::token("me", &["sse:publish"]));
    let scene = |url: &str, status, code| {
        let server = TestServer::with(|config| {
            config.token_keys = vec![bearer::key(bearer::SECRET)];
            config.publish_callback = UpstreamUrl::parse(url);
            let text =
                format!("publish_callback = {url:?}\n[[room]]\nmatch = \"a\"\ncallbacks = [\"publish\"]\n");
            config.room_tables =
                Config::from_toml("a.toml".as_ref(), &text, 4096).expect("settings").room_tables;
        });
        Scene::new(server, vec![(post("/publish", &[("authorization", &me)], &event), status, code)])
    };
    let application = Application::always(Reply::With(403, String::new()));
    let url = application.url("/publish");
    [
        scene(&url, 403, "publish_refused").beside(application),
        scene("http://127.0.0.1:1/publish", 503, "callback_unavailable"),
    ]
}

/// A server that has not read the keys yet that the tokens need.
pub(super) fn keyless() -> Scene {
    let url = UpstreamUrl::parse("http://127.0.0.1:1/jwks").expect("a URL");
    let server = TestServer::with(|config| config.token_jwks = vec![JwksSource::Url(url)]);
    let token = signer::ISSUER.token(Algorithm::ES256, &signer::claims());
    let by = bearer::bearer(&token);
    let by = [("authorization", &*by)];
    Scene::new(
        server,
        vec![
            (get_with("/stream/a/u", &by), 503, "auth_unavailable"),
            (get_with("/info", &by), 503, "auth_unavailable"),
            (post("/publish", &by, "{}"), 503, "auth_unavailable"),
        ],
    )
}

/// A server whose rooms have presence. Nobody is present.
fn present() -> Scene {
    let server = TestServer::start();
    let engine = server.server().engine();
    let policy = RoomPolicy { presence: Some(PresencePolicy::default()), ..(*RoomPolicy::example()).clone() };
    let tables = vec![(Pattern::parse("*").expect("a pattern"), Arc::new(policy))];
    engine.hub.set_policies(RoomPolicies { tables, ..RoomPolicies::default() }, engine.clock.now());
    let put = |body: &str| put("/presence/a", body);
    let rows = vec![
        (put(&format!(r#"{{"data":"{MARK}"}}"#)), 404, "not_present"),
        (put(&format!(r#"{{"status":"{MARK}"}}"#)), 422, "presence_invalid"),
        (put(r#"{"data":"zXyMark\ud800"}"#), 422, "presence_invalid"),
        (put(&format!("{{{MARK}")), 400, "body_malformed"),
        (put(&format!(r#"{{"data":"{MARK}{}"}}"#, "x".repeat(1024))), 413, "presence_too_large"),
        (request("PUT", &format!("{BASE}/presence/a"), &[], b"{\"data\":1}"), 422, "presence_invalid"),
        (get(&format!("/rooms/a/members?after={MARK}%00")), 400, "user_invalid"),
        (get(&format!("/rooms/a/members?limit={MARK}")), 400, "limit_invalid"),
    ];
    Scene::new(server, rows)
}

fn draining() -> Scene {
    let scene = Scene::new(TestServer::start(), vec![(get(&format!("/stream/a/{MARK}")), 503, "draining")]);
    scene.server.server().engine().hub.drain();
    scene
}

/// A server whose publisher has used up its rate.
fn spent() -> Scene {
    let rate = Rate { events: 1, per: Duration::from_hours(1) };
    let server = TestServer::with(|config| config.publish_rate_per_user = Some(rate));
    server.publish(&serde_json::json!({"room": "a", "data": 1}));
    Scene::new(server, vec![(publish(r#"{"room":"a","data":1}"#), 429, "rate_limited")])
}

/// A server that has an event with its publisher's own id.
fn used() -> Scene {
    let server = TestServer::start();
    server.publish(&serde_json::json!({"room": "a", "data": 1, "id": "once"}));
    let repeated = |body: &str| (publish(body), 409, "event_id_repeated");
    let rows = vec![
        repeated(r#"{"room":"a","data":1,"id":"once"}"#),
        repeated(r#"{"user":"u","data":2,"id":"once"}"#),
        repeated(r#"[{"all":true,"data":1},{"all":true,"data":2,"id":"once"}]"#),
        repeated(r#"[{"room":"a","data":1,"id":"twin"},{"room":"b","data":2,"id":"twin"}]"#),
    ];
    Scene::new(server, rows)
}

/// A server whose rooms have rules, with a user that has published, and one that is muted.
fn ruled() -> Scene {
    let tables = r#"
        rooms = "listed"
        [[room]]
        match = "keys"
        publish = "keys"
        [[room]]
        match = "chat"
        events = ["chat"]
        refuse_repeats = "1h"
    "#;
    let text = format!("api_keys_file = \"/keys.toml\"\n{tables}");
    let read = Config::from_toml("a.toml".as_ref(), &text, 4096).expect("right settings");
    let server = TestServer::with(|config| {
        config.token_keys = vec![bearer::key(bearer::SECRET)];
        (config.rooms, config.room_tables) = (read.rooms, read.room_tables);
    });
    let by = |user: &str| bearer::bearer(&bearer::token(user, &["sse:publish"]));
    let publish = |user: &str, body: &str| post("/publish", &[("authorization", &by(user))], body);
    let said = r#"{"room":"chat","event":"chat","data":1,"once":"k"}"#;
    assert_eq!(server.connect().round(&publish("u", said)).status(), 200);
    let engine = server.server().engine();
    engine.hub.mutes().put("quiet", "chat", None, engine.clock.now()).expect("a place");
    let (slow, key) = (r#"{"room":"chat","event":"chat","data":2}"#, OnceKey::new("slow").expect("a key"));
    let claim = idempotency::of_request("user u", &key, slow.as_bytes(), Duration::from_mins(5));
    // A first request that never ends.
    std::mem::forget(engine.order.begin(&claim, engine.clock.now()));
    let busy = post("/publish", &[("authorization", &by("u")), ("idempotency-key", "slow")], slow);
    let rows = vec![
        (publish("u", r#"{"room":"zXyMark","data":1}"#), 403, "room_unknown"),
        (publish("u", r#"{"room":"keys","data":"zXyMark"}"#), 403, "publish_keys_only"),
        (publish("u", r#"{"room":"chat","data":1}"#), 422, "event_name_forbidden"),
        (publish("u", r#"{"room":"chat","event":"zXyMark","data":1}"#), 422, "event_name_forbidden"),
        (publish("u", r#"{"room":"chat","event":"chat","data":1}"#), 409, "repeated"),
        (publish("quiet", said), 403, "muted"),
        (publish("u", r#"{"room":"chat","event":"chat","data":3,"once":"k"}"#), 422, "idempotency_mismatch"),
        (busy, 409, "idempotency_busy"),
    ];
    Scene::new(server, rows)
}

fn range(text: &str) -> AddressRange {
    AddressRange::Net(text.parse().expect("a network"))
}
