//! Which settings a running server takes over (SIGHUP): those that say whom to let in. The others shape what is there
//! already, sockets, tables and threads, and take effect with the next start.

use super::table::{Config, SETTINGS};

/// Keys of the settings that a reload takes over.
pub const RELOADABLE: &[&str] = &[
    "trusted_proxies",
    "cors_origins",
    "cors_credentials",
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
    "publish_rate_per_user",
    "log_level",
];

/// Keys of the settings that differ and that a reload does not take over, in the order of `--help`.
#[must_use]
pub fn restart_needed(running: &Config, wanted: &Config) -> Vec<&'static str> {
    let texts = running.texts().into_iter().zip(wanted.texts());
    let differing = SETTINGS.iter().zip(texts).filter(|(_, (running, wanted))| running != wanted);
    differing.map(|(setting, _)| setting.key).filter(|key| !RELOADABLE.contains(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reloadable_setting_is_one() {
        for key in RELOADABLE {
            assert!(SETTINGS.iter().any(|setting| setting.key == *key), "{key}");
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
}
