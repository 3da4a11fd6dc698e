//! By what right streams stay: expiry, refresh, revocation, review, and events with a requirement.

use super::*;

#[test]
fn a_listener_is_told_once_that_its_token_ends_and_closed_when_it_does() {
    let mut world = World::new(10, usize::MAX);
    let session = Session { identity: holder(&[]), expires: Some(second(100)) };
    let (_, socket) = world.join_now(Some(session), None);
    let mut told_at = None;
    while world.now < Moment(99_999_999) {
        world.step();
        if told_at.is_none() && text(&socket).contains("event: expiring") {
            told_at = Some(world.now);
        }
        assert!(!text(&socket).contains("event: closing"), "at {:?}", world.now);
    }
    let told_at = told_at.expect("it was told");
    assert!((Moment(70_000_000)..Moment(70_700_000)).contains(&told_at), "{told_at:?}");
    while world.now < Moment(100_700_000) {
        world.step();
    }
    assert_eq!(text(&socket).matches("event: expiring").count(), 1);
    assert!(text(&socket).contains("event: closing\ndata: {\"reason\":\"expired\"}"), "{}", text(&socket));
    assert_eq!(world.stats.closed[CloseReason::Expired as usize].get(), 1);
    assert_eq!(world.shard.conns().len(), 0);
}

#[test]
fn a_listener_that_has_no_token_is_not_told_to_renew_it() {
    let mut world = World::new(10, usize::MAX);
    let identity = Identity { key: KeyId::APPLICATION, ..Identity::clone(&holder(&[])) };
    let session = Session { identity: Arc::new(identity), expires: Some(second(1)) };
    let (_, socket) = world.join_now(Some(session), None);
    while world.now < Moment(1_700_000) {
        world.step();
    }
    assert!(!text(&socket).contains("event: expiring"), "{}", text(&socket));
    assert!(text(&socket).contains("event: closing\ndata: {\"reason\":\"expired\"}"), "{}", text(&socket));
}

#[test]
fn a_full_socket_does_not_outlive_its_token() {
    let mut world = World::new(10, usize::MAX);
    let session = Session { identity: holder(&[]), expires: Some(second(1)) };
    let (_, socket) = world.join_now(Some(session), None);
    socket.borrow_mut().room = 3;
    world.publish(room(), "more than there is room for", None);
    while world.now < Moment(1_700_000) {
        world.step();
    }
    assert_eq!(world.stats.closed[CloseReason::Expired as usize].get(), 1);
    assert_eq!(world.shard.conns().len(), 0);
}

#[test]
fn a_refreshed_listener_stays_and_is_told_again() {
    let mut world = World::new(10, usize::MAX);
    let session = |seconds| Session { identity: holder(&[]), expires: Some(second(seconds)) };
    let (key, socket) = world.join_now(Some(session(20)), Some("ann"));
    let (_, other) = world.join_now(Some(session(20)), Some("ann"));
    world.step();
    assert_eq!(text(&socket).matches("event: expiring").count(), 1, "less than half a minute is left");
    let refresh = |connection, may: bool| {
        let user = world.hub.users().get("ann").expect("she is here");
        let (reply, got) = oneshot::channel();
        let may_read = Arc::new(move |_: &str| may);
        (
            Command::Refresh(Box::new(Refresh { user, connection, session: session(200), may_read, reply })),
            got,
        )
    };
    let (refused, mut of_refused) = refresh(Some(key.to_u64()), false);
    let (granted, mut of_granted) = refresh(Some(key.to_u64()), true);
    assert!(world.hub.mailbox(0).send(refused).is_ok() && world.hub.mailbox(0).send(granted).is_ok());
    world.step();
    assert_eq!(of_refused.try_recv(), Ok(Some(Refreshed { connections: 0, refused: 1 })));
    assert_eq!(of_granted.try_recv(), Ok(Some(Refreshed { connections: 1, refused: 0 })));
    while world.now < Moment(171_000_000) {
        world.step();
    }
    assert!(text(&other).contains("expired"), "the other one was not refreshed");
    assert!(!text(&socket).contains("closing"));
    assert_eq!(text(&socket).matches("event: expiring").count(), 2);
}

#[test]
fn those_of_a_doomed_identity_are_closed_and_no_others() {
    let mut world = World::new(10, usize::MAX);
    let by = |identity| Some(Session { identity, expires: None });
    let vip = holder(&["vip"]);
    let (_, doomed) = world.join_now(by(vip.clone()), None);
    let (_, spared) = world.join_now(by(holder(&["dj"])), None);
    let (_, unknown) = world.join_now(None, None);
    let (reply, mut got) = oneshot::channel();
    let command = Command::Revoke { whose: Whose::Identity(vip), reply };
    assert!(world.hub.mailbox(0).send(command).is_ok());
    world.step();
    assert_eq!(got.try_recv(), Ok(Some(1)));
    assert!(text(&doomed).contains("\"reason\":\"revoked\""));
    assert!(!text(&spared).contains("closing") && !text(&unknown).contains("closing"));
}

#[test]
fn an_event_that_requires_a_permission_reaches_those_who_have_it_now_and_later() {
    let mut world = World::new(10, usize::MAX);
    let by = |permissions: &[&str]| Some(Session { identity: holder(permissions), expires: None });
    let listeners = [
        (by(&["vip"]), true, true),
        (by(&["vip:r"]), true, false),
        (by(&["vip:elsewhere"]), false, false),
        (by(&["dj"]), false, false),
        (None, false, false),
    ];
    let sockets: Vec<_> =
        listeners.iter().map(|(session, ..)| world.join_now(session.clone(), None).1).collect();
    let start = world.hub.epoch().position(0).to_string();
    for (target, data) in [(room(), "to the room"), (Target::All, "to all")] {
        let require = PermissionName::new("vip").ok();
        let draft = Draft { require, ..Draft::to(target, data) };
        MemoryOrder::new(world.hub.clone()).publish([draft], world.now).expect("no id is used twice");
        world.step();
    }
    world.publish(room(), "to every member", None);
    world.step();
    for ((session, of_room, of_all), live) in listeners.iter().zip(&sockets) {
        let (_, resumed) = world.join_by(session.clone(), None, Start::After(start.clone()), usize::MAX);
        world.step();
        for socket in [live, &resumed] {
            assert_eq!(text(socket).contains("to the room"), *of_room, "{session:?}");
            assert_eq!(text(socket).contains("to all"), *of_all, "{session:?}");
            assert!(text(socket).contains("to every member"));
        }
    }
}

/// Streams without a room were checked for none of their rooms, so all of them could stay.
#[test]
fn a_stream_of_an_inbox_is_reviewed_like_any_other() {
    let mut world = World::new(10, usize::MAX);
    let (kept, _) = world.join(Some("u"), Start::Now, usize::MAX);
    let (ended, socket) = world.join_rooms(&[], None, Some("u"), Start::Now, usize::MAX);
    let (reply, mut ended_count) = oneshot::channel();
    let command = Command::Review { may_stay: Arc::new(|standing| standing.room.is_some()), reply };
    assert!(world.hub.mailbox(0).send(command).is_ok());
    world.step();
    assert_eq!(ended_count.try_recv(), Ok(Some(1)));
    assert_eq!(world.are_open(&[kept, ended]), [true, false]);
    assert!(text(&socket).contains(r#""reason":"revoked""#));
}
