//! Promise: an operator sees which rooms there are and what their policies are, an application which of its users are
//! online, and a list of rooms in the path is the same as one in the query.

use crate::common;

use common::bearer::{SECRET, bearer, key, token};
use common::conn::{Response, request};
use common::stream::Listener;
use common::{BASE, TestServer, assert_problem, eventually};
use serde_json::{Value, json};
use tidegate::config::{Config, KnownRooms, RoomPresence, RoomSettings, RoomTable};

/// A table of rooms whose names match `pattern`.
fn table(pattern: &str, change: impl FnOnce(&mut RoomSettings)) -> RoomTable {
    let mut settings = RoomSettings::default();
    change(&mut settings);
    RoomTable { pattern: pattern.parse().expect("a pattern"), settings }
}

fn guarded(config: &mut Config) {
    config.token_keys = vec![key(SECRET)];
}

/// Sends a request with a token of `me` that has `permissions`.
fn ask(server: &TestServer, method: &str, path: &str, permissions: &[&str], body: &str) -> Response {
    let by = bearer(&token("me", permissions));
    let headers = [("authorization", &*by), ("accept", "text/event-stream")];
    let mut conn = server.connect();
    conn.send(request(method, &format!("{BASE}{path}"), &headers, body.as_bytes()));
    conn.response()
}

/// The rooms of an answer, by name.
fn names(page: &Value) -> Vec<&str> {
    let rooms = page["rooms"].as_array().expect("a list").iter();
    rooms.map(|room| room["room"].as_str().expect("a name")).collect()
}

#[test]
fn the_list_of_rooms_says_what_is_in_them() {
    let server = TestServer::with(|config| {
        config.room_tables = vec![table("news-*", |settings| settings.history_events = Some(2))];
    });
    assert_eq!(server.get("/rooms").json(), json!({"rooms": [], "total": 0, "has_more": false}));
    let _listeners =
        ["/stream/lobby/u", "/stream?room=lobby", "/stream/news-1/v"].map(|path| server.listen(path));
    for n in 0..3 {
        server.publish(&json!({"room": "news-1", "data": n}));
    }
    server.publish(&json!({"room": "quiet", "data": "x"}));
    let mut page = server.get("/rooms").json();
    assert_eq!(names(&page), ["lobby", "news-1", "quiet"]);
    for room in page["rooms"].as_array_mut().expect("a list") {
        let room = room.as_object_mut().expect("an object");
        let bytes = room.remove("bytes").and_then(|bytes| bytes.as_u64()).expect("a number");
        assert_eq!(bytes > 0, room["events"] != 0, "{room:?}");
        assert!(room.remove("per_s").is_some_and(|rate| rate.is_number()), "{room:?}");
    }
    let wanted = json!({
        "rooms": [
            {"room": "lobby", "listeners": 2, "events": 0},
            {"room": "news-1", "policy": "news-*", "listeners": 1, "events": 2},
            {"room": "quiet", "listeners": 0, "events": 1},
        ],
        "total": 3,
        "has_more": false,
    });
    assert_eq!(page, wanted);
    assert_eq!(names(&server.get("/groups?sort=bytes&limit=2").json()), ["news-1", "quiet"]);
    assert_eq!(server.get("/rooms/news-1").json()["policy"], "news-*");
    assert_eq!(server.get("/rooms/news-1").json()["history"]["events_max"], 2);
    assert_eq!(server.get("/rooms/lobby").json().get("policy"), None);
}

#[test]
fn the_list_of_rooms_counts_members_where_there_is_presence() {
    let server = TestServer::with(|config| {
        config.room_tables = vec![table("chat", |settings| settings.presence = RoomPresence::Members)];
    });
    let paths =
        ["/stream/chat/u?presence=on", "/stream/chat/u?presence=on", "/stream/chat/v", "/stream/other/w"];
    let _listeners = paths.map(|path| server.listen(path));
    let page = server.get("/rooms").json();
    assert_eq!(names(&page), ["chat", "other"]);
    assert_eq!((&page["rooms"][0]["members"], &page["rooms"][0]["listeners"]), (&json!(1), &json!(3)));
    assert_eq!(page["rooms"][1].get("members"), None);
}

#[test]
fn pages_of_rooms_follow_one_another() {
    let server = TestServer::start();
    for n in 0..25 {
        server.publish(&json!({"room": format!("room {n:02}"), "data": n}));
    }
    let _listener = server.listen("/stream?room=room+24&room=room+07");
    for (sort, first) in [("listeners", "room 07"), ("name", "room 00")] {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/rooms?sort={sort}&limit=10{after}")).json();
            found.extend(names(&page).into_iter().map(str::to_owned));
            assert_eq!((&page["total"], &page["has_more"]), (&json!(25), &json!(found.len() < 25)));
            let Some(next) = page["after"].as_str() else { break };
            assert_eq!(Some(next), found.last().map(String::as_str));
            after = format!("&after={}", next.replace(' ', "+"));
        }
        assert_eq!(found[0], first, "{sort}");
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 25, "{sort}");
    }
    let gone = server.get("/rooms?after=nowhere");
    assert_problem(&gone, 400, "query_invalid");
    assert_eq!(gone.json()["field"], "after");
    assert_eq!(names(&server.get("/rooms?after=room+23&sort=name").json()), ["room 24"]);
}

#[test]
fn the_rate_of_a_room_is_that_of_the_last_seconds() {
    let server = TestServer::start();
    let rate = |room: &str| server.get("/rooms?sort=rate&limit=1").json()["rooms"][0].clone()["room"] == room;
    eventually("the loud room is first", || {
        server.post("/publish", &[], json!(vec![json!({"room": "loud", "data": 1}); 20]).to_string());
        server.publish(&json!({"room": "low", "data": 1}));
        rate("loud")
            && server.get("/rooms?sort=rate&limit=1").json()["rooms"][0]["per_s"].as_f64() > Some(1.0)
    });
    eventually("it is still", || {
        let page = server.get("/rooms?sort=name").json();
        page["rooms"][0]["per_s"] == 0.0 && page["rooms"][1]["per_s"] == 0.0
    });
}

#[test]
fn only_operators_see_the_list_of_rooms() {
    let server = TestServer::with(guarded);
    assert_problem(&server.get("/rooms"), 401, "unauthorized");
    for permissions in [&["sse:members", "sse:read"][..], &["admin:*"]] {
        assert_problem(&ask(&server, "GET", "/rooms", permissions, ""), 403, "forbidden");
    }
    assert_eq!(ask(&server, "GET", "/rooms", &["admin"], "").status(), 200);
}

#[test]
fn who_is_online_is_told_in_the_order_asked() {
    let server = TestServer::start();
    let tab = server.listen("/stream/a/ann");
    let _others = ["/stream/a/ann", "/stream?user=bob", "/stream?room=b"].map(|path| server.listen(path));
    let online = |users: &Value| {
        let answer = server.post("/users/online", &[], json!({ "users": users }).to_string());
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()["online"].clone()
    };
    assert_eq!(online(&json!(["bob", "carl", "ann", "bob", "a"])), json!(["bob", "ann", "bob"]));
    assert_eq!(online(&json!([])), json!([]));
    drop(tab);
    server.wait_for("tidegate_connections", 3.0);
    assert_eq!(online(&json!(["ann"])), json!(["ann"]), "another tab is open");
    // A published event makes an inbox, and nobody online.
    server.publish(&json!({"user": "carl", "data": 1}));
    assert_eq!(online(&json!(["carl"])), json!([]));
}

#[test]
fn a_body_that_lists_no_users_is_told_where() {
    let server = TestServer::start();
    let refused = |body: &str, member: &str| {
        let response = server.post("/users/online", &[], body);
        assert_problem(&response, 422, "users_invalid");
        response.json()[member].clone()
    };
    assert_eq!(refused(r#"{"users":["a",""]}"#, "index"), 1);
    assert_eq!(refused(r#"{"users":"a"}"#, "field"), "users");
    assert_eq!(refused("{\n\"user\":[]}", "line"), 2);
    let crowd = json!({"users": vec!["u"; 1001]}).to_string();
    assert_eq!(refused(&crowd, "index"), 1000);
    let names: Vec<String> = (0..1000).map(|n| format!("{n:0128}")).collect();
    let most = server.post("/users/online", &[], json!({ "users": names }).to_string());
    assert_eq!((most.status(), most.json()), (200, json!({"online": []})));
}

#[test]
fn who_is_online_takes_a_permission_without_a_pattern() {
    let server = TestServer::with(guarded);
    let body = r#"{"users":["me"]}"#;
    assert_problem(&server.post("/users/online", &[], body), 401, "unauthorized");
    for permissions in [&["sse:read"][..], &["sse:members:*", "admin:*"]] {
        assert_problem(&ask(&server, "POST", "/users/online", permissions, body), 403, "forbidden");
    }
    for permission in ["sse:members", "admin"] {
        assert_eq!(ask(&server, "POST", "/users/online", &[permission], body).status(), 200, "{permission}");
    }
}

#[test]
fn a_list_in_the_path_is_the_same_as_one_in_the_query() {
    let server = TestServer::start();
    let table = [
        ("/stream/news,sport", json!({"rooms": ["news", "sport"]})),
        ("/stream/news", json!({"rooms": ["news"]})),
        ("/stream/news,sport,news?user=u", json!({"user": "u", "rooms": ["news", "sport"]})),
        ("/stream/a%2Cb,c", json!({"rooms": ["a,b", "c"]})),
        ("/stream/a%2Fb%20c,caf%C3%A9", json!({"rooms": ["a/b c", "café"]})),
        // With a user in the path, there is one room.
        ("/stream/a,b/u", json!({"user": "u", "rooms": ["a,b"]})),
    ];
    for (path, wanted) in table {
        let mut data = server.listen(path).connected.json();
        data.as_object_mut().expect("an object").remove("connection");
        assert_eq!(data, wanted, "{path}");
    }
    let mut listener = server.listen("/stream/news,sport");
    for room in ["sport", "other", "news"] {
        server.publish(&json!({"room": room, "data": room}));
    }
    assert_eq!([listener.data(), listener.data()], ["sport", "news"]);
}

#[test]
fn where_rooms_are_listed_others_are_unknown() {
    let server = TestServer::with(|config| {
        config.rooms = KnownRooms::Listed;
        config.room_tables = vec![table("chat-*", |_| {})];
    });
    for path in ["/stream/chat-1/u", "/stream?room=chat-1", "/stream?user=u"] {
        server.listen(path);
    }
    for path in ["/rooms/chat-1", "/rooms/chat-1/history"] {
        assert_eq!(server.get(path).status(), 200, "{path}");
    }
    for path in
        ["/stream/a/u", "/stream?room=chat-1&room=a", "/stream/chat-1,a", "/rooms/a", "/rooms/a/history"]
    {
        assert_problem(&server.get(path), 403, "room_unknown");
    }
}

/// What is not permitted is refused as such, so that nobody finds out which rooms there are.
#[test]
fn an_unknown_room_is_no_secret_that_a_stranger_finds_out() {
    let server = TestServer::with(|config| {
        guarded(config);
        config.rooms = KnownRooms::Listed;
        config.room_tables = vec![table("chat-*", |_| {})];
    });
    for path in ["/stream/chat-1", "/stream/a", "/rooms/a/history", "/rooms/a"] {
        assert_problem(&ask(&server, "GET", path, &["sse:read:b"], ""), 403, "forbidden");
    }
    assert_problem(&ask(&server, "GET", "/stream/a", &["sse:read"], ""), 403, "room_unknown");
}

#[test]
fn to_see_members_takes_a_permission_and_to_see_their_number_does_not() {
    let server = TestServer::with(|config| {
        guarded(config);
        let presence = |presence| move |settings: &mut RoomSettings| settings.presence = presence;
        config.room_tables = vec![
            table("chat", presence(RoomPresence::Members)),
            table("arena", presence(RoomPresence::Count)),
        ];
    });
    let status = |path: &str, permissions: &[&str]| {
        let by = bearer(&token("me", permissions));
        let mut conn = server.connect();
        conn.send(request("GET", &format!("{BASE}{path}"), &[("authorization", &by)], b""));
        Listener::answered(conn).head.status()
    };
    let read = &["sse:read"][..];
    let members = &["sse:read", "sse:members:chat"][..];
    for (path, permissions, wanted) in [
        ("/stream/chat?presence=off", read, 200),
        ("/stream/chat?presence=on", read, 200),
        ("/stream/chat?presence=on&silent=on", read, 403),
        ("/stream/arena?presence=on&silent=on", read, 403),
        ("/stream/chat?presence=on", members, 200),
        ("/stream/chat?presence=on&silent=on", members, 200),
        ("/stream/arena?presence=on", read, 200),
        ("/stream/arena,chat?presence=on", read, 200),
        ("/stream/arena,chat?presence=on", members, 200),
        ("/stream/arena,chat?presence=on&silent=on", members, 403),
        ("/stream/other?presence=on", read, 200),
    ] {
        assert_eq!(status(path, permissions), wanted, "{path} with {permissions:?}");
    }
}
