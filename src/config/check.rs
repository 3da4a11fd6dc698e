//! Checks that need more than one setting, or the machine: values that are right alone may conflict.

use crate::config::SHARDS_MAX;
use crate::config::check_rooms;
use crate::config::descriptors::{DescriptorBudget, asking, open_files_min, requests, requests_min};
use crate::config::error::{ConfigError, Source};
use crate::config::kinds::addresses::AddressRange;
use crate::config::kinds::bounded::{print_duration, print_size};
use crate::config::kinds::listen::{Listen, ListenAddr};
use crate::config::kinds::order::{Ack, OrderPlace};
use crate::config::kinds::origins::CorsOrigins;
use crate::config::kinds::unix_socket::UnixSocket;
use crate::config::layers::Layers;
use crate::config::table::{Config, SETTINGS};

/// Checks `config` and fills in what zero stands for.
///
/// # Errors
///
/// All conflicts found.
pub(super) fn resolve(
    mut config: Config,
    layers: &Layers,
    cores: usize,
    open_files_max: u64,
) -> Result<Config, Vec<ConfigError>> {
    if config.shards == 0 {
        config.shards = cores.clamp(1, SHARDS_MAX);
    }
    if !config.authenticates() && layers.given("publish_rate_per_user").is_none() {
        // Without users, all events from one address, such as a backend's, would count as one user's.
        config.publish_rate_per_user = None;
    }
    let mut check = Check { layers, errors: Vec::new() };
    check.exposure(&config);
    check.admin_apart(&config);
    check.listens_apart(&config);
    check.groups_known(&config);
    check.proxies_known(&config);
    check.credentials_named(&config);
    check.credentials_checked(&config);
    check.in_order(
        ("max_event_bytes", config.max_event_bytes),
        ("max_body_bytes", config.max_body_bytes),
        print_size,
    );
    for (low, high) in [
        (("history_bytes", config.history_bytes), ("history_total_bytes", config.history_total_bytes)),
        (("max_body_bytes", config.max_body_bytes), ("http_total_bytes", config.http_total_bytes)),
    ] {
        if let (key, Some(bytes)) = high {
            check.in_order(low, (key, bytes), print_size);
        }
    }
    // Otherwise the subscribers of a busy room would be closed for waiting as long as `flush_interval` says.
    check.in_order(
        ("flush_interval", config.flush_interval),
        ("max_unsent_age", config.max_unsent_age),
        print_duration,
    );
    check.ack_reached(&config);
    check.descriptors(&mut config, open_files_max);
    check_rooms::check(&config, layers, &mut check.errors);
    if check.errors.is_empty() { Ok(config) } else { Err(check.errors) }
}

struct Check<'a> {
    layers: &'a Layers,
    errors: Vec<ConfigError>,
}

impl Check<'_> {
    /// Without authentication, other machines must be kept out unless the operator sets `insecure`.
    fn exposure(&mut self, config: &Config) {
        if config.insecure {
            return;
        }
        let open =
            config.listen.iter().filter(|listen| !config.authenticates() && !listen.address.is_local());
        for listen in open {
            self.blame(
                "listen",
                format!(
                    "a loopback address or a Unix socket in place of {} while no authentication is set up, or \
                     insecure=true",
                    listen.address
                ),
            );
        }
        // The admin listener never authenticates.
        for addr in config.admin_listen.iter().filter(|addr| !addr.is_local()) {
            self.blame(
                "admin_listen",
                format!(
                    "a loopback address or a Unix socket in place of {addr}, since nothing authenticates there, or \
                     insecure=true"
                ),
            );
        }
    }

    /// With `SO_REUSEPORT` both could bind, and the kernel would spread connections over the two.
    fn admin_apart(&mut self, config: &Config) {
        if let Some(admin) = &config.admin_listen
            && config.listen.iter().any(|listen| listen.address.is_at(admin))
        {
            self.blame("admin_listen", "an address that is not in listen".to_owned());
        }
    }

    /// A publish can only be answered by what the order is in.
    fn ack_reached(&mut self, config: &Config) {
        let can = match config.order {
            OrderPlace::Memory => &[Ack::Memory][..],
            OrderPlace::Disk(_) => &[Ack::Disk, Ack::Memory],
            OrderPlace::Redis(_) => &[Ack::Redis, Ack::RedisAndReplica, Ack::RedisDisk],
        };
        if !can.contains(&config.ack()) {
            let words: Vec<_> = can.iter().map(|ack| ack.as_str()).collect();
            self.blame("order_ack", format!("auto or {} with this order", words.join(" or ")));
        }
    }

    /// The list has no equal entries, but one address could still appear with and without the PROXY protocol, or for
    /// two groups.
    fn listens_apart(&mut self, config: &Config) {
        for (at, listen) in config.listen.iter().enumerate() {
            let address = &listen.address;
            if let Some(twin) = config.listen[..at].iter().find(|other| other.address.is_at(address)) {
                let how = if twin.proxied == listen.proxied { "" } else { ", with proxy: or without" };
                self.blame("listen", format!("{address} once{how}"));
            }
        }
    }

    /// Only this machine can say whether a group name exists.
    fn groups_known(&mut self, config: &Config) {
        let listens = config.listen.iter().map(|listen| ("listen", &listen.address));
        for (key, address) in listens.chain(config.admin_listen.iter().map(|admin| ("admin_listen", admin))) {
            if let ListenAddr::Unix(UnixSocket { group: Some(group), .. }) = address
                && group.id().is_none()
            {
                self.blame(
                    key,
                    format!("a group of /etc/group, or the number of another, in place of {group}"),
                );
            }
        }
    }

    /// If no proxy is trusted, the PROXY protocol header is ignored, and all clients look like one.
    fn proxies_known(&mut self, config: &Config) {
        let is_known = |listen: &Listen| match listen.address {
            ListenAddr::Tcp(_) => config.trusted_proxies.iter().any(|proxy| *proxy != AddressRange::Unix),
            ListenAddr::Unix(_) => config.trusted_proxies.contains(&AddressRange::Unix),
        };
        for listen in config.listen.iter().filter(|listen| listen.proxied && !is_known(listen)) {
            let needed = match listen.address {
                ListenAddr::Tcp(_) => "the proxy's address",
                ListenAddr::Unix(_) => "unix",
            };
            self.blame(
                "trusted_proxies",
                format!("{needed} among them, so that {listen} can trust its header"),
            );
        }
    }

    /// Browsers refuse the two together: every page on the web could act as its visitor.
    fn credentials_named(&mut self, config: &Config) {
        if !config.cors_credentials {
            return;
        }
        if config.cors_origins == CorsOrigins::Any {
            self.blame("cors_credentials", "off, or cors_origins by name in place of *".to_owned());
        }
        if let Some(origin) = config.cors_origins.shared() {
            self.blame(
                "cors_credentials",
                format!("off, or cors_origins without {origin}, which pages of many owners send"),
            );
        }
    }

    /// These settings make sense only if credentials are checked: they say which tokens count, or which rooms need
    /// none. Without keys or a callback nothing is checked, and the server would be open to all.
    fn credentials_checked(&mut self, config: &Config) {
        if config.authenticates() {
            return;
        }
        let meant = [
            ("public_rooms", !config.public_rooms.is_empty()),
            ("token_issuer", config.token_issuer.is_some()),
            ("token_audience", !config.token_audience.is_empty()),
            ("token_cookie", config.token_cookie.is_some()),
            ("token_query", config.token_query),
        ];
        for (key, _) in meant.into_iter().filter(|(_, is_set)| *is_set) {
            let wanted = "token_keys, token_jwks, api_keys_file or auth_callback as well, since no token is needed without them";
            self.blame(key, wanted.to_owned());
        }
    }

    /// Checks that `low` is not above `high`. Blames the one that was given: the other may be a default.
    fn in_order<T: Copy + PartialOrd>(
        &mut self,
        (low_key, low): (&'static str, T),
        (high_key, high): (&'static str, T),
        print: fn(T) -> String,
    ) {
        if low <= high {
            return;
        }
        if self.layers.given(high_key).is_some() {
            self.blame(high_key, format!("at least {low_key}, which is {}", print(low)));
        } else {
            self.blame(low_key, format!("at most {high_key}, which is {}", print(high)));
        }
    }

    fn descriptors(&mut self, config: &mut Config, open_files_max: u64) {
        let shards = config.shards;
        let asked = asking(config);
        let files = open_files_max.saturating_sub(asked);
        let Some(budget) = DescriptorBudget::new(files, shards) else {
            let open_files_min = open_files_min(shards) + asked;
            self.errors.push(ConfigError::OpenFiles { open_files_max, open_files_min, shards });
            return;
        };
        let budget = if config.max_requests == 0 {
            // From the limit alone, so that it does not depend on other settings.
            budget.with_requests(requests(open_files_max, shards), shards).unwrap_or(budget)
        } else if let Some(budget) = budget.with_requests(config.max_requests, shards) {
            budget
        } else {
            let (least, most) = (requests_min(shards), budget.total() - 1);
            self.blame(
                "max_requests",
                format!("an integer in {least}..={most}, or 0 for an eighth of the open files limit"),
            );
            return;
        };
        config.max_requests = budget.requests_max;
        self.waiting(config);
        if config.max_connections == 0 {
            config.max_connections = budget.connections_max;
        } else if config.max_connections > budget.connections_max {
            let most = budget.connections_max;
            self.blame(
                "max_connections",
                format!("an integer in 1..={most}, or 0 for all that the open files limit of {open_files_max} allows"),
            );
        }
    }

    /// Requests that wait long leave half of the places to the others.
    fn waiting(&mut self, config: &mut Config) {
        let most = config.max_requests / 2;
        if config.max_waiting_requests > most {
            self.blame(
                "max_waiting_requests",
                format!("an integer in 1..={most}, which is half of max_requests, or 0 for that"),
            );
        } else if config.max_waiting_requests == 0 {
            config.max_waiting_requests = most;
        }
    }

    fn blame(&mut self, key: &'static str, wanted: String) {
        let error = match self.layers.given(key) {
            Some(given) => given.blame(wanted),
            None => {
                ConfigError::Value { source: Source::Default, key, value: default(key).to_owned(), wanted }
            }
        };
        self.errors.push(error);
    }
}

fn default(key: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.key == key).expect("a key of the table").default
}
