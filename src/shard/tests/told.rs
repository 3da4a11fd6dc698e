//! What streams are told beside their events.

use super::*;
use crate::shard::told::UNTOLD_MAX;

/// `event: muted` as a stream in room `r` gets it.
const MUTED: &str = "event: muted\ndata: {\"room\":\"r\",\"until\":null}\n\n";

/// A world with a stream of `me` whose socket has taken three bytes of an event.
fn owing() -> (World, ConnKey, Socket) {
    let mut world = World::new(10, usize::MAX);
    let (key, socket) = world.join_now(None, Some("me"));
    socket.borrow_mut().room = 3;
    world.publish(room(), "before", None);
    world.step();
    (world, key, socket)
}

fn mute(world: &mut World, user: &str) -> u32 {
    let (rooms, users) = (world.hub.rooms(), world.hub.users());
    let (room, user) = (rooms.get("r").expect("a room"), users.get(user).expect("a user"));
    world.shard.tell_muted(&user, &room, None)
}

#[test]
fn a_mute_is_told_to_the_users_streams_in_the_room_and_no_others() {
    let mut world = World::new(10, usize::MAX);
    let (_, mine) = world.join_now(None, Some("me"));
    let (_, twin) = world.join_now(None, Some("me"));
    let (_, other) = world.join_now(None, Some("you"));
    let (_, elsewhere) = world.join_rooms(&["s".to_owned()], None, Some("me"), Start::Now, usize::MAX);
    assert_eq!(mute(&mut world, "me"), 2);
    let told = [mine, twin, other, elsewhere].map(|socket| text(&socket).matches(MUTED).count());
    assert_eq!(told, [1, 1, 0, 0]);
}

/// It comes when there is room for it, after what the stream was owed before, and once.
#[test]
fn a_full_socket_is_told_when_it_has_room() {
    let (mut world, key, socket) = owing();
    assert_eq!(mute(&mut world, "me"), 1);
    for _ in 0..10 {
        world.step();
    }
    assert!(!text(&socket).contains("muted"), "{}", text(&socket));
    socket.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    for _ in 0..10 {
        world.step();
    }
    world.publish(room(), "after", None);
    world.step();
    let text = text(&socket);
    let places = ["data: before\n", MUTED, "data: after\n"].map(|part| {
        assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
        text.find(part)
    });
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn few_wait_to_be_told() {
    let (mut world, _, socket) = owing();
    for _ in 0..UNTOLD_MAX + 10 {
        assert_eq!(mute(&mut world, "me"), 1);
    }
    assert_eq!(world.shard.untold.len(), UNTOLD_MAX);
    // Who leaves is not waited for.
    socket.borrow_mut().fails = true;
    world.shard.on_writable(world.shard.conns().key(0), world.now);
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(world.shard.untold.len(), 0);
}
