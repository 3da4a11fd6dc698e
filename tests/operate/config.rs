//! Settings: each value that an operator writes takes effect, and a wrong value is reported with its place, its text
//! and what is wanted.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, process};

use proptest::prelude::*;
use tidegate::cli::{self, Invocation, LoadError};
use tidegate::config::{self, Config, CorsOrigins, ListenAddr, Rate};

/// A soft `RLIMIT_NOFILE` that many systems have.
const OPEN_FILES: u64 = 20_000;

/// The layers of one start.
#[derive(Clone, Copy, Default)]
struct Start<'a> {
    /// Contents of the file, if there is one.
    file: Option<&'a str>,
    env: &'a [(&'a str, &'a str)],
    flags: &'a [&'a str],
}

impl Start<'_> {
    fn invoke(&self, open_files_max: u64) -> Result<Invocation, LoadError> {
        let file = self.file.map(TempFile::new);
        let named = file.iter().flat_map(|file| ["--config".into(), file.0.clone().into_os_string()]);
        let args = ["tidegate".into()].into_iter().chain(named).chain(self.flags.iter().map(Into::into));
        let env = |key: &str| {
            let found = self.env.iter().find(|(name, _)| *name == key);
            found.map(|(_, text)| (*text).to_owned())
        };
        cli::load(args, env, open_files_max)
    }

    /// Returns the settings, or all faults in them.
    fn load(&self) -> Result<Config, String> {
        match self.invoke(OPEN_FILES) {
            Ok(Invocation::Run(config)) => Ok(*config),
            Ok(other) => panic!("asked to run, got {other:?}"),
            Err(err) => {
                assert_eq!(err.exit_code(), 78, "{err}");
                Err(without_folder(&err.to_string()))
            }
        }
    }

    fn config(&self) -> Config {
        self.load().expect("these settings are right")
    }

    fn error(&self) -> String {
        self.load().expect_err("these settings are wrong")
    }
}

/// A file that is removed when the value is dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(contents: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{}-{}-tidegate.toml", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, contents).expect("the test's own folder takes files");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("nobody else removes it");
    }
}

/// Messages name the file as it was given; tests do not care in which folder it was.
fn without_folder(text: &str) -> String {
    let line = |line: &str| match line.find("tidegate.toml:") {
        Some(at) => line[at..].to_owned(),
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn from_file(file: &str) -> Start<'_> {
    Start { file: Some(file), ..Start::default() }
}

fn from_flags<'a>(flags: &'a [&'a str]) -> Start<'a> {
    Start { flags, ..Start::default() }
}

fn flag_of(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

fn variable_of(key: &str) -> String {
    format!("TIDEGATE_{}", key.to_ascii_uppercase())
}

/// A value of each setting other than its default.
const SAMPLES: [(&str, &str); 76] = [
    ("listen", "[::1]:8081,unix:/run/tidegate.sock;mode=0660;group=root"),
    ("admin_listen", "off"),
    ("insecure", "true"),
    ("trusted_proxies", "unix,10.0.0.0/8,2001:db8::5"),
    ("base_path", "/"),
    ("cors_origins", "https://app.example,http://localhost:3000"),
    ("cors_credentials", "on"),
    ("cors_headers", "x-request-id,x-tenant"),
    ("try_page", "on"),
    ("allowed_hosts", "push.example,*.push.example,[::1]"),
    ("foreign_origins", "refuse"),
    ("allowed_addresses", "unix,10.0.0.0/8"),
    ("denied_addresses", "10.0.0.7"),
    ("required_headers", "x-forwarded-proto,x-key=s3cret"),
    ("denied_user_agents", "none,curl/"),
    ("public_rooms", "lobby,public-*"),
    ("token_keys", "HS256:base64:c2VjcmV0,ES256:file:/etc/key.pem"),
    ("token_jwks", "/etc/jwks.json,https://issuer.example/jwks"),
    ("token_issuer", "https://issuer.example"),
    ("token_audience", "tidegate,push"),
    ("token_leeway", "0s"),
    ("token_permissions_claim", "scope"),
    ("api_keys_file", "/etc/tidegate/keys.toml"),
    ("token_cookie", "__Host-token"),
    ("token_query", "on"),
    ("revocation_time", "1h"),
    ("auth_callback", "https://app.example/sse/auth?v=1"),
    ("auth_callback_timeout", "0.5s"),
    ("auth_callback_concurrency", "1"),
    ("auth_callback_cache", "off"),
    ("disconnect_callback", "http://127.0.0.1:3000/"),
    ("publish_callback", "https://app.example/sse/publish?v=1"),
    ("publish_callback_timeout", "0.5s"),
    ("presence_callback", "http://127.0.0.1:3000/"),
    ("jwks_refresh", "1h"),
    ("upstream_ca_file", "/etc/tidegate/ca.pem"),
    ("shards", "61"),
    ("flush_interval", "1s 500ms"),
    ("gzip", "on"),
    ("max_connections", "100"),
    ("max_connections_per_user", "off"),
    ("user_overflow", "replace"),
    ("max_connections_per_address", "3"),
    ("refusal", "status"),
    ("stay_away", "0"),
    ("send_buffer", "4KiB"),
    ("max_unsent_age", "1m"),
    ("tcp_user_timeout", "off"),
    ("heartbeat", "10m"),
    ("retry", "100ms"),
    ("lease", "30d"),
    ("drain", "0s"),
    ("drain_rate", "20/min"),
    ("history_events", "0"),
    ("history_bytes", "100000"),
    ("history_age", "1d"),
    ("history_total_bytes", "1TiB"),
    ("rooms", "listed"),
    ("event_room", "off"),
    ("memory_limit", "512MiB"),
    ("http_total_bytes", "64MiB"),
    ("delivery_rate_per_user", "50/s"),
    ("delivery_overflow", "defer"),
    ("publish_rate_per_user", "1000/min"),
    ("max_requests", "64"),
    ("max_waiting_requests", "16"),
    ("max_event_bytes", "1MiB"),
    ("max_body_bytes", "64MiB"),
    ("max_head_bytes", "8KiB"),
    ("request_timeout", "0.5s"),
    ("keepalive_timeout", "1h"),
    ("publish_idle", "24h"),
    ("idempotency_time", "1s"),
    ("idempotency_keys", "0"),
    ("log_level", "trace"),
    ("log_format", "json"),
];

#[test]
fn nothing_at_all_is_a_server_on_loopback() {
    let config = Start::default().config();
    assert_eq!(config, Config::default_for(OPEN_FILES));
    assert_eq!(config.listen, [ListenAddr::Tcp("127.0.0.1:8080".parse().expect("an address")).into()]);
    assert!(config.admin_listen.as_ref().is_some_and(ListenAddr::is_local));
    assert_eq!(config.flush_interval, Duration::from_millis(10));
    assert_eq!((config.send_buffer, config.max_connections_per_user), (65_536, Some(8)));
    assert_eq!((config.delivery_rate_per_user, config.lease), (None, None));
    assert_eq!(config.cors_origins, CorsOrigins::Only(vec![]));
    assert!(config.shards >= 1 && config.max_connections >= 1 && config.max_requests == 512);
    assert_eq!(config.max_waiting_requests, 256);
}

#[test]
fn every_setting_means_the_same_in_all_three_layers() {
    let keys: Vec<_> = config::reference().map(|row| row.key).collect();
    assert_eq!(keys, SAMPLES.map(|(key, _)| key));
    for (key, text) in SAMPLES {
        // Some values are refused without authentication.
        let asked = "--auth-callback=http://127.0.0.1:3000/";
        let asked = if key == "auth_callback" { "--gzip=on" } else { asked };
        let file = format!("{key} = {text:?}");
        let in_file = Start { flags: &[asked], ..from_file(&file) }.config();
        let in_env = Start { env: &[(&variable_of(key), text)], ..from_flags(&[asked]) }.config();
        let in_flag = from_flags(&[asked, &format!("{}={text}", flag_of(key))]).config();
        assert_ne!(in_file, from_flags(&[asked]).config(), "{key}");
        assert_eq!(in_file, in_env, "{key}");
        assert_eq!(in_file, in_flag, "{key}");
    }
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let file = "drain = \"1s\"\nshards = 1\ngzip = \"on\"\nlisten = [\"127.0.0.1:1\"]";
    let env = [("TIDEGATE_DRAIN", "2s"), ("TIDEGATE_SHARDS", "2"), ("TIDEGATE_LISTEN", "127.0.0.1:2")];
    let flags = ["--drain", "3s", "--listen", "127.0.0.1:3"];
    let config = Start { file: Some(file), env: &env, flags: &flags }.config();
    assert_eq!(config.drain, Duration::from_secs(3));
    assert_eq!(config.shards, 2);
    assert!(config.gzip);
    assert_eq!(config.listen, [ListenAddr::Tcp("127.0.0.1:3".parse().expect("an address")).into()]);
    // Empty text is a value, not an absence: it can empty a list of the file.
    let file = Some("cors_origins = [\"*\"]");
    let emptied = Start { file, env: &[("TIDEGATE_CORS_ORIGINS", "")], ..Start::default() }.config();
    assert_eq!(emptied.cors_origins, CorsOrigins::Only(vec![]));
}

#[test]
fn lists_take_arrays_commas_and_repeated_flags() {
    let expected = from_file("listen = [\"127.0.0.1:1\", \"unix:/a\"]").config();
    assert_eq!(expected.listen.len(), 2);
    for flags in [
        &["--listen", "127.0.0.1:1", "--listen", "unix:/a"][..],
        &["--listen", "127.0.0.1:1, unix:/a"],
        &["--listen=127.0.0.1:1,unix:/a"],
    ] {
        assert_eq!(from_flags(flags).config(), expected, "{flags:?}");
    }
}

#[test]
fn toml_may_use_its_own_numbers_and_booleans() {
    let config = from_file(
        "history_events = 1_000_000\nsend_buffer = 0x8000\ninsecure = true\ndrain = 0\ngzip = true",
    )
    .config();
    assert_eq!((config.history_events, config.send_buffer, config.gzip), (1_000_000, 32_768, true));
    assert_eq!((config.insecure, config.drain), (true, Duration::ZERO));
}

#[test]
fn flags_given_twice_count_once_and_bare_insecure_is_true() {
    assert_eq!(from_flags(&["--shards", "1", "--shards", "3"]).config().shards, 3);
    assert!(from_flags(&["--insecure", "--shards", "3"]).config().insecure);
    assert!(!from_flags(&["--insecure=false"]).config().insecure);
}

/// `--auth-callback-cache 0s` was once refused, and `0` was not.
#[test]
fn no_time_is_written_with_a_unit_or_without() {
    let at_zero = |key: &str, zero: &str| {
        let flag = format!("{}={zero}", flag_of(key));
        from_flags(&["--auth-callback=http://127.0.0.1:3000/", &flag]).config()
    };
    for key in [
        "token_leeway",
        "auth_callback_cache",
        "flush_interval",
        "stay_away",
        "tcp_user_timeout",
        "lease",
        "drain",
    ] {
        for zero in ["0s", "0ms", "0 h"] {
            assert_eq!(at_zero(key, zero), at_zero(key, "0"), "{key} {zero}");
        }
    }
    assert_eq!(at_zero("memory_limit", "0MiB"), at_zero("memory_limit", "off"));
}

/// Each kind of value once, with the text that an operator reads.
#[test]
fn a_wrong_value_is_told_with_its_place_and_what_would_be_right() {
    let listen = "wanted 1 to 4 different values, each an IP address and port such as 127.0.0.1:8080, or a path such as \
                  unix:/run/tidegate.sock, or either behind proxy:";
    for (key, text, wanted) in [
        ("flush_interval", "10 parsecs", "wanted a duration from 0 to 10s, such as 10ms"),
        ("flush_interval", "11s", "wanted a duration from 0 to 10s, such as 10ms"),
        ("heartbeat", "0", "wanted a duration from 1s to 10m, such as 25s"),
        ("lease", "999ms", "wanted off or a duration from 1s to 30d, such as 1h"),
        ("shards", "65", "wanted an integer in 0..=64"),
        ("history_events", "many", "wanted an integer in 0..=1000000"),
        ("max_connections_per_user", "-1", "wanted 0 or an integer in 1..=4194304"),
        ("send_buffer", "64KB", "wanted a size from 4KiB to 4MiB, such as 64KiB"),
        ("max_head_bytes", "4KiB", "wanted a size from 8KiB to 1MiB, such as 16KiB"),
        ("publish_rate_per_user", "0/s", "wanted off or 1 to 1000000 events per s, min or h, such as 20/s"),
        ("insecure", "yes", "wanted true or false"),
        ("gzip", "yes", "wanted off or on"),
        ("user_overflow", "evict", "wanted refuse or replace"),
        ("delivery_overflow", "", "wanted drop or defer"),
        ("refusal", "503", "wanted event or status"),
        ("try_page", "true", "wanted auto, on or off"),
        ("rooms", "all", "wanted any or listed"),
        ("event_room", "yes", "wanted off or on"),
        ("idempotency_time", "0s", "wanted a duration from 1s to 1d, such as 5m"),
        ("idempotency_keys", "10000001", "wanted an integer in 0..=10000000"),
        ("publish_callback_timeout", "31s", "wanted a duration from 50ms to 30s, such as 2s"),
        ("log_level", "verbose", "wanted off, error, warn, info, debug or trace"),
        ("log_format", "logfmt", "wanted text or json"),
        ("listen", "localhost:8080", listen),
        (
            "listen",
            "127.0.0.1:1,unix:a",
            "wanted in entry 2 an IP address and port such as 127.0.0.1:8080, or a path such as unix:/run/tidegate.sock, or \
             either behind proxy:",
        ),
        ("listen", "127.0.0.1:1,127.0.0.1:1", "wanted different values, and entry 2 is entry 1 again"),
        ("listen", "", listen),
        (
            "admin_listen",
            "unix:relative",
            "wanted off or an IP address and port such as 127.0.0.1:9180, or a path such as unix:/run/tidegate.sock",
        ),
        (
            "cors_origins",
            "https://app.example/",
            "wanted * alone, or 0 to 64 different origins without a path, each such as https://app.example, \
             capacitor://localhost or null",
        ),
        (
            "cors_headers",
            "x-request-id,*",
            "wanted in entry 2 a header's name of 1 to 64 bytes, such as x-request-id",
        ),
        ("foreign_origins", "none", "wanted read or refuse"),
        (
            "allowed_hosts",
            "push.example:80",
            "wanted 0 to 64 different values, each a name without a port such as push.example or *.push.example, or an IP \
             address",
        ),
        (
            "denied_addresses",
            "10.0.0.1/8",
            "wanted 0 to 256 different values, each unix, an IP address such as 10.0.0.5, or a network by its first \
             address such as 10.0.0.0/24",
        ),
        (
            "denied_user_agents",
            "a,,b",
            "wanted in entry 2 none, or 1 to 128 visible ASCII characters of a User-Agent such as curl/",
        ),
        (
            "base_path",
            "/api/",
            "wanted a path of at most 128 bytes of [A-Za-z0-9._~-] and /, such as /api/v1/sse, or / for none",
        ),
    ] {
        let (variable, flag) = (variable_of(key), flag_of(key));
        let file = format!("{key} = {text:?}");
        let column = key.len() + 4;
        let in_env = Start { env: &[(&variable, text)], ..Start::default() }.error();
        assert_eq!(in_env, format!("{variable}={text:?}: {wanted}"));
        assert_eq!(from_flags(&[&format!("{flag}={text}")]).error(), format!("{flag}={text:?}: {wanted}"));
        assert_eq!(from_file(&file).error(), format!("tidegate.toml:1:{column}: {key}={text:?}: {wanted}"));
    }
}

#[test]
fn toml_of_the_wrong_type_is_shown_as_it_stands() {
    for (file, error) in [
        ("gzip = 1", "1:8: gzip=\"1\": wanted off or on"),
        ("flush_interval = 10", "1:18: flush_interval=\"10\": wanted a duration from 0 to 10s, such as 10ms"),
        ("shards = 1.5", "1:10: shards=\"1.5\": wanted an integer in 0..=64"),
        ("shards = [1]", "1:10: shards=\"[1]\": wanted an integer in 0..=64"),
        ("shards = {n = 1}", "1:10: shards=\"{n = 1}\": wanted an integer in 0..=64"),
    ] {
        assert_eq!(from_file(file).error(), format!("tidegate.toml:{error}"));
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let file = "\n# comment\n  drain = \"soon\"\nshards = \"é\"\nflush_intervall = \"10ms\"\nfoo = 1\n";
    let env = [("TIDEGATE_GZIP", "yes"), ("TIDEGATE_SHARDS", "2")];
    let found = Start { file: Some(file), env: &env, flags: &["--drain", "1s", "--retry", "1"] }.error();
    assert_eq!(
        found.lines().collect::<Vec<_>>(),
        [
            "tidegate.toml:5:1: unknown key \"flush_intervall\": did you mean flush_interval?",
            "tidegate.toml:6:1: unknown key \"foo\": wanted one that --help lists",
            "tidegate.toml:4:10: shards=\"é\": wanted an integer in 0..=64",
            "TIDEGATE_GZIP=\"yes\": wanted off or on",
            "--retry=\"1\": wanted a duration from 100ms to 5m, such as 3s",
            "tidegate.toml:3:11: drain=\"soon\": wanted a duration from 0 to 1h, such as 5s",
        ]
    );
}

#[test]
fn a_misspelt_key_names_the_one_that_was_meant() {
    for (written, meant) in [
        ("flush-interval", "flush_interval"),
        ("TIDEGATE_DRAIN", "drain"),
        ("drian", "drain"),
        ("max_connection", "max_connections"),
        ("histroy_events", "history_events"),
    ] {
        let found = from_file(&format!("{written} = 1")).error();
        assert_eq!(found, format!("tidegate.toml:1:1: unknown key {written:?}: did you mean {meant}?"));
    }
    for (file, key) in [("config = \"other.toml\"", "config"), ("[server]\nshards = 1", "server")] {
        let found = from_file(file).error();
        assert!(found.ends_with(&format!("unknown key {key:?}: wanted one that --help lists")), "{found}");
    }
}

#[test]
fn a_file_that_is_not_toml_or_not_there_is_told() {
    let found = from_file("shards = 1\ngzip = \"on\n").error();
    assert!(found.starts_with("tidegate.toml:2:"), "{found}");
    assert!(from_file("shards = 1\nshards = 2").error().starts_with("tidegate.toml:2:1: duplicate key"));

    let wanted = "wanted a readable file: No such file or directory (os error 2)";
    let in_env = Start { env: &[("TIDEGATE_CONFIG", "/nowhere/a.toml")], ..Start::default() };
    assert_eq!(in_env.error(), format!("TIDEGATE_CONFIG=\"/nowhere/a.toml\": {wanted}"));
    let in_flag = from_flags(&["--config", "/nowhere/b.toml"]);
    assert_eq!(in_flag.error(), format!("--config=\"/nowhere/b.toml\": {wanted}"));
    // The flag's file replaces the variable's file.
    assert_eq!(Start { flags: in_flag.flags, ..in_env }.error(), in_flag.error());
}

#[test]
fn other_machines_are_kept_out_unless_told_insecure() {
    let wanted = |addr| {
        format!(
            "wanted a loopback address or a Unix socket in place of {addr} while no authentication is set up, or \
             insecure=true"
        )
    };
    let wanted_of_admin = "wanted a loopback address or a Unix socket in place of [::]:9180, since nothing authenticates there, or insecure=true";
    let open = ["--listen", "127.0.0.1:80,0.0.0.0:8080", "--admin-listen", "[::]:9180"];
    assert_eq!(
        from_flags(&open).error(),
        format!(
            "--listen=\"127.0.0.1:80,0.0.0.0:8080\": {}\n--admin-listen=\"[::]:9180\": {}",
            wanted("0.0.0.0:8080"),
            wanted_of_admin
        )
    );
    // The admin listener has no authentication.
    let keys = [("TIDEGATE_TOKEN_KEYS", "RS256:file:/etc/tidegate/issuer.pem")];
    let known = Start { env: &keys, ..from_flags(&open) };
    assert_eq!(known.error(), format!("--admin-listen=\"[::]:9180\": {wanted_of_admin}"));
    assert!(Start { env: &keys, ..from_flags(&open[..2]) }.load().is_ok());
    let config = Start { env: &[("TIDEGATE_INSECURE", "true")], ..from_flags(&open) }.config();
    assert!(!config.listen[1].address.is_local());
    for local in ["127.0.0.2:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "unix:/run/tidegate.sock"] {
        assert_eq!(from_flags(&["--listen", local]).config().listen[0].to_string(), local);
    }
}

#[test]
fn the_admin_listener_has_an_address_of_its_own() {
    let same = ["--listen=127.0.0.1:1,127.0.0.1:9180"];
    let wanted = "wanted an address that is not in listen";
    assert_eq!(from_flags(&same).error(), format!("default admin_listen=\"127.0.0.1:9180\": {wanted}"));
    let chosen = from_flags(&["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"]);
    assert!(chosen.load().is_ok(), "the kernel chooses two different ports");
}

/// Without authentication, all clients behind one address would count as one user.
#[test]
fn the_publish_rate_is_in_force_by_default_once_users_are_known() {
    let rate = |flags: &'static [&'static str]| {
        from_flags(flags).config().publish_rate_per_user.map(|rate| rate.to_string())
    };
    assert_eq!(rate(&[]), None);
    assert_eq!(rate(&["--publish-rate-per-user=20/s"]).as_deref(), Some("20/s"));
    assert_eq!(rate(&["--api-keys-file=/etc/tidegate/keys.toml"]).as_deref(), Some("20/s"));
    assert_eq!(rate(&["--api-keys-file=/etc/tidegate/keys.toml", "--publish-rate-per-user=off"]), None);
}

/// The message names the setting that was given, since the other may be a default.
#[test]
fn settings_that_do_not_go_together_are_refused() {
    for (flags, error) in [
        (
            &["--max-body-bytes=64KiB"][..],
            "--max-body-bytes=\"64KiB\": wanted at least max_event_bytes, which is 256KiB",
        ),
        (
            &["--max-event-bytes=2MiB"],
            "--max-event-bytes=\"2MiB\": wanted at most max_body_bytes, which is 1MiB",
        ),
        (
            &["--history-bytes=1GiB", "--history-total-bytes=256MiB"],
            "--history-total-bytes=\"256MiB\": wanted at least history_bytes, which is 1GiB",
        ),
        (
            &["--http-total-bytes=1MiB", "--max-body-bytes=2MiB"],
            "--http-total-bytes=\"1MiB\": wanted at least max_body_bytes, which is 2MiB",
        ),
        (
            &["--max-requests=100", "--max-waiting-requests=51"],
            "--max-waiting-requests=\"51\": wanted an integer in 1..=50, which is half of max_requests, or 0 for that",
        ),
        (
            &["--max-requests=3", "--shards=2"],
            "--max-requests=\"3\": wanted an integer in 4..=19887, or 0 for an eighth of the open files limit",
        ),
        (
            &["--max-unsent-age=1s", "--flush-interval=2s"],
            "--max-unsent-age=\"1s\": wanted at least flush_interval, which is 2s",
        ),
    ] {
        assert_eq!(from_flags(flags).error(), error);
    }
    assert!(from_flags(&["--max-body-bytes=64KiB", "--max-event-bytes=64KiB"]).load().is_ok());
}

#[test]
fn a_header_is_asked_for_only_where_somebody_is_believed() {
    let wanted = |who: &str, listen: &str| {
        format!(
            "default trusted_proxies=\"\": wanted {who} among them, so that {listen} can trust its header"
        )
    };
    for (listen, proxies, error) in [
        ("proxy:127.0.0.1:1", "10.0.0.5", None),
        ("proxy:unix:/a", "unix", None),
        ("127.0.0.1:1,proxy:unix:/a", "unix", None),
        ("proxy:127.0.0.1:1", "", Some(wanted("the proxy's address", "proxy:127.0.0.1:1"))),
        ("proxy:unix:/a", "", Some(wanted("unix", "proxy:unix:/a"))),
        (
            "proxy:127.0.0.1:1",
            "unix",
            Some("--trusted-proxies=\"unix\": wanted the proxy's address among them, so that proxy:127.0.0.1:1 can trust its header".into()),
        ),
    ] {
        let flags = [format!("--listen={listen}"), format!("--trusted-proxies={proxies}")];
        let flags: Vec<&str> = flags.iter().map(String::as_str).take(1 + usize::from(!proxies.is_empty())).collect();
        assert_eq!(from_flags(&flags).load().err(), error, "{listen}");
    }
    let twice = ["--listen=127.0.0.1:1,proxy:127.0.0.1:1", "--trusted-proxies=127.0.0.1"];
    assert_eq!(
        from_flags(&twice).error(),
        "--listen=\"127.0.0.1:1,proxy:127.0.0.1:1\": wanted 127.0.0.1:1 once, with proxy: or without"
    );
    let open = ["--listen=proxy:0.0.0.0:1", "--trusted-proxies=10.0.0.5"];
    assert!(from_flags(&open).error().contains("in place of 0.0.0.0:1"), "it is as open as any");
}

/// A misspelt `TIDEGATE_TOKEN_KEY` once started a server that was open to all, whatever other settings for tokens were
/// given.
#[test]
fn tokens_are_asked_for_by_whoever_says_which_count() {
    let wanted = "wanted token_keys, token_jwks, api_keys_file or auth_callback as well, since no token is needed without them";
    for flag in [
        "--public-rooms=lobby",
        "--token-issuer=idp",
        "--token-audience=push",
        "--token-cookie=t",
        "--token-query=on",
    ] {
        let (name, value) = flag.split_once('=').expect("a value");
        for flags in [&[flag][..], &[flag, "--insecure"]] {
            assert_eq!(from_flags(flags).error(), format!("{name}={value:?}: {wanted}"));
        }
        for known in
            ["--auth-callback=http://127.0.0.1:3000/", "--token-jwks=/jwks.json", "--api-keys-file=/a"]
        {
            assert!(from_flags(&[flag, known]).load().is_ok(), "{flag} {known}");
        }
    }
    assert!(from_flags(&["--token-query=off", "--token-issuer=off", "--public-rooms="]).load().is_ok());
}

#[test]
fn a_public_room_is_nobodys_own() {
    assert_eq!(
        from_flags(&["--public-rooms=lobby,inbox-{user}"]).error(),
        "--public-rooms=\"lobby,inbox-{user}\": wanted in entry 2 a room such as lobby, or what its name begins with and a \
         star, such as public-*: clients without a token have no user"
    );
}

#[test]
fn not_everyone_may_send_cookies_along() {
    assert_eq!(
        from_flags(&["--cors-origins=*", "--cors-credentials=on"]).error(),
        "--cors-credentials=\"on\": wanted off, or cors_origins by name in place of *"
    );
    for origin in ["https://app.example", "tauri://localhost"] {
        let origins = format!("--cors-origins={origin}");
        assert!(from_flags(&[&origins, "--cors-credentials=on"]).config().cors_credentials, "{origin}");
    }
}

/// Every sandboxed frame has the origin `null`, whatever page is around it.
#[test]
fn what_anyones_pages_send_is_allowed_without_cookies_only() {
    for origin in ["null", "file://"] {
        let origins = format!("--cors-origins=https://app.example,{origin}");
        assert_eq!(
            from_flags(&[&origins, "--cors-credentials=on"]).error(),
            format!(
                "--cors-credentials=\"on\": wanted off, or cors_origins without {origin}, which pages of many owners send"
            )
        );
        let wanted = CorsOrigins::Only(vec!["https://app.example".to_owned(), origin.to_owned()]);
        assert_eq!(from_flags(&[&origins]).config().cors_origins, wanted);
    }
}

/// The value appears neither in the summary, nor in an error, nor in the debug output of all settings.
#[test]
fn what_a_header_has_to_say_is_not_repeated() {
    const SECRET: &str = "s3cret";
    let right = format!("x-forwarded-proto,X-Key={SECRET}");
    for wrong in
        [format!("x key={SECRET}"), format!("x-key={SECRET},x-key={SECRET}"), format!("x-key={SECRET},=")]
    {
        for start in [
            Start { env: &[("TIDEGATE_REQUIRED_HEADERS", &wrong)], ..Start::default() },
            from_file(&format!("required_headers = {wrong:?}")),
            from_flags(&["--required-headers", &wrong]),
        ] {
            let error = start.error();
            assert!(!error.contains(SECRET) && error.contains("=\"***\": wanted "), "{error}");
        }
    }
    let flags = ["--required-headers", &right];
    let config = from_flags(&flags).config();
    assert!(config.required_headers[1].value.as_ref().is_some_and(|value| value.is(SECRET.as_bytes())));
    assert!(!format!("{config:?}{config:#?}").contains(SECRET));
    let flags = [&flags[..], &["--check-config"]].concat();
    let summary = summary(from_flags(&flags));
    let line = "required_headers = [\"x-forwarded-proto\", \"x-key=***\"]  # --required-headers";
    assert!(!summary.contains(SECRET) && summary.lines().any(|found| found == line), "{summary}");
}

/// All such errors once had the same text, masked and without a place.
#[test]
fn which_key_is_wrong_is_told_without_the_key() {
    const GOOD: &str = "HS256:base64:c2VjcmV0";
    for (keys, wanted) in [
        (
            "RS256:file:issuer.pem".to_owned(),
            "0 to 16 different values, each an absolute path after RS256:file:",
        ),
        (format!("{GOOD},RS256:file:issuer.pem"), "in entry 2 an absolute path after RS256:file:"),
        (format!("{GOOD},HS512:base64:s3cret!"), "in entry 2 base64 after HS512:base64:"),
        (format!("{GOOD},{GOOD}"), "different values, and entry 2 is entry 1 again"),
    ] {
        let error = from_flags(&["--token-keys", &keys]).error();
        assert_eq!(error, format!("--token-keys=\"***\": wanted {wanted}"));
    }
}

/// A query may contain a key, and a URL that is refused for its password contains one.
#[test]
fn what_is_secret_in_a_url_is_not_repeated() {
    const SECRET: &str = "hunter2";
    for key in ["auth_callback", "disconnect_callback", "publish_callback", "presence_callback", "token_jwks"]
    {
        let flag = format!("{}=https://app.example/x?key={SECRET}", flag_of(key));
        let summary = summary(from_flags(&[&flag, "--check-config"]));
        assert!(!summary.contains(SECRET) && summary.contains("https://app.example/x?***"), "{summary}");
        for wrong in
            ["http://user:hunter2@app.example/", "ftp://app.example/?hunter2", "user:hunter2@app.example"]
        {
            let error = from_flags(&[&format!("{}={wrong}", flag_of(key))]).error();
            assert!(
                !error.contains(SECRET) && error.contains("***") && error.contains("app.example"),
                "{error}"
            );
        }
    }
    let config = from_flags(&["--auth-callback=https://app.example/x?key=hunter2"]).config();
    assert!(!format!("{config:?}{config:#?}").contains(SECRET));
}

/// Returns the output of `--check-config` for right settings.
fn summary(start: Start<'_>) -> String {
    match start.invoke(OPEN_FILES) {
        Ok(Invocation::Checked(summary, _)) => summary,
        other => panic!("nothing is wrong: {other:?}"),
    }
}

#[test]
fn connections_fit_the_open_files_limit() {
    // 20,000 less 512 requests, 64 for the process, 16 for each of two shards and 16 for the admin listener.
    assert_eq!(from_flags(&["--shards=2"]).config().max_connections, 19_376);
    assert_eq!(from_flags(&["--shards=2", "--max-connections=19376"]).config().max_connections, 19_376);
    let env = [("TIDEGATE_MAX_CONNECTIONS", "20000"), ("TIDEGATE_SHARDS", "2")];
    assert_eq!(
        Start { env: &env, ..Start::default() }.error(),
        "TIDEGATE_MAX_CONNECTIONS=\"20000\": wanted an integer in 1..=19376, or 0 for all that the open files limit \
         of 20000 allows"
    );
}

#[test]
fn a_limit_without_room_for_one_connection_is_refused() {
    let start = from_flags(&["--shards=1"]);
    let Err(err) = start.invoke(112) else { panic!("112 files are not enough") };
    assert_eq!(
        err.to_string(),
        "RLIMIT_NOFILE=112: wanted at least 113 with shards=1 (ulimit -n, or LimitNOFILE= in a unit file)"
    );
    assert_eq!(err.exit_code(), 78);
    let Ok(Invocation::Run(config)) = start.invoke(113) else { panic!("113 files are enough") };
    assert_eq!((config.max_connections, config.max_requests), (1, 16));
    let Ok(Invocation::Run(config)) = start.invoke(u64::MAX) else { panic!("no limit is enough") };
    assert_eq!(config.max_connections, config::CONNECTIONS_CEILING);
}

#[test]
fn values_arrive_as_plain_types() {
    let config = from_flags(&[
        "--publish-rate-per-user=1000/min",
        "--base-path=/",
        "--cors-origins=HTTPS://App.Example:443",
        "--tcp-user-timeout=off",
        "--max-connections-per-address=0",
    ])
    .config();
    assert_eq!(config.publish_rate_per_user, Some(Rate { events: 1_000, per: Duration::from_mins(1) }));
    assert_eq!(config.base_path, "");
    assert_eq!(config.cors_origins, CorsOrigins::Only(vec!["https://app.example".to_owned()]));
    assert_eq!((config.tcp_user_timeout, config.max_connections_per_address), (None, None));
}

/// `--check-config` finds what a start would find, and its summary is a file that means the same.
#[test]
fn a_checked_config_is_the_one_that_would_run() {
    let file = "listen = [\"unix:/run/a\\\"b\"]\nbase_path = \"/\"";
    let env = [("TIDEGATE_LEASE", "1h"), ("TIDEGATE_CORS_ORIGINS", "*")];
    let start = Start { file: Some(file), env: &env, flags: &["--shards", "2"] };
    let flags = ["--shards", "2", "--check-config"];
    let summary = summary(Start { flags: &flags, ..start });
    let marks: Vec<_> = summary.lines().filter(|line| line.contains("  # ")).map(without_path).collect();
    assert_eq!(
        marks,
        [
            "listen = ['unix:/run/a\"b']  # tidegate.toml:1:10",
            "base_path = \"/\"  # tidegate.toml:2:13",
            "cors_origins = [\"*\"]  # TIDEGATE_CORS_ORIGINS",
            "shards = 2  # --shards",
            "lease = \"1h\"  # TIDEGATE_LEASE",
        ]
    );
    assert_eq!(from_file(&summary).config(), start.config());

    let wrong = from_flags(&["--check-config", "--shards", "65"]);
    assert_eq!(wrong.error(), "--shards=\"65\": wanted an integer in 0..=64");
}

/// Returns a line of the summary without the folder of the file it names.
fn without_path(line: &str) -> String {
    match (line.find("  # /"), line.find("tidegate.toml:")) {
        (Some(mark), Some(name)) => format!("{}  # {}", &line[..mark], &line[name..]),
        _ => line.to_owned(),
    }
}

#[test]
fn help_is_text_and_misuse_is_not_a_config_error() {
    let Ok(Invocation::Help(help)) = from_flags(&["--help"]).invoke(OPEN_FILES) else {
        panic!("asked for help");
    };
    for row in config::reference() {
        assert!(help.contains(&format!("      {}", flag_of(row.key))), "{}", row.key);
        assert!(help.contains(&format!("[env: {}]", variable_of(row.key))), "{}", row.key);
        assert!(!row.help.is_empty() && row.help.ends_with('.'), "{}", row.key);
    }
    assert!(help.lines().all(|line| line.len() <= 100), "lines fit a terminal");
    let Ok(Invocation::Help(version)) = from_flags(&["--version"]).invoke(OPEN_FILES) else {
        panic!("asked for the version");
    };
    assert_eq!(version, format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));

    for flags in [&["--shrds=2"][..], &["stray"], &["--shards"], &["--insecure", "true"]] {
        let Err(err) = from_flags(flags).invoke(OPEN_FILES) else { panic!("{flags:?} is misuse") };
        assert_eq!(err.exit_code(), 64, "{flags:?}");
        assert!(err.to_string().starts_with("error: "), "{err}");
    }
}

/// Both once were the same 352 lines.
#[test]
fn short_help_is_one_screen_and_points_to_the_long_one() {
    let help = |flag: &str| match from_flags(&[flag]).invoke(OPEN_FILES) {
        Ok(Invocation::Help(help)) => help,
        other => panic!("{flag}: {other:?}"),
    };
    let (short, long) = (help("-h"), help("--help"));
    assert!(short.lines().count() <= 40, "{} lines: {short}", short.lines().count());
    assert!(short.lines().all(|line| line.len() <= 100), "lines fit a terminal: {short}");
    for part in
        ["--listen <", "[default: 127.0.0.1:8080]", "--token-keys <", "--help explains all of them", "token "]
    {
        assert!(short.contains(part), "{part}: {short}");
    }
    assert!(!short.contains("--flush-interval") && long.contains("--flush-interval"), "{short}");
    assert!(long.lines().count() > 300, "the long one has everything");
}

#[test]
fn the_example_file_has_every_setting_at_its_default() {
    let example = include_str!("../../tidegate.toml");
    assert_eq!(from_file(example).config(), Config::default_for(OPEN_FILES));

    // What follows a table belongs to it, so the tables come last.
    let (example, tables) = example.split_once("\n#[[room]]\n").expect("a table is shown");
    let tables = uncommented(&format!("[[room]]\n{tables}"));
    let shown = from_file(&tables).config();
    assert_eq!(shown.room_tables.len(), tables.matches("[[room]]").count(), "{tables}");
    assert!(config::never_match(&shown).is_empty() && shown.room_tables.len() == 2, "{tables}");

    let uncommented = uncommented(example);
    // Written in the file, the rate counts with authentication or without.
    let publish_rate_per_user = Some(Rate { events: 20, per: Duration::from_secs(1) });
    let written = Config { publish_rate_per_user, ..Config::default_for(OPEN_FILES) };
    assert_eq!(from_file(&uncommented).config(), written);
    let settings = uncommented.lines().filter(|line| !line.starts_with('#'));
    let keys = settings.filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
    assert!(keys.eq(config::reference().map(|row| row.key)), "every key, in the order of the table");

    // Otherwise a default of another type that reads the same would pass.
    for row in config::reference() {
        let quoted = [format!("{} = {}", row.key, row.default), format!("{} = {:?}", row.key, row.default)];
        let listed = [format!("{} = []", row.key), format!("{} = [{:?}]", row.key, row.default)];
        let written = |line: &str| quoted.iter().chain(&listed).any(|wanted| wanted == line);
        assert!(uncommented.lines().any(written), "{}", row.key);
    }
}

/// Settings follow a bare `#`, prose follows `# `.
fn uncommented(example: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            setting.to_owned()
        }
        _ => line.to_owned(),
    };
    example.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Text that an operator might get half right.
fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9]{0,22} ?[a-zA-Z/]{0,4}",
        "(unix:|https?://|/)?[a-z0-9.:\\[\\]/*,-]{0,24}",
        "[0-9]{1,3}(\\.[0-9]{0,30})?(ns|us|ms|s|m|h|d|M|y)",
    ]
}

proptest! {
    /// Any text in a variable is either reported as wrong or reads back from the summary.
    #[test]
    fn any_text_is_refused_or_read_back(at in 0..SAMPLES.len(), text in odd_text()) {
        let variable = variable_of(SAMPLES[at].0);
        // The summary masks parts of these.
        let masked = ["required_headers", "token_keys", "token_jwks"];
        let key = SAMPLES[at].0;
        let secret = masked.contains(&key) || key.ends_with("_callback");
        let env = [(variable.as_str(), text.as_str())];
        let start = Start { env: &env, ..Start::default() };
        match (Start { flags: &["--check-config", "--insecure"], ..start }).invoke(OPEN_FILES) {
            Ok(Invocation::Checked(summary, _)) => {
                let run = Start { flags: &["--insecure"], ..start };
                prop_assert!(secret || from_file(&summary).load() == run.load());
            }
            Ok(other) => prop_assert!(false, "asked to check, got {other:?}"),
            Err(err) => {
                let shown = if secret { String::new() } else { format!("{text:?}: wanted ") };
                prop_assert!(err.to_string().starts_with(&format!("{variable}={shown}")), "{}", err);
            }
        }
    }
}
