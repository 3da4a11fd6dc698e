//! Promise: tables `[[room]]` are checked as settings are: what is wrong is told with its place and what would be right.
//! Those that can never match are told, and a reload takes all of them over.

use crate::common;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use common::TestServer;
use common::bearer::TempFile;
use common::process::Process;
use tidegate::config::{self, Config, KnownRooms, RoomPresence};
use tidegate::hub::room_policy::{EVENT_NAMES_MAX, Publishers, ROOM_POLICIES_MAX, Replay, Slow};

fn read(text: &str) -> Result<Config, String> {
    Config::from_toml(Path::new("a.toml"), text, 20_000).map_err(|errors| errors.to_string())
}

fn config(text: &str) -> Config {
    read(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn error(text: &str) -> String {
    read(text).expect_err("these settings are wrong")
}

/// What a table needs of the server for its other keys.
const SERVER: &str = "publish_callback = \"http://127.0.0.1:1/\"\npresence_callback = \"http://127.0.0.1:1/\"\n\
                      api_keys_file = \"/etc/tidegate/keys.toml\"\n";

/// A value of each key other than its default, and what else its table needs.
const SAMPLES: [(&str, &str, &str); 21] = [
    ("match", "\"lobby\"", ""),
    ("history_events", "0", ""),
    ("history_bytes", "\"4KiB\"", ""),
    ("history_age", "\"1s\"", ""),
    ("store", "false", ""),
    ("replay", "\"latest\"", ""),
    ("conflate", "\"200ms\"", ""),
    ("flush_interval", "0", ""),
    ("slow", "\"close\"", ""),
    ("presence", "\"count\"", ""),
    ("presence_grace", "0", "presence = \"count\""),
    ("presence_interval", "\"100ms\"", "presence = \"count\""),
    ("presence_members_max", "1000", "presence = \"members\""),
    ("publish", "\"keys\"", ""),
    ("publish_rate", "\"50/s\"", ""),
    ("refuse_repeats", "\"30s\"", ""),
    ("events", "[\"chat\", \"typing\"]", ""),
    ("max_event_bytes", "\"4KiB\"", ""),
    ("max_listeners", "5000", ""),
    ("callbacks", "[\"publish\"]", ""),
    ("match", "\"chat-*\"", ""),
];

#[test]
fn every_key_is_read_and_written_again() {
    let mut keys: Vec<_> = SAMPLES.iter().map(|(key, ..)| *key).collect();
    keys.dedup();
    let known: Vec<_> = config::room_reference().map(|row| row.key).collect();
    assert_eq!(keys[..known.len()], known);
    for (key, value, rest) in SAMPLES {
        let table = |lines: &str| {
            let pattern = if key == "match" { "" } else { "match = \"a\"\n" };
            config(&format!("{SERVER}[[room]]\n{pattern}{lines}"))
        };
        let changed = table(&format!("{key} = {value}\n{rest}"));
        if key != "match" {
            assert_ne!(changed, table(rest), "{key}");
        }
        let written = changed.to_toml();
        assert!(written.lines().any(|line| line == format!("{key} = {value}")), "{written}");
        assert_eq!(config(&written), changed, "{key}");
    }
}

#[test]
fn tables_keep_their_order_and_what_they_leave_out_is_at_its_default() {
    let config = config("[[room]]\nmatch = \"b\"\n[[room]]\nmatch = \"a*\"\nslow = \"latest\"\n");
    let patterns: Vec<String> = config.room_tables.iter().map(|table| table.pattern.to_string()).collect();
    assert_eq!(patterns, ["b", "a*"]);
    let settings = &config.room_tables[0].settings;
    assert_eq!(
        (settings.history_events, settings.flush_interval, settings.max_event_bytes),
        (None, None, None)
    );
    assert_eq!((settings.replay, settings.slow, settings.publish), (Replay::Off, Slow::Gap, Publishers::Any));
    assert_eq!((settings.presence, settings.store), (RoomPresence::Off, true));
    assert_eq!(config.room_tables[1].settings.slow, Slow::Latest);
    let inline = "room = [{match = \"b\"}, {match = \"a*\", slow = \"latest\"}]";
    assert_eq!(self::config(inline), config);
    let said = "history_events = \"server\"\nconflate = \"off\"\nstore = true";
    assert_eq!(
        self::config(&format!("[[room]]\nmatch = \"b\"\n{said}")).room_tables[..],
        config.room_tables[..1]
    );
}

#[test]
fn a_wrong_value_is_told_with_its_place_and_what_would_be_right() {
    let pattern = "a room such as lobby, or what its name begins with and a star, such as public-*";
    for (line, wanted) in [
        ("history_events = \"many\"", "server or an integer in 0..=1000000"),
        ("history_bytes = \"4KB\"", "server or a size from 4KiB to 1GiB, such as 1MiB"),
        ("history_age = \"off\"", "server or a duration from 1s to 30d, such as 1h"),
        ("store = \"maybe\"", "true or false"),
        ("replay = \"newest\"", "off, latest or an integer in 1..=1000000"),
        ("conflate = \"5ms\"", "off or a duration from 10ms to 1m, such as 200ms"),
        ("flush_interval = \"11s\"", "server or a duration from 0 to 10s, such as 50ms"),
        ("slow = \"drop\"", "gap, close or latest"),
        ("presence = \"on\"", "off, count or members"),
        ("presence_grace = \"11m\"", "a duration from 0 to 10m, such as 15s"),
        ("presence_interval = \"99ms\"", "a duration from 100ms to 1m, such as 1s"),
        ("presence_members_max = \"1001\"", "an integer in 1..=1000"),
        ("publish = \"admins\"", "any or keys"),
        ("publish_rate = \"50\"", "off or 1 to 1000000 events per s, min or h, such as 50/s"),
        ("refuse_repeats = \"2h\"", "off or a duration from 1s to 1h, such as 30s"),
        ("max_event_bytes = \"1\"", "server or a size from 1KiB to 16MiB, such as 4KiB"),
        ("max_listeners = \"-1\"", "off or an integer in 1..=4194304"),
        ("callbacks = \"auth\"", "0 to 2 different values, each publish or presence"),
        (
            "events = \"gap\"",
            "0 to 64 different values, each the name of an event such as chat, of 1 to 128 bytes, without commas, and \
             none of the server's own",
        ),
    ] {
        let (key, value) = line.split_once(" = ").expect("a value");
        let column = key.len() + 4;
        let found = error(&format!("[[room]]\nmatch = \"a\"\n{line}"));
        assert_eq!(found, format!("a.toml:3:{column}: {key}={value}: wanted {wanted}"));
    }
    for (text, told) in
        [("a*b", ""), ("", ""), ("%zz", ""), ("inbox-{user}", ": a room is the same for all users")]
    {
        let found = error(&format!("[[room]]\nmatch = {text:?}"));
        assert_eq!(found, format!("a.toml:2:9: match={text:?}: wanted {pattern}{told}"));
    }
    assert_eq!(
        error("gzip = \"on\"\n[[room]]\nslow = \"gap\""),
        format!("a.toml:2:1: match is missing: wanted {pattern}")
    );
}

/// A comma would make two names of one.
#[test]
fn a_name_with_a_comma_is_refused() {
    let found = error("[[room]]\nmatch = \"a\"\nevents = [\"a,b\"]");
    assert_eq!(found, "a.toml:3:10: events=\"[\\\"a,b\\\"]\": wanted values without commas");
    assert_eq!(config("[[room]]\nmatch = \"a,b\"").room_tables[0].pattern.to_string(), "a,b");
}

#[test]
fn what_is_no_table_or_no_key_of_one_is_told() {
    let tables = "wanted tables that each begin with [[room]]";
    for (text, told) in [
        ("room = 1", format!("a.toml:1:8: room=\"1\": {tables}")),
        ("room = [1]", format!("a.toml:1:9: room=\"1\": {tables}")),
        ("[room]\nmatch = \"a\"", format!("a.toml:1:1: room=\"[room]\": {tables}")),
        (
            "[[room]]\nmatch = \"a\"\nconflat = \"1s\"",
            "a.toml:3:1: unknown key \"conflat\": did you mean conflate?".to_owned(),
        ),
        (
            "[[room]]\nmatch = \"a\"\nlog_level = \"debug\"",
            "a.toml:3:1: unknown key \"log_level\": wanted it above the first [[room]], since it is a setting of the server"
                .to_owned(),
        ),
        ("conflate = \"1s\"", "a.toml:1:1: unknown key \"conflate\": wanted it below a [[room]]".to_owned()),
        (
            "[[rom]]\nmatch = \"a\"",
            "a.toml:1:3: unknown key \"rom\": wanted [[room]], the only tables there are".to_owned(),
        ),
    ] {
        assert_eq!(error(text), told);
    }
    let keys: Vec<_> = config::room_reference().map(|row| row.key).collect();
    let told = format!("unknown key \"priority\": wanted one of {}", keys.join(", "));
    assert!(error("[[room]]\nmatch = \"a\"\npriority = 1").ends_with(&told));
}

#[test]
fn no_two_tables_have_the_same_pattern() {
    let found = error("[[room]]\nmatch = \"a-b\"\n[[room]]\nmatch = \"a%2Db\"");
    let wanted = "a pattern that no other table has; the table at line 1 has it";
    assert_eq!(found, format!("a.toml:4:9: match=\"a%2Db\": wanted {wanted}"));
}

#[test]
fn there_are_as_many_tables_and_names_as_there_may_be() {
    let tables = |count: usize| {
        (0..count).fold(String::new(), |mut text, n| {
            writeln!(text, "[[room]]\nmatch = \"room-{n}\"").expect("a String takes everything");
            text
        })
    };
    assert_eq!(config(&tables(ROOM_POLICIES_MAX)).room_tables.len(), ROOM_POLICIES_MAX);
    let line = 2 * ROOM_POLICIES_MAX + 1;
    assert_eq!(
        error(&tables(ROOM_POLICIES_MAX + 1)),
        format!("a.toml:{line}:1: room=\"257 tables\": wanted at most 256 tables")
    );
    let events = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("e{n}")).collect();
        read(&format!("[[room]]\nmatch = \"a\"\nevents = {names:?}"))
    };
    assert!(events(EVENT_NAMES_MAX).is_ok() && events(EVENT_NAMES_MAX + 1).is_err());
}

#[test]
fn keys_that_do_not_go_together_are_refused() {
    for (server, table, told) in [
        (
            "",
            "presence_grace = \"15s\"",
            "presence_grace=\"15s\": wanted presence = \"count\" or \"members\" as well",
        ),
        (
            "",
            "presence_interval = \"1s\"",
            "presence_interval=\"1s\": wanted presence = \"count\" or \"members\" as well",
        ),
        (
            "",
            "presence = \"count\"\npresence_members_max = 5",
            "presence_members_max=\"5\": wanted presence = \"members\" as well",
        ),
        (
            "",
            "replay = \"latest\"\nstore = false",
            "replay=\"latest\": wanted off while store is false, since nothing is kept",
        ),
        (
            "",
            "replay = 5\nstore = false",
            "replay=\"5\": wanted off while store is false, since nothing is kept",
        ),
        (
            "",
            "replay = \"latest\"\nhistory_events = 0",
            "replay=\"latest\": wanted off while history_events is 0, since nothing is kept",
        ),
        ("history_events = 4", "replay = 5", "replay=\"5\": wanted at most history_events, which is 4"),
        ("", "history_events = 4\nreplay = 5", "replay=\"5\": wanted at most history_events, which is 4"),
        (
            "",
            "max_event_bytes = \"2MiB\"",
            "max_event_bytes=\"2MiB\": wanted at most max_body_bytes, which is 1MiB",
        ),
        (
            "history_total_bytes = \"2MiB\"",
            "history_bytes = \"3MiB\"",
            "history_bytes=\"3MiB\": wanted at most history_total_bytes, which is 2MiB",
        ),
        ("", "conflate = \"1m\"", "conflate=\"1m\": wanted at most max_unsent_age, which is 30s"),
        (
            "max_unsent_age = \"1s\"",
            "flush_interval = \"2s\"",
            "flush_interval=\"2s\": wanted at most max_unsent_age, which is 1s",
        ),
        (
            "",
            "publish = \"keys\"",
            "publish=\"keys\": wanted any, or api_keys_file as well, since there are no API keys",
        ),
        (
            "",
            "callbacks = [\"publish\"]",
            "callbacks=\"publish\": wanted no publish while publish_callback is off",
        ),
        (
            "",
            "presence = \"count\"\ncallbacks = [\"presence\"]",
            "callbacks=\"presence\": wanted no presence while presence_callback is off",
        ),
        (
            "presence_callback = \"http://127.0.0.1:1/\"",
            "callbacks = [\"presence\"]",
            "callbacks=\"presence\": wanted no presence, or presence = \"count\" or \"members\" as well",
        ),
    ] {
        let found = error(&format!("{server}\n[[room]]\nmatch = \"a\"\n{table}"));
        assert!(!found.contains('\n') && found.ends_with(&format!(": {told}")), "{found}");
    }
    let fits = "[[room]]\nmatch = \"a\"\nmax_event_bytes = \"1MiB\"\nreplay = 1000\nconflate = \"30s\"";
    assert!(read(fits).is_ok());
}

#[test]
fn everything_wrong_is_told_at_once() {
    let found = error("shards = \"é\"\n[[room]]\nslow = 1\n[[room]]\nmatch = \"b\"\nfoo = 1\nstore = 5");
    let found: Vec<_> = found.lines().map(|line| line.split(": wanted").next().expect("a part")).collect();
    assert_eq!(
        found,
        [
            "a.toml:6:1: unknown key \"foo\"",
            "a.toml:1:10: shards=\"é\"",
            "a.toml:2:1: match is missing",
            "a.toml:3:8: slow=\"1\"",
            "a.toml:7:9: store=\"5\"",
        ]
    );
}

/// Runs `--check-config` on a file with this text: whether it exits with 0, and its two outputs.
fn checked(text: &str) -> (bool, String, String) {
    let file = TempFile::new(text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output =
        command.env_clear().args(["--config", file.text(), "--check-config"]).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

const COVERED: &str = "[[room]]\nmatch = \"chat-*\"\n[[room]]\nmatch = \"chat-vip\"\nslow = \"close\"\n";

const NEVER: &str =
    "[[room]] number 2, match=\"chat-vip\", can never match: number 1, match=\"chat-*\", comes first";

#[test]
fn a_check_shows_the_tables_and_names_those_that_never_match() {
    let (is_right, summary, told) = checked(COVERED);
    assert!(is_right && told.starts_with(NEVER), "{told}");
    let (_, tables) = summary.split_once("\n[[room]]\n").expect("the tables");
    let lines: Vec<&str> = tables.lines().filter_map(|line| line.split("  # ").next()).collect();
    assert_eq!(lines, ["match = \"chat-*\"", "", "[[room]]", "match = \"chat-vip\"", "slow = \"close\""]);
    assert!(summary.contains(":2:9\n") && summary.contains(":5:8\n"), "{summary}");
    assert_eq!(config(&summary).room_tables, config(COVERED).room_tables);
    let (is_right, _, told) = checked("[[room]]\nmatch = \"chat-vip\"\n[[room]]\nmatch = \"chat-*\"\n");
    assert!(is_right && told.is_empty(), "{told}");
}

#[test]
fn a_start_and_a_reload_warn_of_tables_that_never_match() {
    let file = TempFile::new(COVERED);
    let process = Process::start(&["--config", file.text()], &[]);
    let count = || process.printed().matches(NEVER).count();
    assert_eq!(count(), 1);
    process.reload("the settings were read again");
    assert_eq!(count(), 2);
    file.write("");
    process.reload("the settings were read again");
    assert_eq!(count(), 2);
    let printed = process.end();
    assert!(!printed.contains("only a restart") && !printed.contains("need a restart"), "{printed}");
}

#[test]
fn rooms_that_exist_get_their_new_policies_by_a_reload() {
    let server = TestServer::with(|config| {
        config.room_tables = self::config("[[room]]\nmatch = \"a\"\nhistory_events = 5").room_tables;
    });
    let engine = server.server().engine();
    let rooms = engine.hub.rooms();
    let (a, b) = (rooms.get_or_create("a"), rooms.get_or_create("b"));
    let kept = || [&a, &b].map(|room| room.policy().log.events_max);
    let own = engine.config.history_events;
    assert_eq!(kept(), [5, own]);
    assert!(rooms.policies().says_room && rooms.policies().knows("c"));
    let settings = Config {
        room_tables: config("[[room]]\nmatch = \"b\"\nhistory_events = 7").room_tables,
        rooms: KnownRooms::Listed,
        event_room: false,
        ..engine.config.clone()
    };
    assert_eq!(server.server().reload(&settings).expect("good settings"), Vec::<&str>::new());
    assert_eq!(kept(), [own, 7]);
    let policies = rooms.policies();
    assert!(!policies.says_room && !policies.knows("c") && policies.knows("b"));
}
