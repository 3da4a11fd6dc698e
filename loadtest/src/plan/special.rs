//! The numbers of the scenarios about rooms with rules: who is there, keys, polls and repeats. All are zero elsewhere.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Who is there.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Members {
    /// Runs to make: with presence, without, or both in turns.
    pub turns: Turns,
    /// Streams ask for presence, and their users are members.
    pub is_on: bool,
    /// Streams join while events flow, so each begins in the middle of its room's sequence.
    pub joins_midway: bool,
    /// Members of each room; 0 for all in one.
    pub rooms_of: u32,
    /// `presence_members_max` of the rooms.
    pub members_max: u32,
    /// `presence_interval` of the rooms, milliseconds.
    pub interval_ms: u32,
    /// `presence_grace` of the rooms, milliseconds.
    pub grace_ms: u32,
    /// Seconds in which all reload their pages.
    pub reload_s: u32,
}

/// The runs of `presence`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Turns {
    /// Only without.
    Off,
    /// Only with.
    On,
    /// With and without, so that they can be compared.
    #[default]
    Both,
}

impl Members {
    /// The shortest time between two messages of a room whose members are named.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    /// The shortest time between two counts.
    #[must_use]
    pub fn count_interval(&self) -> Duration {
        self.interval() * COUNT_INTERVALS
    }

    /// How long a member stays after its last stream.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms.into())
    }

    /// The most messages that `streams` may get in `time`, besides the one that each begins with. A room that is counted has
    /// one every five intervals. While it still names its members it has one each interval, and at most `members_max`
    /// streams.
    #[must_use]
    pub fn messages_max(&self, streams: u64, time: Duration) -> u64 {
        let times = |interval: Duration| {
            let times = time.as_nanos() / interval.as_nanos().max(1);
            u64::try_from(times).unwrap_or(u64::MAX).saturating_add(1)
        };
        let named = streams.min(self.members_max.into());
        streams.saturating_mul(times(self.count_interval())) + named.saturating_mul(times(self.interval()))
    }

    /// The table of the rooms.
    fn table(&self) -> String {
        let Self { members_max, interval_ms, grace_ms, .. } = self;
        format!(
            "[[room]]\nmatch = \"*\"\npresence = \"members\"\npresence_members_max = {members_max}\n\
             presence_interval = \"{interval_ms}ms\"\npresence_grace = \"{grace_ms}ms\"\n"
        )
    }
}

/// Events that replace each other.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Keyed {
    /// Keys; 0 for events without.
    pub keys: u32,
    /// `conflate` of the rooms, milliseconds.
    pub conflate_ms: u32,
    /// Subscribers that read slowly.
    pub slow: usize,
}

impl Keyed {
    /// The table of the rooms.
    fn table(&self) -> String {
        format!("[[room]]\nmatch = \"*\"\nconflate = \"{}ms\"\n", self.conflate_ms)
    }
}

/// Publishes that come more than once.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Repeats {
    /// Events that all workers publish at the same time.
    pub events: u32,
    /// Workers.
    pub workers: u32,
    /// Equal requests with one further key.
    pub equal: u32,
    /// Different keys after that.
    pub keys: u32,
    /// `idempotency_keys` of the server.
    pub remembered: u32,
}

/// Kills of a server with an order on disk.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Kills {
    /// How many.
    pub times: u32,
    /// Publishers, each with one event under way.
    pub publishers: u32,
    /// The longest time from a start to the next kill, milliseconds.
    pub up_ms: u32,
    /// Where the times between kills come from.
    pub seed: u64,
}

/// Several nodes with one Redis.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Cluster {
    /// How many.
    pub nodes: u32,
    /// How often something goes wrong.
    pub faults: u32,
    /// Where the faults come from.
    pub seed: u64,
}

/// The settings file for a server that is started here, if it needs one.
#[must_use]
pub fn tables(members: &Members, keyed: &Keyed) -> Option<String> {
    if members.is_on {
        return Some(members.table());
    }
    (keyed.keys > 0).then(|| keyed.table())
}

/// The key of event number `seq`: any of `keys`, and the same wherever it is asked for (`SplitMix64`).
#[must_use]
pub fn key_of(seq: u64, keys: u32) -> u32 {
    let mut mixed = seq.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // Below `keys`, so it fits.
    u32::try_from((mixed ^ (mixed >> 31)) % u64::from(keys.max(1))).unwrap_or(0)
}

/// From one count to the next message, in intervals.
const COUNT_INTERVALS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        Members { members_max: 200, interval_ms: 1_000, grace_ms: 15_000, ..Members::default() }
    }

    #[test]
    fn a_counted_room_has_a_message_every_five_intervals() {
        let max = |streams, ms| members().messages_max(streams, Duration::from_millis(ms));
        assert_eq!(max(10_000, 0), 10_000 + 200);
        assert_eq!(max(10_000, 4_999), 10_000 + 200 * 5);
        assert_eq!(max(10_000, 10_000), 3 * 10_000 + 200 * 11);
        // A room of ten names all of them.
        assert_eq!(max(10, 2_000), 10 + 10 * 3);
    }

    #[test]
    fn keys_are_spread_and_always_the_same() {
        let mut counts = [0_u32; 50];
        for seq in 0..50_000 {
            counts[key_of(seq, 50) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        assert_eq!(key_of(7, 1_000), key_of(7, 1_000));
        assert_eq!(key_of(7, 0), 0);
    }

    #[test]
    fn only_rooms_with_rules_need_a_file() {
        assert_eq!(tables(&members(), &Keyed::default()), None);
        let text = tables(&Members { is_on: true, ..members() }, &Keyed::default()).expect("it is on");
        assert!(text.contains("presence_grace = \"15000ms\""), "{text}");
        let keyed = Keyed { keys: 3, conflate_ms: 200, slow: 0 };
        let text = tables(&members(), &keyed).expect("there are keys");
        assert!(text.ends_with("conflate = \"200ms\"\n"), "{text}");
    }
}
