//! Promise: the shipped units are right and strict, and a service manager that opens the sockets, waits for readiness
//! and expects watchdog notices gets them.

use crate::common::{eventsource, neighbours};

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use self::eventsource::EventSource;
use self::neighbours::{Folder, find, until};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

const BASE: &str = "/api/v1/sse";

/// Tenths of systemd's own measure of a service's exposure, from 0 to 100.
const EXPOSURE_MAX: &str = "15";

/// Returns the shipped units, with the program's actual path.
fn units(folder: &Folder) -> [String; 2] {
    units_of(folder, SERVICE)
}

const SERVICE: &str = include_str!("../../deploy/tidegate.service");

fn units_of(folder: &Folder, shipped: &str) -> [String; 2] {
    let installed = "ExecStart=/usr/local/bin/tidegate ";
    assert_eq!(shipped.matches(installed).count(), 1);
    let service = shipped.replace(installed, &format!("ExecStart={TIDEGATE} "));
    let units =
        [("tidegate.service", &*service), ("tidegate.socket", include_str!("../../deploy/tidegate.socket"))];
    units.map(|(name, text)| {
        fs::write(folder.path().join(name), text).expect("our folder");
        folder.file(name)
    })
}

fn analyze(program: &Path, folder: &Folder, args: &[&str]) -> Output {
    // The shipped units come before systemd's own.
    let path = format!("{}:", folder.path().display());
    Command::new(program).args(args).env("SYSTEMD_UNIT_PATH", path).output().expect("it runs")
}

#[test]
fn the_units_are_right() {
    let Some(program) = find("systemd-analyze") else { return };
    let folder = Folder::new();
    let [service, socket] = units(&folder);
    let verified = analyze(&program, &folder, &["verify", &service, &socket]);
    let said = String::from_utf8_lossy(&verified.stderr);
    // Messages about other units on the machine do not count.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("tidegate")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
}

/// The drop-in for an order on disk: it is right, lets the service do no more, and names settings that there are.
#[test]
fn the_drop_in_for_an_order_on_disk_is_right() {
    let drop_in = include_str!("../../deploy/order-on-disk.conf");
    let variables = drop_in.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    let checked = Command::new(TIDEGATE).env_clear().envs(variables).arg("--check-config").output();
    let checked = checked.expect("it runs");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.contains("disk:/var/lib/tidegate/order"), "{said}");
    assert!(drop_in.contains("\nStateDirectory=tidegate\n"), "the folder of the setting is the service's");
    let Some(program) = find("systemd-analyze") else { return };
    let folder = Folder::new();
    let [service, socket] =
        units_of(&folder, &SERVICE.replace("[Install]", &format!("{drop_in}\n[Install]")));
    are_right(&program, &folder, &service, &socket);
    may_do_little(&program, &folder, &service);
}

/// The drop-in for nodes over Redis: the same, the password is where the setting looks for it, and Redis can be reached.
#[test]
fn the_drop_in_for_an_order_in_redis_is_right() {
    let drop_in = include_str!("../../deploy/order-in-redis.conf");
    let folder = Folder::new();
    let (name, from) = drop_in
        .lines()
        .find_map(|line| line.strip_prefix("LoadCredential=")?.split_once(':'))
        .expect("the password is handed over");
    assert_eq!(from, format!("/etc/tidegate/{name}"));
    // `%d` is the folder of what is handed over (systemd.unit(5)).
    fs::write(folder.path().join(name), "secret\n").expect("our folder");
    let here = drop_in.replace("%d", &folder.path().display().to_string());
    let variables = here.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    let variables: Vec<(&str, &str)> = variables.collect();
    let checked =
        Command::new(TIDEGATE).env_clear().envs(variables.iter().copied()).arg("--check-config").output();
    let checked = checked.expect("it runs");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    for (variable, value) in variables {
        let value = value.replace("tidegate@", "");
        assert!(said.lines().any(|line| line.ends_with(variable)), "{variable} in {said}");
        let host = value.strip_prefix("redis://").and_then(|rest| rest.split(':').next());
        assert!(host.is_none_or(|host| drop_in.contains(&format!("\nIPAddressAllow={host}\n"))), "{value}");
    }
    let Some(program) = find("systemd-analyze") else { return };
    let [service, socket] =
        units_of(&folder, &SERVICE.replace("[Install]", &format!("{drop_in}\n[Install]")));
    are_right(&program, &folder, &service, &socket);
    may_do_little(&program, &folder, &service);
}

/// systemd finds nothing wrong in the units.
fn are_right(program: &Path, folder: &Folder, service: &str, socket: &str) {
    let verified = analyze(program, folder, &["verify", service, socket]);
    let said = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("tidegate")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
}

/// The service may do no more than [`EXPOSURE_MAX`] allows.
fn may_do_little(program: &Path, folder: &Folder, service: &str) {
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let rated = analyze(program, folder, &["security", "--offline=true", "--no-pager", &threshold, service]);
    assert!(rated.status.success(), "{}", String::from_utf8_lossy(&rated.stdout));
}

#[test]
fn the_service_can_do_little_else() {
    let Some(program) = find("systemd-analyze") else { return };
    let folder = Folder::new();
    let [service, _] = units(&folder);
    may_do_little(&program, &folder, &service);
}

/// Comments that begin without a space are settings to enable.
fn with_options(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(option) if option.starts_with(|c: char| c.is_ascii_alphabetic()) => format!("{option}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn what_the_unit_offers_in_comments_is_right_and_lets_it_do_no_more() {
    let options = with_options(SERVICE);
    let taken_in = [
        "LoadCredential=token.key:",
        "LoadCredential=keys.toml:",
        "SupplementaryGroups=",
        "IPAddressAllow=10.",
    ];
    for option in taken_in {
        assert!(options.lines().any(|line| line.starts_with(option)), "{option}");
    }
    let Some(program) = find("systemd-analyze") else { return };
    let folder = Folder::new();
    let [service, socket] = units_of(&folder, &options);
    are_right(&program, &folder, &service, &socket);
    may_do_little(&program, &folder, &service);
}

/// The files that systemd provides (`LoadCredential=`) are where the settings look for them.
#[test]
fn secrets_are_found_where_the_unit_puts_them() {
    let folder = Folder::new();
    let settings = with_options(include_str!("../../deploy/tidegate.toml"));
    let credentials = "/run/credentials/tidegate.service/";
    let loads = with_options(SERVICE);
    let names = loads.lines().filter_map(|line| line.strip_prefix("LoadCredential=")?.split_once(':'));
    let mut count = 0;
    for (name, from) in names {
        assert!(settings.contains(&format!("{credentials}{name}\"")), "{name}");
        assert_eq!(from, format!("/etc/tidegate/{name}"));
        count += 1;
    }
    assert_eq!(count, settings.matches(credentials).count());
    let file = folder.file("tidegate.toml");
    fs::write(&file, settings.replace(credentials, &folder.file(""))).expect("our folder");
    fs::write(folder.path().join("token.key"), "0123456789abcdef0123456789abcdef\n").expect("our folder");
    let tidegate = |args: &[&str]| Command::new(TIDEGATE).env_clear().args(args).output().expect("it runs");
    let key = tidegate(&["key", "orders", "--allow", "sse:publish"]);
    fs::write(folder.path().join("keys.toml"), &key.stdout).expect("our folder");
    let key = String::from_utf8(key.stderr).expect("text");
    let token = tidegate(&["--config", &file, "token", "--user", "me", "--allow", "sse:read"]);
    let token = String::from_utf8(token.stdout).expect("text");
    for credential in [key.lines().last().expect("a key"), token.trim()] {
        let checked = tidegate(&["--config", &file, "check", credential]);
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

#[test]
fn the_settings_that_go_with_the_units_are_right() {
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/tidegate.toml");
    let checked = Command::new(TIDEGATE).env_clear().args(["--config", settings, "--check-config"]).output();
    let checked = checked.expect("it runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let said = String::from_utf8(checked.stdout).expect("text");
    for line in ["trusted_proxies = [\"unix\"]", "max_connections_per_address = 100", "drain = \"2s\""] {
        assert!(said.contains(line), "{said}");
    }
}

/// Ended by SIGTERM when dropped.
struct Process(Child);

impl Process {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(sent.expect("kill(1)").success());
    }

    async fn exit_code(&mut self) -> Option<i32> {
        let status = until("an end", async || match self.0.try_wait().expect("our child") {
            Some(status) => Ok(status),
            None => Err("running"),
        });
        status.await.code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Posts `body` to `path` over `socket` and returns the answer.
async fn post(mut socket: impl AsyncRead + AsyncWrite + Unpin, path: &str, body: &str) -> String {
    let head = format!("POST {BASE}{path} HTTP/1.1\r\nhost: tests\r\nconnection: close\r\n");
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("it answers");
    answer
}

#[tokio::test]
async fn sockets_that_systemd_opened_are_served() {
    let Some(program) = find("systemd-socket-activate") else { return };
    let folder = Folder::new();
    // No other test uses it: the kernel assigns ports on 127.0.0.1 only.
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 83, high, low);
    let (public, admin) = (SocketAddr::from((ip, 8080)), SocketAddr::from((ip, 9180)));
    let path = folder.file("http.sock");
    let child = Command::new(program)
        .args(["-l", &public.to_string(), "-l", &path, "-l", &admin.to_string()])
        .args(["--fdname=public:public:admin", TIDEGATE])
        // The addresses without socket activation: none of them may be opened.
        .args(["--listen", "127.0.0.1:1", "--admin-listen", "off", "--shards", "2", "--drain", "0s"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let mut process = Process(child.expect("systemd-socket-activate runs"));
    // The first connection starts the server and is served.
    let mut listener = EventSource::new(0, public, &format!("{BASE}/stream/a/u"));
    until("connected", async || match listener.next().await {
        eventsource::Event::Message(message) if message.kind == "connected" => Ok(()),
        other => Err(other),
    })
    .await;
    let event = json!({"room": "a", "data": "over a port"}).to_string();
    let answer = post(TcpStream::connect(public).await.expect("it listens"), "/publish", &event).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let event = json!({"room": "a", "data": "over a file"}).to_string();
    let answer = post(UnixStream::connect(&path).await.expect("it listens"), "/publish", &event).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(listener.message().await.data, "over a port");
    assert_eq!(listener.message().await.data, "over a file");
    // The socket's name makes it the admin listener, and the flag does not count.
    let ask = ["--check-health", "--admin-listen", &admin.to_string()];
    let health = Command::new(TIDEGATE).env_clear().args(ask).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&health.stdout), "ready\n");
    process.signal("-TERM");
    assert_eq!(process.exit_code().await, Some(0));
    assert!(Path::new(&path).exists(), "systemd made it, and removes it");
}

/// Receives the notices of the server to its manager.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new(path: &str) -> Self {
        let socket = UnixDatagram::bind(path).expect("our folder");
        socket.set_nonblocking(true).expect("a socket");
        Self { socket, heard: Vec::new() }
    }

    /// Waits until the server sends `line`.
    async fn until_said(&mut self, line: &str) {
        until(line, async || {
            let mut buf = [0; 4096];
            match self.socket.recv(&mut buf) {
                Ok(count) => self.heard.push(String::from_utf8_lossy(&buf[..count]).into_owned()),
                Err(err) => assert_eq!(err.kind(), io::ErrorKind::WouldBlock),
            }
            let said = self.heard.iter().any(|said| said.lines().any(|said| said == line));
            if said { Ok(()) } else { Err(self.heard.clone()) }
        })
        .await;
    }
}

#[tokio::test]
async fn the_manager_is_told_of_the_start_the_end_and_life_in_between() {
    let folder = Folder::new();
    let mut manager = Manager::new(&folder.file("notify"));
    let child = Command::new(TIDEGATE)
        .env_clear()
        .env("NOTIFY_SOCKET", folder.file("notify"))
        .env("WATCHDOG_USEC", "300000")
        .args([
            "--listen",
            &format!("unix:{}", folder.file("http.sock")),
            "--admin-listen",
            "off",
            "--drain",
            "0s",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let mut process = Process(child.expect("it runs"));
    manager.until_said("READY=1").await;
    // The server is ready to accept.
    UnixStream::connect(folder.path().join("http.sock")).await.expect("it listens");
    manager.until_said("WATCHDOG=1").await;
    manager.heard.clear();
    manager.until_said("WATCHDOG=1").await;
    process.signal("-TERM");
    manager.until_said("STOPPING=1").await;
    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn what_is_no_listening_socket_is_refused() {
    for (names, said) in [("", "LISTEN_FDS: socket 0 is no listening"), ("a:b", "LISTEN_FDNAMES: wanted")] {
        // Descriptor 3 is a file.
        let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3</dev/null";
        let refused = Command::new("sh")
            .args(["-c", script, TIDEGATE, "--admin-listen", "off"])
            .env("LISTEN_FDNAMES", names)
            .output()
            .expect("sh(1)");
        assert_eq!(refused.status.code(), Some(1));
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn health_is_asked_for_over_either_kind_of_socket() {
    let folder = Folder::new();
    let (listen, admin) =
        ["http.sock", "admin.sock"].map(|name| format!("unix:{}", folder.file(name))).into();
    let check = |admin: &str| {
        let checked =
            Command::new(TIDEGATE).env_clear().args(["--check-health", "--admin-listen", admin]).output();
        let checked = checked.expect("it runs");
        (checked.status.code(), String::from_utf8(checked.stdout).expect("text"))
    };
    assert_eq!(check("off"), (Some(1), "admin_listen names no address to ask\n".into()));
    let (code, said) = check(&admin);
    assert!(code == Some(1) && said.starts_with("no answer at admin_listen: "), "{said}");
    let child = Command::new(TIDEGATE)
        .env_clear()
        .args(["--listen", &listen, "--admin-listen", &admin, "--drain", "10m", "--drain-rate", "1/h"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let process = Process(child.expect("it runs"));
    let ready = async || match check(&admin) {
        (Some(0), said) => Ok(said),
        other => Err(other),
    };
    assert_eq!(until("ready", ready).await, "ready\n");
    // In ten minutes, few of them are closed before the end of the test.
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = UnixStream::connect(folder.path().join("http.sock")).await.expect("it listens");
        let request = format!("GET {BASE}/stream?room=a HTTP/1.1\r\nhost: tests\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        stream.read_u8().await.expect("an answer");
        streams.push(stream);
    }
    process.signal("-TERM");
    let draining = async || match check(&admin) {
        (Some(1), said) => Ok(said),
        other => Err(other),
    };
    assert_eq!(until("the drain", draining).await, "not ready: draining\n");
}
