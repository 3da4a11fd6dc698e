//! What streams are told, and when.

use super::*;
use crate::hub::presence::sent::MESSAGES_KEPT_FOR;
use crate::hub::presence::stats::Suppressed;

#[test]
fn the_first_change_after_a_quiet_interval_goes_at_once_and_the_next_wait() {
    let mut world = World::new(POLICY);
    let mut reader = world.reader(View::Names);
    world.enter("a");
    reader.pull(&world);
    assert_eq!(reader.names(), ["a"]);
    world.enter("b");
    world.enter("c");
    reader.pull(&world);
    assert_eq!(reader.names(), ["a"]);
    world.pass(SECOND);
    reader.pull(&world);
    assert_eq!((reader.names(), reader.told.rev), (vec!["a", "b", "c"], 2));
    world.pass(SECOND * 5);
    world.enter("d");
    reader.pull(&world);
    assert_eq!((reader.names().len(), reader.kinds.len()), (4, 4));
}

#[test]
fn opposite_changes_within_an_interval_cancel() {
    let mut world = World::new(POLICY);
    let here = world.enter("here");
    let mut reader = world.reader(View::Names);
    world.enter("first");
    let short = world.enter("short");
    world.leave("short", short, true);
    world.leave("here", here, true);
    world.enter("here");
    world.pass(SECOND);
    reader.pull(&world);
    assert_eq!(
        (reader.names(), reader.kinds.as_slice()),
        (vec!["first", "here"], &["state".to_owned(), "diff".to_owned()][..])
    );
    assert_eq!(world.presence.stats().suppressed(Suppressed::Cancelled), 2);
}

/// A state that was handed out in between has shown the join, and only a message can take it back.
#[test]
fn what_a_state_has_shown_is_taken_back() {
    let mut world = World::new(POLICY);
    let mut old = world.reader(View::Names);
    world.enter("first");
    let short = world.enter("short");
    let mut new = world.reader(View::Names);
    assert_eq!(new.names(), ["first", "short"]);
    world.leave("short", short, true);
    let mut newest = world.reader(View::Names);
    assert_eq!(newest.names(), ["first"]);
    world.pass(SECOND);
    for reader in [&mut old, &mut new, &mut newest] {
        reader.pull(&world);
        assert_eq!((reader.names(), reader.total), (vec!["first"], 1));
    }
}

/// The same for a member that a state has shown to be gone.
#[test]
fn who_was_shown_to_be_gone_is_there_again() {
    let mut world = World::new(POLICY);
    let here = world.enter("here");
    let mut old = world.reader(View::Names);
    world.enter("first");
    world.leave("here", here, true);
    let mut new = world.reader(View::Names);
    assert_eq!(new.names(), ["first"]);
    world.enter("here");
    world.pass(SECOND);
    for reader in [&mut old, &mut new] {
        reader.pull(&world);
        assert_eq!(reader.names(), ["first", "here"]);
    }
}

#[test]
fn data_is_what_was_put_last() {
    let mut world = World::new(POLICY);
    world.enter("me");
    let mut reader = world.reader(View::Names);
    let rev = |put| if let Put::Done { rev, .. } = put { rev } else { panic!("{put:?}") };
    let first = rev(world.put("me", Some("1")));
    reader.pull(&world);
    assert_eq!((first, reader.told.rev), (reader.told.rev, first), "told at once");
    let second = rev(world.put("me", Some("2")));
    let third = rev(world.put("me", Some("{\"status\":\"away\"}")));
    assert_eq!((second, third), (first + 1, first + 1), "told with the next message");
    world.pass(SECOND);
    reader.pull(&world);
    let data = |reader: &Reader| reader.members.as_ref().expect("names")["me"].clone();
    assert_eq!(data(&reader).as_deref(), Some("{\"status\":\"away\"}"));
    assert_eq!(rev(world.put("me", Some("{\"status\":\"away\"}"))), third, "nothing new");
    assert_eq!(rev(world.put("me", None)), third + 1);
    world.pass(SECOND);
    reader.pull(&world);
    assert_eq!((data(&reader), reader.kinds.len()), (None, 4));
}

#[test]
fn five_changes_of_data_at_once_and_then_one_a_second() {
    let mut world = World::new(POLICY);
    assert!(matches!(world.put("me", None), Put::NotPresent));
    world.enter("me");
    for n in 0..5 {
        assert!(matches!(world.put("me", Some(&n.to_string())), Put::Done { .. }), "{n}");
    }
    let Put::Limited(at) = world.put("me", Some("6")) else { panic!("too many") };
    assert!(at > world.now && at <= world.now + SECOND);
    world.now = at;
    assert!(matches!(world.put("me", Some("6")), Put::Done { .. }));
    assert!(matches!(world.put("me", Some("7")), Put::Limited(_)));
}

#[test]
fn a_large_room_is_counted_until_it_is_well_below_its_bound() {
    let mut world = World::new(POLICY);
    let mut reader = world.reader(View::Names);
    let entered: Vec<_> = (0..11).map(|user| (user.to_string(), world.enter(&user.to_string()))).collect();
    world.pass(SECOND);
    reader.pull(&world);
    assert_eq!((reader.kinds.last().map(String::as_str), reader.total), (Some("count"), 11));
    let newcomer = world.reader(View::Names);
    assert_eq!((newcomer.members, newcomer.total), (None, 11));
    let (rest, gone) = entered.split_at(7);
    for (user, entered) in &gone[..3] {
        world.leave(user, *entered, true);
    }
    world.pass(SECOND * 4);
    assert_eq!(world.presence.messages_after(&world.room, reader.told), Messages::None);
    world.pass(SECOND);
    reader.pull(&world);
    assert_eq!(
        (reader.kinds.last().map(String::as_str), reader.total),
        (Some("count"), 8),
        "80 % is not below"
    );
    world.leave(&gone[3].0, gone[3].1, true);
    world.pass(SECOND * 5);
    reader.pull(&world);
    let names: Vec<&str> = rest.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!((reader.kinds.last().map(String::as_str), reader.names()), (Some("state"), names));
}

#[test]
fn a_room_that_is_only_counted_names_nobody() {
    let mut world = World::new(PresencePolicy { names: false, ..POLICY });
    let mut reader = world.reader(View::Names);
    let one = world.enter("one");
    world.leave("one", one, true);
    world.enter("two");
    world.pass(SECOND * 20);
    reader.pull(&world);
    assert_eq!(reader.kinds, ["count", "count"], "one left and one came: the number is the same");
    assert_eq!((reader.total, world.members()), (1, vec!["two".to_owned()]));
}

#[test]
fn who_may_not_see_names_is_told_numbers() {
    let mut world = World::new(POLICY);
    let mut reader = world.reader(View::Counts);
    world.enter("me");
    world.pass(SECOND);
    let _ = world.put("me", Some("1"));
    world.pass(SECOND);
    reader.pull(&world);
    assert_eq!((reader.kinds.as_slice(), reader.total), (&["count".to_owned(), "count".to_owned()][..], 1));
    assert_eq!(reader.told.rev, 2, "the data was a message for others");
}

#[test]
fn a_quiet_room_holds_no_messages() {
    let mut world = World::new(POLICY);
    let slow = world.reader(View::Names);
    world.enter("me");
    world.pass(MESSAGES_KEPT_FOR);
    assert_eq!(world.presence.messages_after(&world.room, slow.told), Messages::Behind);
    assert_eq!(world.presence.due.lock().len(), 0, "there is nothing left to do");
}

#[test]
fn shards_that_watch_are_told_once_until_they_look() {
    let mut world = World::new(POLICY);
    let _reader = world.reader(View::Names);
    let mail = |world: &World, shard: usize| {
        let mut mail = Vec::new();
        world.presence.mailboxes[shard].take(&mut Vec::new(), &mut Vec::new(), &mut mail);
        mail.len()
    };
    for user in ["a", "b"] {
        world.enter(user);
        world.pass(SECOND);
    }
    assert_eq!((mail(&world, 0), mail(&world, 1)), (1, 0));
    world.enter("c");
    world.pass(SECOND);
    assert_eq!(mail(&world, 0), 0, "the shard has not looked yet");
    world.room.unclaim_presence(0);
    world.presence.watch(&world.room, 1);
    world.enter("d");
    assert_eq!((mail(&world, 0), mail(&world, 1)), (1, 1));
    world.room.unclaim_presence(0);
    world.presence.unwatch(&world.room, 0);
    world.pass(SECOND);
    world.enter("e");
    assert_eq!(mail(&world, 0), 0);
}

#[test]
fn who_is_alone_causes_no_message() {
    let mut world = World::new(POLICY);
    world.enter("me");
    let reader = world.reader(View::Names);
    assert_eq!(reader.names(), ["me"]);
    assert_eq!(world.presence.messages_after(&world.room, reader.told), Messages::None);
    world.pass(SECOND * 3);
    assert_eq!(world.presence.messages_after(&world.room, reader.told), Messages::None);
}

#[test]
fn pages_go_through_all_members_in_the_order_of_their_names() {
    let mut world = World::new(POLICY);
    for user in 0..25 {
        world.enter(&format!("{user:02}"));
    }
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = world.presence.page(&world.room, after.as_deref(), 10, usize::MAX, world.now);
        assert_eq!((page.total, page.connections), (25, 25));
        seen.extend(page.members.iter().map(|member| member.user.name().to_owned()));
        after = seen.last().cloned();
        if !page.has_more {
            break;
        }
        assert_eq!(page.members.len(), 10);
    }
    assert_eq!(seen, world.members());
    let short = world.presence.page(&world.room, None, 10, 1, world.now);
    assert_eq!((short.members.len(), short.has_more), (1, true), "a page has at least one");
}
