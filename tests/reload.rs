//! Promise: SIGHUP takes over whom to let in, at once and for streams that are open, too; settings or files that are wrong
//! change nothing, and the log says why.

mod common;

use common::bearer::{FOREIGN_SECRET, SECRET, TempFile, api_key_entry, bearer, key_text, now, sign, token};
use common::conn::{Conn, Response, request};
use common::process::Process;
use common::stream::Listener;
use common::{BASE, assert_problem};
use serde_json::json;
use tidegate::auth::api_keys;

/// What is logged once settings were taken over.
const TAKEN: &str = "the settings were read again";

/// What is logged if they were not.
const NOT_TAKEN: &str = "the settings stay as they were";

fn start(file: &TempFile) -> Process {
    Process::start(&["--config", file.text()], &[])
}

fn ask(process: &Process, method: &str, path: &str, token: Option<&str>, body: &str) -> Response {
    let bearer = token.map(bearer);
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", &**bearer)).collect();
    Conn::tcp(process.addr).round(&request(method, &format!("{BASE}{path}"), &headers, body.as_bytes()))
}

fn listen(process: &Process, path: &str, token: Option<&str>) -> Listener {
    let bearer = token.map(bearer);
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", &**bearer)).collect();
    Listener::open(Conn::tcp(process.addr), path, &headers)
}

fn publish(process: &Process, token: Option<&str>, data: &str) {
    let event = json!({"all": true, "data": data}).to_string();
    let answer = ask(process, "POST", "/publish", token, &event);
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

fn keys(secrets: &[&str]) -> String {
    let keys: Vec<String> = secrets.iter().map(|secret| key_text(secret)).collect();
    format!("token_keys = {}\n", json!(keys))
}

#[test]
fn streams_of_a_key_that_is_gone_are_closed_and_others_stay() {
    let (kept, rotated, narrowed) = (api_keys::generate(), api_keys::generate(), api_keys::generate());
    let entry = |name: &str, key: &str, permissions: &[&str]| api_key_entry(name, key, permissions, "");
    let kept_entry = entry("kept", &kept, &["sse:read", "sse:publish"]);
    let api_keys_file = TempFile::new(
        &[
            &*kept_entry,
            &entry("rotated", &rotated, &["sse:read"]),
            &entry("narrowed", &narrowed, &["sse:read"]),
        ]
        .concat(),
    );
    let rest = format!("public_rooms = [\"lobby\", \"hall\"]\napi_keys_file = {:?}\n", api_keys_file.text());
    let file = TempFile::new(&(keys(&[SECRET, FOREIGN_SECRET]) + &rest));
    let process = start(&file);
    let other = sign(FOREIGN_SECRET, &json!({"sub": "bob", "exp": now() + 900, "permissions": ["sse:read"]}));
    let ann = token("ann", &["sse:read:vip"]);
    let mut staying = [
        listen(&process, "/stream/vip/ann", Some(&ann)),
        listen(&process, "/stream?room=hall", Some(&ann)),
        listen(&process, "/stream?room=vip", Some(&kept)),
        listen(&process, "/stream?room=lobby", None),
    ];
    let mut leaving = [
        listen(&process, "/stream/vip/bob", Some(&other)),
        listen(&process, "/stream?room=lobby", Some(&other)),
        listen(&process, "/stream?room=vip", Some(&rotated)),
        listen(&process, "/stream?room=vip", Some(&narrowed)),
    ];
    process.reload(TAKEN);
    publish(&process, Some(&kept), "nothing has changed");
    for listener in staying.iter_mut().chain(&mut leaving) {
        assert_eq!(listener.data(), "nothing has changed");
    }

    let new = api_keys::generate();
    let entries = [
        &*kept_entry,
        &entry("rotated", &new, &["sse:read"]),
        &entry("narrowed", &narrowed, &["sse:read:other"]),
    ];
    api_keys_file.write(&entries.concat());
    file.write(&(keys(&[SECRET]) + &rest));
    process.reload(TAKEN);
    for listener in &mut leaving {
        listener.closing("revoked");
    }
    publish(&process, Some(&kept), "still here");
    for listener in &mut staying {
        assert_eq!(listener.data(), "still here");
    }
    for token in [&other, &rotated] {
        assert_problem(&ask(&process, "GET", "/rooms/vip/history", Some(token), ""), 401, "unauthorized");
    }
    assert_problem(&ask(&process, "GET", "/rooms/vip/history", Some(&narrowed), ""), 403, "forbidden");
    assert_eq!(ask(&process, "GET", "/rooms/vip/history", Some(&new), "").status(), 200);
    process.end();
}

/// Streams that nobody had to prove anything for used to stay in rooms that had become private meanwhile.
#[test]
fn streams_of_nobody_are_closed_when_their_rooms_become_private() {
    let file = TempFile::new("");
    let process = start(&file);
    let mut unnamed = listen(&process, "/stream?room=lobby", None);
    let mut named = listen(&process, "/stream/lobby/ann", None);
    let mut private = listen(&process, "/stream?room=lobby&room=vip", None);
    file.write(&(keys(&[SECRET]) + "public_rooms = [\"lobby\", \"hall\"]\n"));
    process.reload(TAKEN);
    named.closing("revoked");
    private.closing("revoked");
    assert_problem(&ask(&process, "GET", "/info", None, ""), 401, "unauthorized");
    let app = token("app", &["sse:publish", "sse:read:hall"]);
    let mut by_pattern = listen(&process, "/stream?room=lobby", Some(&app));
    let mut by_right = listen(&process, "/stream?room=hall", Some(&app));
    publish(&process, Some(&app), "public");
    for listener in [&mut unnamed, &mut by_pattern, &mut by_right] {
        assert_eq!(listener.data(), "public");
    }

    file.write(&keys(&[SECRET]));
    process.reload(TAKEN);
    unnamed.closing("revoked");
    by_pattern.closing("revoked");
    publish(&process, Some(&app), "private");
    assert_eq!(by_right.data(), "private");
    process.end();
}

#[test]
fn what_is_wrong_is_told_and_changes_nothing() {
    let key = api_keys::generate();
    let api_keys_file = TempFile::new(&api_key_entry("app", &key, &["sse:read", "sse:publish"], ""));
    let good = keys(&[SECRET]) + &format!("api_keys_file = {:?}\n", api_keys_file.text());
    let file = TempFile::new(&good);
    let process = start(&file);
    let mut listeners = [
        listen(&process, "/stream/vip/ann", Some(&token("ann", &["sse:read"]))),
        listen(&process, "/stream?room=vip", Some(&key)),
    ];
    for (settings, keys, told) in [
        ("token_keys = [\"HS256:base64:!\"]\n".to_owned(), None, "token_keys"),
        ("no_such_setting = 1\n".to_owned(), None, "no_such_setting"),
        ("token_keys = [".to_owned(), None, "expected"),
        (good.clone() + "token_jwks = [\"/nowhere/jwks.json\"]\n", None, "/nowhere/jwks.json"),
        ("api_keys_file = \"/nowhere/keys.toml\"\n".to_owned(), None, "/nowhere/keys.toml"),
        (good.clone(), Some("[app]\nhash = \"sha256:00\"\npermissions = []\n".to_owned()), "[app] hash"),
        (good.clone(), Some(api_key_entry("app", &key, &["sse:reed"], "")), "[app] permissions"),
    ] {
        file.write(&settings);
        if let Some(keys) = keys {
            api_keys_file.write(&keys);
        }
        process.reload(NOT_TAKEN);
        let printed = process.printed();
        let line = printed.lines().rfind(|line| line.contains(NOT_TAKEN)).expect("just waited for");
        assert!(line.contains(told) && line.contains("ERROR"), "{told}: {line}");
        publish(&process, Some(&key), told);
        for listener in &mut listeners {
            assert_eq!(listener.data(), told);
        }
    }
    process.end();
}

#[test]
fn the_log_level_changes_and_what_needs_a_restart_is_named() {
    let file = TempFile::new("");
    let process = start(&file);
    let refused = || ask(&process, "GET", "/nowhere", None, "").status() == 404;
    assert!(refused());
    file.write("log_level = \"debug\"\nhistory_events = 5\ngzip = \"on\"\nforeign_origins = \"refuse\"\n");
    process.reload(TAKEN);
    assert!(!process.printed().contains("request refused"), "not at that level");
    assert!(process.printed().contains("gzip, history_events"), "{}", process.printed());
    assert!(refused());
    common::eventually("a line at debug", || process.printed().contains("request refused"));
    file.write("log_level = \"info\"\n");
    process.reload(TAKEN);
    assert!(refused());
    assert_eq!(process.end().matches("request refused").count(), 1, "only while it was asked for");
}
