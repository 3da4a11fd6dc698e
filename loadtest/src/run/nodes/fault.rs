//! What goes wrong, how often, and what it may lose.

use crate::client::order::terms::Excuse;
use crate::number::Random;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Fault {
    /// A node is killed (SIGKILL), and started again.
    NodeKilled,
    /// A node is told to end (SIGTERM), and started again.
    NodeEnded,
    /// A node stands still (SIGSTOP).
    NodeStopped,
    /// Streams are cut, and come back on any node.
    StreamsCut,
    /// Redis stands still (SIGSTOP).
    RedisStopped,
    /// Redis sleeps inside a command (DEBUG SLEEP).
    RedisSleeps,
    /// Redis cuts all connections (CLIENT KILL).
    ConnectionsCut,
    /// Redis cuts those that do not read fast enough (client-output-buffer-limit).
    BuffersLimited,
    /// Redis is killed (SIGKILL), and has everything when it starts again.
    RedisKilled,
    /// Redis is killed, and has what it had a moment before.
    RedisStale,
    /// A replica becomes the master. It lags, or the old master takes events for a moment longer.
    ReplicaPromoted,
    /// Redis is killed, and has nothing when it starts again.
    RedisEmpty,
    /// FLUSHALL.
    RedisFlushed,
}

/// All faults, with how often each comes.
const SHARES: [(Fault, u64); 13] = [
    (Fault::NodeKilled, 20),
    (Fault::NodeEnded, 8),
    (Fault::NodeStopped, 8),
    (Fault::StreamsCut, 12),
    (Fault::RedisStopped, 7),
    (Fault::RedisSleeps, 7),
    (Fault::ConnectionsCut, 14),
    (Fault::BuffersLimited, 5),
    (Fault::RedisKilled, 8),
    (Fault::RedisStale, 3),
    (Fault::ReplicaPromoted, 5),
    (Fault::RedisEmpty, 2),
    (Fault::RedisFlushed, 2),
];

impl Fault {
    /// One of them, by chance.
    pub(super) fn any(random: &mut Random) -> Self {
        let mut left = random.below(SHARES.iter().map(|(_, share)| share).sum());
        let found = SHARES.iter().find(|(_, share)| {
            let is_it = left < *share;
            left = left.saturating_sub(*share);
            is_it
        });
        found.map_or(Self::NodeKilled, |(fault, _)| *fault)
    }

    /// What the documentation says that it may lose.
    pub(super) fn excuse(self) -> Excuse {
        let all = matches!(self, Self::RedisEmpty | Self::RedisFlushed);
        Excuse { tail: matches!(self, Self::RedisStale | Self::ReplicaPromoted), all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_comes_and_four_lose_something() {
        let mut random = Random(1);
        let mut all: Vec<Fault> = (0..3_000).map(|_| Fault::any(&mut random)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), SHARES.len());
        assert_eq!(all.iter().filter(|fault| fault.excuse() != Excuse::default()).count(), 4);
    }
}
