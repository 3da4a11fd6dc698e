//! The scenarios and what each one sets by default.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::special::{Cluster, Keyed, Kills, Members, Repeats};

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Memory of connections that get nothing.
    Idle,
    /// 10,000 connections in one room, 10 events/s.
    Fanout,
    /// 10,000 connections in one room, 50 events/s.
    Dense,
    /// 10,000 connections in one room, 100 events at once every second.
    Burst,
    /// 1,000 rooms of ten, 1,000 events/s.
    Rooms,
    /// 19,000 users, each event to one of them.
    Targeted,
    /// 1,000 connections, 10 events/s.
    Latency,
    /// Opening connections.
    Accept,
    /// As fanout, compressed, against plain.
    Gzip,
    /// Some subscribers stop reading.
    Stuck,
    /// SIGTERM under 10,000 connections.
    Drain,
    /// Every second a tenth of the subscribers leaves, and comes back with its last id.
    Churn,
    /// All connections are cut and come back: at once, then after the time of `retry:`.
    Storm,
    /// All leave, miss events, and come back with their last id.
    Resume,
    /// Rooms, single events, bursts and churn, for a long time.
    Soak,
    /// The highest rate that can be sustained.
    Saturate,
    /// What connections and rooms cost as they grow.
    Scale,
    /// 10,000 users see how many of them are there: all come, reload, and leave.
    Presence,
    /// 20,000 updates/s of 1,000 keys, of which the newest go out.
    Conflate,
    /// 1,000 clients that ask again and again.
    Poll,
    /// Everything is published several times.
    Retry,
    /// A server with an order on disk is killed again and again.
    Kill,
    /// Several nodes with one Redis, of which everything fails.
    Nodes,
}

impl Scenario {
    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fanout => "fanout",
            Self::Dense => "dense",
            Self::Burst => "burst",
            Self::Rooms => "rooms",
            Self::Targeted => "targeted",
            Self::Latency => "latency",
            Self::Accept => "accept",
            Self::Gzip => "gzip",
            Self::Stuck => "stuck",
            Self::Drain => "drain",
            Self::Churn => "churn",
            Self::Storm => "storm",
            Self::Resume => "resume",
            Self::Soak => "soak",
            Self::Saturate => "saturate",
            Self::Scale => "scale",
            Self::Presence => "presence",
            Self::Conflate => "conflate",
            Self::Poll => "poll",
            Self::Retry => "retry",
            Self::Kill => "kill",
            Self::Nodes => "nodes",
        }
    }

    /// Whether it only means something on a server that can resume a stream.
    #[must_use]
    pub fn needs_resume(self) -> bool {
        matches!(self, Self::Churn | Self::Resume | Self::Soak)
    }

    /// Whether it is about something that only Tidegate has.
    #[must_use]
    pub fn needs_tidegate(self) -> bool {
        matches!(self, Self::Presence | Self::Conflate | Self::Poll | Self::Retry | Self::Kill | Self::Nodes)
    }

    /// Whether subscribers come back, and so have to remember their last id.
    #[must_use]
    pub fn comes_back(self) -> bool {
        self.needs_resume() || matches!(self, Self::Storm | Self::Presence | Self::Poll)
    }

    /// Whether anything is published.
    #[must_use]
    pub fn publishes(self) -> bool {
        !matches!(self, Self::Idle | Self::Accept)
    }

    /// The numbers of the scenario, before options change them.
    #[must_use]
    pub fn defaults(self) -> Settings {
        let base = Settings {
            connections: 10_000,
            rooms: 1,
            rate_per_s: 10,
            burst: 1,
            bytes: 128,
            seconds: 10,
            stuck: 0,
            gzip: false,
            to_users: false,
            form: Form::Single,
            threads: 1,
            open_rate_per_s: 10_000,
            in_flight_max: 256,
            keeps_id: self.comes_back(),
            churn_percent: 0,
            away_ms: 500,
            missed: 200,
            history: 1_000,
            p99_max_ms: 500,
            processes: 1,
            tokens: false,
            require: false,
            members: Members::default(),
            keyed: Keyed::default(),
            poll_s: 0,
            repeats: Repeats::default(),
            kills: Kills::default(),
            nodes: Cluster::default(),
        };
        match self {
            Self::Fanout | Self::Accept => base,
            Self::Idle | Self::Storm => Settings { seconds: 3, ..base },
            Self::Dense => Settings { rate_per_s: 50, ..base },
            Self::Burst => Settings { rate_per_s: 100, burst: 100, form: Form::Array, ..base },
            Self::Rooms => Settings { rooms: 1_000, rate_per_s: 1_000, ..base },
            Self::Targeted => Settings {
                connections: 19_000,
                rate_per_s: 50_000,
                to_users: true,
                form: Form::Array,
                ..base
            },
            Self::Latency => Settings { connections: 1_000, seconds: 15, ..base },
            Self::Gzip => Settings { gzip: true, ..base },
            Self::Stuck => {
                Settings { connections: 2_000, stuck: 500, rate_per_s: 50, bytes: 1_024, seconds: 45, ..base }
            }
            Self::Drain => Settings { seconds: 30, ..base },
            Self::Churn => Settings { connections: 5_000, churn_percent: 10, ..base },
            Self::Resume => Settings { connections: 5_000, seconds: 2, ..base },
            Self::Soak => Settings {
                connections: 5_000,
                rooms: 10,
                rate_per_s: 100,
                burst: 100,
                seconds: 120,
                churn_percent: 1,
                ..base
            },
            Self::Saturate => Settings { seconds: 3, form: Form::Array, ..base },
            Self::Scale => {
                Settings { connections: 19_000, rooms: 1_000, seconds: 5, form: Form::Array, ..base }
            }
            _ => self.special_defaults(base),
        }
    }

    /// The same for those that only Tidegate supports.
    fn special_defaults(self, base: Settings) -> Settings {
        match self {
            Self::Presence => Settings {
                members: Members {
                    is_on: true,
                    joins_midway: true,
                    members_max: 200,
                    interval_ms: 1_000,
                    grace_ms: 15_000,
                    reload_s: 5,
                    ..Members::default()
                },
                ..base
            },
            Self::Conflate => Settings {
                connections: 1_000,
                rate_per_s: 20_000,
                form: Form::Array,
                keyed: Keyed { keys: 1_000, conflate_ms: 200, slow: 50 },
                ..base
            },
            Self::Poll => Settings { connections: 1_000, poll_s: 25, ..base },
            Self::Retry => Settings {
                connections: 10,
                repeats: Repeats {
                    events: 1_000,
                    workers: 10,
                    equal: 10_000,
                    keys: 1_000_000,
                    remembered: 100_000,
                },
                ..base
            },
            Self::Kill => Settings {
                connections: 10,
                kills: Kills { times: 1_000, publishers: 4, up_ms: 60, seed: 1 },
                ..base
            },
            Self::Nodes => Settings {
                connections: 1_000,
                rate_per_s: 100,
                burst: 25,
                nodes: Cluster { nodes: 3, faults: 1_000, seed: 1 },
                ..base
            },
            _ => base,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How events are put into requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One request an event, pipelined.
    Single,
    /// One request for all that is due, as a JSON array.
    Array,
    /// One request for everything, a line an event.
    Ndjson,
}

/// A scenario in numbers. Bounds are checked where they are parsed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is one setting of its own, on or off")]
pub struct Settings {
    /// Subscribers.
    pub connections: usize,
    /// Rooms they are dealt out to in turn.
    pub rooms: usize,
    /// Events a second over all rooms or users.
    pub rate_per_s: u32,
    /// Events published at once.
    pub burst: u32,
    /// Bytes of each event's data.
    pub bytes: usize,
    /// The measured window; the limit of the wait in `drain`; the settling time in `idle`; traffic before and after each
    /// cut in `storm`, before it in `resume`; each step in `saturate`, each point in `scale`.
    pub seconds: u64,
    /// Subscribers that stop reading once connected.
    pub stuck: usize,
    /// Ask for gzip.
    pub gzip: bool,
    /// Address events to users in place of rooms.
    pub to_users: bool,
    /// How events are put into requests.
    pub form: Form,
    /// Threads that read.
    pub threads: usize,
    /// Connections opened a second.
    pub open_rate_per_s: u32,
    /// Connections waiting for `connected` at any time.
    pub in_flight_max: usize,
    /// Subscribers remember their last id and come back with it when a connection fails.
    pub keeps_id: bool,
    /// Percentage of subscribers that leave each second and come back.
    pub churn_percent: u32,
    /// How long such a subscriber stays away, milliseconds.
    pub away_ms: u32,
    /// Events of each room that `resume` has its subscribers miss.
    pub missed: u32,
    /// Events of each room that the server remembers. A subscriber that misses more must be told by `gap`.
    pub history: u32,
    /// The latency that a rate must keep to count as sustained.
    pub p99_max_ms: u32,
    /// Processes that the subscribers are divided among.
    pub processes: usize,
    /// The server requires tokens, and each subscriber has one of its own.
    #[serde(default)]
    pub tokens: bool,
    /// Each event requires a permission, and each subscriber's token has it.
    #[serde(default)]
    pub require: bool,
    /// Who is there (`presence`).
    #[serde(default)]
    pub members: Members,
    /// Events that replace each other (`conflate`).
    #[serde(default)]
    pub keyed: Keyed,
    /// Streams end after the first events, or after so many seconds, and are asked for again (`poll`); 0 for never.
    #[serde(default)]
    pub poll_s: u32,
    /// Publishes that come more than once (`retry`).
    #[serde(default)]
    pub repeats: Repeats,
    /// A server that is killed again and again (`kill`).
    #[serde(default)]
    pub kills: Kills,
    /// Several nodes with one Redis (`nodes`).
    #[serde(default)]
    pub nodes: Cluster,
}

impl Settings {
    /// Sequences of events: users or rooms.
    #[must_use]
    pub fn streams(&self) -> usize {
        if self.to_users { self.connections } else { self.rooms }
    }

    /// The sequence that connection `index` listens to.
    #[must_use]
    pub fn stream_of(&self, index: usize) -> usize {
        if self.to_users { index } else { index % self.rooms }
    }

    /// The connections of process `nth`.
    #[must_use]
    pub fn part(&self, nth: usize) -> Range<usize> {
        let first = |nth| nth * self.connections / self.processes;
        first(nth)..first(nth + 1)
    }

    /// Time between two publishing steps: never under a millisecond, what is due then leaves together.
    #[must_use]
    pub fn step(&self) -> Duration {
        let step = f64::from(self.burst) / f64::from(self.rate_per_s);
        Duration::from_secs_f64(step).max(Duration::from_millis(1))
    }
}

/// Names of rooms and users. The prefix keeps runs against one long-lived server apart.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Names {
    /// Before every name.
    pub prefix: String,
}

impl Names {
    /// The name of stream `index` of `settings`, and the field that addresses it.
    #[must_use]
    pub fn address(&self, settings: &Settings, index: usize) -> (&'static str, String) {
        if settings.to_users { ("user", self.user(index)) } else { ("room", self.room(index)) }
    }

    /// Room `index`.
    #[must_use]
    pub fn room(&self, index: usize) -> String {
        format!("{}r{index}", self.prefix)
    }

    /// User `index`; every connection has its own.
    #[must_use]
    pub fn user(&self, index: usize) -> String {
        format!("{}u{index}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_connection_once() {
        for (connections, processes) in [(1, 1), (10, 3), (50_000, 3), (5, 8)] {
            let settings = Settings { connections, processes, ..Scenario::Fanout.defaults() };
            let parts: Vec<usize> = (0..processes).flat_map(|nth| settings.part(nth)).collect();
            assert_eq!(parts, (0..connections).collect::<Vec<_>>());
        }
    }
}
