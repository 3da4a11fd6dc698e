//! What is wrong is told with its place, its text and what is wanted.

use super::{Start, flag_of, from_file, from_flags, variable_of};

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
