//! Which settings a running server takes over (SIGHUP): those that decide which clients are let in, and those of single
//! rooms. The others shape sockets, tables and threads that exist already, and take effect with the next start.

use crate::config::descriptors::open_files;
use crate::config::table::Config;

/// Keys of the settings that a reload takes over. `room` is the tables `[[room]]`.
pub const RELOADABLE: &[&str] = &[
    "trusted_proxies",
    "cors_origins",
    "cors_credentials",
    "cors_headers",
    "allowed_hosts",
    "foreign_origins",
    "allowed_addresses",
    "denied_addresses",
    "required_headers",
    "denied_user_agents",
    "public_rooms",
    "token_keys",
    "token_jwks",
    "token_issuer",
    "token_audience",
    "token_leeway",
    "token_permissions_claim",
    "api_keys_file",
    "token_cookie",
    "token_query",
    "rooms",
    "event_room",
    "publish_rate_per_user",
    "log_level",
    "room",
];

/// Keys of the settings that differ and that a reload does not take over, in the order of `--help`.
#[must_use]
pub fn restart_needed(running: &Config, wanted: &Config) -> Vec<&'static str> {
    // Streams get the descriptors that others leave: if the total is the same, only other settings changed the number
    // of streams.
    let is_left_over = open_files(running) == open_files(wanted);
    let is_set = |key: &&str| *key != "max_connections" || !is_left_over;
    let differing = running.differing(wanted).into_iter();
    differing.filter(|key| !RELOADABLE.contains(key)).filter(is_set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::SETTINGS;

    #[test]
    fn every_reloadable_setting_is_one() {
        for key in RELOADABLE {
            assert!(*key == "room" || SETTINGS.iter().any(|setting| setting.key == *key), "{key}");
        }
    }

    #[test]
    fn what_cannot_change_under_way_is_named() {
        let running = Config::default_for(1024);
        let mut wanted = running.clone();
        wanted.token_query = true;
        assert_eq!(restart_needed(&running, &wanted), Vec::<&str>::new());
        wanted.gzip = !running.gzip;
        wanted.history_events += 1;
        assert_eq!(restart_needed(&running, &wanted), ["gzip", "history_events"]);
    }

    #[test]
    fn tables_of_rooms_change_under_way() {
        let (running, wanted) = (from_toml(""), from_toml("[[room]]\nmatch = \"a\""));
        assert_eq!(running.differing(&wanted), ["room"]);
        assert_eq!(restart_needed(&running, &wanted), Vec::<&str>::new());
    }

    fn from_toml(text: &str) -> Config {
        Config::from_toml("a.toml".as_ref(), text, 4096).expect("settings")
    }

    /// It used to be named whenever `shards` was, although it was not set.
    #[test]
    fn streams_that_follow_from_other_settings_are_not_named() {
        let running = from_toml("shards = 2");
        for (text, named) in [
            ("shards = 3", &["shards"][..]),
            (
                "shards = 2\nauth_callback = \"http://127.0.0.1:1/\"\nauth_callback_concurrency = 100",
                &["auth_callback", "auth_callback_concurrency"],
            ),
            ("shards = 2\nmax_connections = 100", &["max_connections"]),
            ("shards = 3\nmax_connections = 100", &["shards", "max_connections"]),
        ] {
            assert_eq!(restart_needed(&running, &from_toml(text)), named, "{text}");
        }
    }

    /// Masked values are compared in full.
    #[test]
    fn another_query_is_another_url() {
        let with = |key: &str| from_toml(&format!("auth_callback = \"http://127.0.0.1:1/?key={key}\""));
        assert_eq!(restart_needed(&with("a"), &with("b")), ["auth_callback"]);
    }
}
