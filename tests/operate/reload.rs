//! Promise: SIGHUP applies the settings for access at once, to open streams as well; wrong settings or files change
//! nothing, and the log has the reason.

use crate::common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use common::bearer::{
    FOREIGN_SECRET, SECRET, TempFile, api_key_entry, bearer, key, key_text, now, sign, token,
};
use common::conn::{Conn, Response, request};
use common::process::Process;
use common::signer::{Folder, ISSUER, Issuer, STRANGER, changed};
use common::stream::Listener;
use common::{BASE, TestServer, assert_problem, eventually};
use futures_channel::oneshot;
use jsonwebtoken::Algorithm::ES256;
use serde_json::{Value, json};
use tidegate::auth::api_keys;
use tidegate::config::{Config, RELOADABLE};
use tidegate::hub::mailbox::Command;

/// The log line after settings were applied.
const TAKEN: &str = "the settings were read again";

/// The log line if they were not.
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
        listen(&process, "/stream", Some(&ann)),
        listen(&process, "/stream?room=vip", Some(&kept)),
        listen(&process, "/stream?room=lobby", None),
    ];
    let mut leaving = [
        listen(&process, "/stream/vip/bob", Some(&other)),
        listen(&process, "/stream?room=lobby", Some(&other)),
        // A stream of the inbox alone is in no room.
        listen(&process, "/stream", Some(&other)),
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

/// Streams without a credential once stayed in rooms that had become private.
#[test]
fn streams_of_nobody_are_closed_when_their_rooms_become_private() {
    let file = TempFile::new("");
    let process = start(&file);
    let mut unnamed = listen(&process, "/stream?room=lobby", None);
    let mut named = listen(&process, "/stream/lobby/ann", None);
    let mut inbox = listen(&process, "/stream?user=ann", None);
    let mut private = listen(&process, "/stream?room=lobby&room=vip", None);
    file.write(&(keys(&[SECRET]) + "public_rooms = [\"lobby\", \"hall\"]\n"));
    process.reload(TAKEN);
    named.closing("revoked");
    inbox.closing("revoked");
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
    eventually("a line at debug", || process.printed().contains("request refused"));
    file.write("log_level = \"info\"\n");
    process.reload(TAKEN);
    assert!(refused());
    assert_eq!(process.end().matches("request refused").count(), 1, "only while it was asked for");
}

/// A setting, its values before and after, further settings, and a request whose answer changes.
struct Row {
    key: &'static str,
    values: [String; 2],
    rest: String,
    request: Vec<u8>,
    statuses: [u16; 2],
}

fn row(
    key: &'static str,
    values: [&str; 2],
    rest: impl Into<String>,
    request: Vec<u8>,
    statuses: [u16; 2],
) -> Row {
    assert_ne!(statuses[0], statuses[1], "{key}");
    Row { key, values: values.map(str::to_owned), rest: rest.into(), request, statuses }
}

impl Row {
    fn settings(&self, at: usize) -> String {
        format!("{}{} = {}\n", self.rest, self.key, self.values[at])
    }

    /// Returns whether a PROXY header introduces the connection. A listener that requires one refuses all other
    /// connections.
    fn is_introduced(&self) -> bool {
        self.request.starts_with(b"PROXY ")
    }

    fn start(&self, file: &TempFile) -> (Process, SocketAddr) {
        if !self.is_introduced() {
            let process = start(file);
            let addr = process.addr;
            return (process, addr);
        }
        let process = Process::start(&["--config", file.text(), "--listen", "proxy:127.0.0.2:0"], &[]);
        let addr = || {
            let printed = process.printed();
            let (_, rest) = printed.split_once("listen=proxy:")?;
            rest.split_once('\n')?.0.parse().ok()
        };
        eventually("where it listens", || addr().is_some());
        let addr = addr().expect("just looked at");
        (process, addr)
    }

    /// Sends the request twice, since it takes two to exceed a rate of one.
    fn status(&self, addr: SocketAddr) -> u16 {
        let ask = || Conn::tcp(addr).round(&self.request).status();
        [ask(), ask()][1]
    }
}

fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request("GET", &format!("{BASE}{path}"), headers, b"")
}

const APP: &str = "https://app.example";

/// Settings that concern requests without a credential: peers, origins, hosts, headers, rates and rooms.
fn rows_of_requests() -> Vec<Row> {
    let publish = |headers: &[(&str, &str)]| {
        request("POST", &format!("{BASE}/publish"), headers, br#"{"room":"a","data":1}"#)
    };
    let denied = "denied_addresses = [\"198.51.100.7\"]\n";
    let introduced = [b"PROXY TCP4 198.51.100.7 127.0.0.1 4711 8080\r\n", &get("/info", &[])[..]].concat();
    let forwarded = get("/info", &[("x-forwarded-for", "198.51.100.7")]);
    let plain = || get("/info", &[]);
    let by_curl = get("/info", &[("user-agent", "curl/8")]);
    vec![
        row("trusted_proxies", [r#"["127.0.0.1"]"#, "[]"], denied, forwarded, [403, 200]),
        row("trusted_proxies", [r#"["127.0.0.1"]"#, r#"["10.0.0.1"]"#], denied, introduced, [403, 200]),
        row("cors_origins", ["[]", &format!("[{APP:?}]")], "", publish(&[("origin", APP)]), [403, 200]),
        row("allowed_hosts", [r#"["localhost"]"#, r#"["push.example"]"#], "", plain(), [200, 403]),
        row(
            "foreign_origins",
            [r#""read""#, r#""refuse""#],
            "",
            get("/info", &[("origin", APP)]),
            [200, 403],
        ),
        row("allowed_addresses", ["[]", r#"["198.51.100.0/24"]"#], "", plain(), [200, 403]),
        row("denied_addresses", ["[]", r#"["127.0.0.0/8"]"#], "", plain(), [200, 403]),
        row("required_headers", ["[]", r#"["x-proxy"]"#], "", plain(), [200, 403]),
        row("denied_user_agents", ["[]", r#"["curl/"]"#], "", by_curl, [200, 403]),
        row("publish_rate_per_user", [r#""off""#, r#""1/h""#], "", publish(&[]), [200, 429]),
        row("rooms", [r#""any""#, r#""listed""#], "", get("/rooms/vip", &[]), [200, 403]),
        row(
            "room",
            ["[]", r#"[{match = "v*"}]"#],
            "rooms = \"listed\"\n",
            get("/rooms/vip", &[]),
            [403, 200],
        ),
    ]
}

/// Settings that say which credentials are accepted. `folder` is for the files that they name.
fn rows_of_credentials(folder: &Folder) -> Vec<Row> {
    const HISTORY: &str = "/rooms/vip/history";
    let ours = keys(&[SECRET]);
    let signed =
        |more: &Value| changed(json!({"sub": "ann", "exp": now() + 900, "permissions": ["sse:read"]}), more);
    let by_header = |token: &str| get(HISTORY, &[("authorization", &bearer(token))]);
    let usual = sign(SECRET, &signed(&json!({})));
    let cookie = format!("t={usual}");
    let overdue = sign(SECRET, &signed(&json!({"exp": now() - 60})));
    let list = |secret: &str| json!([key_text(secret)]).to_string();

    let set = |issuer: &Issuer, name: &str| {
        let set = json!({"keys": [issuer.pair(ES256).jwk(&json!({"alg": "ES256"}))]});
        json!([folder.file(name, set.to_string().as_bytes())]).to_string()
    };
    let sets = [set(&ISSUER, "ours.json"), set(&STRANGER, "theirs.json")];
    let by_set = by_header(&ISSUER.token(ES256, &signed(&json!({}))));

    let api_key = api_keys::generate();
    let file = |name: &str, key: &str| {
        let entry = api_key_entry("app", key, &["sse:read"], "");
        json!(folder.file(name, entry.as_bytes())).to_string()
    };
    let files = [file("old.toml", &api_key), file("new.toml", &api_keys::generate())];

    let with_cookie = ours.clone() + "token_cookie = \"t\"\n";
    let of_a_page = get(HISTORY, &[("cookie", &cookie), ("origin", APP)]);
    vec![
        row(
            "cors_credentials",
            [r#""off""#, r#""on""#],
            format!("{with_cookie}cors_origins = [{APP:?}]\n"),
            of_a_page,
            [403, 200],
        ),
        row("public_rooms", [r#"["v*"]"#, "[]"], &*ours, get(HISTORY, &[]), [200, 401]),
        row("token_keys", [&list(SECRET), &list(FOREIGN_SECRET)], "", by_header(&usual), [200, 401]),
        row("token_jwks", [&sets[0], &sets[1]], "", by_set, [200, 401]),
        row("token_issuer", [r#""off""#, r#""https://idp.example""#], &*ours, by_header(&usual), [200, 401]),
        row("token_audience", ["[]", r#"["push"]"#], &*ours, by_header(&usual), [200, 401]),
        row("token_leeway", [r#""5m""#, r#""5s""#], &*ours, by_header(&overdue), [200, 401]),
        row(
            "token_permissions_claim",
            [r#""permissions""#, r#""scope""#],
            &*ours,
            by_header(&usual),
            [200, 403],
        ),
        row("api_keys_file", [&files[0], &files[1]], "", by_header(&api_key), [200, 401]),
        row("token_cookie", [r#""t""#, r#""u""#], &*ours, get(HISTORY, &[("cookie", &cookie)]), [200, 401]),
        row(
            "token_query",
            [r#""on""#, r#""off""#],
            &*ours,
            get(&format!("{HISTORY}?token={usual}"), &[]),
            [200, 401],
        ),
    ]
}

/// A proxy that was trusted at the start once stayed trusted for ever: PROXY headers were checked against the settings
/// of the start.
#[test]
fn every_setting_that_says_whom_to_let_in_is_taken_over() {
    let folder = Folder::new();
    let rows: Vec<Row> = rows_of_requests().into_iter().chain(rows_of_credentials(&folder)).collect();
    for row in &rows {
        let Row { key, values, statuses, .. } = row;
        let file = TempFile::new(&row.settings(0));
        let (process, addr) = row.start(&file);
        assert_eq!(row.status(addr), statuses[0], "{key} = {}", values[0]);
        file.write(&row.settings(1));
        process.reload(TAKEN);
        assert_eq!(row.status(addr), statuses[1], "{key} = {}", values[1]);
        assert!(!process.end().contains("only a restart"), "{key}");
    }
    // These change no status, and have tests of their own.
    let others = ["log_level", "cors_headers", "event_room"];
    let shown: BTreeSet<&str> = rows.iter().map(|row| row.key).chain(others).collect();
    assert_eq!(shown, RELOADABLE.iter().copied().collect());
}

#[test]
fn the_headers_that_pages_may_send_are_taken_over() {
    let origins = format!("cors_origins = [{APP:?}]\n");
    let file = TempFile::new(&origins);
    let process = start(&file);
    let allowed = || {
        let preflight = request("OPTIONS", &format!("{BASE}/publish"), &[("origin", APP)], b"");
        let answer = Conn::tcp(process.addr).round(&preflight);
        answer.header("access-control-allow-headers").expect("the page is listed").to_owned()
    };
    assert!(!allowed().contains("x-tenant"));
    file.write(&format!("{origins}cors_headers = [\"X-Tenant\"]\n"));
    process.reload(TAKEN);
    assert!(allowed().ends_with(", x-tenant"));
    assert!(!process.end().contains("only a restart"));
}

/// The required claims of a token are checked for new streams, not for open ones.
#[test]
fn streams_of_an_issuer_or_audience_that_is_not_wanted_any_more_stay_until_their_token_ends() {
    let before = keys(&[SECRET]) + "token_leeway = \"0s\"\n";
    let [old, new] = [("push-1", "https://old.example"), ("push-2", "https://new.example")];
    let issued = |(aud, iss): (&str, &str), seconds: u64, permissions: &[&str]| {
        let exp = now() + seconds;
        sign(SECRET, &json!({"sub": "ann", "exp": exp, "aud": aud, "iss": iss, "permissions": permissions}))
    };
    let wanting =
        |(aud, iss): (&str, &str)| format!("{before}token_audience = [{aud:?}]\ntoken_issuer = {iss:?}\n");
    for after in [(new.0, old.1), (old.0, new.1)] {
        let file = TempFile::new(&wanting(old));
        let process = start(&file);
        let of_old = issued(old, 6, &["sse:read:vip"]);
        let mut listener = listen(&process, "/stream/vip/ann", Some(&of_old));
        file.write(&wanting(after));
        process.reload(TAKEN);
        assert_problem(&ask(&process, "GET", "/rooms/vip/history", Some(&of_old), ""), 401, "unauthorized");
        publish(&process, Some(&issued(after, 900, &["sse:publish"])), "still here");
        // The announcement of the end may come at any time meanwhile.
        let mut two = listener.events(2);
        two.sort_unstable();
        assert!(two[0].starts_with("event: expiring\n"), "{two:?}");
        assert!(two[1].ends_with("\ndata: still here\n\n"), "{two:?}");
        listener.closing("expired");
        process.end();
    }
}

/// A shard whose mailbox was full was once left out: the log said that the settings were read, and streams without a
/// valid credential went on.
#[test]
fn a_shard_with_too_much_mail_is_asked_all_the_same() {
    let server = TestServer::with(|config| {
        config.shards = 1;
        config.token_keys = vec![key(SECRET)];
    });
    let by = bearer(&token("ann", &["sse:read"]));
    let mut listener = server.listen_with("/stream/a/ann", &[("authorization", &by)]);
    let shared = server.server().engine();
    let settings = Config { token_keys: vec![key(FOREIGN_SECRET)], ..shared.config.clone() };
    let before = shared.access.policy.load_full();
    std::thread::scope(|scope| {
        // The shard reads no mail as long as the lock is held.
        let shard = shared.shards[0].core.lock();
        let room = shared.hub.rooms().get_or_create("a");
        let ask = || {
            shared.hub.mailbox(0).send(Command::Members { room: room.clone(), reply: oneshot::channel().0 })
        };
        while ask().is_ok() {}
        let reloading = scope.spawn(|| server.server().reload(&settings).map(drop));
        eventually("the new keys count", || !Arc::ptr_eq(&before, &shared.access.policy.load_full()));
        drop(shard);
        reloading.join().expect("no panic").expect("good settings");
    });
    listener.closing("revoked");
}
