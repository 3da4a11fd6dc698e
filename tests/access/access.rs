//! Promise: every route checks the caller's rights. A request succeeds if its token, key or cookie allows it; any other
//! request is refused, and the refusal tells nothing about what exists.

use serde_json::{Value, json};
use tidegate::auth::api_keys;

use crate::common::bearer::{
    FOREIGN_SECRET, SECRET, TempFile, api_key_entry, bearer, expired, nameless, now, sign, token,
};
use crate::common::signer::changed;
use crate::common::stream::Listener;
use crate::common::{TestServer, assert_problem};
use crate::guarded::{BASIC, ask, ask_as, guarded, listen_as, seen, start};

/// Starts a server with API keys: for each the key, its permissions, and further lines.
fn start_with_keys(keys: &[(&str, &str, &[&str], &str)]) -> (TestServer, TempFile) {
    let entries =
        keys.iter().map(|(name, key, permissions, more)| api_key_entry(name, key, permissions, more));
    let file = TempFile::new(&entries.collect::<String>());
    let server = TestServer::with(|config| {
        guarded(config);
        config.api_keys_file = Some(file.path().to_owned());
    });
    (server, file)
}

/// A request, and the only permission that `ann` needs for it.
struct Case {
    method: &'static str,
    path: &'static str,
    body: &'static str,
    needs: &'static str,
}

const fn case(method: &'static str, path: &'static str, body: &'static str, needs: &'static str) -> Case {
    Case { method, path, body, needs }
}

const CASES: [Case; 15] = [
    case("GET", "/stream/vip/ann", "", "sse:read:vip"),
    case("GET", "/stream?room=vip", "", "sse:read:vip"),
    case("GET", "/stream?room=vip&user=ann", "", "sse:read:vip"),
    case("GET", "/stream?group=vip&id=ann&history=5", "", "sse:read:vip"),
    case("GET", "/stream?room=lobby&room=vip", "", "sse:read:vip"),
    case("POST", "/publish", r#"{"room":"vip","data":1}"#, "sse:publish:vip"),
    case("POST", "/publish", r#"[{"room":"vip","data":1},{"room":"vip","data":2}]"#, "sse:publish:vip"),
    case("POST", "/publish", r#"{"user":"bob","data":1}"#, "sse:publish"),
    case("POST", "/publish", r#"{"all":true,"data":1}"#, "sse:publish"),
    case("POST", "/disconnect/vip/bob?stay_away=0", "", "admin:vip"),
    case("POST", "/revoke", r#"{"user":"mallory"}"#, "admin"),
    case("GET", "/info", "", "admin"),
    case("GET", "/rooms/vip", "", "sse:members:vip"),
    case("GET", "/rooms/vip/history", "", "sse:read:vip"),
    case("GET", "/groups/vip/history?limit=1", "", "sse:read:vip"),
];

/// Returns all permissions but `needed`.
fn all_but(needed: &str) -> Vec<&'static str> {
    let all = [
        "sse:read:other",
        "sse:publish:other",
        "sse:members:other",
        "admin:other",
        "sse:user",
        "vip",
        "read",
        "SSE:READ",
        "sse:read:vi",
        "sse:read:vip2*",
        "sse:read:{user}",
        "sse:publish:VIP",
        "moderator:vip",
    ];
    let whole = ["sse:read", "sse:publish", "sse:members", "admin"];
    let by_name = needed.rsplit_once(":vip").map_or(needed, |(name, _)| name);
    // `admin` shows members, too, and a pattern never reaches beyond rooms.
    let helps = |name: &&str| *name == by_name || (by_name == "sse:members" && *name == "admin");
    let patterns = ["sse:publish:*", "admin:*"]
        .into_iter()
        .filter(|pattern| !needed.contains(":vip") && pattern.starts_with(by_name));
    all.into_iter().chain(whole.into_iter().filter(|name| !helps(name))).chain(patterns).collect()
}

/// What is wrong, and the query and the headers that contain it.
type Cause = (String, String, Vec<(&'static str, String)>);

/// The issuer whose tokens the server accepts.
const IDP: &str = "https://idp.example";

#[test]
fn every_route_wants_a_token_and_tells_nobody_why_theirs_is_none() {
    let everything = ["admin", "sse:read", "sse:publish", "sse:members", "sse:user"];
    let (key, removed) = (api_keys::generate(), api_keys::generate());
    let entry = |name: &str, key: &str| api_key_entry(name, key, &everything[..4], "");
    let file = TempFile::new(&(entry("ops", &key) + &entry("left", &removed)));
    let server = TestServer::with(|config| {
        guarded(config);
        config.token_issuer = Some(IDP.to_owned());
        config.api_keys_file = Some(file.path().to_owned());
    });
    let claims = |more: &Value| {
        let usual =
            json!({"sub": "ann", "iat": now(), "exp": now() + 900, "iss": IDP, "permissions": everything});
        changed(usual, more)
    };
    let with = |more: &Value| sign(SECRET, &claims(more));

    // Good until they are revoked or removed.
    let (good, named) = (with(&json!({})), with(&json!({"jti": "stolen"})));
    let of_user = with(&json!({"sub": "mallory"}));
    for token in [&good, &named, &of_user, &removed] {
        assert_eq!(ask_as(&server, "GET", "/info", token, "").status(), 200);
    }
    for revoked in [r#"{"token":"stolen"}"#, r#"{"user":"mallory"}"#] {
        assert_eq!(ask_as(&server, "POST", "/revoke", &key, revoked).status(), 200);
    }
    file.write(&entry("ops", &key));
    let settings = &server.server().engine().config;
    assert_eq!(server.server().reload(settings).expect("a good file"), [""; 0]);

    let (head, signature) = good.rsplit_once('.').expect("a JWT");
    let bad = [
        &*format!("{head}."),
        &format!("{head}.{}", signature.chars().rev().collect::<String>()),
        &sign(FOREIGN_SECRET, &claims(&json!({}))),
        &with(&json!({"exp": null})),
        &with(&json!({"exp": now() - 3600})),
        &with(&json!({"nbf": now() + 600})),
        &with(&json!({"aud": "shop"})),
        &with(&json!({"iss": "https://shop.example"})),
        &with(&json!({"iss": null})),
        &with(&json!({"sub": "a\nb"})),
        &named,
        &of_user,
        &removed,
        &api_keys::generate(),
        "x",
        "",
        "a.b.c",
        "tgk_",
        &key[..46],
    ];
    let mut causes: Vec<Cause> = vec![("nothing".into(), String::new(), Vec::new())];
    for text in bad {
        causes.push((text.into(), String::new(), vec![("authorization", bearer(text))]));
        causes.push((text.into(), String::new(), vec![("cookie", format!("a=b; t={text}"))]));
        causes.push((text.into(), format!("token={text}"), Vec::new()));
    }
    causes.push(("scheme".into(), String::new(), vec![("authorization", format!("Basic {good}"))]));
    causes.push(("no scheme".into(), String::new(), vec![("authorization", good.clone())]));
    causes.push(("other cookie".into(), String::new(), vec![("cookie", format!("T={good}"))]));

    let mut first: Option<(String, String)> = None;
    let refresh = case("POST", "/refresh", "", "");
    for Case { method, path, body, .. } in CASES.iter().chain([&refresh]) {
        for (cause, query, headers) in &causes {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let joint = if path.contains('?') { "&" } else { "?" };
            let path = if query.is_empty() { (*path).to_owned() } else { format!("{path}{joint}{query}") };
            let answer = ask(&server, method, &path, &headers, body);
            assert_problem(&answer, 401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"tidegate\""));
            let first = first.get_or_insert_with(|| seen(&answer));
            assert_eq!(seen(&answer), *first, "{method} {path} with {cause}");
        }
    }
    assert_eq!(server.server().engine().hub.events_published(), 0);
}

#[test]
fn every_route_wants_its_own_right_wherever_the_token_is() {
    let server = start();
    for Case { method, path, body, needs } in &CASES {
        let answer = ask_as(&server, method, path, &token("ann", &all_but(needs)), body);
        assert_problem(&answer, 403, "forbidden");
        assert_eq!(answer.header("www-authenticate"), None);

        let good = token("ann", &[needs]);
        let by_header = bearer(&good);
        let joint = if path.contains('?') { "&" } else { "?" };
        let with_query = format!("{path}{joint}token={good}");
        for (path, headers) in [
            (*path, &[("authorization", &*by_header)][..]),
            (*path, &[("authorization", &*by_header.replace("Bearer", "bEARER"))]),
            (*path, &[("cookie", &*format!("t={good}; a=b"))]),
            (*path, &[("cookie", &*format!("t=\"{good}\""))]),
            (*path, &[("cookie", &*format!("t={good}; t={good}"))]),
            (*path, &[("authorization", BASIC), ("cookie", &*format!("t={good}"))]),
            (*path, &[("authorization", BASIC), ("authorization", &*by_header)]),
            (&with_query, &[("authorization", BASIC)]),
            (&with_query, &[]),
        ] {
            let answer = ask(&server, method, path, headers, body);
            assert_eq!(answer.status(), 200, "{method} {path} with {needs}: {}", answer.text());
        }
        let two = [
            (*path, &[("authorization", &*by_header), ("authorization", &*by_header)][..]),
            (*path, &[("authorization", &*by_header), ("cookie", &*format!("t={good}"))]),
            (*path, &[("cookie", "t=1; t=2; t=3; t=4; t=5")]),
            (&with_query, &[("authorization", &*by_header)]),
            (&with_query, &[("cookie", "t=x")]),
        ];
        let mut first = None;
        for (path, headers) in two {
            let answer = ask(&server, method, path, headers, body);
            assert_problem(&answer, 400, "token_ambiguous");
            assert_eq!(seen(&answer), *first.get_or_insert_with(|| seen(&answer)), "{method} {path}");
        }
    }
}

#[test]
fn an_api_key_may_what_the_file_says_and_is_nobody() {
    let keys: Vec<String> = (0..CASES.len()).map(|_| api_keys::generate()).collect();
    let weak = api_keys::generate();
    let names: Vec<String> = (0..CASES.len()).map(|n| format!("k{n}")).collect();
    let needs: Vec<[&str; 2]> = CASES.iter().map(|case| [case.needs, "sse:user:ann"]).collect();
    let mut entries: Vec<(&str, &str, &[&str], &str)> = Vec::new();
    for ((name, key), needs) in names.iter().zip(&keys).zip(&needs) {
        entries.push((name, key, needs, ""));
    }
    entries.push(("weak", &weak, &["sse:read:other", "sse:user"], ""));
    let (server, _file) = start_with_keys(&entries);
    for (Case { method, path, body, needs }, key) in CASES.iter().zip(&keys) {
        assert_problem(&ask_as(&server, method, path, &weak, body), 403, "forbidden");
        let answer = ask_as(&server, method, path, key, body);
        assert_eq!(answer.status(), 200, "{method} {path} with {needs}: {}", answer.text());
    }
    assert_problem(&ask_as(&server, "POST", "/refresh", &weak, ""), 403, "forbidden");
}

fn user_of(listener: &Listener) -> Value {
    listener.connected.json()["user"].clone()
}

#[test]
fn an_inbox_is_its_users_alone() {
    let server = start();
    let ann = token("ann", &["sse:read"]);
    for path in [
        "/stream/vip/bob",
        "/stream/vip/%62ob",
        "/stream/lobby/bob",
        "/stream/vip/Ann",
        "/stream/vip/ann%20",
        "/stream?room=vip&user=bob",
        "/stream?room=vip&id=bob",
        "/stream?group=lobby&id=%62%6f%62",
        "/stream?room=vip&%75ser=bob",
    ] {
        assert_problem(&ask_as(&server, "GET", path, &ann, ""), 403, "forbidden");
        assert_problem(&ask(&server, "GET", path, &[], ""), 401, "unauthorized");
        assert_problem(&ask_as(&server, "GET", path, &nameless(&["sse:read"]), ""), 403, "forbidden");
    }
    for path in ["/stream/vip/ann?user=bob", "/stream/vip/ann?id=bob", "/stream?room=vip&user=ann&id=bob"] {
        assert_problem(&ask_as(&server, "GET", path, &ann, ""), 400, "query_invalid");
    }

    let support = token("cid", &["sse:read:vip", "sse:user:bob"]);
    assert_problem(&ask_as(&server, "GET", "/stream/vip/ann", &support, ""), 403, "forbidden");
    let mut listeners: Vec<(Listener, Value)> = [
        (listen_as(&server, "/stream/vip/ann", &ann), json!("ann")),
        (listen_as(&server, "/stream?room=vip&user=ann", &ann), json!("ann")),
        (listen_as(&server, "/stream?room=vip", &ann), json!("ann")),
        (listen_as(&server, "/stream?room=lobby", &ann), json!("ann")),
        (listen_as(&server, "/stream/vip/bob", &support), json!("bob")),
        (listen_as(&server, "/stream?room=vip", &support), json!("cid")),
        (listen_as(&server, "/stream?room=vip", &nameless(&["sse:read"])), Value::Null),
        (server.listen("/stream?room=lobby"), Value::Null),
    ]
    .into();
    let publisher = token("app", &["sse:publish"]);
    for event in [r#"{"user":"bob","data":"for bob"}"#, r#"{"all":true,"data":"for all"}"#] {
        assert_eq!(ask_as(&server, "POST", "/publish", &publisher, event).status(), 200);
    }
    for (listener, user) in &mut listeners {
        assert_eq!(user_of(listener), *user);
        if user == "bob" {
            assert_eq!(listener.data(), "for bob");
        }
        assert_eq!(listener.data(), "for all", "{user}");
    }
}

#[test]
fn a_private_room_that_exists_looks_like_one_that_does_not() {
    let server = start();
    let publisher = token("app", &["sse:publish"]);
    let _member = listen_as(&server, "/stream/real/ann", &token("ann", &["sse:read"]));
    let event = r#"{"room":"real","data":1}"#;
    assert_eq!(ask_as(&server, "POST", "/publish", &publisher, event).status(), 200);
    let none = token("eve", &[]);
    let some = token("eve", &["sse:read:lobby", "sse:members:lobby", "admin:lobby", "sse:publish:lobby"]);
    for (method, path, body) in [
        ("GET", "/stream/ROOM/eve", ""),
        ("GET", "/stream?room=ROOM", ""),
        ("GET", "/stream?room=lobby&room=ROOM", ""),
        ("GET", "/stream?room=ROOM&last_event_id=x", ""),
        ("GET", "/rooms/ROOM", ""),
        ("GET", "/rooms/ROOM/history", ""),
        ("POST", "/disconnect/ROOM/ann", ""),
        ("POST", "/publish", r#"{"room":"ROOM","data":1}"#),
    ] {
        for who in [None, Some(&none), Some(&some)] {
            let answer = |room: &str| {
                let (path, body) = (path.replace("ROOM", room), body.replace("ROOM", room));
                match who {
                    None => ask(&server, method, &path, &[], &body),
                    Some(token) => ask_as(&server, method, &path, token, &body),
                }
            };
            let (real, unreal) = (answer("real"), answer("none"));
            assert_eq!(real.status(), if who.is_none() { 401 } else { 403 }, "{method} {path}");
            assert_eq!(seen(&real), seen(&unreal), "{method} {path}");
        }
    }
}

#[test]
fn whoever_shows_something_bad_is_not_let_in_as_nobody() {
    let server = start();
    assert_eq!(ask(&server, "GET", "/stream?room=lobby", &[], "").status(), 200);
    assert_eq!(ask(&server, "GET", "/rooms/lobby/history", &[], "").status(), 200);
    assert_problem(&ask(&server, "GET", "/rooms/lobby", &[], ""), 401, "unauthorized");
    for token in [expired("ann", &["sse:read"]), "x".to_owned()] {
        for path in ["/stream?room=lobby", "/rooms/lobby/history"] {
            let joint = if path.contains('?') { "&" } else { "?" };
            for (path, headers) in [
                (path, &[("authorization", &*bearer(&token))][..]),
                (path, &[("cookie", &*format!("t={token}"))]),
                (&*format!("{path}{joint}token={token}"), &[]),
            ] {
                assert_problem(&ask(&server, "GET", path, headers, ""), 401, "unauthorized");
            }
        }
    }
    // A good token that allows nothing takes nothing away from what everyone may do.
    assert_eq!(ask_as(&server, "GET", "/stream/lobby/ann", &token("ann", &[]), "").status(), 200);
}

#[test]
fn what_an_event_requires_is_asked_of_all_who_could_read_it() {
    let server = start();
    let publisher = token("app", &["sse:publish"]);
    let publish = |event: &Value| {
        let answer = ask_as(&server, "POST", "/publish", &publisher, &event.to_string());
        assert_eq!(answer.status(), 200, "{}", answer.text());
    };
    let holders = [token("a", &["vip"]), token("b", &["vip:lobby"]), token("c", &["vip:lob*"])];
    let others =
        [token("d", &["vip:other", "vipp", "VIP"]), token("e", &["admin", "sse:read", "sse:publish"])];
    let listen = |token: &String| listen_as(&server, "/stream?room=lobby", token);
    let mut in_the_know: Vec<Listener> = holders.iter().map(listen).collect();
    let mut outside: Vec<Listener> =
        others.iter().map(listen).chain([server.listen("/stream?room=lobby")]).collect();
    let start = outside[2].start_id().to_owned();
    publish(&json!({"room": "lobby", "data": "secret", "require": "vip"}));
    publish(&json!({"room": "lobby", "data": "open"}));
    for listener in &mut in_the_know {
        assert_eq!([listener.data(), listener.data()], ["secret", "open"]);
    }
    for listener in &mut outside {
        assert_eq!(listener.data(), "open");
    }

    // A client that resumes.
    let resume = |token: Option<&String>| {
        let bearer = token.map(|token| bearer(token));
        let mut headers = vec![("last-event-id", &*start)];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        server.listen_with("/stream?room=lobby", &headers).data()
    };
    assert!(holders.iter().all(|token| resume(Some(token)) == "secret"));
    assert!(others.iter().map(Some).chain([None]).all(|token| resume(token) == "open"));

    // A client that reads the history.
    let page = |token: Option<&String>| {
        let answer = match token {
            Some(token) => ask_as(&server, "GET", "/rooms/lobby/history", token, ""),
            None => ask(&server, "GET", "/rooms/lobby/history", &[], ""),
        };
        let events = answer.json()["events"].as_array().expect("a page").clone();
        events.iter().map(|event| event["data"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    assert!(holders.iter().all(|token| page(Some(token)) == ["secret", "open"]));
    assert!(others.iter().map(Some).chain([None]).all(|token| page(token) == ["open"]));
}

#[test]
fn require_is_refused_only_where_nobody_could_meet_it() {
    let event = r#"{"room":"a","data":1,"require":"vip"}"#;
    let open = TestServer::start();
    assert_problem(&open.post("/publish", &[], event), 422, "require_unsupported");
    let key = api_keys::generate();
    let file = TempFile::new(&api_key_entry("app", &key, &["sse:publish"], ""));
    let keys_only = TestServer::with(|config| config.api_keys_file = Some(file.path().to_owned()));
    assert_eq!(ask_as(&keys_only, "POST", "/publish", &key, event).status(), 200);
    let guarded = start();
    let publisher = token("app", &["sse:publish"]);
    assert_eq!(ask_as(&guarded, "POST", "/publish", &publisher, event).status(), 200);
    for require in
        [json!(""), json!("a b"), json!("sse:read"), json!(1), json!(["vip"]), json!("x".repeat(65))]
    {
        let event = json!({"room": "a", "data": 1, "require": require}).to_string();
        let answer = ask_as(&guarded, "POST", "/publish", &publisher, &event);
        assert_problem(&answer, 422, "require_invalid");
    }
}

/// A proxy in front uses HTTP Basic: its credential once counted as a bad token, in a public room as well.
#[test]
fn what_a_proxy_in_front_has_looked_at_is_no_token() {
    let server = start();
    let in_public = server.listen_with("/stream?room=lobby", &[("authorization", BASIC)]);
    assert_eq!(in_public.connected.json()["user"], Value::Null);
    let answer = ask(&server, "GET", "/stream?room=vip", &[("authorization", BASIC)], "");
    assert_problem(&answer, 401, "unauthorized");
    let answer = ask(&server, "GET", "/stream/lobby/ann", &[("authorization", BASIC)], "");
    assert_problem(&answer, 401, "unauthorized");
    // A bearer credential without a valid token is still refused.
    for bad in ["Bearer", "Bearer x"] {
        let answer = ask(&server, "GET", "/stream?room=lobby", &[("authorization", bad)], "");
        assert_problem(&answer, 401, "unauthorized");
    }
    server.metrics().assert("tidegate_refused_total{reason=\"unauthorized\"}", 4.0);
}

#[test]
fn who_comes_back_is_looked_at_again() {
    let server = start();
    let before = token("ann", &["sse:read:vip"]);
    let narrowed = token("ann", &["sse:read:lobby"]);
    let over = expired("ann", &["sse:read:vip"]);
    let claims = json!({"sub": "ann", "jti": "j", "exp": now() + 900, "permissions": ["sse:read:vip"]});
    let revoked = sign(SECRET, &claims);
    let listener = listen_as(&server, "/stream/vip/ann", &revoked);
    let id = listener.start_id().to_owned();
    drop(listener);
    let answer = ask_as(&server, "POST", "/revoke", &token("ops", &["admin"]), r#"{"token":"j"}"#);
    assert_eq!(answer.status(), 200);
    // Its own id, one that is not assigned yet, one of another epoch, and one that is no id.
    for id in [&*id, &server.id(1_000_000), "zzzzzz-1", "made-up"] {
        let by_query = format!("/stream/vip/ann?last_event_id={id}");
        for (path, by_header) in [("/stream/vip/ann", Some(("last-event-id", id))), (&*by_query, None)] {
            let resume = |token: Option<&String>| {
                let bearer = token.map(|token| bearer(token));
                let credential = bearer.as_deref().map(|bearer| ("authorization", bearer));
                let headers: Vec<(&str, &str)> = credential.into_iter().chain(by_header).collect();
                ask(&server, "GET", path, &headers, "")
            };
            for token in [None, Some(&over), Some(&revoked)] {
                assert_problem(&resume(token), 401, "unauthorized");
            }
            assert_problem(&resume(Some(&narrowed)), 403, "forbidden");
            let answer = resume(Some(&before));
            assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
            assert!(answer.text().contains("event: connected\n"), "{path}: {}", answer.text());
        }
    }
}
