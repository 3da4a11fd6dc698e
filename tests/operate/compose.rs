//! Promise: `deploy/compose.yaml` is right as far as it goes without containers: Tidegate, Redis and nginx accept what it tells
//! them, and what it mounts is there. The containers themselves are not started here.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::common::eventually;
use crate::common::neighbours::{Folder, find, is_missing};

const COMPOSE: &str = include_str!("../../deploy/compose.yaml");
const CONTAINERFILE: &str = include_str!("../../deploy/Containerfile");

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// The services, read by another program than ours. `None` if there is none.
fn services() -> Option<Value> {
    let python = find("python3")?;
    let read = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin)['services'], sys.stdout)";
    let mut child = Command::new(python)
        .args(["-c", read])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("piped").write_all(COMPOSE.as_bytes()).expect("it reads");
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&stderr);
    if stderr.contains("No module named 'yaml'") {
        is_missing("python3-yaml");
        return None;
    }
    assert!(status.success(), "{stderr}");
    Some(serde_json::from_slice(&stdout).expect("JSON"))
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|text| text.as_str().unwrap_or_else(|| panic!("no text: {text}"))).collect()
}

#[test]
fn the_nodes_settings_are_right() {
    let Some(services) = services() else { return };
    let of_image = CONTAINERFILE.lines().find_map(|line| line.strip_prefix("ENV ")).expect("it has settings");
    let of_image: Vec<_> = of_image.split(' ').filter_map(|pair| pair.split_once('=')).collect();
    let mut sockets = Vec::new();
    for name in ["one", "two"] {
        let node = &services[name];
        assert!(node.get("command").is_none(), "settings are in the environment");
        let environment = node["environment"].as_object().expect("settings");
        let environment =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("text")));
        let environment: Vec<_> = environment.collect();
        let checked = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .env_clear()
            .envs(of_image.iter().copied())
            .envs(environment.iter().copied())
            .arg("--check-config")
            .output()
            .expect("it runs");
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
        assert!(checked.stderr.is_empty(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        for (variable, _) in &environment {
            assert!(said.lines().any(|line| line.ends_with(variable)), "{variable} in {said}");
        }
        let find = |name| environment.iter().find(|(variable, _)| *variable == name).map(|(_, value)| *value);
        assert_eq!(find("TIDEGATE_ORDER"), Some("redis://redis:6379"), "the service of that name");
        let listen =
            find("TIDEGATE_LISTEN").and_then(|listen| listen.strip_prefix("unix:")?.split(';').next());
        sockets.push(listen.expect("a Unix socket").to_owned());
        assert_eq!(texts(&node["volumes"]), ["sockets:/run/tidegate"]);
    }
    let script = services["nginx"]["command"][2].as_str().expect("a script").to_owned();
    for socket in sockets {
        assert!(script.contains(&format!("|unix:{socket}|")), "nginx asks {socket}");
    }
}

#[test]
fn what_is_mounted_or_built_from_is_there() {
    let Some(services) = services() else { return };
    let mut count = 0;
    for (name, service) in services.as_object().expect("services") {
        let mounts = service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for file in mounts.filter_map(|mount| mount.split(':').next().filter(|from| from.starts_with('.'))) {
            assert!(deploy().join(file).is_file(), "{name}: {file}");
            count += 1;
        }
        if let Some(context) = service["build"]["context"].as_str() {
            let file = service["build"]["dockerfile"].as_str().expect("a file");
            assert!(deploy().join(context).join(file).is_file(), "{name}: {file}");
            count += 1;
        }
    }
    assert_eq!(count, 4);
}

/// Killed when dropped.
struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn redis_takes_its_arguments_and_keeps_what_it_has() {
    let (Some(services), Some(program)) = (services(), find("redis-server")) else { return };
    let args = texts(&services["redis"]["command"]);
    assert_eq!(args[0], "redis-server");
    let folder = Folder::new();
    let socket = folder.file("redis.sock");
    let child = Command::new(program)
        .args(&args[1..])
        .args(["--port", "0", "--unixsocket", &socket, "--dir", &folder.path().display().to_string()])
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    let _redis = Redis(child);
    let client = redis::Client::open(format!("unix:{socket}")).expect("an address");
    eventually("Redis answers", || client.get_connection().is_ok());
    let mut conn = client.get_connection().expect("it answered");
    for (name, value) in [("appendonly", "yes"), ("maxmemory-policy", "noeviction"), ("save", "")] {
        let found: Vec<String> =
            redis::cmd("CONFIG").arg("GET").arg(name).query(&mut conn).expect("an answer");
        assert_eq!(found, [name, value]);
    }
    assert_eq!(texts(&services["redis"]["healthcheck"]["test"])[1..], ["redis-cli", "ping"]);
}

/// The script makes of the shipped site one for two nodes, and nginx accepts that.
#[test]
fn nginx_takes_the_site_that_is_made_of_the_shipped_one() {
    let (Some(services), Some(program)) = (services(), find("nginx")) else { return };
    let command = texts(&services["nginx"]["command"]);
    assert_eq!(command[..2], ["sh", "-c"]);
    let folder = Folder::new();
    let (shipped, made) = (deploy().join("nginx-site.conf"), folder.file("nginx-site.conf"));
    let script = command[2].replace("/etc/tidegate/nginx-site.conf", &shipped.display().to_string());
    let script =
        script.replace("/etc/nginx/nginx-site.conf", &made).replace("exec nginx -g 'daemon off;'", "");
    let run = Command::new("sh").args(["-e", "-c", &script]).output().expect("sh(1)");
    assert!(run.status.success() && run.stderr.is_empty(), "{}", String::from_utf8_lossy(&run.stderr));
    let site = fs::read_to_string(&made).expect("it was made");
    let in_force = |line: &str| site.lines().filter(|found| found.trim() == line).count();
    for line in [
        "least_conn;",
        "server unix:/run/tidegate/one.sock max_fails=1 fail_timeout=2s;",
        "server unix:/run/tidegate/two.sock max_fails=1 fail_timeout=2s;",
        "server unix:/run/tidegate/one.sock backup max_fails=0;",
        "server unix:/run/tidegate/two.sock backup max_fails=0;",
        "proxy_next_upstream error timeout http_503;",
        "proxy_next_upstream error timeout non_idempotent http_404;",
        "proxy_intercept_errors on;",
        "deny 172.30.0.1; allow 172.30.0.0/24;",
    ] {
        assert_eq!(in_force(line), 1, "{line} in {site}");
    }
    assert_eq!(in_force("server unix:/run/tidegate/http.sock;"), 0);
    assert!(COMPOSE.contains("subnet: 172.30.0.0/24") && COMPOSE.contains("gateway: 172.30.0.1"));
    // Of the shipped main file only what needs the machine's own folders is replaced.
    let main = include_str!("../../deploy/nginx.conf")
        .replace("/run/nginx.pid", &folder.file("pid"))
        .replace("/var/log/nginx/", &folder.file(""));
    fs::write(folder.path().join("nginx.conf"), main).expect("our folder");
    let tested =
        Command::new(program).args(["-t", "-c", &folder.file("nginx.conf")]).output().expect("it runs");
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
}
