//! Policies of rooms, from the tables `[[room]]` of the settings.

use std::sync::Arc;

use crate::config::{Config, KnownRooms, RoomCallback, RoomPresence, RoomSettings, RoomTable};
use crate::hub::log::rules::LogBounds;
use crate::hub::room_policy::{PresencePolicy, RoomCallbacks, RoomPolicies, RoomPolicy};

/// The policies that the tables of `wanted` ask for. What a table leaves out is as in `running`: the server's own
/// settings change with a restart only.
pub(super) fn policies(running: &Config, wanted: &Config) -> RoomPolicies {
    let policy = |table: &RoomTable| (table.pattern.pattern.clone(), Arc::new(policy(running, table)));
    RoomPolicies {
        tables: wanted.room_tables.iter().map(policy).collect(),
        listed: wanted.rooms == KnownRooms::Listed,
        says_room: wanted.event_room,
    }
}

/// The policy of rooms that no table matches.
pub(super) fn own_policy(server: &Config) -> RoomPolicy {
    RoomPolicy::of_server(own_log(server), server.history_age)
}

/// The bounds of a log that no table changes.
pub(super) fn own_log(server: &Config) -> LogBounds {
    LogBounds { events_max: server.history_events, bytes_max: server.history_bytes }
}

fn policy(server: &Config, RoomTable { pattern, settings }: &RoomTable) -> RoomPolicy {
    let (log, has) = (own_log(server), |callback| settings.callbacks.contains(&callback));
    RoomPolicy {
        pattern: Some(pattern.to_string().into()),
        log: LogBounds {
            events_max: settings.history_events.unwrap_or(log.events_max),
            bytes_max: settings.history_bytes.unwrap_or(log.bytes_max),
        },
        age_max: settings.history_age.unwrap_or(server.history_age),
        store: settings.store,
        replay: settings.replay,
        conflate: settings.conflate,
        flush_interval: settings.flush_interval,
        slow: settings.slow,
        presence: presence(settings),
        publishers: settings.publish,
        publish_rate: settings.publish_rate,
        refuse_repeats: settings.refuse_repeats,
        events: settings.events.clone().into(),
        event_bytes_max: settings.max_event_bytes,
        listeners_max: settings.max_listeners.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        callbacks: RoomCallbacks {
            publish: has(RoomCallback::Publish),
            presence: has(RoomCallback::Presence),
        },
    }
}

fn presence(settings: &RoomSettings) -> Option<PresencePolicy> {
    let names = match settings.presence {
        RoomPresence::Off => return None,
        RoomPresence::Count => false,
        RoomPresence::Members => true,
    };
    Some(PresencePolicy {
        names,
        grace: settings.presence_grace,
        interval: settings.presence_interval,
        members_max: settings.presence_members_max,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hub::room_policy::{Publishers, Replay, Slow};
    use crate::types::name::EventName;
    use crate::types::rate::Rate;

    fn config(text: &str) -> Config {
        Config::from_toml("a.toml".as_ref(), text, 4096).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn an_empty_table_is_the_servers_own_policy() {
        let server = config(
            "history_events = 7\nhistory_bytes = \"9KiB\"\nhistory_age = \"2h\"\n[[room]]\nmatch = \"a%2Db*\"",
        );
        let policies = policies(&server, &server);
        let own = own_policy(&server);
        assert_eq!(own.log, LogBounds { events_max: 7, bytes_max: 9 << 10 });
        let policy = policies.of("a-bc").expect("it matches");
        assert_eq!(**policy, RoomPolicy { pattern: Some("a%2Db*".into()), ..own });
        assert_eq!(policies.of("a"), None);
    }

    #[test]
    fn every_key_of_a_table_arrives() {
        let server = config(
            "publish_callback = \"http://127.0.0.1:1/\"\npresence_callback = \"http://127.0.0.1:1/\"\n\
             api_keys_file = \"/keys.toml\"\n\
             [[room]]\nmatch = \"ticker-*\"\nhistory_events = 100\nhistory_bytes = \"8KiB\"\nhistory_age = \"1m\"\n\
             replay = 5\nconflate = \"200ms\"\nflush_interval = \"50ms\"\nslow = \"close\"\npresence = \"count\"\n\
             presence_grace = \"1s\"\npresence_interval = \"2s\"\npublish = \"keys\"\npublish_rate = \"50/s\"\n\
             refuse_repeats = \"30s\"\nevents = [\"chat\", \"typing\"]\nmax_event_bytes = \"4KiB\"\n\
             max_listeners = 5000\ncallbacks = [\"publish\", \"presence\"]",
        );
        let found = policies(&server, &server);
        let seconds = Duration::from_secs;
        let (_, policy) = &found.tables[0];
        let wanted = RoomPolicy {
            pattern: Some("ticker-*".into()),
            log: LogBounds { events_max: 100, bytes_max: 8 << 10 },
            age_max: seconds(60),
            store: true,
            replay: Replay::Newest(5),
            conflate: Some(Duration::from_millis(200)),
            flush_interval: Some(Duration::from_millis(50)),
            slow: Slow::Close,
            presence: Some(PresencePolicy {
                names: false,
                grace: seconds(1),
                interval: seconds(2),
                members_max: PresencePolicy::default().members_max,
            }),
            publishers: Publishers::Keys,
            publish_rate: Some(Rate { events: 50, per: seconds(1) }),
            refuse_repeats: Some(seconds(30)),
            events: ["chat", "typing"].map(|name| EventName::new(name).expect("a name")).into(),
            event_bytes_max: Some(4 << 10),
            listeners_max: Some(5000),
            callbacks: RoomCallbacks { publish: true, presence: true },
        };
        assert_eq!(**policy, wanted);
        let unkept = config("[[room]]\nmatch = \"a\"\nstore = false");
        assert!(!policies(&unkept, &unkept).tables[0].1.store);
    }

    #[test]
    fn presence_is_as_its_policy_says_by_default() {
        let server = config("[[room]]\nmatch = \"a\"\npresence = \"members\"");
        let policies = policies(&server, &server);
        assert_eq!(policies.tables[0].1.presence, Some(PresencePolicy::default()));
    }

    #[test]
    fn without_tables_everything_is_at_its_default() {
        assert_eq!(policies(&config(""), &config("")), RoomPolicies::default());
        let changed = config("rooms = \"listed\"\nevent_room = \"off\"");
        let found = policies(&config(""), &changed);
        assert_eq!((found.listed, found.says_room, found.tables.len()), (true, false, 0));
    }

    #[test]
    fn what_needs_a_restart_does_not_come_with_a_table() {
        let wanted = config("history_events = 5\nhistory_age = \"1m\"\n[[room]]\nmatch = \"a\"");
        let running = config("");
        let found = policies(&running, &wanted);
        let (_, policy) = &found.tables[0];
        assert_eq!((policy.log, policy.age_max), (own_log(&running), running.history_age));
    }
}
