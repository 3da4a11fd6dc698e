//! How streams end: drains, closing events, and full sockets.

use super::*;

/// Every error of a socket that had been full was counted as the client's departure, and then as an error. But the
/// kernel also gives up a peer that reads single bytes, because its window stays shut.
#[test]
fn a_socket_that_times_out_was_stalled_if_it_was_full() {
    use io::ErrorKind::{ConnectionReset, TimedOut};
    for (room, kind, wanted) in [
        (1, TimedOut, CloseReason::Stalled),
        (1, ConnectionReset, CloseReason::Error),
        (usize::MAX, TimedOut, CloseReason::Error),
    ] {
        let mut world = World::new(10, usize::MAX);
        let (key, _socket) = world.join(None, Start::Now, room);
        world.shard.on_failed(key, kind, world.now);
        assert_eq!(world.stats.closed[wanted as usize].get(), 1, "{room} {kind:?}");
    }
    let mut world = World::new(10, usize::MAX);
    let (key, socket) = world.join(None, Start::Now, 1);
    socket.borrow_mut().fails = true;
    world.shard.on_writable(key, world.now);
    assert_eq!(world.stats.closed[CloseReason::Stalled as usize].get(), 1);
}

/// A stream that was handed over from hyper to the shard when the drain began was cut off at the drain's end without a
/// closing event. Later it got one, but only at the end: with such streams, two shards were never empty at the same
/// time.
#[test]
fn who_joins_during_a_drain_gets_a_farewell_at_once() {
    let mut world = World::new(10, usize::MAX);
    let (_, first) = world.join(None, Start::Now, usize::MAX);
    let (_, second) = world.join(None, Start::Now, usize::MAX);
    let permit = world.admit(None);
    world.hub.drain();
    world.step();
    assert!(text(&first).contains("event: closing"), "it has no reason to wait");
    let join = world.arrival(&["r".to_owned()], permit, usize::MAX);
    let encoding = Encoding { chunked: true, gzip: false };
    let (_, socket) = world.enter(Join { encoding, heartbeat: Heartbeat::Id, ..join });
    assert!(text(&socket).contains("event: connected"), "{}", text(&socket));
    assert!(text(&socket).contains("event: closing"), "{}", text(&socket));
    assert!(text(&socket).ends_with("0\r\n\r\n"));
    assert!(!text(&second).contains("event: closing"), "the others' closes are spread as before");
    world.now = world.now + DRAIN;
    assert_eq!(world.step(), Step::Drained);
    assert!(text(&second).contains("event: closing"));
}

/// A drain that a full mailbox did not take never began, and its streams were cut off at the end without a closing
/// event.
#[test]
fn a_full_mailbox_does_not_keep_a_drain_from_beginning() {
    let mut world = World::new(10, usize::MAX);
    let (_, socket) = world.join(None, Start::Now, usize::MAX);
    let room = world.hub.rooms().get_or_create("r");
    let fill =
        || world.hub.mailbox(0).send(Command::Members { room: room.clone(), reply: oneshot::channel().0 });
    while fill().is_ok() {}
    world.hub.drain();
    while world.step() != Step::Drained {
        world.now = world.now + Duration::from_millis(100);
        assert!(world.now < Moment(0) + DRAIN, "it has begun");
    }
    assert!(text(&socket).contains("event: closing"), "{}", text(&socket));
}

/// A subscriber that resumed with events older than `max_unsent_age`, and whose socket did not take all of them at
/// once, was closed as stalled within a second.
#[test]
fn who_comes_back_to_old_events_has_time_to_take_them() {
    let mut world = World::new(10, usize::MAX);
    world.publish(room(), &"a".repeat(100), None);
    world.publish(room(), &"b".repeat(100), None);
    world.now = world.now + Duration::from_mins(5);
    let start = || Start::After(Epoch::new(1).position(0).to_string());
    // Enough for `connected` and the first event.
    let (key, socket) = world.join(None, start(), 300);
    assert!(text(&socket).contains("data: aaa"), "{}", text(&socket));
    for _ in 0..100 {
        world.step();
    }
    assert_eq!(world.stats.connections.get(), 1);
    assert!(world.stats.oldest_unsent.get() < 3_000_000, "{}", world.stats.oldest_unsent.get());
    socket.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    assert!(text(&socket).contains("data: bbb"), "{}", text(&socket));
    // A subscriber that takes nothing at all is closed even so.
    let (_, stuck) = world.join(None, start(), 1);
    world.now = world.now + Duration::from_secs(31);
    world.step();
    assert_eq!(text(&stuck).len(), 1);
    assert_eq!(world.stats.closed[CloseReason::Stalled as usize].get(), 1);
}

/// The command to disconnect found no stream, because hyper had not yet handed it over to the shard; and no later check
/// followed.
#[test]
fn who_is_told_to_stay_away_on_its_way_in_gets_a_farewell_at_once() {
    let mut world = World::new(10, usize::MAX);
    world.hub.send_away("u", "b", Duration::from_secs(1), world.now).expect("a place");
    let rooms = ["a", "b"].map(str::to_owned);
    let mut join = |user| world.join_rooms(&rooms, None, user, Start::Now, usize::MAX).1;
    let [away, other, nameless] = [Some("u"), Some("v"), None].map(&mut join);
    assert!(text(&away).contains("event: connected"), "{}", text(&away));
    assert!(text(&away).contains("\"reason\":\"disconnected\""), "{}", text(&away));
    assert_eq!(world.stats.closed[CloseReason::Disconnected as usize].get(), 1);
    assert!([other, nameless].iter().all(|socket| !text(socket).contains("event: closing")));
}

/// A subscriber that resumed with an event larger than its socket took it in parts for longer than an unsent event may
/// wait, and was cut off in the middle of it, again at each return: only whole events counted as reading.
#[test]
fn a_reader_that_keeps_taking_some_of_a_large_replay_is_not_stalled() {
    let mut world = World::new(10, usize::MAX);
    world.publish(room(), &"x".repeat(1_000), None);
    world.now = world.now + Duration::from_mins(1);
    let (key, socket) = world.join(None, Start::After(Epoch::new(1).position(0).to_string()), 400);
    for _ in 0..5 {
        world.now = world.now + Duration::from_secs(20);
        socket.borrow_mut().room = 100;
        world.shard.on_writable(key, world.now);
        world.shard.step(world.now);
    }
    assert!(world.shard.socket_mut(key).is_some(), "it took some every 20 seconds");
    world.now = world.now + Duration::from_secs(31);
    world.shard.step(world.now);
    assert!(world.shard.socket_mut(key).is_none(), "it took nothing for 31 seconds");
    assert_eq!(world.stats.closed[CloseReason::Stalled as usize].get(), 1);
}

/// Four tabs restored at once asked the same shard to close a connection each. It had one; the other three stayed above the
/// user's cap for good.
#[test]
fn who_is_asked_to_replace_more_than_it_has_passes_it_on() {
    let hub = Hub::new(HubSettings {
        shards: 2,
        caps: Caps { connections_max: 100, per_user_max: Some(2), replace: true, per_address_max: None },
        ..hub_settings(100, usize::MAX)
    });
    let mut worlds = [0, 1].map(|index| World::at(index, hub.clone()));
    let [(_, first), (_, second)] = [0, 1].map(|at| worlds[at].join_now(None, Some("u")));
    let newer: Vec<_> = (0..2).map(|_| hub.admit(Some("u"), None, Moment(2)).unwrap()).collect();
    for _ in 0..2 {
        for world in &mut worlds {
            world.step();
        }
    }
    for socket in [&first, &second] {
        assert!(text(socket).contains("\"reason\":\"replaced\""), "{}", text(socket));
    }
    drop(newer);
}
