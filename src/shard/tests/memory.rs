//! What memory does: reaping, resumes after it, and tables after a crowd.

use super::*;

#[test]
fn who_is_furthest_behind_goes_first_when_memory_is_short() {
    let mut world = World::new(100, usize::MAX);
    let ample = world.join(None, Start::Now, usize::MAX).0;
    // Each of these takes one event less than the one before it.
    let behind: Vec<ConnKey> = (0..8)
        .map(|nth| {
            let (key, socket) = world.join(None, Start::Now, usize::MAX);
            socket.borrow_mut().room = 1000 * (8 - nth);
            key
        })
        .collect();
    for _ in 0..10 {
        world.publish(room(), &"x".repeat(950), None);
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.stats.lagging.get(), 8);
    world.hub.set_memory_level(MemoryLevel::NoReplays);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.stats.lagging.get(), 8, "not on the first level");

    world.hub.set_memory_level(MemoryLevel::ReapLagging);
    // A quarter of them a second, rounded up: of 8, 6, 4, 3.
    for left in [6, 4, 3, 2] {
        world.pass(Duration::from_secs(1));
        let open = world.are_open(&behind);
        assert_eq!(
            open,
            (0..8).map(|nth| nth < left).collect::<Vec<_>>(),
            "the oldest unsent event goes first"
        );
    }
    world.hub.set_memory_level(MemoryLevel::NoReplays);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.stats.lagging.get(), 2, "no more once memory is back");
    assert_eq!(world.stats.closed[CloseReason::Memory as usize].get(), 6);
    assert_eq!(world.are_open(&[ample]), [true], "a stream that keeps up stays");
}

/// Streams that were cut off in the middle of events miss nothing.
#[test]
fn who_was_reaped_for_memory_resumes_exactly() {
    let mut world = World::new(100, usize::MAX);
    let (key, socket) = world.join(None, Start::Now, usize::MAX);
    socket.borrow_mut().room = 30;
    for data in ["one", "two", "three"] {
        world.publish(room(), data, None);
        world.pass(Duration::from_secs(1));
    }
    world.hub.set_memory_level(MemoryLevel::ReapLagging);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.are_open(&[key]), [false]);
    world.hub.set_memory_level(MemoryLevel::Normal);
    let whole =
        text(&socket).rfind("\n\n").map(|end| text(&socket)[..end].to_owned()).expect("`connected` at least");
    let seen = whole.rsplit("id: ").next().and_then(|rest| rest.lines().next()).expect("an id").to_owned();
    let (_, again) = world.join(None, Start::After(seen), usize::MAX);
    let both = format!("{whole}\n{}", text(&again));
    let data: Vec<&str> = both.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let events: Vec<&&str> = data.iter().filter(|data| !data.starts_with('{')).collect();
    assert_eq!(events, [&"one", &"two", &"three"]);
}

/// Names that come and go, 64 rooms a connection.
#[test]
fn a_flood_of_names_gives_its_memory_back() {
    const CONNECTIONS: usize = 3000;
    let mut world = World::new(10, usize::MAX);
    world.join(None, Start::Now, usize::MAX);
    let mut crowd = Vec::new();
    for n in 0..CONNECTIONS {
        let rooms: Vec<String> = (0..64).map(|m| format!("room {n} {m}")).collect();
        crowd.push(world.join_rooms(&rooms, None, Some(&format!("user {n}")), Start::Now, usize::MAX).0);
        world.publish(Target::Room(RoomName::new(&rooms[0]).unwrap()), "x", Some(&format!("other {n}")));
        world.hub.send_away(&format!("away {n}"), "r", Duration::from_secs(1), world.now).expect("a place");
    }
    // In all of them at once, so that every queue has had them all.
    for n in 0..CONNECTIONS {
        for m in 1..64 {
            let room = RoomName::new(&format!("room {n} {m}")).unwrap();
            world.publish(Target::Room(room), "x", None);
        }
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.shard.rooms(), 64 * CONNECTIONS + 1);
    assert!(world.hub.users().len() >= 2 * CONNECTIONS);
    // One that joined in the middle of all this stays.
    let stays = crowd.swap_remove(CONNECTIONS / 2);
    for key in crowd {
        world.shard.on_closed(key, CloseReason::Client, world.now);
    }
    assert_eq!(world.shard.rooms(), 65);
    // Past the history's age, and some rounds of housekeeping.
    world.now = world.now + Duration::from_hours(1);
    for _ in 0..40 {
        world.pass(Duration::from_secs(1));
        world.hub.tidy(world.now);
    }
    let hub = &world.hub;
    assert_eq!((hub.rooms().len(), hub.users().len(), hub.history()), (65, 1, (0, 0)));
    // 64 shares of at least four places each.
    assert!(hub.rooms().places() <= 512 && hub.users().places() <= 512, "{}", hub.rooms().places());
    assert!(hub.places().iter().all(|places| *places <= 64), "{:?}", hub.places());
    let [rooms, conns, queues, mail] = world.shard.places();
    // The kernel holds a connection's slot: the slots before the one that stays are kept.
    assert!(
        rooms <= 128 && conns <= CONNECTIONS && queues <= 128 && mail <= 1024,
        "{:?}",
        world.shard.places()
    );

    // The one that stays is still in its rooms, wherever they are kept now.
    let sent = world.stats.delivered.get();
    for m in 0..64 {
        let room = RoomName::new(&format!("room {} {m}", CONNECTIONS / 2)).unwrap();
        world.publish(Target::Room(room), "y", None);
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.stats.delivered.get() - sent, 64);
    world.shard.on_closed(stays, CloseReason::Client, world.now);
    assert_eq!(world.shard.rooms(), 1);
    world.pass(Duration::from_secs(11));
    assert!(world.shard.places()[1] <= 64, "{:?}", world.shard.places());
}

/// An event that has not been flushed yet is kept beyond the bounds for a while. A user that does not read must not
/// make that last.
#[test]
fn an_inbox_remembers_no_more_for_a_listener_that_is_slow() {
    let mut world = World::new(2, usize::MAX);
    let (_, quick) = world.join(Some("u"), Start::Now, usize::MAX);
    let (_, slow) = world.join(Some("u"), Start::Now, 1);
    let inbox = world.hub.users().get("u").expect("it has subscribers");
    for n in 0..10 {
        world.publish(Target::User(UserName::new("u").unwrap()), &n.to_string(), None);
        world.step();
    }
    assert_eq!((words(&quick), words(&slow)), (numbers(0..10), vec![]));
    let kept = inbox.log().get().map_or(0, |log| log.range(0, u64::MAX).count());
    assert!(kept <= 3, "{kept}");
}
