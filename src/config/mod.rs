//! Settings: text from a TOML file, the environment and flags becomes a [`Config`], and nothing downstream re-checks
//! it.
//!
//! A setting is written once, in `table.rs`: name, type, default, parser and help. The three layers, `--help`, the hint
//! for a misspelt key, [`reference()`] and the summary of `--check-config` are generated from that table.
//!
//! | layer (later wins) | form | lists |
//! |---|---|---|
//! | file: `--config FILE` or `TIDEGATE_CONFIG` | TOML, `flush_interval = "10ms"` | an array |
//! | environment | `TIDEGATE_FLUSH_INTERVAL=10ms` | commas |
//! | flags | `--flush-interval 10ms` | commas, or the flag repeated |
//!
//! Every given value is checked, even if a later layer overrides it: otherwise a wrong value would show up only when
//! the override is removed. A repeated flag counts once, with its last value. A list in a later layer replaces the
//! earlier one. `TIDEGATE_` variables that name no setting are reported ([`unknown_variables`]).
//!
//! What is different in some rooms is in tables `[[room]]`, in the file only. Their keys have a table of their own, in
//! `room_table.rs`, which works in the same way.

mod check;
mod check_rooms;
mod descriptors;
mod environment;
pub(crate) mod error;
mod file;
pub mod kinds;
pub(crate) mod layers;
mod nearest;
mod read;
mod reload;
mod report;
mod room_table;
pub(crate) mod setting;
pub(crate) mod table;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

pub use check_rooms::{NeverMatches, never_match};
pub use descriptors::{ADMIN_RESERVE, DescriptorBudget, PROCESS_RESERVE, SHARD_RESERVE};
pub use environment::{UnknownVariable, unknown_variables};
pub use error::{ConfigError, ConfigErrors, EX_CONFIG, EX_USAGE, Place, Source};
pub use kinds::access::{PUBLIC_ROOMS_MAX, RoomPattern};
pub use kinds::addresses::{ADDRESSES_MAX, AddressRange, TRUSTED_PROXIES_MAX};
pub use kinds::bounded::CONNECTIONS_CEILING;
pub use kinds::choices::{
    DeliveryOverflow, ForeignOrigins, LogFormat, LogLevel, RefusalStyle, TryPage, UserOverflow,
};
pub use kinds::listen::{LISTEN_ADDRS_MAX, Listen, ListenAddr};
pub use kinds::memory::MemoryLimit;
pub use kinds::origins::{CORS_HEADERS_MAX, CORS_ORIGINS_MAX, CorsOrigins};
pub use kinds::requests::{
    ALLOWED_HOSTS_MAX, DENIED_USER_AGENTS_MAX, DeniedUserAgent, HostPattern, REQUIRED_HEADERS_MAX,
    RequiredHeader,
};
pub use kinds::rooms::{KnownRooms, RoomCallback, RoomPresence};
pub use kinds::secret::{MASK, Secret};
pub use kinds::token_key::{JwksSource, KeySource, TOKEN_KEYS_MAX, TokenKey};
pub use kinds::unix_socket::{Group, UnixSocket};
pub use kinds::upstream::UpstreamUrl;
pub use read::{FILE_BYTES_MAX, read_file, read_text};
pub use reload::{RELOADABLE, restart_needed};
pub use room_table::{RoomSettings, RoomTable};
pub use setting::Reference;
pub use table::Config;

pub use crate::types::rate::Rate;
use kinds::order::{Ack, OrderPlace};
use layers::{Given, Layers};

/// Shards a process may have. Past this, more processes serve better than more threads.
pub const SHARDS_MAX: usize = 64;

/// Settings that are read and valid, and the source of each.
pub struct Settings {
    /// The settings.
    pub config: Config,
    layers: Layers,
}

impl Settings {
    /// Reads all layers. `file` is the path of the TOML file and what names it. `env` reads one variable; pass values
    /// that are not UTF-8 on lossily, so that they are refused here and not overlooked. `flags` are those that were
    /// given. `open_files_max` is the soft `RLIMIT_NOFILE`: checking the connections against it here turns a refusal at
    /// the busiest minute of the year into a refusal to start.
    ///
    /// Blocks to read the file. Opens nothing else.
    ///
    /// # Errors
    ///
    /// All errors found: where each value is written, the value, and what would be right.
    pub(crate) fn read(
        file: Option<(PathBuf, Source)>,
        env: impl Fn(&str) -> Option<String>,
        flags: Vec<Given>,
        open_files_max: u64,
    ) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::default();
        let mut errors = Vec::new();
        if let Some((path, source)) = file {
            file::read(&path, source, &mut layers, &mut errors);
        }
        layers.read_env(table::SETTINGS, env);
        layers.append(flags);
        let config = Config::parse(&layers, &mut errors);
        let config = resolved(config, &layers, open_files_max, errors)?;
        Ok(Self { config, layers })
    }

    /// One line per setting, as `--check-config` prints it: its value and its source.
    #[must_use]
    pub fn summary(&self) -> String {
        report::summary(&self.config, &self.layers)
    }
}

/// Parses a rate as settings write it, such as `100/s`.
#[must_use]
pub fn parse_rate(text: &str) -> Option<Rate> {
    use kinds::Kind as _;
    kinds::rate::rate().parse(text)
}

/// Parses a token key as settings write it, such as `RS256:file:/etc/tidegate/issuer.pem`.
///
/// # Errors
///
/// Says what was wanted.
pub fn parse_token_key(text: &str) -> Result<TokenKey, String> {
    use kinds::Kind as _;
    let kind = kinds::token_key::token_key();
    kind.parse(text).ok_or_else(|| format!("wanted {}", kind.wanted_for(text, "")))
}

/// Every setting, in the order of `--help`.
pub fn reference() -> impl Iterator<Item = Reference> {
    table::SETTINGS.iter().map(setting::Setting::reference)
}

/// Every key of a table `[[room]]`, which no variable and no flag has. `match`, the first, has no default.
pub fn room_reference() -> impl Iterator<Item = Reference> {
    room_table::keys().map(setting::Setting::reference)
}

impl Config {
    /// What has an event before its publish is answered.
    #[must_use]
    pub fn ack(&self) -> Ack {
        self.order_ack.unwrap_or(match self.order {
            OrderPlace::Memory => Ack::Memory,
            OrderPlace::Disk(_) => Ack::Disk,
            OrderPlace::Redis(_) => Ack::Redis,
        })
    }

    /// All defaults, for tests: `Config { drain: Duration::ZERO, ..Config::default_for(1024) }`.
    ///
    /// # Panics
    ///
    /// If `open_files_max` leaves no room for a single connection. 1,024 is enough on any machine.
    #[must_use]
    pub fn default_for(open_files_max: u64) -> Self {
        let layers = Layers::default();
        let mut errors = Vec::new();
        let config = Self::parse(&layers, &mut errors);
        resolved(config, &layers, open_files_max, errors).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The settings of a file with this `text`, without environment and flags. Opens no file: errors give `path` as the
    /// place of the text.
    ///
    /// # Errors
    ///
    /// All errors found, as for [`Settings`].
    pub fn from_toml(path: &Path, text: &str, open_files_max: u64) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::default();
        let mut errors = Vec::new();
        file::parse(path, text, &mut layers, &mut errors);
        let config = Self::parse(&layers, &mut errors);
        resolved(config, &layers, open_files_max, errors)
    }

    /// The text of a file that gives these settings, whatever the defaults are. Includes secrets. A table `[[room]]` has
    /// only what is different from its defaults.
    #[must_use]
    pub fn to_toml(&self) -> String {
        report::toml(self)
    }

    /// Whether authentication is set up. Until then, every client that reaches the server may do everything.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        self.has_token_keys() || self.api_keys_file.is_some() || self.auth_callback.is_some()
    }

    /// Whether any key that verifies tokens is set up.
    #[must_use]
    pub fn has_token_keys(&self) -> bool {
        !self.token_keys.is_empty() || !self.token_jwks.is_empty()
    }
}

/// Checks the settings against each other, but only if each is right by itself: otherwise good values would be reported
/// as conflicting with the defaults that replace bad ones.
fn resolved(
    config: Config,
    layers: &Layers,
    open_files_max: u64,
    errors: Vec<ConfigError>,
) -> Result<Config, ConfigErrors> {
    if !errors.is_empty() {
        return Err(ConfigErrors::new(errors));
    }
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    check::resolve(config, layers, cores, open_files_max).map_err(ConfigErrors::new)
}
