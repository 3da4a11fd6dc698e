//! The server recognizes a browser's `EventSource` by a header, through nginx as well, and sends it ids by heartbeat.
//!
//! By the standard such an id counts (WHATWG HTML §9.2.6: the last event id is set before an event without data is
//! dropped). Chromium keeps it. Firefox drops it with the event, reconnects with an older id, and misses nothing by
//! that.

use std::fs;
use std::path::Path;
use std::process::{self, Stdio};

use serde_json::json;
use tokio::process::{Child, Command};

use crate::common::browser::proxy::{Cut, Proxy};
use crate::common::neighbours::{Folder, Port, Server, find, id_of, until};

/// A program and all processes it starts, which end when the value is dropped.
struct Group(Child);

impl Group {
    fn start(program: &Path, args: &[&str], home: &Folder) -> Self {
        let child = Command::new(program)
            .args(args)
            .envs(["HOME", "TMPDIR", "XDG_RUNTIME_DIR"].map(|name| (name, home.path())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Self(child.expect("it was just found"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.id() {
            let _ = process::Command::new("sh").args(["-c", &format!("kill -KILL -{group}")]).status();
        }
    }
}

/// nginx with the lines of `docs/proxies.md` in front of `upstream`, and a page that subscribes.
async fn nginx(program: &Path, folder: &Folder, port: &Port, upstream: &Proxy) -> Group {
    let page = include_str!("../../../docs/proxies.md").split("```nginx\n").nth(1);
    let location = page.and_then(|rest| rest.split("```").next()).expect("a block");
    let location = location.replace("127.0.0.1:8080", &upstream.address.to_string());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", folder.file(kind)))
        .concat();
    let page = "<script>new EventSource('/api/v1/sse/stream/a/me')</script>";
    let conf = format!(
        "daemon off; user root; pid {}; error_log {};\nevents {{}}\nhttp {{ access_log off; {temporary}\
         server {{ listen {} reuseport; {location}\n\
         location = / {{ default_type text/html; return 200 \"{page}\"; }} }} }}\n",
        folder.file("pid"),
        folder.file("error.log"),
        port.address,
    );
    fs::write(folder.file("nginx.conf"), conf).expect("our folder");
    let nginx = Group::start(program, &["-c", &folder.file("nginx.conf")], folder);
    until("nginx", async || tokio::net::TcpStream::connect(port.address).await.map(drop)).await;
    nginx
}

/// Opens a page in `program`, whose `args` are followed by the URL. Returns the ids from `connected` and from the
/// heartbeat, and the one with which it reconnects.
async fn ids(program: &str, args: impl FnOnce(&Folder) -> Vec<String>) -> Option<[String; 3]> {
    let (browser, program) = (find(program)?, find("nginx")?);
    let folder = Folder::new();
    let server = Server::start(&[("HEARTBEAT", "1s"), ("RETRY", "100ms")]).await;
    let proxy = Proxy::start(server.address).await;
    let port = Port::new();
    let _nginx = nginx(&program, &folder, &port, &proxy).await;
    let mut args = args(&folder);
    args.push(format!("http://{}/", port.address));
    let _browser = Group::start(&browser, &args.iter().map(String::as_str).collect::<Vec<_>>(), &folder);

    until("the stream", async || proxy.wires().first().map(drop).ok_or("no connection")).await;
    // The offset advances in a room that the page does not subscribe to.
    let newer = id_of(&server.publish(json!([{ "room": "b", "data": 1 }, { "room": "b", "data": 2 }])).await);
    let heartbeat = format!(":\nid: {newer}\n\n");
    until("heartbeats with the newest id", async || {
        let wire = proxy.wires().swap_remove(0);
        if wire.text().matches(&heartbeat).count() >= 2 {
            Ok(())
        } else {
            Err((wire.request.clone(), wire.text()))
        }
    })
    .await;
    proxy.cut(Cut::Close);
    until("the reconnect", async || proxy.wires().get(1).map(drop).ok_or("none")).await;
    for wire in &proxy.wires()[..2] {
        assert_eq!(wire.header("cache-control"), Some("no-cache"), "{}", wire.request);
        assert_eq!(wire.header("pragma"), Some("no-cache"), "{}", wire.request);
    }
    let text = proxy.wires()[0].text();
    let first =
        text.lines().find_map(|line| line.strip_prefix("id: ")).expect("`connected` has an id").to_owned();
    let again = proxy.wires()[1].header("last-event-id").unwrap_or_default().to_owned();
    Some([first, newer, again])
}

#[tokio::test]
async fn chromium_comes_back_with_the_id_of_a_heartbeat() {
    let args = |folder: &Folder| {
        let profile = format!("--user-data-dir={}", folder.file("profile"));
        let flags =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--no-first-run"];
        [&flags[..], &["--disable-dev-shm-usage", "--disable-background-networking", &profile]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let Some([_, newer, again]) = ids("chromium", args).await else { return };
    assert_eq!(again, newer);
}

#[tokio::test]
async fn firefox_is_known_too_and_comes_back_with_the_id_of_an_event() {
    let args = |folder: &Folder| {
        let profile = folder.path().join("profile");
        fs::create_dir(&profile).expect("our folder");
        fs::write(profile.join("user.js"), "user_pref(\"network.proxy.type\", 0);\n").expect("our folder");
        ["--headless", "--no-remote", "--profile", &folder.file("profile")].map(str::to_owned).into()
    };
    let Some([first, newer, again]) = ids("firefox-esr", args).await else { return };
    assert!(first != newer && again == first, "{first}, {newer}, {again}");
}
