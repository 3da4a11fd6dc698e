//! Every scenario, small, against the real server; and against servers that misbehave, whose faults must be found.
//!
//! The servers are the release build of `tidegate` (or, for want of one, the build beside the load test) and `toy`, which
//! loses, repeats or reorders on purpose.

mod toy;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use toy::{Mischief, Toy};

/// What the load test ended with.
struct Ended {
    code: Option<i32>,
    output: String,
    /// The only run of its JSON file; null if there is none.
    run: Value,
}

/// Runs the load test with `arguments`; `name` keeps its JSON file apart from others'.
fn loadtest(name: &str, arguments: &[&str]) -> Ended {
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.json", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"))
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .args(arguments)
        .arg("--json")
        .arg(&json)
        .output()
        .expect("the load test was built");
    let text = std::fs::read_to_string(&json).unwrap_or_default();
    // Left behind only by a test that fails right here.
    let _ = std::fs::remove_file(&json);
    let all: Value = serde_json::from_str(&text).unwrap_or_default();
    Ended { code: output.status.code(), output: both(&output), run: all["runs"][0].clone() }
}

fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A server that forgets nothing at a kill.
#[test]
fn kills_lose_nothing() {
    let server = server();
    let server = server.to_str().expect("the path is text");
    let ended = loadtest("kill", &["kill", "--kills", "20", "--connections", "5", "--server", server]);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    let kill = &ended.run["found"]["kill"];
    assert_eq!(kill["kills"], 20, "{kill}");
    for fault in ["undeclared", "duplicated", "reordered", "other_ids", "lost", "gaps"] {
        assert_eq!(kill[fault], 0, "{kill}");
    }
    // Every subscriber has everything.
    assert!(number(&kill["events"]) > 0.0, "{kill}");
    assert!((number(&kill["deliveries"]) - 5.0 * number(&kill["events"])).abs() < 0.5, "{kill}");
}

/// The checker finds what a server with its order in memory loses.
#[test]
fn kills_of_a_server_that_remembers_nothing_are_told() {
    let server = server();
    let server = server.to_str().expect("the path is text");
    let arguments = ["kill", "--kills", "3", "--connections", "2", "--server", server];
    let memory = ["--server-arg=--order", "--server-arg=memory"];
    let ended = loadtest("kill-memory", &[&arguments[..], &memory].concat());
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(number(&ended.run["found"]["kill"]["gaps"]) > 0.0, "{}", ended.output);
}

/// The same with a Redis in place of a folder: a node that is killed finds everything there.
#[test]
fn kills_of_a_node_lose_nothing() {
    let Some(redis) = Redis::start() else { return };
    let server = server();
    let server = server.to_str().expect("the path is text");
    let arguments = ["kill", "--kills", "10", "--connections", "5", "--server", server];
    let order = format!("--server-arg=unix:{}", redis.socket().display());
    let ended = loadtest("kill-redis", &[&arguments[..], &["--server-arg=--order", &order]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    assert!(number(&ended.run["found"]["kill"]["events"]) > 0.0, "{}", ended.output);
}

/// Whatever goes wrong, nothing is lost without a word.
#[test]
fn nodes_tell_what_is_lost() {
    if Redis::start().is_none() {
        return;
    }
    let server = server();
    let server = server.to_str().expect("the path is text");
    let arguments = ["nodes", "--faults", "10", "--connections", "20", "--server", server];
    let ended = loadtest("nodes", &arguments);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    let nodes = &ended.run["found"]["nodes"];
    assert_eq!((&nodes["faults"], &nodes["nodes"]), (&json!(10), &json!(3)), "{nodes}");
    for fault in ["undeclared", "duplicated", "reordered", "other_ids", "lost", "needless"] {
        assert_eq!(nodes[fault], 0, "{nodes}");
    }
    assert!(number(&nodes["deliveries"]) > 0.0, "{nodes}");
}

/// Nodes that do not share their order are found out.
#[test]
fn nodes_that_are_no_nodes_are_found() {
    if Redis::start().is_none() {
        return;
    }
    let server = server();
    let server = server.to_str().expect("the path is text");
    let arguments = ["nodes", "--faults", "1", "--connections", "20", "--server", server];
    let apart = ["--server-arg=--order", "--server-arg=memory"];
    let ended = loadtest("nodes-apart", &[&arguments[..], &apart].concat());
    assert_ne!(ended.code, Some(0), "{}", ended.output);
}

/// A Redis for a server.
struct Redis(std::process::Child, tempfile::TempDir);

impl Redis {
    /// Starts it, or says that the test is skipped.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let started = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(folder.path().join("redis.sock"))
            .arg("--dir")
            .arg(folder.path())
            .stdout(std::process::Stdio::null())
            .spawn();
        let Ok(child) = started else {
            assert!(std::env::var_os("CI").is_none(), "redis-server is not installed");
            eprintln!("skipped: redis-server is not installed");
            return None;
        };
        let redis = Self(child, folder);
        while std::os::unix::net::UnixStream::connect(redis.socket()).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Some(redis)
    }

    fn socket(&self) -> PathBuf {
        self.1.path().join("redis.sock")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a scenario against a server of its own, and expects that nothing is wrong.
fn passes(scenario: &str, arguments: &[&str]) -> Value {
    let server = server();
    let server = ["--server", server.to_str().expect("the path is text")];
    let ended = loadtest(scenario, &[&[scenario], arguments, &server].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    // A machine that is busy with other tests says so.
    let passed = ["\nPASSED: ", "\nPASSED, but the machine was the limit: "];
    assert!(passed.iter().any(|verdict| ended.output.contains(verdict)), "{}", ended.output);
    is_exact(&ended.run);
    ended.run
}

/// Every event came to every subscriber once, by what the report says.
fn is_exact(run: &Value) {
    let traffic = &run["traffic"];
    for fault in ["lost", "duplicated", "reordered", "damaged", "disconnects", "requests_refused"] {
        assert_eq!(traffic[fault], 0, "{fault}: {traffic}");
    }
    let came = number(&traffic["deliveries"]) + number(&traffic["excused"]);
    assert!((number(&traffic["deliveries_expected"]) - came).abs() < 0.5, "{traffic}");
    assert!(came > 0.0, "{traffic}");
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} should be a number"))
}

/// `tidegate` as it ships, or as it was built beside the load test.
fn server() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_tidegate-loadtest")).parent().expect("it is in a folder");
    let candidates = [folder.with_file_name("release").join("tidegate"), folder.join("tidegate")];
    let found = candidates.iter().find(|path| path.exists());
    found.expect("cargo build --release --workspace comes first, as in scripts/test").clone()
}

#[test]
fn without_a_scenario_it_measures_fanout_and_shows_how_it_goes() {
    let server = server();
    let server = server.to_str().expect("the path is text");
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"))
        .current_dir(&folder)
        .args(["--server", server, "--connections", "100", "--seconds", "2", "--progress", "plain"])
        .output()
        .expect("the load test was built");
    let said = both(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("opening"), "{said}");
    assert!(said.contains("measuring 1/2 100 connections, "), "{said}");
    let report = folder.path().join("loadtest-report");
    for plot in ["latency-fanout.svg", "latency-fanout.png", "time-fanout.png"] {
        assert!(report.join(plot).is_file(), "{plot}: {said}");
    }
    let text = std::fs::read_to_string(report.join("results.json")).expect("the results are kept");
    let all: Value = serde_json::from_str(&text).expect("they are JSON");
    let run = &all["runs"][0];
    is_exact(run);
    assert_eq!(run["scenario"], "fanout");
    let series = run["series"].as_array().expect("a list");
    assert!(!series.is_empty(), "{run}");
    for sample in series {
        assert_eq!(sample["connections"], 100);
        assert!(number(&sample["resident_kib"]) > 0.0 && number(&sample["seconds"]) >= 1.0, "{sample}");
        assert!(number(&sample["p50_ms"]) <= number(&sample["p99_ms"]), "{sample}");
    }
    let pairs: Vec<(f64, f64)> =
        serde_json::from_value(run["latency_percentiles"].clone()).expect("a list of pairs");
    assert!(pairs.is_sorted() && pairs.is_sorted_by_key(|pair| pair.1), "{pairs:?}");
    assert_eq!(pairs.last().map(|pair| pair.0), Some(100.0));
}

#[test]
fn churn_is_exact_over_every_reconnect() {
    let run = passes("churn", &["--connections", "100", "--seconds", "1", "--churn", "90", "--away", "300"]);
    assert!(number(&run["found"]["churn"]["returned"]) >= 50.0, "{run}");
    assert_eq!(run["found"]["churn"]["left"], run["found"]["churn"]["returned"]);
    // Three events of ten a second were missed by each that was away, and came later.
    assert!(number(&run["found"]["churn"]["replayed"]) >= 50.0, "{run}");
}

#[test]
fn both_storms_bring_everybody_back() {
    let run = passes("storm", &[&["--connections", "100", "--seconds", "1"], &SOON[..]].concat());
    for variant in ["at_once", "with_jitter"] {
        let surge = &run["found"]["storm"][variant];
        assert_eq!((&surge["left"], &surge["returned"]), (&100.into(), &100.into()), "{surge}");
    }
    // A jitter around one second keeps to three quarters at least.
    assert!(number(&run["found"]["storm"]["with_jitter"]["back_seconds"]) > 0.75, "{run}");
}

/// As many tokens as there are subscribers, one for the connection that warms the server up, one for the publisher; each
/// subscriber comes three times.
#[test]
fn a_storm_with_tokens_costs_each_token_one_verification() {
    let run = passes("storm", &[&["--connections", "100", "--seconds", "1", "--tokens"], &SOON[..]].concat());
    assert_eq!(run["settings"]["tokens"], true);
    let notes = run["notes"].to_string();
    assert!(notes.contains("had a token of its own"), "{notes}");
    let storm = &run["found"]["storm"];
    assert_eq!(storm["at_once"]["returned"], 100);
    assert_eq!(storm["verifications"], 102, "{storm}");
}

#[test]
fn traffic_is_the_same_with_tokens() {
    for scenario in ["fanout", "rooms"] {
        let numbers = ["--connections", "50", "--seconds", "1", "--rate", "20", "--tokens"];
        let run = passes(scenario, &numbers);
        assert_eq!(run["settings"]["tokens"], true);
    }
}

#[test]
fn traffic_is_the_same_where_every_event_requires_a_permission() {
    let numbers = ["--connections", "50", "--seconds", "1", "--rate", "20", "--tokens", "--require"];
    let run = passes("fanout", &numbers);
    assert_eq!(run["settings"]["require"], true);
}

#[test]
fn a_peer_that_can_not_resume_gets_a_storm_without_events() {
    let ended =
        loadtest("storm-floor", &["storm", "--peer", "floor", "--connections", "50", "--seconds", "1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    assert_eq!(ended.run["found"]["storm"]["at_once"]["returned"], 50);
    assert!(ended.run["traffic"].is_null());
}

#[test]
fn resume_replays_exactly_and_tells_what_is_gone() {
    let run = passes("resume", &["--connections", "50", "--seconds", "1", "--rooms", "5", "--missed", "40"]);
    let resume = &run["found"]["resume"];
    assert_eq!(resume["replayed"], 50 * 40, "{resume}");
    assert_eq!((&resume["returned_beyond"], &resume["told_gap"]), (&50.into(), &50.into()), "{resume}");
    // Of 1,251 events of each room 1,000 are remembered.
    assert_eq!(run["traffic"]["excused"], 50 * 251, "{run}");
}

#[test]
fn a_server_that_remembers_less_than_it_is_said_to_is_found_out() {
    let server = server();
    let server = server.to_str().expect("the path is text");
    let history = ["--server-arg=--history-events", "--server-arg=20"];
    let arguments = ["resume", "--server", server, "--connections", "20", "--seconds", "1", "--missed", "40"];
    let ended = loadtest("resume-short", &[&arguments[..], &history].concat());
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(ended.output.contains("20 gaps announced although"), "{}", ended.output);
}

#[test]
fn soak_mixes_everything_and_stays_exact() {
    let run = passes("soak", &["--connections", "100", "--seconds", "4", "--churn", "20"]);
    let soak = &run["found"]["soak"];
    assert!(number(&soak["single_stretches"]) >= 2.0 && number(&soak["burst_stretches"]) >= 1.0, "{soak}");
    assert!(number(&soak["returned"]) >= 10.0, "{soak}");
    assert!(number(&soak["start_kib"]) > 0.0 && soak["growth_kib"].is_i64(), "{soak}");
}

#[test]
fn saturate_ends_between_a_rate_that_holds_and_one_that_does_not() {
    let limits = ["--rate", "20000", "--p99-max", "2000"];
    let run = passes("saturate", &[&["--connections", "100", "--seconds", "1"], &limits[..]].concat());
    let steps = run["found"]["saturate"]["steps"].as_array().expect("a list");
    let best = &run["found"]["saturate"]["events_per_s"];
    assert!(steps.iter().any(|step| !step["failed_by"].is_null()), "{steps:?}");
    assert!(steps.iter().any(|step| step["failed_by"].is_null() && step["rate_per_s"] == *best));
    assert!(number(&run["found"]["saturate"]["deliveries_per_s"]) > number(best), "{run}");
}

#[test]
fn scale_measures_one_point_after_the_other() {
    let run = passes("scale", &["--connections", "2", "--rooms", "10", "--seconds", "1"]);
    let points = run["found"]["scale"]["points"].as_array().expect("a list");
    let of = |point: &Value| (point["along"].clone(), point["connections"].clone());
    let wanted = [("connections", 1), ("connections", 2), ("rooms", 1)];
    assert_eq!(
        points.iter().map(of).collect::<Vec<_>>(),
        wanted.map(|(along, at)| (along.into(), at.into()))
    );
    assert!(points.iter().all(|point| number(&point["cpu_us_each"]) > 0.0), "{points:?}");
}

/// Rooms whose members are named up to twenty, and who is there is told ten times a second.
const MEMBERS: [&str; 8] =
    ["--members-max", "20", "--interval", "100", "--reload", "1", "--connections", "60"];

#[test]
fn presence_counts_what_is_told_and_compares_with_a_run_without() {
    let run = passes("presence", &[&MEMBERS[..], &["--seconds", "1", "--grace", "1500"]].concat());
    let presence = &run["found"]["presence"];
    assert_eq!((&presence["members"], &presence["reloads"]), (&60.into(), &60.into()), "{presence}");
    // Each stream began twice, and all had to be told at least once of those that came after them.
    assert_eq!((&presence["begun"], &presence["reload_messages"]), (&120.into(), &0.into()), "{presence}");
    assert!(number(&presence["join_messages"]) >= 20.0, "{presence}");
    assert!(number(&presence["join_messages"]) <= number(&presence["join_messages_max"]), "{presence}");
    assert!(number(&presence["leave_messages"]) >= 4.0, "the watchers are told: {presence}");
    assert!(number(&presence["leave_seconds"]) >= 1.5, "the grace has to pass: {presence}");
    for turn in ["with", "without"] {
        assert!(number(&presence[turn]["p99_ms"]) > 0.0, "{turn}: {presence}");
    }
    // They joined while events flowed.
    assert!(number(&run["traffic"]["excused"]) > 0.0, "{run}");
}

#[test]
fn presence_in_rooms_of_ten_is_measured_in_memory() {
    let server = server();
    let server = server.to_str().expect("the path is text");
    let numbers =
        ["presence", "--rooms-of", "10", "--connections", "45", "--seconds", "1", "--interval", "100"];
    let ended = loadtest("presence-rooms", &[&numbers[..], &["--server", server]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    let presence = &ended.run["found"]["presence"];
    assert_eq!((&presence["members"], &presence["begun"]), (&10.into(), &40.into()), "{presence}");
    assert!(ended.run["traffic"].is_null(), "nothing is published");
    assert!(number(&presence["memory_each_kib_without"]) > 0.0, "{presence}");
}

#[test]
fn a_grace_that_is_shorter_than_a_reload_is_found_out() {
    let server = server();
    let server = server.to_str().expect("the path is text");
    let short =
        ["--seconds", "1", "--grace", "300", "--away", "1200", "--presence", "on", "--server", server];
    let ended = loadtest("presence-grace", &[&["presence"], &MEMBERS[..], &short].concat());
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    let fault = " presence messages although all came back within the grace";
    assert!(ended.output.contains(fault), "{}", ended.output);
}

#[test]
fn conflate_brings_everybody_the_newest_of_every_key() {
    let numbers = ["--connections", "40", "--seconds", "2", "--rate", "2000", "--keys", "50"];
    let run = passes("conflate", &[&numbers[..], &["--slow", "3"]].concat());
    let conflate = &run["found"]["conflate"];
    assert_eq!(conflate["checked"], 40 * 50, "{conflate}");
    assert!(number(&conflate["updates"]) >= 4_000.0, "{conflate}");
    // Four hundred updates of fifty keys are gathered at a time.
    assert!(number(&conflate["conflated_percent"]) >= 50.0, "{conflate}");
    assert!(number(&conflate["slow_each"]) >= 50.0, "{conflate}");
}

#[test]
fn polls_bring_every_event_once() {
    let run = passes("poll", &["--connections", "50", "--seconds", "1"]);
    let poll = &run["found"]["poll"];
    assert!(number(&poll["polls"]) >= 50.0 && number(&poll["polls_per_s"]) > 0.0, "{poll}");
    assert_eq!(run["traffic"]["deliveries"], 50 * 20);
    assert!(number(&run["traffic"]["latency_p99_ms"]) > 0.0, "{run}");
    // Each ends many times without an event.
    let idle = ["--connections", "20", "--seconds", "3", "--rate", "1", "--poll", "1"];
    assert!(number(&passes("poll", &idle)["found"]["poll"]["polls"]) >= 20.0);
}

/// Few repeats, and fewer keys remembered than come.
const REPEATS: [&str; 10] =
    ["--events", "20", "--workers", "4", "--equal", "200", "--keys", "12000", "--remembered", "5000"];

#[test]
fn a_storm_of_retries_publishes_each_event_once() {
    let run = passes("retry", &REPEATS);
    let retry = &run["found"]["retry"];
    assert_eq!((&retry["requests"], &retry["equal"]), (&80.into(), &200.into()), "{retry}");
    // All but the first answer to each of 21 keys.
    assert_eq!(retry["replayed"], 80 + 200 - 21, "{retry}");
    assert_eq!(run["traffic"]["deliveries"], 10 * 21);
    assert!(retry["growth_kib"].is_i64() && retry["growth_full_kib"].is_i64(), "{retry}");
}

#[test]
fn several_processes_see_what_one_would() {
    let run = passes("fanout", &["--connections", "6000", "--seconds", "1", "--processes", "3"]);
    assert_eq!(run["settings"]["processes"], 3);
    assert_eq!(run["opening"]["connected"], 6_000);
    // Ten events a second for two seconds, one of them the warm-up, to all.
    assert_eq!(run["traffic"]["events_sent"], 20);
    assert_eq!(run["traffic"]["deliveries"], 6_000 * 20);
    assert_eq!(run["traffic"]["deliveries_expected"], 6_000 * 20);
    let mut series = run["series"].as_array().expect("a list").iter();
    assert!(series.all(|sample| sample["connections"] == 6_000), "{run}");
}

#[test]
fn processes_reconnect_like_threads() {
    let numbers = ["--connections", "99", "--seconds", "1", "--processes", "2", "--threads", "2"];
    let run = passes("storm", &[&numbers, &SOON[..]].concat());
    assert_eq!(run["found"]["storm"]["at_once"]["returned"], 99);
    assert_eq!(run["found"]["storm"]["with_jitter"]["returned"], 99);
}

/// Subscribers are told to come back after about a second.
const SOON: [&str; 2] = ["--server-arg=--retry", "--server-arg=1s"];

/// Runs `scenario` against a toy server and returns how it ended.
fn against(mischief: Mischief, scenario: &str, more: &[&str]) -> Ended {
    let toy = Toy::start(mischief);
    let url = toy.url();
    let numbers = ["--url", &url, "--connections", "20", "--seconds", "1", "--rate", "20"];
    let name = format!("{scenario}-{mischief:?}{}", more.concat());
    loadtest(&name, &[&[scenario], &numbers[..], more].concat())
}

/// Expects that each mischief is found in `scenario`, and said in these words. Each has a server of its own, so they
/// run at once.
fn all_fail(scenario: &str, more: &[&str], wanted: &[(Mischief, &str)]) {
    std::thread::scope(|scope| {
        for (mischief, fault) in wanted {
            scope.spawn(move || {
                let ended = against(*mischief, scenario, more);
                assert_eq!(ended.code, Some(1), "{mischief:?}: {}", ended.output);
                assert!(ended.output.contains(fault), "{mischief:?}: {}", ended.output);
                assert!(ended.output.contains("\nFAILED: "), "{mischief:?}: {}", ended.output);
            });
        }
    });
}

#[test]
fn a_server_that_does_as_it_should_passes_without_its_usage_being_known() {
    let ended = against(Mischief::None, "churn", &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    is_exact(&ended.run);
    assert_eq!(ended.run["usage_from"], "nothing");
    assert!(ended.run["traffic"]["cpu_us_each"].is_null(), "what isn't known is no zero");
    assert!(ended.run["memory"]["open_kib"].is_null(), "what isn't known is no zero");
}

#[test]
fn who_is_sent_away_comes_again_and_misses_nothing() {
    let ended = against(Mischief::Busy, "churn", &["--churn", "50"]);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    is_exact(&ended.run);
    let churn = &ended.run["found"]["churn"];
    assert!(number(&churn["refused"]) >= 1.0 && churn["refused"] == churn["retries"], "{churn}");
    assert_eq!(churn["left"], churn["returned"], "{churn}");
}

#[test]
fn one_bad_event_on_one_connection_is_found() {
    let wanted = [
        (Mischief::Lose, "1 events lost, 1 of them before others"),
        (Mischief::Repeat, "1 events duplicated"),
        (Mischief::Reorder, "1 events reordered"),
        (Mischief::Damage, "1 events damaged"),
    ];
    std::thread::scope(|scope| {
        scope.spawn(|| all_fail("fanout", &[], &wanted));
        // The bad connection is in one of two other processes.
        scope.spawn(|| all_fail("fanout", &["--processes", "2"], &wanted[..2]));
    });
}

#[test]
fn a_wrong_replay_is_found() {
    let wanted = [(Mischief::Forget, "events lost"), (Mischief::ReplayAll, "events duplicated")];
    all_fail("churn", &[], &wanted);
}

#[test]
fn a_server_that_only_streams_can_be_polled_and_conflate_if_it_is_exact() {
    for (scenario, more) in [("poll", &[][..]), ("conflate", &["--keys", "7"])] {
        let ended = against(Mischief::None, scenario, more);
        assert_eq!(ended.code, Some(0), "{}", ended.output);
        is_exact(&ended.run);
    }
}

#[test]
fn a_poll_that_brings_too_little_or_too_much_is_found() {
    let wanted = [(Mischief::Lose, "1 events lost"), (Mischief::Repeat, "1 events duplicated")];
    all_fail("poll", &[], &wanted);
}

#[test]
fn a_key_that_goes_back_or_stays_behind_is_found() {
    // So many keys that the fifth event is the only one of its key.
    let wanted = [
        (Mischief::Lose, "1 keys whose newest version did not come"),
        (Mischief::Repeat, "1 events duplicated"),
    ];
    all_fail("conflate", &["--keys", "10000"], &wanted);
    // With one key, an older version comes after a newer one.
    all_fail("conflate", &["--keys", "1"], &[(Mischief::Reorder, "1 events reordered")]);
}

#[test]
fn a_server_that_knows_no_idempotency_keys_is_found() {
    let ended = against(Mischief::None, "retry", &REPEATS);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    let faults = [
        "answers wrongly marked, or not marked, as replayed",
        "events duplicated",
        "arrays of new keys not published in full",
        "of the newest keys were forgotten",
    ];
    for fault in faults {
        assert!(ended.output.contains(fault), "{fault}: {}", ended.output);
    }
}

#[test]
fn a_server_that_refuses_everybody_is_a_failure() {
    let ended = against(Mischief::Refuse, "fanout", &[]);
    // The load test's own first connection is refused already, so there is nothing to measure.
    assert_eq!(ended.code, Some(2), "{}", ended.output);
}

/// Runs a script of this folder with small numbers, and expects that nothing is wrong.
fn script(name: &str, arguments: &[&str]) {
    let server = server();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .env("TIDEGATE_LOADTEST", env!("CARGO_BIN_EXE_tidegate-loadtest"))
        .args(arguments)
        .args(["--connections", "20", "--server"])
        .arg(server)
        .output()
        .expect("the script can be run");
    assert!(output.status.success(), "{name}: {}", both(&output));
    assert!(both(&output).contains("\nPASSED"), "{name}: {}", both(&output));
}

#[test]
fn the_scripts_run() {
    // At once: each has a server of its own.
    std::thread::scope(|scope| {
        scope.spawn(|| script("quick.sh", &["--seconds", "1"]));
        scope.spawn(|| script("compare.sh", &["fanout", "--seconds", "1", "--rounds", "1"]));
        let limits = ["--rate", "100000", "--p99-max", "2000"];
        scope.spawn(move || script("saturate.sh", &[&["--seconds", "1"], &limits[..]].concat()));
        scope.spawn(|| script("soak.sh", &["2"]));
    });
}
