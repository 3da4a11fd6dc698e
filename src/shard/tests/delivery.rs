//! What is delivered, in which order, and in which portions.

use super::*;

/// An hour-old event in a newcomer's history was counted as a delivery that had taken an hour.
#[test]
fn the_age_of_history_is_no_latency() {
    let mut world = World::new(10, usize::MAX);
    world.publish(room(), "old", None);
    world.now = world.now + Duration::from_mins(10);
    let (_, all_at_once) = world.join(None, Start::History(10), usize::MAX);
    let (key, in_parts) = world.join(None, Start::History(10), 1);
    in_parts.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    world.publish(room(), "new", None);
    world.step();
    world.shard.settle(world.now);
    for socket in [all_at_once, in_parts] {
        let text = text(&socket);
        assert!(text.contains("data: old\n") && text.contains("data: new\n"), "{text}");
    }
    assert_eq!(world.stats.delivered.get(), 4);
    let (buckets, above, sum) = world.stats.delivery.read();
    assert_eq!(buckets.map(|(_, count)| count).sum::<u64>() + above, 2, "those published after the join");
    assert!(sum < 1_000_000, "{sum}");
}

#[test]
fn a_replay_is_what_begins_with_events_there_are() {
    let mut world = World::new(100, usize::MAX);
    world.join(Some("u"), Start::Now, usize::MAX);
    let hub = world.hub.clone();
    let position = |offset| Start::After(Epoch::new(1).position(offset).to_string());
    let own = |id: &str| Start::After(id.to_owned());
    let is_replay = |start: &Start| {
        let sources = [hub.rooms().get_or_create("r"), hub.users().get_or_create("u"), hub.all().clone()];
        start.is_replay(&hub, &sources)
    };
    for start in [Start::Now, Start::History(5), position(0), own("order-17")] {
        assert!(!is_replay(&start), "{start:?}: there is nothing");
    }
    world.publish_as("order-17", Target::User(UserName::new("u").unwrap()), None).unwrap();
    assert!(is_replay(&Start::History(5)), "an inbox is in it");
    assert!(is_replay(&position(0)));
    assert!(!is_replay(&own("order-17")), "nothing comes after it");
    world.publish_as("order-18", room(), None).unwrap();
    for (start, expected) in [
        (Start::Now, false),
        (Start::History(0), false),
        (Start::History(1), true),
        (position(0), true),
        (position(1), true),
        (position(2), false),
        (own("order-17"), true),
        (own("order-18"), false),
        (own("order-19"), false),
    ] {
        assert_eq!(is_replay(&start), expected, "{start:?}");
    }
}

#[test]
fn what_does_not_fit_one_write_goes_on_in_order() {
    let mut world = World::new(100, usize::MAX);
    for n in 0..60 {
        let target = if n % 3 == 0 { Target::User(UserName::new("u").unwrap()) } else { room() };
        world.publish(target, &format!("{n} {}", "x".repeat(10_000)), None);
    }
    let (_, socket) = world.join(Some("u"), Start::After(Epoch::new(1).position(0).to_string()), usize::MAX);
    let first = words(&socket);
    assert!(first.len() < 60, "a write has a bound");
    assert_eq!(first, numbers(0..first.len()));
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(words(&socket), numbers(0..60));
}

/// Every room of a connection added a whole batch, of which hardly the beginning was written: fifty megabytes in 64
/// rooms cost fifty times what they cost in one.
#[test]
fn one_write_is_bounded_however_many_rooms_it_is_from() {
    let mut world = World::new(100, usize::MAX);
    let rooms: Vec<String> = (0..8).map(|n| format!("r{n}")).collect();
    for n in 0..64 {
        let target = Target::Room(RoomName::new(&rooms[n % 8]).unwrap());
        world.publish(target, &format!("{n} {}", "x".repeat(BATCH_BYTES_MAX / 8)), None);
    }
    let after = Start::After(Epoch::new(1).position(0).to_string());
    let (_, socket) = world.join_rooms(&rooms, None, None, after, usize::MAX);
    let first = words(&socket).len();
    assert!((1..=8).contains(&first), "{first} events in one write");
    for _ in 0..20 {
        world.step();
    }
    assert_eq!(words(&socket), numbers(0..64), "all, and in order");
}

/// A stream of an inbox alone is in no room: it gets the events of its user and the broadcasts, live and on a resume,
/// and a room continues without it when it leaves.
#[test]
fn an_inbox_needs_no_room() {
    let mut world = World::new(10, usize::MAX);
    let inbox = || Target::User(UserName::new("u").unwrap());
    let (key, socket) = world.join_rooms(&[], None, Some("u"), Start::Now, usize::MAX);
    assert!(text(&socket).contains(r#""user":"u","rooms":[]"#), "{}", text(&socket));
    for (target, data) in [(inbox(), "mine"), (room(), "elsewhere"), (Target::All, "everyone's")] {
        world.publish(target, data, None);
        world.step();
    }
    let start = Start::After(world.hub.epoch().position(0).to_string());
    let (_, resumed) = world.join_rooms(&[], None, Some("u"), start, usize::MAX);
    for socket in [&socket, &resumed] {
        let lines = text(socket);
        let data: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("data: ")).skip(1).collect();
        assert_eq!(data, ["mine", "everyone's"]);
    }
    world.shard.on_closed(key, CloseReason::Client, world.now);
    assert_eq!((world.shard.conns().len(), world.shard.rooms()), (1, 0));
}

/// `history=3` counted events of rooms alone, even those that this subscriber may not have.
#[test]
fn history_is_the_newest_of_all_that_a_listener_may_have() {
    let mut world = World::new(10, usize::MAX);
    let inbox = |user| Target::User(UserName::new(user).unwrap());
    world.publish(room(), "too old", None);
    world.publish(inbox("u"), "for the user", None);
    world.publish(inbox("v"), "for another user", None);
    world.publish(Target::All, "for everyone", None);
    world.publish(room(), "for the room", None);
    world.publish(room(), "by the user", Some("u"));
    world.publish_as("secret", room(), Some("vip")).unwrap();
    let (_, socket) = world.join(Some("u"), Start::History(3), usize::MAX);
    let lines = text(&socket);
    let data: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("data: ")).skip(1).collect();
    assert_eq!(data, ["for the user", "for everyone", "for the room"]);
}
