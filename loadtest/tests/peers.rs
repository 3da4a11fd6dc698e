//! Every server that Tidegate is compared with is really started, listened to and published to, by the real tool.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often Pushpin may try.
const CHANCES: usize = 5;

/// Runs the tool with `args` and whatever else `prepare` sets. What it started has to be gone when it ends.
fn tool(args: &[&str], prepare: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"));
    // A group of its own, by which all it starts can be recognised.
    command.args(args).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    prepare(&mut command);
    let child = command.spawn().expect("the tool was built with the tests");
    let group = child.id();
    let output = child.wait_with_output().expect("it ends");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = members(group);
        if left.is_empty() {
            return output;
        }
        assert!(Instant::now() < deadline, "{args:?} left {left:?} behind");
        sleep(Duration::from_millis(15));
    }
}

/// The living processes of a group: number and name.
fn members(group: u32) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("Linux has it").flatten();
    let stats = processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    stats
        .filter(|stat| {
            // After the name in parentheses: state, parent, group.
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            let is_dead = matches!(fields.next(), Some("Z" | "X"));
            !is_dead && fields.nth(1).and_then(|field| field.parse().ok()) == Some(group)
        })
        .collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A small comparison of `peer` alone in `scenario`. Gives nothing, and says so, when it is not installed; in CI that
/// is a failure.
fn measured(peer: &str, scenario: &str) -> Option<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("found.json");
    let path = file.to_str().expect("the path is text");
    let servers = ["compare", scenario, "--peers-only", "--peers", peer, "--rounds", "1", "--json", path];
    let load = ["--connections", "50", "--rooms", "5", "--rate", "20", "--burst", "10", "--seconds", "1"];
    let output = tool(&[&servers[..], &load].concat(), |_| ());
    let said = said(&output);
    if output.status.code() == Some(2) && said.contains("is not installed") {
        assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{said}");
        eprintln!("skipped: {said}");
        return None;
    }
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    let found = fs::read_to_string(file).expect("it was written");
    Some(serde_json::from_str(&found).expect("it is JSON"))
}

/// Nothing was lost, and what the comparison is about was measured.
fn is_measured(peer: &str) {
    for scenario in ["rooms", "burst"] {
        let is_clean = |found: &Value| found["runs"][0]["faults"] == Value::Array(Vec::new());
        let Some(mut found) = measured(peer, scenario) else { return };
        // Pushpin cancels a connection now and then while others open, which is a fault of its own, not of the tool.
        for _ in 1..CHANCES {
            if peer == "pushpin" && !is_clean(&found) {
                found = measured(peer, scenario).expect("it is installed");
            }
        }
        let run = &found["runs"][0];
        let traffic = &run["traffic"];
        assert_eq!(run["target"], peer);
        assert_eq!(run["faults"], Value::Array(Vec::new()), "{peer} in {scenario}");
        assert_eq!(run["opening"]["connected"], 50);
        assert_eq!(traffic["lost"], 0);
        assert_eq!(traffic["deliveries"], traffic["deliveries_expected"]);
        assert!(traffic["deliveries"].as_u64() >= Some(200), "{traffic}");
        // Also of servers whose first process only watches over others.
        assert!(traffic["cpu_ns"].as_u64() > Some(100_000), "their CPU time is seen: {traffic}");
        assert!(run["memory"]["open_kib"].as_u64() > Some(500), "their memory is seen: {}", run["memory"]);
        assert!(run["latency_percentiles"].as_array().is_some_and(|list| list.len() > 20));
        let version = found["servers"][0]["version"].as_str().expect("its version is kept");
        assert!(version.contains(|letter: char| letter.is_ascii_digit()), "{version}");
    }
}

#[test]
fn the_floor_is_measured() {
    is_measured("floor");
}

#[test]
fn axum_is_measured() {
    is_measured("axum");
}

#[test]
fn go_is_measured() {
    is_measured("go");
}

#[test]
fn node_is_measured() {
    is_measured("node");
}

#[test]
fn nginx_with_nchan_is_measured() {
    is_measured("nchan");
}

#[test]
fn pushpin_is_measured() {
    is_measured("pushpin");
}

/// A suite over several servers goes through without one that is missing, and leaves results, table and plots.
#[test]
fn a_suite_is_kept_shown_and_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("the path is text").to_owned();
    let (results, plots, readme) = (at("results"), at("plots"), at("README.md"));
    let what =
        ["compare", "suite", "--peers-only", "--peers", "floor,axum,go", "--scenarios", "fanout,latency"];
    let load = ["--rounds", "1", "--connections", "50", "--seconds", "1"];
    let places = ["--results", &results, "--plots", &plots];
    // Without Go, wherever it is installed.
    let suite = tool(&[&what[..], &load, &places].concat(), |command| {
        command.env("PATH", folder.path());
    });
    let told = said(&suite);
    assert_eq!(suite.status.code(), Some(0), "{told}");
    assert!(told.contains("go is left out: go is not installed (Debian package golang-go)"), "{told}");
    assert!(told.contains("CPU per delivery, 50 subscribers, 10 events/s"), "{told}");
    for name in ["ratios", "latency-fanout", "latency-latency"] {
        let svg = fs::read_to_string(format!("{plots}/{name}.svg")).expect("it was drawn");
        assert!(svg.contains("axum"), "{name} names who is compared");
        let png = fs::read(format!("{plots}/{name}.png")).expect("it was drawn");
        assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{name}: {} bytes", png.len());
    }

    // What other scenarios keep besides.
    let kept = fs::read_dir(&results).expect("it is kept").flatten().next().expect("one file").path();
    let mut found: Value = serde_json::from_slice(&fs::read(&kept).expect("reads")).expect("it is JSON");
    found["runs"][0]["series"] =
        json!([{"seconds": 1.0, "p99_ms": 4.5, "resident_kib": 9000}, {"seconds": 2.0}]);
    let point = |along: &str| json!({"along": along, "connections": 1000, "rate_per_s": 10, "p99_ms": 7.5});
    found["runs"][0]["found"] = json!({"scale": {"points": [point("connections"), point("rooms")]}});
    let more = at("more.json");
    fs::write(&more, found.to_string()).expect("writes");
    let drawn = tool(&["plot", &more, "--out", &plots], |_| ());
    assert_eq!(drawn.status.code(), Some(0), "{}", said(&drawn));
    for name in ["time-fanout", "cost-connections", "cost-rooms"] {
        assert!(fs::metadata(format!("{plots}/{name}.png")).is_ok(), "{name}: {}", said(&drawn));
    }

    fs::write(&readme, "<!-- figures: x -->\n<!-- end of figures -->\n").expect("writes");
    let table = ["table", "--results", &results, "--readme", &readme];
    let check = [&table[..], &["--check"]].concat();
    assert_eq!(tool(&check, |_| ()).status.code(), Some(2), "nothing is in it yet");
    assert_eq!(tool(&table, |_| ()).status.code(), Some(0));
    assert_eq!(tool(&check, |_| ()).status.code(), Some(0), "it is up to date");
    let text = fs::read_to_string(&readme).expect("it is there");
    assert!(
        text.contains("| what | floor | axum |\n|---|---|---|\n| memory of an idle connection"),
        "{text}"
    );
    assert!(text.contains("Go was left out: go is not installed"), "{text}");
}

#[test]
fn what_cannot_be_compared_is_refused_by_name() {
    let unknown = tool(&["compare", "nothing"], |_| ());
    assert_eq!(unknown.status.code(), Some(2));
    assert!(said(&unknown).contains("wanted suite or one of idle, fanout"), "{}", said(&unknown));
    let unable = ["compare", "suite", "--scenarios", "targeted", "--peers-only", "--peers", "go"];
    let unable = tool(&unable, |_| ());
    assert_eq!(unable.status.code(), Some(2), "{}", said(&unable));
    assert!(said(&unable).contains("go is left out: it does not support targeted"), "{}", said(&unable));
}
