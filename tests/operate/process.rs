//! Promise: the program starts without settings, reports what is wrong and where, ends in order on a signal, and stays
//! up and idle when the system has no descriptors left for it.

use crate::common::{self, neighbours};

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::conn::{Conn, chunk, request};
use common::metrics::Metrics;
use common::process::{FREE_PORTS, Process, TIDEGATE, command, command_of};
use common::stream::Listener;
use common::{BASE, eventually};
use serde_json::json;

/// Starts the program with at most so many descriptors.
fn start_with_open_files(open_files: u32, args: &[&str]) -> Process {
    let limited = format!("ulimit -n {open_files}; exec \"$0\" \"$@\"");
    Process::spawn(command_of("sh", &["-c", &limited, TIDEGATE]).args(FREE_PORTS).args(args))
}

fn listen(process: &Process, user: &str) -> Listener {
    Listener::open(Conn::tcp(process.addr), &format!("/stream/a/{user}"), &[])
}

fn publish(process: &Process, data: &str) {
    let body = json!({"room": "a", "data": data}).to_string();
    let publish = request("POST", &format!("{BASE}/publish"), &[], body.as_bytes());
    assert_eq!(Conn::tcp(process.addr).round(&publish).status(), 200);
}

/// Returns the processor time used so far, all threads together (`proc_pid_stat(5)`: fields 14 and 15, in ticks of 10
/// ms).
fn cpu(process: &Process) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("it runs");
    // The second field is the program's name, which may contain anything but this.
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks = |field: usize| fields[field - 3].parse::<u64>().expect("a number");
    Duration::from_millis(10 * (ticks(14) + ticks(15)))
}

/// Returns the smallest share of one core that it used in any of a few seconds: other processes may disturb one of
/// them, a loop that spins shows in each.
fn cpu_share(process: &Process) -> f64 {
    let second = || {
        let (started, before) = (Instant::now(), cpu(process));
        std::thread::sleep(Duration::from_secs(1));
        cpu(process).saturating_sub(before).as_secs_f64() / started.elapsed().as_secs_f64()
    };
    (0..3).map(|_| second()).fold(f64::INFINITY, f64::min)
}

fn run(args: &[&str]) -> Output {
    command(args).output().expect("it runs")
}

/// This process needs descriptors too.
fn raise_own_limit() {
    let limit = rlimit::increase_nofile_limit(8192).expect("a limit");
    assert!(limit >= 4096, "this test needs 4,096 descriptors, ulimit -Hn is {limit}");
}

#[test]
fn it_says_what_to_try_and_that_works() {
    let process = Process::start(&[], &[]);
    let (addr, admin, welcome) = (process.addr, process.admin, process.welcome());
    let begins = format!("Tidegate {} is listening on {addr}, up to ", env!("CARGO_PKG_VERSION"));
    assert!(welcome.starts_with(&begins), "{welcome}");
    assert!(welcome.contains(&format!(" streams. Metrics: http://{admin}/metrics\n")), "{welcome}");
    assert!(welcome.contains(&format!("\nLive page: http://{admin}/dashboard\n")), "{welcome}");
    assert!(welcome.contains(&format!("  curl -N http://{addr}{BASE}/stream/lobby/me\n")), "{welcome}");
    let publish =
        format!("  curl http://{addr}{BASE}/publish -d '{{\"room\":\"lobby\",\"data\":\"hello\"}}'\n");
    assert!(welcome.contains(&publish), "{welcome}");

    // As curl would.
    let mut conn = Conn::tcp(addr);
    conn.send(format!("GET {BASE}/stream/lobby/me HTTP/1.1\r\nHost: {addr}\r\nAccept: */*\r\n\r\n"));
    let mut listener = Listener::answered(conn);
    assert!(listener.event().contains("event: connected\n"));
    let form = [("content-type", "application/x-www-form-urlencoded"), ("accept", "*/*")];
    let body = br#"{"room":"lobby","data":"hello"}"#;
    let answer = Conn::tcp(addr).round(&request("POST", &format!("{BASE}/publish"), &form, body));
    assert_eq!(answer.json()["subscribers"], 1);
    assert_eq!(listener.data(), "hello");
}

/// The command that the welcome suggests was once answered 401 as soon as there was a key.
#[test]
fn what_it_says_to_try_works_with_a_token_too() {
    let key =
        ("TIDEGATE_TOKEN_KEYS", "HS256:base64:dGhlIHRlc3QncyBvd24gc2VjcmV0LCB3aGljaCBubyBvdGhlciBoYXM=");
    if neighbours::find("curl").is_none() {
        return;
    }
    let process = Process::start(&[], &[key]);
    let made = command(&["token", "--user", "me", "--allow", "sse:publish:lobby"]).envs([key]).output();
    let token = made.expect("it runs");
    let token = String::from_utf8(token.stdout).expect("a token is text");
    let welcome = process.welcome();
    let publish = welcome.lines().find(|line| line.contains("/publish")).expect("it says how");
    let run = |token: &str| {
        let mut shell = command_of("sh", &["-c", &format!("{publish} -s")]);
        // Overrides this machine's settings for proxies.
        let output = shell.env("no_proxy", "*").env("token", token).output().expect("it runs");
        String::from_utf8(output.stdout).expect("JSON")
    };
    assert!(run(token.trim()).contains("\"subscribers\":0"), "{}", run(token.trim()));
    assert!(run("").contains("\"unauthorized\""), "{}", run(""));
    let listen = format!(
        "curl -N http://{}{BASE}/stream/lobby/me -H \"authorization: Bearer $token\"\n",
        process.addr
    );
    assert!(welcome.contains(&listen), "{welcome}");
}

#[test]
fn the_environment_and_flags_reach_it() {
    let mut command = command(&["--shards", "3", "--max-connections", "11"]);
    command.env("TIDEGATE_LISTEN", "127.0.0.1:0").env("TIDEGATE_ADMIN_LISTEN", "127.0.0.1:0");
    let process = Process::spawn(command.env("TIDEGATE_SHARDS", "7"));
    assert!(process.welcome().contains(", up to 11 streams."), "{}", process.welcome());
    let info = Conn::tcp(process.addr).round(&request("GET", &format!("{BASE}/info"), &[], b"")).json();
    assert_eq!(info["shards"].as_array().map(Vec::len), Some(3));
}

#[test]
fn settings_are_checked_without_opening_anything() {
    let checked = run(&["--check-config"]);
    assert_eq!(checked.status.code(), Some(0));
    assert!(String::from_utf8(checked.stdout).unwrap().contains("127.0.0.1:8080"));
    assert!(checked.stderr.is_empty());

    for args in [&["--check-config", "--heartbeat", "25"][..], &["--heartbeat", "25"]] {
        let wrong = run(args);
        assert_eq!(wrong.status.code(), Some(78));
        assert!(wrong.stdout.is_empty());
        let text = String::from_utf8(wrong.stderr).unwrap();
        assert!(text.starts_with("--heartbeat=\"25\": wanted "), "{text}");
    }
    let open = run(&["--listen", "0.0.0.0:0"]);
    assert_eq!(open.status.code(), Some(78));
    let text = String::from_utf8(open.stderr).unwrap();
    assert!(text.contains("insecure"), "{text}");
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(64));
}

#[test]
fn a_port_in_use_is_told_in_one_line() {
    let process = Process::start(&[], &[]);
    let (addr, admin) = (process.addr.to_string(), process.admin.to_string());
    let told = "that can be listened on; another Tidegate runs there: stop it, or set another address";
    for (args, told) in [
        (["--listen", &addr, "--admin-listen", "off"], format!("listen={addr:?}: wanted an address {told}")),
        (
            ["--listen", "127.0.0.1:0", "--admin-listen", &admin],
            format!("admin_listen={admin:?}: wanted off or an address {told}"),
        ),
    ] {
        // The error is logged or, without a log, printed: once.
        for level in ["off", "error", "info"] {
            let second = run(&[&args[..], &["--log-level", level]].concat());
            assert_eq!(second.status.code(), Some(1));
            let text = String::from_utf8(second.stderr).unwrap();
            assert!(text.contains(&told) && text.contains("Address already in use"), "{text}");
            assert_eq!(text.matches("Address already in use").count(), 1, "{text}");
            assert!(level != "off" || text.starts_with(&told), "{text}");
        }
    }
}

#[test]
fn a_signal_ends_it_in_order() {
    for signal in ["-TERM", "-INT"] {
        let mut process = Process::start(&["--drain", "500ms"], &[]);
        let mut listener = listen(&process, "u");
        publish(&process, "x");
        process.signal(signal);
        assert_eq!(listener.data(), "x");
        listener.closing("drain");
        assert_eq!(process.exit_code(), Some(0), "{signal}");
    }
}

#[test]
fn a_second_signal_ends_it_now() {
    let mut process = Process::start(&["--drain", "1h", "--drain-rate", "1/h", "--shards", "1"], &[]);
    let (mut first, mut listener) = (listen(&process, "first"), listen(&process, "u"));
    process.signal("-TERM");
    first.closing("drain");
    eventually("not ready", || {
        Conn::tcp(process.admin).round(&request("GET", "/readyz", &[], b"")).status() == 503
    });
    process.signal("-TERM");
    assert_eq!(process.exit_code(), Some(130));
    assert_eq!(listener.end(), common::stream::End::Closed);
    assert!(process.logged().contains("a second signal: streams and requests"), "{}", process.logged());
}

/// One stream once delayed the end by nine seconds of the default ten, and by 54 minutes of this hour.
#[test]
fn one_listener_is_told_at_once_and_what_is_left_is_logged() {
    let process = Process::start(&["--drain", "1h"], &[]);
    let mut listener = listen(&process, "u");
    process.signal("-INT");
    listener.closing("drain");
    let printed = process.end_of_signalled();
    for line in [
        "shutting down; a second signal ends the process at once",
        "draining streams=1 at_most=3600s",
        "drained",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
}

/// With the default settings, the end once took longer than the ten seconds that a container is given. A test of the
/// library checks that the sum of all waits is below them; here, each kind of peer that does not close by itself is
/// connected at once.
#[test]
fn no_peer_holds_up_the_end() {
    let process = Process::start(&["--send-buffer", "4KiB", "--shards", "1", "--request-timeout", "1m"], &[]);
    // A reader that does not read on.
    let stuck = Listener::open(Conn::tcp_with_small_buffer(process.addr), "/stream/a/stuck", &[]);
    let large = "x".repeat(64 << 10);
    eventually("a socket is full", || {
        publish(&process, &large);
        process.metrics().get("tidegate_lagging_connections") >= 1.0
    });
    // Half a body, and half a head.
    let mut body = Conn::tcp(process.addr);
    body.send(format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{\"room\""));
    let mut head = Conn::tcp(process.addr);
    head.send(format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\n"));
    // An answer that is not read, and a connection that sends nothing.
    let mut unread = Conn::tcp_with_small_buffer(process.addr);
    for _ in 0..8 {
        unread.send(request("GET", &format!("{BASE}/rooms/a/history?limit=1000"), &[], b""));
    }
    let silent = Conn::tcp(process.addr);
    // A publisher of lines that goes on.
    let mut listener = Listener::open(Conn::tcp(process.addr), "/stream/lines/u", &[]);
    let mut lines = Conn::tcp(process.addr);
    let kind = "content-type: application/x-ndjson\r\ntransfer-encoding: chunked";
    lines.send(format!("POST {BASE}/publish HTTP/1.1\r\nhost: x\r\n{kind}\r\n\r\n"));
    let line = chunk("{\"room\":\"lines\",\"data\":1}\n");
    lines.send(&line);
    assert_eq!(listener.data(), "1");
    let publisher = std::thread::spawn(move || {
        while lines.try_send(line.as_bytes()).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    process.signal("-TERM");
    let printed = process.end_of_signalled();
    publisher.join().expect("the server is gone");
    assert!(printed.contains("draining streams=2 at_most=5s"), "{printed}");
    // The stuck reader has the whole of `drain`, and the requests have two seconds after it. The lines were answered.
    assert!(printed.contains("still draining streams=1 requests="), "{printed}");
    assert!(printed.contains("out of time: cutting off what remains streams=0 requests=3"), "{printed}");
    drop((stuck, body, head, unread, silent));
}

/// How often descriptors ran out. Within the settings that does not happen: some are kept back.
const PAUSED: &str = "tidegate_accept_paused_total";

/// Three thousand clients connect where a thousand fit.
#[test]
fn listeners_for_whom_there_are_no_descriptors_are_refused_softly() {
    raise_own_limit();
    let mut process = start_with_open_files(1200, &[]);
    let mut conns: Vec<Conn> = Vec::new();
    for n in 0..3000 {
        let mut conn = Conn::tcp(process.addr);
        let path = format!("{BASE}/stream/a/u{n}");
        conn.send(request("GET", &path, &[("accept", "text/event-stream")], b""));
        conns.push(conn);
    }
    let (mut welcome, mut refused) = (Vec::new(), 0);
    for conn in conns {
        let mut listener = Listener::answered(conn);
        assert_eq!(listener.head.status(), 200);
        if listener.head.header("content-length").is_some() {
            refused += 1;
        } else {
            assert!(listener.event().contains("event: connected\n"));
            welcome.push(listener);
        }
    }
    let metrics = process.metrics();
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let (open, away) = (welcome.len() as f64, f64::from(refused));
    metrics.assert("tidegate_connections", open);
    metrics.assert("tidegate_refused_total{reason=\"full\"}", away);
    assert!(welcome.len() > 800 && refused > 1800, "{open} and {away}");
    metrics.assert(PAUSED, 0.0);
    assert!(cpu_share(&process) < 0.2, "a full server is a quiet one");
    assert!(process.is_running());

    // Open streams still get events, and places that become free are taken again.
    publish(&process, "x");
    for listener in &mut welcome {
        assert_eq!(listener.data(), "x");
    }
    welcome.truncate(100);
    eventually("room", || process.metrics().is("tidegate_connections", 100.0));
    let mut newcomer = listen(&process, "newcomer");
    publish(&process, "y");
    assert_eq!(newcomer.data(), "y");
}

/// Connections that never send a request take descriptors, too.
#[test]
fn silent_connections_for_which_there_are_no_descriptors_keep_nobody_out() {
    raise_own_limit();
    let mut process = start_with_open_files(1200, &[]);
    let mut listener = listen(&process, "u");
    let crowd: Vec<Conn> = (0..3000).map(|_| Conn::tcp(process.addr)).collect();
    publish(&process, "through the crowd");
    assert_eq!(listener.data(), "through the crowd");
    process.metrics().assert(PAUSED, 0.0);
    assert!(cpu_share(&process) < 0.2, "waiting costs nothing");
    drop(crowd);
    publish(&process, "after it");
    assert_eq!(listener.data(), "after it");
    assert!(process.is_running());
}

/// The settings prevent this, so the test lowers the limit of the running process: `accept(2)` fails with `EMFILE`,
/// while the backlog stays readable.
#[test]
fn accepting_pauses_without_descriptors_and_lets_the_next_in() {
    let process = start_with_open_files(1200, &["--request-timeout", "5m"]);
    let pid = i32::try_from(process.id()).expect("a process id");
    let mut listeners: Vec<Listener> = (0..60).map(|n| listen(&process, &format!("u{n}"))).collect();
    // Connected in advance, one for each scrape, and last: later, no descriptor is free below the limit. When the last
    // one is answered, all have been accepted.
    let mut scrapers = vec![Conn::tcp(process.admin), Conn::tcp(process.admin)];
    let mut scrape = || {
        let mut scraper = scrapers.pop().expect("enough of them");
        scraper.send(request("GET", "/metrics", &[], b""));
        Metrics::parse(scraper.response().text())
    };
    scrape().assert("tidegate_connections", 60.0);
    let set = Command::new("prlimit").args(["--nofile=40", "--pid", &pid.to_string()]).status();
    assert!(set.expect("prlimit(1)").success());

    let mut waiting = Conn::tcp(process.addr);
    waiting.send(request("GET", &format!("{BASE}/stream/a/late"), &[], b""));
    assert!(cpu_share(&process) < 0.2, "accepting does not spin");
    let metrics = scrape();
    assert!(metrics.get(PAUSED) >= 1.0, "accepting pauses");
    metrics.assert("tidegate_connections", 60.0);
    // When streams end, the waiting connection is accepted.
    listeners.clear();
    let mut late = Listener::answered(waiting);
    assert_eq!(late.head.status(), 200);
    assert!(late.event().contains("event: connected\n"));
    publish(&process, "x");
    assert_eq!(late.data(), "x");
}

#[test]
fn help_and_version_go_to_standard_output() {
    for flag in ["--help", "--version"] {
        let said = run(&[flag]);
        let text = String::from_utf8(said.stdout).expect("UTF-8");
        assert!(text.contains("tidegate"), "{text}");
        assert!(said.status.success() && said.stderr.is_empty());
    }
}

/// `--check-config` once accepted such files, and the server then ended with a status after which it is restarted.
#[test]
fn files_that_settings_name_are_checked_with_them() {
    let folder =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the test's own folder");
    let file = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).expect("the test's own folder takes files");
        folder.join(name).display().to_string()
    };
    let keys = "[a]\nhash = \"sha256:00\"\npermissions = []\n";
    let short = format!("--token-keys=HS256:file:{}", file("short.key", "short"));
    let bad_hash = format!("--api-keys-file={}", file("keys.toml", keys));
    let twice = format!("--api-keys-file={}", file("twice.toml", &[keys, keys].concat()));
    let callback = "--auth-callback=http://127.0.0.1:1/";
    let cases: [(&[&str], &str); 7] = [
        (&["--token-keys=HS256:file:/nowhere/a.key"], "token_keys: cannot read /nowhere/a.key: No such file"),
        (&[&short], "is too short: HS256 takes 32 bytes"),
        (&["--token-jwks=/nowhere/jwks.json"], "token_jwks: cannot read /nowhere/jwks.json: No such file"),
        (&["--api-keys-file=/nowhere/keys.toml"], "api_keys_file: /nowhere/keys.toml: cannot be read"),
        (&[&bad_hash], "[a] hash: wanted sha256:"),
        (&[&twice], "line 4: [a] is there twice"),
        (
            &[callback, "--upstream-ca-file=/nowhere/ca.pem"],
            "upstream_ca_file: /nowhere/ca.pem cannot be read",
        ),
    ];
    for (args, told) in cases {
        for more in [&["--check-config"][..], &[], &["--log-level", "off"]] {
            let output = run(&[args, &FREE_PORTS, more].concat());
            assert_eq!(output.status.code(), Some(78), "{args:?} {more:?}");
            let text = String::from_utf8(output.stderr).expect("UTF-8");
            assert!(text.matches(told).count() == 1 && text.lines().count() == 1, "{told}: {text}");
            assert!(output.stdout.is_empty());
        }
    }
    std::fs::remove_dir_all(&folder).expect("nobody else removes it");
}

/// The variable was once ignored without a message, and the server was open to all.
#[test]
fn a_misspelt_variable_is_told() {
    let told = "unknown variable \"TIDEGATE_TOKEN_KEY\" is ignored: did you mean TIDEGATE_TOKEN_KEYS?";
    let checked = command(&["--check-config"]).env("TIDEGATE_TOKEN_KEY", "s3cret").output();
    let checked = checked.expect("it runs");
    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(String::from_utf8(checked.stderr).expect("UTF-8"), format!("{told}\n"));
    let variables = [("TIDEGATE_TOKEN_KEY", "s3cret"), ("TIDEGATE_SERVICE_HOST", "10.0.0.1")];
    let printed = Process::start(&[], &variables).end();
    assert!(printed.contains(told) && printed.contains("WARN"), "{printed}");
    assert!(!printed.contains("s3cret") && !printed.contains("TIDEGATE_SERVICE_HOST"), "{printed}");
    assert!(printed.contains("every client that reaches this address may listen and publish"), "{printed}");
}

/// The log once said that the earlier keys stay in use, at the first fetch too, and named neither the URL nor the
/// reason.
#[test]
fn keys_that_cannot_be_fetched_are_told_with_the_reason() {
    let server = |url: &str| Process::start(&["--token-jwks", url], &[]);
    let process = server("http://127.0.0.1:1/jwks.json?key=hunter2");
    let told = "tokens that need them are refused";
    eventually(told, || process.printed().contains(told));
    let printed = process.end();
    let line = printed.lines().find(|line| line.contains(told)).expect("just seen");
    for part in ["WARN", "url=http://127.0.0.1:1/jwks.json?***", "unreachable", "Connection refused"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!printed.contains("hunter2"), "{printed}");
}

/// An invalid answer was once logged as no answer, and the faulty member could not be found.
#[test]
fn what_is_wrong_with_an_applications_answer_is_told() {
    use common::application::{Application, Reply};
    for (status, body, told) in [
        (500, "{}", ["the application's answer to auth_callback is invalid", "status 500"]),
        (
            200,
            r#"{"user":7}"#,
            ["the application's answer to auth_callback is invalid", "its user is not a valid name"],
        ),
        (
            200,
            r#"{"permissions":["vip","sse:reed"]}"#,
            ["a permission in the application's answer", "entry=2 err=is none of"],
        ),
    ] {
        let application = Application::always(Reply::With(status, body.to_owned()));
        let url = application.url("/auth?key=hunter2");
        let process = Process::start(&["--auth-callback", &url], &[]);
        let answer =
            Conn::tcp(process.addr).round(&request("GET", &format!("{BASE}/stream?room=a"), &[], b""));
        assert_ne!(answer.status(), 200);
        eventually(told[0], || process.printed().contains(told[0]));
        let printed = process.end();
        let line = printed.lines().find(|line| line.contains(told[0])).expect("just seen");
        assert!(line.contains("WARN") && line.contains(told[1]), "{told:?}: {line}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
