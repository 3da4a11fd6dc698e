//! What the file, the environment and flags may say, and which of them counts.

use std::time::Duration;

use proptest::prelude::*;
use tidegate::cli::Invocation;
use tidegate::config::{self, Config, CorsOrigins, ListenAddr, Rate};

use super::{OPEN_FILES, Start, flag_of, from_file, from_flags, summary, variable_of};

/// A value of each setting other than its default.
const SAMPLES: [(&str, &str); 84] = [
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
    ("order", "redis://127.0.0.1:6379/1"),
    ("order_bytes", "1GiB"),
    ("order_age", "10m"),
    ("order_ack", "memory"),
    ("order_stale", "on"),
    ("order_prefix", "push"),
    ("order_password_file", "/etc/tidegate/redis-password"),
    ("order_ca_file", "/etc/tidegate/redis-ca.pem"),
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
