//! How the open files limit is divided, so that `accept(2)` never fails with `EMFILE`.
//!
//! | for | descriptors |
//! |---|---|
//! | the process: logs, signals, the admin listener, requests to other servers, `/proc` reads of a scrape | [`PROCESS_RESERVE`] |
//! | each shard: its two `epoll`s and what wakes it, one listener per address | [`SHARD_RESERVE`] |
//! | the admin listener's connections | [`ADMIN_RESERVE`] |
//! | connections in the HTTP phase: publishes, and streams whose head is not sent yet | `max_requests`; by default an eighth, 16 to 512, at least two per shard |
//! | streams | the rest |

use crate::config::kinds::bounded::CONNECTIONS_CEILING;
use crate::config::kinds::listen::LISTEN_ADDRS_MAX;
use crate::config::table::Config;

/// Descriptors kept back for the process as a whole.
pub const PROCESS_RESERVE: u64 = 64;

/// Descriptors kept back for each shard: its runtime's `epoll` twice, the sockets' `epoll` twice, an `eventfd`, a pipe
/// for signals and both ends of the readiness probe; and for each address, the listener and one connection that is
/// accepted before it has a place.
pub const SHARD_RESERVE: u64 = 8 + 2 * LISTEN_ADDRS_MAX as u64;

/// Connections the admin listener may have. They are counted apart, so that a full server can still be watched.
pub const ADMIN_RESERVE: u64 = 16;

/// The descriptors a process may have open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DescriptorBudget {
    /// Streams, 1 to [`CONNECTIONS_CEILING`].
    pub connections_max: usize,
    /// Connections in the HTTP phase, at least two per shard. They have their own share, so that publishers reach a
    /// server that is full of streams.
    pub requests_max: usize,
}

impl DescriptorBudget {
    /// Divides `open_files_max`. `None` if nothing is left for streams.
    #[must_use]
    pub fn new(open_files_max: u64, shards: usize) -> Option<Self> {
        let requests_max = requests(open_files_max, shards);
        let connections = open_files_max.checked_sub(reserve(shards))?.checked_sub(requests_max as u64)?;
        let connections = usize::try_from(connections).unwrap_or(usize::MAX);
        (connections >= 1)
            .then_some(Self { connections_max: connections.min(CONNECTIONS_CEILING), requests_max })
    }

    /// The same budget with `requests_max` connections in the HTTP phase. `None` if those are too few for the shards,
    /// or leave nothing for streams.
    pub(super) fn with_requests(self, requests_max: usize, shards: usize) -> Option<Self> {
        let fits = requests_max >= requests_min(shards) && requests_max < self.total();
        fits.then(|| Self { connections_max: self.total() - requests_max, requests_max })
    }

    /// Descriptors for streams and requests together.
    pub(super) fn total(self) -> usize {
        self.connections_max + self.requests_max
    }
}

/// The default number of connections in the HTTP phase under a limit on open files.
pub(super) fn requests(open_files_max: u64, shards: usize) -> usize {
    let share = usize::try_from(open_files_max / 8).unwrap_or(usize::MAX);
    share.clamp(16, 512).max(requests_min(shards))
}

/// The least number of places for requests: each shard has one for a request that waits long, and one for another.
pub(super) fn requests_min(shards: usize) -> usize {
    2 * shards
}

/// The least limit that leaves room for one stream.
pub(super) fn open_files_min(shards: usize) -> u64 {
    let fits = |limit: &u64| DescriptorBudget::new(*limit, shards).is_some();
    // At twice the reserve, requests take 16, an eighth of it or two a shard; all are less than the reserve itself.
    (reserve(shards)..=2 * reserve(shards)).find(fits).expect("twice the reserve is enough")
}

/// Descriptors that the settings use, streams included.
pub(super) fn open_files(config: &Config) -> u64 {
    let connections = (config.max_connections + config.max_requests) as u64;
    reserve(config.shards) + asking(config) + connections
}

/// Descriptors for questions to the application: about streams, and about what is published. All other requests to
/// servers fit into the process's reserve.
pub(super) fn asking(config: &Config) -> u64 {
    let callbacks = [&config.auth_callback, &config.publish_callback];
    callbacks.into_iter().flatten().count() as u64 * config.auth_callback_concurrency as u64
}

fn reserve(shards: usize) -> u64 {
    (PROCESS_RESERVE + ADMIN_RESERVE).saturating_add(SHARD_RESERVE.saturating_mul(shards as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SHARDS_MAX;

    #[test]
    fn shares_never_add_up_to_more_than_the_limit() {
        for shards in 1..=SHARDS_MAX {
            for limit in [0, 100, 128, 256, 1_024, 4_096, 20_000, 1 << 20, 1 << 30, u64::MAX] {
                let Some(budget) = DescriptorBudget::new(limit, shards) else {
                    assert!(limit < open_files_min(shards));
                    continue;
                };
                let open = budget.connections_max as u64 + budget.requests_max as u64 + reserve(shards);
                assert!(open <= limit && budget.connections_max >= 1, "{limit} {shards}");
                assert!(budget.requests_max >= requests_min(shards), "{limit} {shards}");
                assert!(open == limit || budget.connections_max == CONNECTIONS_CEILING, "{limit} {shards}");
            }
        }
    }

    #[test]
    fn the_least_limit_leaves_one_connection() {
        for shards in 1..=SHARDS_MAX {
            let least = open_files_min(shards);
            assert_eq!(DescriptorBudget::new(least, shards).map(|budget| budget.connections_max), Some(1));
            assert_eq!(DescriptorBudget::new(least - 1, shards), None);
        }
    }

    #[test]
    fn a_usual_limit_goes_to_the_streams() {
        let budget = DescriptorBudget::new(20_000, 2);
        assert_eq!(budget, Some(DescriptorBudget { connections_max: 19_376, requests_max: 512 }));
    }

    #[test]
    fn what_requests_are_given_streams_go_without() {
        let budget = DescriptorBudget::new(20_000, 2).expect("room for both");
        let with = |requests| budget.with_requests(requests, 2);
        assert_eq!(with(8_000), Some(DescriptorBudget { connections_max: 11_888, requests_max: 8_000 }));
        assert_eq!(with(19_887), Some(DescriptorBudget { connections_max: 1, requests_max: 19_887 }));
        assert_eq!([with(0), with(3), with(19_888), with(usize::MAX)], [None; 4]);
    }
}
