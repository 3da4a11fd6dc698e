//! When a member leaves, and what stays of it.

use std::sync::atomic::AtomicUsize;
use std::task::{Poll, Wake};

use super::*;
use crate::hub::presence::notice::PresenceNotices;
use crate::hub::presence::stats::{MEMBERSHIPS_PER_USER_MAX, Suppressed};

#[test]
fn one_user_is_one_member_over_all_its_connections() {
    let mut world = World::new(POLICY);
    let (one, two) = (world.enter("me"), world.enter("me"));
    assert_eq!((world.page().total, world.page().connections), (1, 2));
    world.leave("me", one, true);
    assert_eq!((world.page().total, world.page().connections), (1, 1), "another is still there");
    world.leave("me", two, true);
    assert_eq!(world.page().total, 0);
}

#[test]
fn a_reload_within_the_grace_changes_nothing_on_the_wire() {
    let mut world = World::new(POLICY);
    let mut entered: Vec<Seat> = (0..10).map(|user| world.enter(&user.to_string())).collect();
    let mut reader = world.reader(View::Names);
    world.pass(SECOND * 2);
    reader.pull(&world);
    let before = reader.kinds.len();
    for _ in 0..3 {
        for (user, entered) in entered.iter().enumerate() {
            world.leave(&user.to_string(), *entered, false);
        }
        assert_eq!((world.page().total, world.page().connections), (10, 0));
        world.pass(SECOND * 14);
        entered = (0..10).map(|user| world.enter(&user.to_string())).collect();
    }
    world.pass(SECOND * 60);
    reader.pull(&world);
    assert_eq!((reader.kinds.len(), world.page().total), (before, 10));
    assert_eq!(world.presence.stats().suppressed(Suppressed::Grace), 30);
}

#[test]
fn a_grace_lasts_from_the_last_connection_that_went() {
    let mut world = World::new(POLICY);
    let first = world.enter("me");
    world.leave("me", first, false);
    world.pass(SECOND * 10);
    let second = world.enter("me");
    world.leave("me", second, false);
    world.pass(Duration::from_millis(14_800));
    assert_eq!(world.members(), ["me"]);
    world.pass(Duration::from_millis(300));
    assert!(world.members().is_empty());
}

#[test]
fn a_stream_from_before_a_withdrawal_does_not_count() {
    let mut world = World::new(POLICY);
    let mut reader = world.reader(View::Names);
    let (old, older) = (world.enter("me"), world.enter("me"));
    world.withdraw("me");
    world.pass(SECOND);
    reader.pull(&world);
    assert!(world.members().is_empty() && reader.names().is_empty());
    world.leave("me", old, false);
    let new = world.enter("me");
    world.leave("me", older, true);
    assert_eq!((world.page().total, world.page().connections), (1, 1));
    world.leave("me", new, true);
    assert_eq!((world.page().total, world.page().connections), (0, 0));
    world.leave("me", new, true);
    world.withdraw("me");
}

/// Seats were times, and a shard reads the time before it has the room's lock. So a stream that entered after a
/// withdrawal could have an earlier seat than one from before it, whose end was then taken for the end of the newer.
#[test]
fn a_stream_counts_by_when_it_entered_and_not_by_when_it_began() {
    let mut world = World::new(POLICY);
    let user = world.user("me");
    let (earlier, later) = (world.now, world.now + SECOND);
    let enter = |world: &World, began| {
        world.presence.enter(&world.room, &user, began).seat.expect("the room has presence")
    };
    let old = enter(&world, later);
    world.withdraw("me");
    let new = enter(&world, earlier);
    world.leave("me", old, true);
    assert_eq!((world.page().total, world.page().connections), (1, 1));
    world.leave("me", new, true);
    assert_eq!(world.page().total, 0);
}

#[test]
fn one_member_too_many_listens_without_being_one() {
    let mut world = World::with_bounds(POLICY, 2, 0);
    let one = world.enter("one");
    world.enter("two");
    let third = world.enter("three");
    assert_eq!(
        (world.members(), world.presence.stats().refused()),
        (vec!["one".to_owned(), "two".to_owned()], 1)
    );
    world.leave("three", third, false);
    world.leave("one", one, true);
    world.enter("three");
    assert_eq!((world.members().len(), world.presence.stats().members()), (2, 2));
}

/// A stream of `user` in `room` begins and ends.
fn come_and_go(world: &World, room: &Arc<Source>, user: &Arc<Source>) {
    let seat = world.presence.enter(room, user, world.now).seat.expect("the room has presence");
    let _ = world.presence.leave(room, user, seat, false, world.now);
}

/// One user went through rooms and left a membership in each for its grace: nobody else could become a member.
#[test]
fn one_user_does_not_take_the_places_of_all() {
    let mut world = World::new(POLICY);
    let user = world.user("me");
    let rooms: Vec<_> = (0..=MEMBERSHIPS_PER_USER_MAX)
        .map(|n| source(SourceKind::Room, &n.to_string(), Some(POLICY)))
        .collect();
    for room in &rooms {
        come_and_go(&world, room, &user);
    }
    let counts = |world: &World| (world.presence.stats().members(), world.presence.stats().refused());
    assert_eq!(counts(&world), (usize::from(MEMBERSHIPS_PER_USER_MAX), 1));
    world.enter("other");
    assert_eq!(world.members(), ["other"]);
    world.pass(POLICY.grace);
    assert_eq!(counts(&world), (1, 1));
    let _ = world.presence.enter(&rooms[0], &user, world.now);
    assert_eq!(counts(&world), (2, 1));
}

#[test]
fn nothing_is_left_of_a_room_that_nobody_needs() {
    let mut world = World::new(POLICY);
    let _reader = world.reader(View::Names);
    let entered: Vec<_> = (0..20).map(|user| (user.to_string(), world.enter(&user.to_string()))).collect();
    let stats = world.presence.stats();
    assert_eq!((stats.rooms(), stats.members()), (1, 20));
    for (user, entered) in &entered {
        world.leave(user, *entered, false);
    }
    world.presence.unwatch(&world.room, 0);
    world.pass(SECOND * 16);
    let stats = world.presence.stats();
    assert_eq!((stats.rooms(), stats.members(), world.presence.due.lock().len()), (0, 0, 0));
    for mailbox in &*world.presence.mailboxes {
        mailbox.take(&mut Vec::new(), &mut Vec::new(), &mut Vec::new());
    }
    assert_eq!(Arc::strong_count(&world.room), 1);
    assert!(world.users.values().all(|user| Arc::strong_count(user) == 1));
}

#[test]
fn a_room_without_presence_costs_nothing() {
    let mut world = World::new(POLICY);
    world.set_policy(None);
    let user = world.user("me");
    assert_eq!(world.presence.enter(&world.room, &user, world.now).seat, None);
    world.presence.watch(&world.room, 0);
    assert_eq!((world.presence.stats().rooms(), world.presence.stats().members()), (0, 0));
    assert_eq!(world.presence.state(&world.room, View::Names, world.now), None);
    assert!(matches!(world.put("me", None), Put::NotPresent));
}

#[test]
fn a_reload_takes_effect_at_once() {
    let mut world = World::new(POLICY);
    let mut reader = world.reader(View::Names);
    let entered: Vec<_> = (0..9).map(|user| (user.to_string(), world.enter(&user.to_string()))).collect();
    world.pass(SECOND * 2);
    reader.pull(&world);
    world.set_policy(Some(PresencePolicy { members_max: 5, ..POLICY }));
    reader.pull(&world);
    assert_eq!(reader.kinds.last().map(String::as_str), Some("count"));
    world.set_policy(Some(PresencePolicy { interval: SECOND / 10, ..POLICY }));
    world.pass(SECOND);
    reader.pull(&world);
    assert_eq!(reader.kinds.last().map(String::as_str), Some("count"), "9 of 10 is not below 80 %");
    world.leave(&entered[0].0, entered[0].1, false);
    world.leave(&entered[1].0, entered[1].1, false);
    world.set_policy(Some(PresencePolicy { grace: SECOND, ..POLICY }));
    world.pass(SECOND * 6);
    reader.pull(&world);
    assert_eq!((reader.kinds.last().map(String::as_str), reader.names().len()), (Some("state"), 7));
    world.set_policy(Some(PresencePolicy { names: false, ..POLICY }));
    assert_eq!(world.reader(View::Names).members, None);
    world.set_policy(None);
    assert_eq!((world.presence.stats().rooms(), world.presence.stats().members()), (0, 0));
    world.set_policy(Some(POLICY));
    world.leave(&entered[3].0, entered[3].1, false);
    world.enter("new");
    assert_eq!(world.members(), ["new"]);
}

#[test]
fn the_application_is_told_after_the_grace() {
    let mut world = World::new(POLICY);
    let notices = Arc::<PresenceNotices>::default();
    world.presence.stats().tell(notices.clone());
    let one = world.enter("one");
    world.enter("two");
    world.leave("one", one, false);
    let again = world.enter("one");
    world.leave("one", again, false);
    let told = || {
        let Poll::Ready(told) = notices.poll_take(100, Waker::noop()) else { return Vec::new() };
        let text = |notice: &crate::hub::presence::notice::PresenceNotice| {
            let user = notice.user.as_ref().map_or("", |user| user.name());
            format!("{} {} {user}", notice.room.name(), notice.kind.as_str())
        };
        told.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(told(), ["lobby occupied ", "lobby join one", "lobby join two"]);
    world.pass(SECOND * 16);
    assert_eq!(told(), ["lobby leave one"]);
    world.withdraw("two");
    assert_eq!(told(), ["lobby leave two", "lobby vacated "]);
}

/// Wakes nobody, but checks that it could do anything.
struct Woken {
    world: Arc<World>,
    times: AtomicUsize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let is_free = |share: &Mutex<Share>| share.try_lock().is_some();
        assert!(self.world.presence.shares.iter().all(is_free), "woken under a lock");
        self.times.fetch_add(1, Ordering::Relaxed);
    }
}

/// The reader of the notices was woken under the lock of the room.
#[test]
fn whoever_tells_the_application_is_woken_when_the_room_is_free() {
    let mut world = World::new(POLICY);
    let notices = Arc::<PresenceNotices>::default();
    world.presence.stats().tell(notices.clone());
    let user = world.user("me");
    let world = Arc::new(world);
    let woken = Arc::new(Woken { world: world.clone(), times: AtomicUsize::new(0) });
    let waker = Waker::from(woken.clone());
    let wait = || {
        while notices.poll_take(100, &waker).is_ready() {}
    };
    let wake = |wakers: Vec<Waker>| wakers.into_iter().for_each(Waker::wake);
    wait();
    let Entered { seat, wakers } = world.presence.enter(&world.room, &user, world.now);
    wake(wakers);
    wait();
    let seat = seat.expect("the room has presence");
    wake(world.presence.leave(&world.room, &user, seat, false, world.now));
    wake(world.presence.tick(world.now + POLICY.grace).wakers);
    wait();
    let _ = world.presence.enter(&world.room, &user, world.now);
    wait();
    world.room.set_policy(room_policy(None));
    wake(world.presence.policy_changed(&world.room, world.now));
    assert_eq!(woken.times.load(Ordering::Relaxed), 3);
}

/// A node of the tree has 11 members, so ten of a room share one, with the room itself: some 0.1 KiB each.
#[test]
fn a_member_takes_little_memory() {
    let member = size_of::<(user::User, member::Member)>();
    let room = size_of::<room::Room>();
    assert!(member <= 56 && room <= 384, "{member} {room}");
}

/// A million members could show a gigabyte.
#[test]
fn what_all_members_show_is_bounded_together() {
    let mut world = World::with_bounds(POLICY, 100, 10);
    let is_full = |world: &mut World, user: &str, data: Option<&str>| {
        world.pass(SECOND);
        matches!(world.put(user, data), Put::Full)
    };
    let seats = ["a", "b", "c"].map(|user| world.enter(user));
    assert!(!is_full(&mut world, "a", Some("123456")) && !is_full(&mut world, "b", Some("1234")));
    assert!(is_full(&mut world, "c", Some("1")));
    assert!(!is_full(&mut world, "c", None));
    assert!(!is_full(&mut world, "a", Some("654321")), "as much as before");
    assert!(!is_full(&mut world, "a", Some("65432")) && !is_full(&mut world, "c", Some("1")));
    assert!(is_full(&mut world, "a", Some("654321")));
    let data = world.page().members[0].data.as_ref().map(|data| data.as_str().to_owned());
    assert_eq!(data.as_deref(), Some("65432"), "it shows what it showed before");
    world.leave("b", seats[1], true);
    assert!(!is_full(&mut world, "c", Some("12345")) && is_full(&mut world, "c", Some("123456")));
    world.set_policy(None);
    world.set_policy(Some(POLICY));
    world.enter("d");
    assert!(!is_full(&mut world, "d", Some("1234567890")));
}

/// Members that are withdrawn and come again leave ends of graces behind.
#[test]
fn ends_of_graces_are_bounded() {
    let mut world = World::new(POLICY);
    let mut room = room::Room::new(world.room.clone(), POLICY, false, 1);
    let user = world.user("me");
    let stats = PresenceStats::new(10, 0);
    for n in 1..10_000 {
        let seat = Seat(NonZeroU64::new(n).expect("from 1"));
        room.enter(&user, seat, world.now, &stats);
        room.leave("me", seat, false, world.now, &stats);
        room.remove("me", true, &stats);
    }
    assert!(room.graces_queued() < 200, "{}", room.graces_queued());
}

#[test]
fn a_tick_looks_at_so_many_rooms_and_says_that_there_are_more() {
    let mut world = World::new(POLICY);
    let user = world.user("me");
    let rooms: Vec<_> =
        (0..=TICK_ROOMS_MAX).map(|n| source(SourceKind::Room, &n.to_string(), Some(POLICY))).collect();
    for room in &rooms {
        come_and_go(&world, room, &user);
    }
    assert!(!world.presence.tick(world.now + SECOND).has_more, "nothing is due");
    let end = world.now + POLICY.grace;
    assert!(world.presence.tick(end).has_more);
    assert_eq!(world.presence.stats().members(), 1);
    assert!(!world.presence.tick(end).has_more);
    assert_eq!(world.presence.stats().members(), 0);
}
