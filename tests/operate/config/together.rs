//! Settings that need, exclude or bound each other.

use tidegate::cli::Invocation;
use tidegate::config::{self, CorsOrigins};

use super::{Start, from_flags};

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
