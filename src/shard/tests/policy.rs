//! What a room's policy changes: conflation, slow readers, what a newcomer begins with, and polls.

use super::*;
use crate::hub::log::entry::Entry;
use crate::hub::room_policy::{Replay, RoomPolicies, RoomPolicy, Slow};
use crate::rights::pattern::Pattern;
use crate::shard::poll::TIMERS_KEPT;
use crate::shard::reason::SkipReason;
use crate::types::name::EventKey;
use crate::types::position::Offset;

/// A world in which room `r` has this policy.
fn world(events_max: usize, change: impl FnOnce(&mut RoomPolicy)) -> World {
    let mut world = World::new(events_max, usize::MAX);
    set_policy(&mut world, events_max, change);
    world
}

fn set_policy(world: &mut World, events_max: usize, change: impl FnOnce(&mut RoomPolicy)) {
    let log = LogBounds { events_max, bytes_max: usize::MAX };
    let mut policy = RoomPolicy::of_server(log, Duration::from_hours(1));
    change(&mut policy);
    let tables = vec![(Pattern::exactly("r"), Arc::new(policy))];
    world.hub.set_policies(RoomPolicies { tables, ..RoomPolicies::default() }, world.now);
    assert!(world.hub.mailbox(0).send(Command::Policies).is_ok());
}

impl World {
    fn publish_key(&self, key: &str, data: &str) {
        let key = EventKey::new(key).ok();
        let draft = Draft { key, ..Draft::to(room(), data) };
        MemoryOrder::new(self.hub.clone()).publish([draft], self.now).expect("no id");
    }

    fn publish_unstored(&self, data: &str) {
        let draft = Draft { store: false, ..Draft::to(room(), data) };
        MemoryOrder::new(self.hub.clone()).publish([draft], self.now).expect("no id");
    }

    fn poll(&mut self, start: Start, time: Duration, room: usize) -> (ConnKey, Socket) {
        let join = self.arrival(&["r".to_owned()], self.admit(None), room);
        let encoding = Encoding { chunked: true, gzip: false };
        self.enter(Join { encoding, start, poll: Some(time), ..join })
    }

    fn skipped(&self, reason: SkipReason) -> u64 {
        self.stats.skipped[reason as usize].get()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.stats.dropped[reason as usize].get()
    }
}

#[test]
fn a_room_that_conflates_sends_the_newest_of_each_key_and_no_faster_than_it_may() {
    let mut world = world(100, |policy| policy.conflate = Some(Duration::from_millis(200)));
    let (_, first) = world.join(None, Start::Now, usize::MAX);
    let (_, second) = world.join(None, Start::Now, usize::MAX);
    world.publish_key("a", "a1");
    world.step();
    assert_eq!(words(&first), ["a1"], "a quiet room does not wait");
    for (key, data) in [("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2"), ("c", "c1"), ("a", "a4")] {
        world.publish_key(key, data);
        world.step();
    }
    assert_eq!(words(&first), ["a1"], "120 ms later");
    world.pass(Duration::from_millis(100));
    for socket in [&first, &second] {
        assert_eq!(words(socket), ["a1", "b2", "c1", "a4"]);
    }
    assert_eq!(world.skipped(SkipReason::Conflated), 6);
    assert_eq!(world.dropped(DropReason::Slow), 0);
}

#[test]
fn a_slow_reader_of_a_room_that_conflates_gets_the_newest_and_no_gap() {
    let mut world = world(2, |policy| policy.conflate = Some(Duration::from_millis(10)));
    let (key, socket) = world.join(None, Start::Now, 100);
    let (_, fast) = world.join(None, Start::Now, usize::MAX);
    for n in 0..50 {
        world.publish_key(if n % 2 == 0 { "a" } else { "b" }, &n.to_string());
        world.step();
    }
    assert_eq!(words(&fast), numbers(0..50));
    socket.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    let words = words(&socket);
    assert_eq!(words[words.len() - 2..], ["48", "49"], "{words:?}");
    assert!(words.len() < 5 && !text(&socket).contains("gap"), "{}", text(&socket));
    assert_eq!(words.len() as u64 + world.skipped(SkipReason::Conflated), 50);
}

/// The newest event was above the head that the flush knew, and hid the older one from it. The next batch seemed to
/// follow an event that the streams lacked, so each was advanced by itself.
#[test]
fn a_hidden_event_does_not_take_streams_off_the_shared_path() {
    let mut log = crate::hub::log::Log::default();
    let entry = |offset, key: &str| {
        let frame = crate::wire::frame::Unsealed::new(None, "x", 20).seal(b"1");
        let plain = crate::hub::log::entry::Entry::plain(offset, frame, Moment(0));
        crate::hub::log::entry::Entry { key: EventKey::new(key).ok(), ..plain }
    };
    let bounds = LogBounds { events_max: 10, bytes_max: usize::MAX };
    let rules = crate::hub::log::rules::LogRules { bounds, conflates: true, keeps_newest: false };
    for (offset, key) in [(1, "a"), (2, "b"), (3, "b"), (4, "c")] {
        log.append(entry(offset, key), None, rules, 0);
    }
    assert_eq!((log.before(4), log.before(3)), (3, 1));
}

#[test]
fn a_slow_reader_is_told_closed_or_given_the_newest_as_the_policy_says() {
    let run = |slow| {
        let mut world = world(3, |policy| policy.slow = slow);
        let (key, socket) = world.join(None, Start::Now, 100);
        world.join(None, Start::Now, usize::MAX);
        for n in 0..20 {
            world.publish_key(["a", "b"][n % 2], &n.to_string());
            world.step();
        }
        socket.borrow_mut().room = usize::MAX;
        world.shard.on_writable(key, world.now);
        let is_open = world.shard.conns().find(key).is_some();
        let counts = [world.dropped(DropReason::Slow), world.skipped(SkipReason::Latest)];
        (words(&socket), text(&socket).contains("event: gap"), is_open, counts)
    };
    let (words, gap, is_open, [slow, latest]) = run(Slow::Gap);
    assert_eq!(
        (words[words.len() - 3..].join(" "), gap, is_open, latest),
        ("17 18 19".into(), true, true, 0)
    );
    assert_eq!(words.len() as u64 + slow, 20);
    let (words, gap, is_open, [slow, latest]) = run(Slow::Close);
    assert!(!gap && !is_open && latest == 0 && words.len() as u64 + slow <= 20, "{words:?} {slow}");
    let (words, gap, is_open, [slow, latest]) = run(Slow::Latest);
    assert_eq!((words[words.len() - 2..].join(" "), gap, is_open, slow), ("18 19".into(), false, true, 0));
    assert_eq!(words.len() as u64 + latest, 20);
}

/// A key whose newest event was driven out must not be lost without a word.
#[test]
fn the_newest_of_a_quiet_key_reaches_a_slow_reader_that_gets_the_latest() {
    let mut world = world(3, |policy| policy.slow = Slow::Latest);
    let (key, socket) = world.join(None, Start::Now, 30);
    world.join(None, Start::Now, usize::MAX);
    world.publish_key("busy", "first");
    world.step();
    world.publish_key("quiet", "quiet");
    for n in 0..20 {
        world.publish_key("busy", &n.to_string());
        world.step();
    }
    socket.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    assert_eq!((words(&socket).join(" ").as_str(), text(&socket).contains("gap")), ("quiet 19", false));
    let (key, socket) = world.join(None, Start::Now, 30);
    for n in 0..20 {
        world.publish_key(&format!("key {n}"), &n.to_string());
        world.step();
    }
    socket.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    assert!(text(&socket).contains(r#""reason":"slow""#), "more keys than are kept: {}", text(&socket));
}

#[test]
fn a_stream_that_cannot_keep_up_is_closed_with_its_reason() {
    let mut world = world(2, |policy| policy.slow = Slow::Close);
    let (key, socket) = world.join(None, Start::Now, 100);
    for n in 0..20 {
        world.publish(room(), &n.to_string(), None);
        world.step();
    }
    socket.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    assert!(text(&socket).ends_with("event: closing\ndata: {\"reason\":\"slow\"}\n\n"), "{}", text(&socket));
    assert_eq!(world.stats.closed[CloseReason::Slow as usize].get(), 1);
    let position = Epoch::new(1).position(1).to_string();
    let (_, back) = world.join(None, Start::After(position), usize::MAX);
    assert!(text(&back).contains(r#""reason":"evicted""#), "what it lost is told when it comes back");
}

#[test]
fn what_is_not_stored_reaches_those_who_are_there_and_no_one_later() {
    let mut world = world(100, |_| {});
    let (_, there) = world.join(None, Start::Now, usize::MAX);
    let (slow_key, slow) = world.join(None, Start::Now, 110);
    for n in 0..10 {
        world.publish(room(), &n.to_string(), None);
        world.publish_unstored(&format!("typing{n}"));
        world.step();
    }
    world.now = world.now + Duration::from_secs(1);
    let position = |offset| Start::After(Epoch::new(1).position(offset).to_string());
    for start in [position(0), Start::History(100)] {
        let (_, back) = world.join(None, start, usize::MAX);
        assert_eq!(words(&back), numbers(0..10));
        assert!(!text(&back).contains("gap"));
    }
    assert_eq!(words(&there).len(), 20);
    slow.borrow_mut().room = usize::MAX;
    world.shard.on_writable(slow_key, world.now);
    let words: Vec<String> = words(&slow);
    let stored: Vec<_> = words.iter().filter(|word| !word.starts_with('t')).cloned().collect();
    assert_eq!(stored, numbers(0..10), "{words:?}");
    assert_eq!(words.len() as u64 + world.skipped(SkipReason::Unstored), 20);
    assert!(!text(&slow).contains("gap"));
}

#[test]
fn a_room_that_stores_nothing_has_no_history_and_no_gap() {
    let mut world = world(100, |policy| policy.store = false);
    let (_, there) = world.join(None, Start::Now, usize::MAX);
    for n in 0..10 {
        world.publish(room(), &n.to_string(), None);
        world.step();
    }
    world.now = world.now + Duration::from_secs(1);
    let (_, back) = world.join(None, Start::After(Epoch::new(1).position(3).to_string()), usize::MAX);
    assert_eq!((words(&there), words(&back)), (numbers(0..10), vec![]));
    assert!(!text(&back).contains("gap"));
    world.hub.tidy(world.now);
    world.hub.tidy(world.now + Duration::from_secs(2));
    assert_eq!(world.hub.history(), (0, 0));
}

#[test]
fn a_newcomer_begins_with_what_the_policy_says() {
    for (replay, start, wanted) in [
        (Replay::Off, Start::ByPolicy, ""),
        (Replay::Latest, Start::ByPolicy, "quiet b2 a3"),
        (Replay::Newest(2), Start::ByPolicy, "plain a3"),
        (Replay::Newest(100), Start::ByPolicy, "a2 b2 plain a3"),
        (Replay::Latest, Start::History(1), "a3"),
        (Replay::Latest, Start::Now, ""),
    ] {
        let mut world = world(4, |policy| policy.replay = replay);
        world.publish_key("quiet", "quiet");
        for (key, data) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")] {
            world.publish_key(key, data);
        }
        world.publish(room(), "plain", None);
        world.publish_key("a", "a3");
        let (_, socket) = world.join(None, start.clone(), usize::MAX);
        assert_eq!(words(&socket).join(" "), wanted, "{replay:?} {start:?}");
        world.publish(room(), "next", None);
        world.step();
        assert_eq!(words(&socket).last().map(String::as_str), Some("next"));
        assert!(!text(&socket).contains("gap"));
    }
}

/// The newest event of a quiet room was old. A resume from its id brought what the join had left out, or a gap.
#[test]
fn a_newcomer_with_a_replay_resumes_from_where_it_joined() {
    let mut world = world(2, |policy| policy.replay = Replay::Latest);
    world.publish_key("a", "a1");
    for n in 0..10 {
        world.publish(Target::Room(RoomName::new("busy").unwrap()), &n.to_string(), None);
    }
    world.publish(Target::User(UserName::new("me").unwrap()), "notice", None);
    let rooms = ["r".to_owned(), "busy".to_owned()];
    let (_, first) = world.join_rooms(&rooms, None, Some("me"), Start::ByPolicy, usize::MAX);
    assert_eq!(words(&first), ["a1"], "the inbox is no room");
    let id = text(&first).lines().rev().find_map(|line| line.strip_prefix("id: ").map(ToOwned::to_owned));
    let (_, back) = world.join_rooms(&rooms, None, Some("me"), Start::After(id.expect("an id")), usize::MAX);
    assert!(words(&back).is_empty() && !text(&back).contains("gap"), "{}", text(&back));
}

/// All of it is held for a socket that takes nothing, so it has the bound of a batch. What does not fit is told.
#[test]
fn a_replay_is_bounded_and_says_what_did_not_fit() {
    for replay in [Replay::Latest, Replay::Newest(100)] {
        let mut world = world(100, |policy| policy.replay = replay);
        for n in 0..10 {
            world.publish_key(&n.to_string(), &format!("{n} {}", "x".repeat(60_000)));
        }
        let (_, socket) = world.join(None, Start::ByPolicy, usize::MAX);
        assert_eq!(words(&socket), numbers(6..10), "the newest");
        assert!(text(&socket).contains(r#"{"events":4,"left_out":6}"#));
        assert!(text(&socket).len() < BATCH_BYTES_MAX + 1000);
    }
}

/// The socket took a part of the first write. Logs do not have what is below the cursor.
#[test]
fn a_replay_arrives_whole_however_little_the_socket_takes() {
    for room_bytes in 0..400 {
        let mut world = world(2, |policy| policy.replay = Replay::Latest);
        for n in 0..10 {
            world.publish_key(&(n % 3).to_string(), &n.to_string());
        }
        let (key, socket) = world.join(None, Start::ByPolicy, room_bytes);
        for _ in 0..5 {
            socket.borrow_mut().room = 100;
            world.shard.on_writable(key, world.now);
        }
        socket.borrow_mut().room = usize::MAX;
        world.shard.on_writable(key, world.now);
        assert_eq!(words(&socket), ["7", "8", "9"], "{room_bytes}");
        let id = Epoch::new(1).position(10);
        let end = format!("event: replayed\nid: {id}\ndata: {{\"events\":3}}\n\n");
        assert!(text(&socket).ends_with(&end), "{}", text(&socket));
        let before_first = text(&socket).split("data: 7").next().unwrap_or_default().to_owned();
        assert_eq!(before_first.matches("\nid: ").count(), 1, "connected has no id: {before_first}");
    }
}

/// The newest events of all keys of all rooms were copied and put in order first, and then most of them dropped.
#[test]
fn no_more_of_a_replay_is_held_than_is_given() {
    use crate::shard::replay::Newest;
    let world = world(usize::MAX, |policy| policy.replay = Replay::Latest);
    for n in 0..500 {
        // Large ones between small ones: what is older than one that does not fit is left out, however small.
        world.publish_key(&n.to_string(), &"x".repeat(if n % 7 == 0 { 900 } else { 9 }));
    }
    let source = world.hub.rooms().get("r").expect("a room");
    let log = source.log();
    let entries: Vec<&Entry> = log.get().expect("events").newest_of_keys(Offset::MAX).collect();
    assert_eq!(entries.len(), 500);
    for bytes_max in [0, 100, 1_000, 10_000, usize::MAX] {
        let mut bytes = 0;
        let fits = |entry: &&&Entry| {
            bytes += entry.frame.len();
            bytes <= bytes_max
        };
        let mut wanted: Vec<Offset> =
            entries.iter().rev().take_while(fits).map(|entry| entry.offset).collect();
        wanted.reverse();
        let mut orders = [entries.clone(), entries.clone(), entries.clone()];
        orders[1].reverse();
        orders[2].sort_by_key(|entry| entry.offset % 11);
        for order in orders {
            let mut newest = Newest::new(bytes_max);
            for entry in order {
                newest.offer(entry);
                assert!(newest.held().1 <= bytes_max);
            }
            let (items, left_out) = newest.into_items();
            let offsets: Vec<Offset> = items.iter().map(|item| item.offset).collect();
            assert_eq!((&offsets, left_out), (&wanted, 500 - wanted.len()), "{bytes_max}");
        }
    }
}

const POLL: Duration = Duration::from_secs(25);

/// The time of each waited for up to a minute: a million of them, of clients that poll again at once.
#[test]
fn polls_that_have_ended_leave_little_behind() {
    let mut world = World::new(100, usize::MAX);
    world.publish(room(), "one", None);
    let (waiting, _) = world.poll(Start::Now, POLL, usize::MAX);
    for _ in 0..20 * TIMERS_KEPT {
        let (key, _) = world.poll(Start::History(1), POLL, usize::MAX);
        assert_eq!(world.are_open(&[key]), [false]);
        assert!(world.shard.due.len() <= TIMERS_KEPT + 1, "{}", world.shard.due.len());
    }
    assert_eq!(world.are_open(&[waiting]), [true]);
    world.pass(POLL);
    assert_eq!((world.are_open(&[waiting]), world.shard.due.len()), (vec![false], 0));
    assert_eq!(world.shard.polls.timers, 0);
}

#[test]
fn a_poll_ends_with_the_flush_that_answers_it() {
    let mut world = World::new(100, usize::MAX);
    let (key, socket) = world.poll(Start::Now, POLL, usize::MAX);
    world.step();
    assert!(world.shard.conns().find(key).is_some());
    world.publish(room(), "one", None);
    world.publish(room(), "two", None);
    world.step();
    assert_eq!((words(&socket).join(" ").as_str(), world.are_open(&[key])), ("one two", vec![false]));
    assert!(text(&socket).ends_with("\r\n0\r\n\r\n") && !text(&socket).contains("closing"));
    assert_eq!(world.stats.closed[CloseReason::Poll as usize].get(), 1);
    let (key, socket) = world.poll(Start::History(1), POLL, usize::MAX);
    assert_eq!((words(&socket).join(" ").as_str(), world.are_open(&[key])), ("two", vec![false]), "at once");
}

#[test]
fn a_poll_ends_with_its_time_or_with_a_gap() {
    let mut world = World::new(100, usize::MAX);
    let (key, socket) = world.poll(Start::Now, POLL, usize::MAX);
    world.pass(POLL.saturating_sub(Duration::from_millis(200)));
    assert_eq!(world.are_open(&[key]), [true]);
    world.pass(Duration::from_millis(300));
    assert_eq!(world.are_open(&[key]), [false]);
    assert!(text(&socket).ends_with("\r\n0\r\n\r\n") && !text(&socket).contains("closing"));
    let (key, socket) = world.poll(Start::After("unknown".into()), POLL, usize::MAX);
    assert!(world.are_open(&[key]) == [false] && text(&socket).contains("event: gap"));
}

#[test]
fn a_poll_whose_socket_is_full_gets_its_answer_first() {
    for room_bytes in 1..260 {
        let mut world = World::new(100, usize::MAX);
        world.publish(room(), "one", None);
        world.publish(room(), "two", None);
        let (key, socket) = world.poll(Start::History(2), POLL, room_bytes);
        while world.are_open(&[key]) == [true] {
            socket.borrow_mut().room = 50;
            world.shard.on_writable(key, world.now);
        }
        assert_eq!(words(&socket), ["one", "two"], "{room_bytes}");
        assert!(text(&socket).ends_with("\r\n0\r\n\r\n"), "{}", text(&socket));
    }
}

#[test]
fn a_reload_changes_a_policy_under_way() {
    let mut world = world(100, |_| {});
    let (_, socket) = world.join(None, Start::Now, usize::MAX);
    let burst = |world: &mut World| {
        for n in 0..3 {
            world.publish_key("a", &n.to_string());
        }
        world.pass(Duration::from_millis(300));
    };
    burst(&mut world);
    assert_eq!(words(&socket), ["0", "1", "2"]);
    set_policy(&mut world, 100, |policy| policy.conflate = Some(Duration::from_millis(10)));
    burst(&mut world);
    assert_eq!(words(&socket), ["0", "1", "2", "2"]);
    set_policy(&mut world, 100, |_| {});
    burst(&mut world);
    assert_eq!(words(&socket), ["0", "1", "2", "2", "0", "1", "2"]);
}
