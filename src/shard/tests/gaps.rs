//! What is missing is told: gaps, what is not a loss, and what waits for a rate.

use super::*;
use crate::order::refused::Why;

/// A stream's first write stopped inside `connected`. The rest was left to the logs, which hold no gaps: a subscriber
/// from another epoch then continued with this epoch's events as if nothing had been lost.
#[test]
fn a_gap_is_told_even_if_the_socket_first_takes_a_single_byte() {
    let mut world = World::new(10, usize::MAX);
    let stranger = Epoch::new(2).position(7).to_string();
    let (key, socket) = world.join(None, Start::After(stranger), 1);
    socket.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    assert!(text(&socket).contains(r#""reason":"restart""#), "{}", text(&socket));
    assert_eq!(world.stats.gaps[GapReason::Restart as usize].get(), 1);
}

/// A broadcast was evicted, because of the bound on all history, before any flush. The flush found nothing, and the
/// next event of a room then took all cursors past the loss.
#[test]
fn what_is_evicted_before_its_flush_is_a_gap_and_not_a_hole() {
    let mut world = World::new(10, 300 + LOG_OVERHEAD);
    let (_, socket) = world.join(None, Start::Now, usize::MAX);
    world.publish(Target::All, "lost", None);
    world.publish(Target::User(UserName::new("else").unwrap()), &"x".repeat(100), None);
    world.step();
    world.publish(room(), "after", None);
    world.step();
    let text = text(&socket);
    assert!(!text.contains("lost"), "{text}");
    let gap = text.find(r#""reason":"slow","all":true"#).expect("a gap");
    assert!(gap < text.find("after").expect("the next event"), "{text}");
    assert_eq!(world.stats.dropped[DropReason::Slow as usize].get(), 1);
}

/// With nothing to count from, all events a room ever had were counted as lost by its newest subscriber.
#[test]
fn events_from_before_the_join_are_not_counted_as_lost() {
    let mut world = World::new(10, 300 + LOG_OVERHEAD);
    for data in ["a", "b", "c"] {
        world.publish(room(), data, None);
    }
    let (_, socket) = world.join(None, Start::Now, usize::MAX);
    world.publish(room(), "lost", None);
    world.publish(Target::User(UserName::new("else").unwrap()), &"x".repeat(100), None);
    world.step();
    assert!(text(&socket).contains(r#""reason":"slow""#), "{}", text(&socket));
    assert_eq!(world.stats.dropped[DropReason::Slow as usize].get(), 1);
}

/// The resume found one event, not for this user, and left the cursor before it. When that event was evicted, the
/// subscriber was told of a loss that was none.
#[test]
fn an_event_for_others_is_no_loss_after_a_resume() {
    let mut world = World::new(1, usize::MAX);
    world.publish(room(), "own", Some("u"));
    let (_, socket) = world.join(Some("u"), Start::After(Epoch::new(1).position(0).to_string()), usize::MAX);
    for data in ["a", "b", "c"] {
        world.publish(room(), data, None);
    }
    world.step();
    assert!(!text(&socket).contains("gap"), "{}", text(&socket));
    assert!(text(&socket).contains("data: a\n"));
}

#[test]
fn a_gap_names_the_rooms_that_lost_something_and_no_others() {
    let mut world = World::new(1, usize::MAX);
    for data in ["a", "b", "c"] {
        world.publish(room(), data, None);
    }
    let start = Start::After(Epoch::new(1).position(0).to_string());
    let (_, socket) = world.join_rooms(&["r".to_owned(), "s".to_owned()], None, Some("u"), start, usize::MAX);
    let text = text(&socket);
    assert!(text.contains("event: gap\n") && text.contains(r#""rooms":["r"]"#), "{text}");
    assert!(!text.contains(r#""inbox""#) && !text.contains(r#""all""#), "{text}");
    assert_eq!(words(&socket), ["c"]);
}

#[test]
fn what_is_above_a_users_rate_is_left_out_and_told() {
    let mut world = World::rated(Overflow::Drop);
    let (_, socket) = world.join(Some("u"), Start::Now, usize::MAX);
    let (_, anonymous) = world.join(None, Start::Now, usize::MAX);
    for n in 0..10 {
        world.publish(room(), &n.to_string(), None);
    }
    world.step();
    assert_eq!(words(&socket), numbers(7..10), "the newest");
    assert!(text(&socket).contains(r#""reason":"slow""#), "{}", text(&socket));
    assert_eq!(world.stats.dropped[DropReason::Rate as usize].get(), 7);
    assert_eq!(words(&anonymous), numbers(0..10), "only users have a rate");
}

#[test]
fn what_is_above_a_users_rate_waits_where_it_is_to() {
    let mut world = World::rated(Overflow::Defer);
    let (_, socket) = world.join(Some("u"), Start::Now, usize::MAX);
    for n in 0..10 {
        world.publish(room(), &n.to_string(), None);
    }
    world.step();
    assert_eq!(words(&socket), numbers(0..3));
    for _ in 0..50 {
        world.step();
    }
    assert_eq!(words(&socket), numbers(0..6), "a second later");
    for _ in 0..100 {
        world.step();
    }
    assert_eq!(words(&socket), numbers(0..10));
    assert_eq!(world.stats.dropped[DropReason::Rate as usize].get(), 0);
    assert!(!text(&socket).contains("gap"), "{}", text(&socket));
}

#[test]
fn what_waits_for_a_users_rate_until_it_is_gone_is_counted_once() {
    let mut world =
        World::with(5, usize::MAX, Some((Rate { events: 3, per: Duration::from_secs(1) }, Overflow::Defer)));
    let (_, socket) = world.join(Some("u"), Start::Now, usize::MAX);
    for n in 0..5 {
        world.publish(room(), &n.to_string(), None);
    }
    world.step();
    assert_eq!(words(&socket), numbers(0..3));
    // Five are remembered: 3 to 6 go before they are allowed.
    for n in 5..12 {
        world.publish(room(), &n.to_string(), None);
        world.step();
    }
    for _ in 0..200 {
        world.step();
    }
    assert_eq!(words(&socket), [numbers(0..3), numbers(7..12)].concat());
    assert_eq!(world.stats.dropped[DropReason::Slow as usize].get(), 4);
    assert_eq!(world.stats.gaps[GapReason::Slow as usize].get(), 1);
}

/// A subscriber that guessed the id of an event for others could learn from the missing gap that the event existed.
#[test]
fn an_event_for_others_is_not_known_by_its_id() {
    let mut world = World::new(10, usize::MAX);
    world.publish_as("open", room(), None).unwrap();
    world.publish_as("secret", room(), Some("vip")).unwrap();
    world.publish_as("elsewhere", Target::Room(RoomName::new("other").unwrap()), None).unwrap();
    world.publish_as("private", Target::User(UserName::new("u").unwrap()), None).unwrap();
    let mut resume = |permissions: &[&str], id: &str| {
        let session = Session { identity: holder(permissions), expires: None };
        text(&world.join_by(Some(session), None, Start::After(id.to_owned()), usize::MAX).1)
    };
    let is_told_a_gap = |text: String| text.contains(r#""reason":"unknown""#);
    assert!(!is_told_a_gap(resume(&["vip"], "secret")));
    assert!(!is_told_a_gap(resume(&[], "open")));
    assert!(is_told_a_gap(resume(&[], "secret")), "as if there were none");
    assert!(is_told_a_gap(resume(&[], "made-up")));
    for id in ["elsewhere", "private"] {
        assert!(is_told_a_gap(resume(&["vip"], id)), "{id} is in no source of this stream");
    }
}

/// Two events in one batch could have the same id, and a refused batch could use ids up.
#[test]
fn a_batch_with_a_repeat_leaves_nothing_behind() {
    let world = World::new(10, usize::MAX);
    let draft = |id: &str| Draft { id: Some(EventId::new(id).unwrap()), ..Draft::to(room(), "x") };
    let publish =
        |ids: &[&str]| MemoryOrder::new(world.hub.clone()).publish(ids.iter().map(|id| draft(id)), world.now);
    assert_eq!(publish(&["a", "b", "a"]), Err(Refused::at(2, Why::IdUsed)));
    assert_eq!((world.hub.head(), world.hub.history()), (0, (0, 0)));
    assert_eq!(publish(&["b", "a"]).map(|published| published.offset), Ok(2), "neither was used up");
    assert_eq!(publish(&["c", "b"]), Err(Refused::at(1, Why::IdUsed)));
    assert_eq!((world.hub.find("a"), world.hub.find("c")), (Some(2), None));
}
