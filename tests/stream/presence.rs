//! Promise: who listens with `presence=on` knows who is there, from the first bytes of the stream on; a member shows
//! data, leaves, and comes back within its grace without a word; and the application is told.

use crate::common;

use std::sync::Arc;
use std::time::Duration;

use common::application::{Application, Asked, Reply};
use common::bearer::{SECRET, TempFile, api_key_entry, bearer, key, nameless, token};
use common::conn::{Response, request};
use common::stream::Listener;
use common::{BASE, TestServer, assert_problem, eventually};
use serde_json::{Value, json};
use tidegate::auth::api_keys;
use tidegate::config::{Config, MemoryLimit, UpstreamUrl};
use tidegate::hub::log::rules::LogBounds;
use tidegate::hub::memory_level::MemoryLevel;
use tidegate::hub::presence::Put;
use tidegate::hub::presence::data::PresenceData;
use tidegate::hub::room_policy::{PresencePolicy, RoomCallbacks, RoomPolicies, RoomPolicy};
use tidegate::rights::pattern::Pattern;

const MEMBERS: PresencePolicy = PresencePolicy {
    names: true,
    grace: Duration::from_mins(10),
    interval: Duration::from_millis(100),
    members_max: 200,
};

/// Gives the room `lobby` presence.
fn set(server: &TestServer, presence: Option<PresencePolicy>) {
    let log = LogBounds { events_max: 100, bytes_max: 1 << 20 };
    let policy = RoomPolicy {
        presence,
        callbacks: RoomCallbacks { presence: true, ..RoomCallbacks::default() },
        ..RoomPolicy::of_server(log, Duration::from_hours(1))
    };
    let tables = vec![(Pattern::parse("lobby").expect("a pattern"), Arc::new(policy))];
    let engine = server.server().engine();
    engine.hub.set_policies(RoomPolicies { tables, ..RoomPolicies::default() }, engine.clock.now());
}

fn with(change: impl FnOnce(&mut Config), presence: PresencePolicy) -> TestServer {
    let server = TestServer::with(change);
    set(&server, Some(presence));
    server
}

fn start(presence: PresencePolicy) -> TestServer {
    with(|_| {}, presence)
}

/// A stream that sees who is there.
struct Seeing {
    stream: Listener,
    /// Number of the newest message. Later ones may repeat what a state has shown.
    rev: Option<u64>,
}

impl Seeing {
    fn of(stream: Listener) -> Self {
        Self { stream, rev: None }
    }

    /// Returns the next message that is new.
    fn told(&mut self) -> Value {
        loop {
            let event = self.stream.event();
            let Some(json) = event.strip_prefix("event: presence\nroom: lobby\ndata: ") else {
                assert!(!event.starts_with("event: presence"), "{event}");
                continue;
            };
            let message: Value = serde_json::from_str(json).expect("JSON");
            let rev = message["rev"].as_u64();
            if rev > self.rev {
                self.rev = rev;
                return message;
            }
        }
    }
}

fn listen(server: &TestServer, user: &str) -> Seeing {
    Seeing::of(server.listen(&format!("/stream/lobby/{user}?presence=on")))
}

fn ask(server: &TestServer, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    server.connect().round(&request(method, &format!("{BASE}{path}"), headers, body.as_bytes()))
}

fn put(server: &TestServer, user: &str, body: &str) -> Response {
    ask(server, "PUT", "/presence/lobby", &[("tidegate-user", user)], body)
}

fn delete(server: &TestServer, user: &str) -> Response {
    ask(server, "DELETE", "/presence/lobby", &[("tidegate-user", user)], "")
}

#[test]
fn a_stream_begins_with_who_is_there_and_follows_it() {
    let server = start(MEMBERS);
    let mut me = listen(&server, "me");
    assert_eq!(
        me.stream.event(),
        "event: presence\nroom: lobby\ndata: {\"type\":\"state\",\"rev\":1,\"total\":1,\"connections\":1,\
         \"members\":[{\"user\":\"me\",\"since_s\":0,\"connections\":1}]}\n\n"
    );
    let mut you = listen(&server, "you");
    assert_eq!(
        me.stream.event(),
        "event: presence\nroom: lobby\ndata: {\"type\":\"diff\",\"rev\":2,\"total\":2,\"connections\":2,\
         \"join\":[{\"user\":\"you\"}],\"leave\":[],\"update\":[]}\n\n"
    );
    assert_eq!(you.told()["total"], 2);
    let mut silent = Seeing::of(server.listen("/stream?room=lobby&presence=on&silent=on"));
    assert_eq!(silent.told()["total"], 2, "who is silent is no member");
    let _nobody = server.listen("/stream/lobby/other");
    assert_eq!(
        server.get("/rooms/lobby/members").json()["total"],
        2,
        "who does not ask for it is none either"
    );
    server.metrics().assert("tidegate_presence_members", 2.0);
    server.metrics().assert("tidegate_presence_rooms", 1.0);
}

#[test]
fn a_member_shows_data_and_leaves_although_its_stream_stays() {
    let server = start(MEMBERS);
    let (mut me, mut you) = (listen(&server, "me"), listen(&server, "you"));
    you.told();
    let shown = put(&server, "me", r#"{"data": {"status": "away", "n": 1.0}}"#);
    assert_eq!(shown.status(), 200, "{}", shown.text());
    let rev = shown.json()["rev"].as_u64().expect("a number");
    assert_eq!(shown.json(), json!({"room": "lobby", "user": "me", "rev": rev}));
    let update = you.told();
    assert_eq!(
        (&update["rev"], &update["update"]),
        (&json!(rev), &json!([{"user": "me", "data": {"status": "away", "n": 1.0}}]))
    );
    assert_eq!(delete(&server, "me").status(), 204);
    assert_eq!(you.told()["leave"], json!(["me"]));
    assert_problem(&put(&server, "me", r#"{"data":1}"#), 404, "not_present");
    assert_eq!(delete(&server, "me").status(), 204, "once more is no error");
    server.publish(&json!({"room": "lobby", "data": "on"}));
    while !me.stream.event().contains("data: on\n") {}
    let again = listen(&server, "me");
    assert_eq!(you.told()["join"], json!([{"user": "me"}]), "without what it showed before");
    drop(me);
    let members = server.get("/rooms/lobby/members").json();
    assert_eq!((&members["total"], &members["members"][0]["connections"]), (&json!(2), &json!(1)));
    drop(again);
}

#[test]
fn a_reload_of_the_page_is_no_news_and_a_disconnect_is_at_once() {
    let server = start(MEMBERS);
    let mut you = listen(&server, "you");
    you.told();
    drop(listen(&server, "me"));
    assert_eq!(you.told()["join"], json!([{"user": "me"}]));
    eventually("the stream has ended", || server.get("/rooms/lobby/members").json()["connections"] == 1);
    let _again = listen(&server, "me");
    let other = listen(&server, "other");
    assert_eq!(you.told()["join"], json!([{"user": "other"}]), "nothing about the reload");
    drop(other);
    eventually("the other's stream has ended", || {
        server.get("/rooms/lobby/members").json()["connections"] == 2
    });
    for user in ["me", "other"] {
        let answer = server.post(&format!("/disconnect/lobby/{user}?stay_away=60"), &[], "");
        assert_eq!(answer.status(), 200);
    }
    let mut left = Vec::new();
    while left.len() < 2 {
        left.extend(you.told()["leave"].as_array().expect("a list").clone());
    }
    assert_eq!(left, ["me", "other"], "also within the grace");
    server.wait_for(r#"tidegate_presence_suppressed_total{reason="grace"}"#, 1.0);
}

#[test]
fn a_member_leaves_after_its_grace() {
    let server = start(PresencePolicy { grace: Duration::from_millis(200), ..MEMBERS });
    let mut you = listen(&server, "you");
    you.told();
    drop(listen(&server, "me"));
    assert_eq!(you.told()["join"], json!([{"user": "me"}]));
    assert_eq!(you.told()["leave"], json!(["me"]));
}

#[test]
fn a_large_room_is_counted() {
    let server = start(PresencePolicy { members_max: 3, ..MEMBERS });
    let mut first = listen(&server, "0");
    let others: Vec<_> = (1..5).map(|user| listen(&server, &user.to_string())).collect();
    let counted = |message: &Value| message["type"] == "count" && message["total"] == 5;
    while !counted(&first.told()) {}
    drop(others);
    for user in 1..5 {
        assert_eq!(delete(&server, &user.to_string()).status(), 204);
    }
    let back = loop {
        let message = first.told();
        if message["type"] == "state" && message["total"] == 1 {
            break message;
        }
    };
    assert_eq!(back["members"][0]["user"], "0");
}

#[test]
fn data_is_bounded_in_size_and_rate() {
    let server = start(MEMBERS);
    let _me = listen(&server, "me");
    let sized = |bytes: usize| format!(r#"{{"data":"{}"}}"#, "x".repeat(bytes - 2));
    assert_eq!(put(&server, "me", &sized(1024)).status(), 200);
    assert_problem(&put(&server, "me", &sized(1025)), 413, "presence_too_large");
    assert_problem(&put(&server, "me", &sized(1 << 20)), 413, "presence_too_large");
    assert_problem(&put(&server, "me", r#"{"status":"away"}"#), 422, "presence_invalid");
    let mut refused = (0..5).map(|n| put(&server, "me", &format!(r#"{{"data":{n}}}"#)));
    let refused = refused.find(|answer| answer.status() != 200).expect("five at once and one a second");
    assert_problem(&refused, 429, "rate_limited");
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn members_come_in_pages() {
    let server = start(MEMBERS);
    let streams: Vec<_> = ["c", "a", "b"].map(|user| listen(&server, user)).into();
    assert_eq!(put(&server, "b", r#"{"data":[1.50]}"#).status(), 200);
    let page = server.get("/rooms/lobby/members?limit=2");
    assert!(page.text().contains(r#""data":[1.50]"#), "{}", page.text());
    let (page, rest) = (page.json(), server.get("/rooms/lobby/members?after=b").json());
    let names = |page: &Value| -> Vec<Value> {
        page["members"].as_array().expect("a list").iter().map(|member| member["user"].clone()).collect()
    };
    assert_eq!(
        (names(&page), &page["has_more"], &page["total"]),
        (vec!["a".into(), "b".into()], &json!(true), &json!(3))
    );
    assert_eq!((names(&rest), &rest["has_more"]), (vec![json!("c")], &json!(false)));
    drop(streams);
}

/// Members of a room that show as much as they may filled a page with a megabyte.
#[test]
fn a_page_of_members_is_bounded_in_bytes() {
    let server = start(MEMBERS);
    let engine = server.server().engine();
    let (hub, order) = (&engine.hub, &engine.order);
    let (room, now) = (hub.rooms().get_or_create("lobby"), server.server().engine().clock.now());
    let data = PresenceData::new(&format!("\"{}\"", "x".repeat(1022))).expect("as much as there may be");
    let name = |n: usize| format!("{n:03}");
    for n in 0..600 {
        let (user, _) = hub.admit(Some(&name(n)), None, now).expect("a place").keep();
        let user = user.expect("it has one");
        let _ = order.enter(&room, &user, now);
        assert!(matches!(order.show(&room, &user, Some(data.clone()), now), Put::Done { .. }));
    }
    let mut seen = Vec::new();
    loop {
        let after = seen.last().map_or(String::new(), |last| format!("&after={last}"));
        let answer = server.get(&format!("/rooms/lobby/members?limit=1000{after}"));
        assert!(answer.text().len() <= (256 << 10) + 2048, "{} bytes", answer.text().len());
        let page = answer.json();
        let members = page["members"].as_array().expect("a list");
        seen.extend(members.iter().map(|member| member["user"].as_str().expect("a name").to_owned()));
        if page["has_more"] != true {
            break;
        }
        assert!(members.len() > 200, "it is full");
    }
    assert_eq!(seen, (0..600).map(name).collect::<Vec<_>>());
}

/// Changes of data took memory when publishes did not any more.
#[test]
fn short_of_memory_members_show_nothing_new() {
    let server = with(|config| config.memory_limit = MemoryLimit::Off, MEMBERS);
    let _me = listen(&server, "me");
    assert_eq!(put(&server, "me", r#"{"data":1}"#).status(), 200);
    server.server().engine().hub.set_memory_level(MemoryLevel::NoPublishes);
    assert_problem(&put(&server, "me", r#"{"data":2}"#), 503, "memory_exhausted");
    assert_eq!(put(&server, "me", r#"{"data":null}"#).status(), 200, "that gives memory back");
    assert_eq!(delete(&server, "me").status(), 204);
}

/// A stream from before authentication was set up stayed in a room that is open to everyone, and kept seeing the names
/// that nobody else could see any more.
#[test]
fn who_saw_names_without_authentication_comes_back_and_sees_numbers() {
    let server = start(MEMBERS);
    let mut seeing = Seeing::of(server.listen("/stream?room=lobby&presence=on"));
    assert_eq!(seeing.told()["type"], "state");
    let mut silent = server.listen("/stream?room=lobby&presence=on&silent=on");
    assert!(silent.event().contains(r#""type":"state""#));
    let mut other = server.listen("/stream?room=lobby");
    let settings = Config {
        token_keys: vec![key(SECRET)],
        public_rooms: vec!["lobby".parse().expect("a pattern")],
        ..server.server().engine().config.clone()
    };
    server.server().reload(&settings).expect("good settings");
    seeing.stream.closing("revoked");
    silent.closing("revoked");
    set(&server, Some(MEMBERS));
    let mut back = Seeing::of(server.listen("/stream?room=lobby&presence=on"));
    assert_eq!(back.told()["type"], "count");
    let backend = bearer(&token("app", &["sse:publish"]));
    let event = r#"{"room":"lobby","data":"still here"}"#;
    let headers = [("authorization", backend.as_str()), ("content-type", "application/json")];
    assert_eq!(server.post("/publish", &headers, event).status(), 200);
    assert_eq!(other.data(), "still here");
}

#[test]
fn a_room_without_presence_says_so() {
    let server = start(MEMBERS);
    let mut me = listen(&server, "me");
    me.told();
    set(&server, None);
    for (method, path) in
        [("PUT", "/presence/lobby"), ("DELETE", "/presence/lobby"), ("GET", "/rooms/lobby/members")]
    {
        let answer = ask(&server, method, path, &[("tidegate-user", "me")], r#"{"data":1}"#);
        assert_problem(&answer, 404, "presence_off");
    }
    server.metrics().assert("tidegate_presence_members", 0.0);
    set(&server, Some(MEMBERS));
    assert_eq!(server.get("/rooms/lobby/members").json()["total"], 0, "until a stream comes");
}

#[test]
fn a_user_changes_only_its_own_presence() {
    let backend = api_keys::generate();
    let file = TempFile::new(&api_key_entry("app", &backend, &["sse:read", "sse:user"], ""));
    let change = |config: &mut Config| {
        config.token_keys = vec![key(SECRET)];
        config.api_keys_file = Some(file.path().to_owned());
    };
    let server = with(change, MEMBERS);
    let tokens = ["me", "you"].map(|user| bearer(&token(user, &["sse:read:lobby", "sse:members:lobby"])));
    let by = |token: &str, user: &str, method: &str, body: &str| {
        ask(&server, method, "/presence/lobby", &[("authorization", token), ("tidegate-user", user)], body)
    };
    let mut streams = tokens.each_ref().map(|token| {
        Seeing::of(server.listen_with("/stream?room=lobby&presence=on", &[("authorization", token)]))
    });
    let shown = by(&tokens[0], "you", "PUT", r#"{"data":"mine"}"#);
    assert_eq!(
        (shown.status(), &shown.json()["user"]),
        (200, &json!("me")),
        "the header counts for backends"
    );
    let key = bearer(&backend);
    let shown = by(&key, "you", "PUT", r#"{"data":"theirs"}"#);
    assert_eq!((shown.status(), &shown.json()["user"]), (200, &json!("you")));
    let members = ask(&server, "GET", "/rooms/lobby/members", &[("authorization", &tokens[1])], "");
    let members = members.json();
    assert_eq!([&members["members"][0]["data"], &members["members"][1]["data"]], ["mine", "theirs"]);
    assert_problem(&ask(&server, "PUT", "/presence/lobby", &[], r#"{"data":1}"#), 401, "unauthorized");
    assert_problem(
        &ask(&server, "PUT", "/presence/lobby", &[("authorization", &key)], "{}"),
        422,
        "presence_invalid",
    );
    let stranger = bearer(&token("me", &["sse:read:other"]));
    assert_problem(&by(&stranger, "me", "DELETE", ""), 403, "forbidden");
    let nobody = bearer(&nameless(&["sse:read:lobby"]));
    assert_problem(&by(&nobody, "me", "PUT", r#"{"data":1}"#), 403, "forbidden");
    let reader = bearer(&token("reader", &["sse:read:lobby"]));
    let refused = ask(&server, "GET", "/rooms/lobby/members", &[("authorization", &reader)], "");
    assert_problem(&refused, 403, "forbidden");
    for stream in &mut streams {
        assert_eq!(stream.told()["type"], "state");
    }
}

/// Returns all events of presence that the application was told of, in order, as `type user`.
fn heard(asked: &[Asked]) -> Vec<String> {
    let events = asked.iter().flat_map(|asked| asked.json()["events"].as_array().cloned().expect("a list"));
    let text = |event: Value| {
        assert_eq!(event["room"], "lobby");
        format!("{} {}", event["type"].as_str().expect("a type"), event["user"].as_str().unwrap_or_default())
    };
    events.map(text).collect()
}

#[test]
fn the_application_hears_who_comes_and_goes() {
    let application = Application::always(Reply::With(204, String::new()));
    let url = UpstreamUrl::parse(&application.url("/presence"));
    let server = with(|config| config.presence_callback = url, MEMBERS);
    let me = listen(&server, "me");
    let you = listen(&server, "you");
    drop(me);
    assert_eq!(delete(&server, "me").status(), 204);
    assert_eq!(delete(&server, "you").status(), 204);
    let wanted = ["occupied ", "join me", "join you", "leave me", "leave you", "vacated "];
    eventually("all is told", || heard(&application.asked()).len() == wanted.len());
    let asked = application.asked();
    assert_eq!(heard(&asked), wanted);
    assert_eq!(asked[0].line, "POST /presence");
    assert_eq!(asked[0].json()["epoch"], server.server().engine().hub.epoch().as_str());
    server.metrics().assert("tidegate_presence_notices_dropped_total", 0.0);
    let count = server.metrics().get(r#"tidegate_upstream_requests_total{kind="presence",outcome="ok"}"#);
    assert!(count >= 1.0, "{count}");
    drop(you);
}
