//! Options of the scenarios about rooms with rules.

use clap::Args;

use super::scenario::{Scenario, Settings};
use super::special::{Cluster, Keyed, Kills, Members, Repeats, Turns};

/// Numbers of the scenarios about rooms with rules.
#[derive(Args, Debug)]
#[command(next_help_heading = "Rooms with rules")]
pub(super) struct Special {
    /// With presence, without, or both in turns (presence) [default: both].
    #[arg(long)]
    presence: Option<Turns>,
    /// Members of each room; without it all are in one (presence).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=200))]
    rooms_of: Option<u32>,
    /// `presence_members_max` of the rooms (presence).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    members_max: Option<u32>,
    /// `presence_interval` of the rooms, milliseconds (presence).
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    interval: Option<u32>,
    /// `presence_grace` of the rooms, milliseconds (presence).
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=600_000))]
    grace: Option<u32>,
    /// Seconds in which all reload their pages (presence).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60))]
    reload: Option<u32>,
    /// Keys of the events (conflate, retry).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: Option<u32>,
    /// `conflate` of the room, milliseconds (conflate).
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    conflate: Option<u32>,
    /// Subscribers that read slowly (conflate).
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    slow: Option<u32>,
    /// Seconds after which a poll without an event ends (poll).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60))]
    poll: Option<u32>,
    /// Events that all workers publish at the same time (retry).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    events: Option<u32>,
    /// Workers that publish the same (retry).
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=64))]
    workers: Option<u32>,
    /// Equal requests with one key (retry).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    equal: Option<u32>,
    /// `idempotency_keys` of the server (retry).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    remembered: Option<u32>,
    /// How often the server is killed (kill).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    kills: Option<u32>,
    /// Publishers, each with one event under way (kill).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    publishers: Option<u32>,
    /// The longest time from a start to the next kill, milliseconds (kill).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    up: Option<u32>,
    /// Nodes with one Redis (nodes).
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=16))]
    nodes: Option<u32>,
    /// How often something goes wrong (nodes).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    faults: Option<u32>,
    /// Another seed makes other times between kills, or other faults (kill, nodes).
    #[arg(long)]
    seed: Option<u64>,
}

impl Special {
    /// Puts what was given into `settings`, where its scenario has a place for it.
    pub(super) fn put(&self, scenario: Scenario, settings: &mut Settings) -> Result<(), String> {
        match scenario {
            Scenario::Presence => self.put_members(settings),
            Scenario::Conflate => self.put_keyed(settings),
            Scenario::Poll => {
                settings.poll_s = self.poll.unwrap_or(settings.poll_s);
                Ok(())
            }
            Scenario::Retry => {
                settings.rooms = 1;
                let Repeats { events, workers, equal, keys, remembered } = settings.repeats;
                settings.repeats = Repeats {
                    events: self.events.unwrap_or(events),
                    workers: self.workers.unwrap_or(workers),
                    equal: self.equal.unwrap_or(equal),
                    keys: self.keys.unwrap_or(keys),
                    remembered: self.remembered.unwrap_or(remembered),
                };
                Ok(())
            }
            Scenario::Kill => {
                settings.rooms = 1;
                let Kills { times, publishers, up_ms, seed } = settings.kills;
                settings.kills = Kills {
                    times: self.kills.unwrap_or(times),
                    publishers: self.publishers.unwrap_or(publishers),
                    up_ms: self.up.unwrap_or(up_ms),
                    seed: self.seed.unwrap_or(seed),
                };
                Ok(())
            }
            Scenario::Nodes => {
                settings.rooms = 1;
                let Cluster { nodes, faults, seed } = settings.nodes;
                settings.nodes = Cluster {
                    nodes: self.nodes.unwrap_or(nodes),
                    faults: self.faults.unwrap_or(faults),
                    seed: self.seed.unwrap_or(seed),
                };
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn put_members(&self, settings: &mut Settings) -> Result<(), String> {
        if settings.tokens {
            return Err("--tokens: presence is measured without".to_owned());
        }
        let members = settings.members.clone();
        let rooms_of = self.rooms_of.unwrap_or(members.rooms_of);
        settings.members = Members {
            turns: self.presence.unwrap_or(members.turns),
            rooms_of,
            joins_midway: rooms_of == 0,
            members_max: self.members_max.unwrap_or(members.members_max),
            interval_ms: self.interval.unwrap_or(members.interval_ms),
            grace_ms: self.grace.unwrap_or(members.grace_ms),
            reload_s: self.reload.unwrap_or(members.reload_s),
            ..members
        };
        if rooms_of > 0 {
            // Every room is full.
            settings.rooms = (settings.connections / rooms_of as usize).max(1);
            settings.connections = settings.rooms * rooms_of as usize;
        } else {
            settings.rooms = 1;
        }
        Ok(())
    }

    fn put_keyed(&self, settings: &mut Settings) -> Result<(), String> {
        let Keyed { keys, conflate_ms, slow } = settings.keyed;
        // Fewer subscribers than by default have fewer slow ones among them.
        let slow = self.slow.map_or(slow.min(settings.connections / 20), |slow| slow as usize);
        if slow >= settings.connections {
            return Err(format!("--slow {slow}: wanted fewer than --connections {}", settings.connections));
        }
        // What a subscriber has of each key is kept for all subscribers.
        let keys = self.keys.unwrap_or(keys).min(KEYS_MAX);
        settings.keyed = Keyed { keys, conflate_ms: self.conflate.unwrap_or(conflate_ms), slow };
        settings.rooms = 1;
        Ok(())
    }
}

/// Keys whose newest versions each subscriber of `conflate` remembers.
const KEYS_MAX: u32 = 10_000;
