//! Who is present, as connections see it.

use super::*;
use crate::hub::room_policy::{PresencePolicy, RoomPolicies, RoomPolicy};
use crate::rights::pattern::Pattern;

/// A world in which all rooms have presence.
fn world() -> World {
    let world = World::new(100, usize::MAX);
    set_policy(&world, Some(PresencePolicy::default()));
    world
}

fn set_policy(world: &World, presence: Option<PresencePolicy>) {
    let log = LogBounds { events_max: 100, bytes_max: usize::MAX };
    let policy = RoomPolicy { presence, ..RoomPolicy::of_server(log, Duration::from_hours(1)) };
    let tables = vec![(Pattern::parse("*").expect("a pattern"), Arc::new(policy))];
    world.hub.set_policies(RoomPolicies { tables, ..RoomPolicies::default() }, world.now);
    assert!(world.hub.mailbox(0).send(Command::Policies).is_ok());
}

impl World {
    fn watch(&mut self, user: &str, presence: Presence, room: usize) -> (ConnKey, Socket) {
        self.watch_rooms(&["r".to_owned()], user, presence, room)
    }

    fn watch_rooms(
        &mut self,
        rooms: &[String],
        user: &str,
        presence: Presence,
        room: usize,
    ) -> (ConnKey, Socket) {
        let join = self.arrival(rooms, self.admit(Some(user)), room);
        self.enter(Join { presence, sees_names: true, ..join })
    }

    fn watch_by(&mut self, session: Option<Session>, user: &str) -> Socket {
        self.watch_as(session, user, Presence::Member).1
    }

    fn watch_as(&mut self, session: Option<Session>, user: &str, presence: Presence) -> (ConnKey, Socket) {
        let join = self.arrival(&["r".to_owned()], self.admit(Some(user)), usize::MAX);
        self.enter(Join { session, presence, ..join })
    }

    fn leave(&mut self, key: ConnKey) {
        self.shard.on_closed(key, CloseReason::Client, self.now);
    }

    /// Gives all streams of `user` a session with these permissions.
    fn refresh(&mut self, user: &str, permissions: &[&str]) -> Refreshed {
        let user = self.hub.users().get(user).expect("it is here");
        let (reply, mut answer) = oneshot::channel();
        let (session, may_read) = (session(permissions), Arc::new(|_: &str| true));
        let refresh = Refresh { user, connection: None, session, may_read, reply };
        assert!(self.hub.mailbox(0).send(Command::Refresh(Box::new(refresh))).is_ok());
        self.step();
        answer.try_recv().expect("it is answered").expect("by now")
    }

    /// Closes the streams of `user` in room `r`.
    fn disconnect(&mut self, user: &str) {
        let (user, room) = (self.hub.users().get(user).unwrap(), self.hub.rooms().get("r").unwrap());
        let (reply, _answer) = oneshot::channel();
        assert!(self.hub.mailbox(0).send(Command::Disconnect { user, room, reply }).is_ok());
        self.step();
    }

    /// Makes `count` users with long names members of `rooms`, as if by another shard.
    fn crowd(&self, rooms: &[String], count: usize) {
        for n in 0..count {
            self.enter_elsewhere(&format!("{n}{}", "x".repeat(100)), rooms);
        }
    }

    /// A stream of `user` in another shard begins.
    fn enter_elsewhere(&self, user: &str, rooms: &[String]) {
        let (user, _) = self.hub.admit(Some(user), None, self.now).unwrap().keep();
        for room in rooms {
            let room = self.hub.rooms().get_or_create(room);
            let _ = MemoryOrder::new(self.hub.clone()).enter(&room, user.as_ref().unwrap(), self.now);
        }
    }

    fn members(&self, room: &str) -> Vec<String> {
        let room = self.hub.rooms().get_or_create(room);
        let page = self.hub.presence().page(&room, None, usize::MAX, usize::MAX, self.now);
        page.members.iter().map(|member| member.user.name().to_owned()).collect()
    }
}

fn session(permissions: &[&str]) -> Session {
    Session { identity: holder(permissions), expires: None }
}

/// The kinds of presence messages that a connection was sent.
fn kinds(socket: &Socket) -> Vec<String> {
    let kind = |message: String| message.split('"').nth(3).map(ToOwned::to_owned);
    messages(socket).into_iter().filter_map(kind).collect()
}

/// The presence messages a connection was sent.
fn messages(socket: &Socket) -> Vec<String> {
    let text = text(socket);
    let events = text.split("\n\n").filter_map(|event| {
        let event = event.trim_start_matches(":\n");
        event.strip_prefix("event: presence\nroom: r\ndata: ").map(ToOwned::to_owned)
    });
    events.collect()
}

#[test]
fn a_state_follows_connected_and_a_diff_each_change() {
    let mut world = world();
    let (_, me) = world.watch("me", Presence::Member, usize::MAX);
    assert!(text(&me).contains("\"rooms\":[\"r\"]}\n\nevent: presence\nroom: r\n"), "{}", text(&me));
    let (you_key, you) = world.watch("you", Presence::Member, usize::MAX);
    world.step();
    assert!(messages(&you)[0].contains(r#""type":"state""#) && messages(&you)[0].contains(r#""total":2"#));
    assert_eq!(messages(&me).len(), 2);
    assert!(messages(&me)[1].contains(r#""join":[{"user":"you""#), "{:?}", messages(&me));
    world.leave(you_key);
    world.pass(Duration::from_secs(14));
    assert_eq!(messages(&me).len(), 2, "within the grace");
    world.pass(Duration::from_secs(2));
    assert!(messages(&me)[2].contains(r#""leave":["you"]"#), "{:?}", messages(&me));
    assert_eq!(world.stats.presence_sent.get(), 3, "states of beginnings are part of them");
}

#[test]
fn a_stream_that_did_not_ask_sees_nothing_and_a_silent_one_is_not_seen() {
    let mut world = world();
    let (_, me) = world.watch("me", Presence::Member, usize::MAX);
    let (_, off) = world.watch("off", Presence::Off, usize::MAX);
    let (_, silent) = world.watch("silent", Presence::Silent, usize::MAX);
    world.watch("you", Presence::Member, usize::MAX);
    world.step();
    assert_eq!((messages(&off).len(), messages(&silent).len()), (0, 2));
    let seen = messages(&me).concat();
    assert!(seen.contains("you") && !seen.contains("off") && !seen.contains("silent"), "{seen}");
}

fn is_left(socket: &Socket, user: &str) -> bool {
    let leave = format!(r#""leave":["{user}"]"#);
    messages(socket).last().is_some_and(|last| last.contains(&leave))
}

#[test]
fn who_is_disconnected_leaves_at_once() {
    let mut world = world();
    let (_, me) = world.watch("me", Presence::Member, usize::MAX);
    world.watch("you", Presence::Member, usize::MAX);
    world.pass(Duration::from_secs(2));
    world.disconnect("you");
    world.step();
    assert!(is_left(&me, "you"), "{:?}", messages(&me));
}

/// The stream ended as a whole, and its user left all of its rooms at once.
#[test]
fn who_is_disconnected_from_one_room_keeps_its_grace_in_the_others() {
    for room in [usize::MAX, 10] {
        let mut world = world();
        let (key, you) = world.watch_rooms(&["r".to_owned(), "q".to_owned()], "you", Presence::Member, room);
        world.pass(Duration::from_secs(2));
        world.disconnect("you");
        assert_eq!((world.members("r"), world.members("q")), (vec![], vec!["you".to_owned()]));
        // A slow stream ends only now.
        you.borrow_mut().room = usize::MAX;
        world.shard.on_writable(key, world.now);
        assert_eq!(world.are_open(&[key]), [false]);
        world.pass(Duration::from_secs(14));
        assert_eq!(world.members("q"), ["you"]);
        world.pass(Duration::from_secs(2));
        assert_eq!(world.members("q"), [""; 0]);
    }
}

#[test]
fn who_is_revoked_leaves_at_once() {
    let mut world = world();
    let (_, me) = world.watch("me", Presence::Member, usize::MAX);
    let doomed = session(&["sse:read"]);
    world.watch_by(Some(doomed.clone()), "you");
    world.pass(Duration::from_secs(2));
    let (reply, _answer) = oneshot::channel();
    let command = Command::Revoke { whose: Whose::Identity(doomed.identity), reply };
    assert!(world.hub.mailbox(0).send(command).is_ok());
    world.step();
    world.step();
    assert!(is_left(&me, "you"), "{:?}", messages(&me));
}

/// A right to one room was lost by a reload, and its user left all rooms at once.
#[test]
fn who_may_not_stay_in_one_room_keeps_its_grace_in_the_others() {
    let mut world = world();
    world.watch_rooms(&["r".to_owned(), "q".to_owned()], "you", Presence::Member, usize::MAX);
    world.step();
    let (reply, _answer) = oneshot::channel();
    let command = Command::Review { may_stay: Arc::new(|standing| standing.room != Some("r")), reply };
    assert!(world.hub.mailbox(0).send(command).is_ok());
    world.step();
    assert_eq!((world.members("r"), world.members("q")), (vec![], vec!["you".to_owned()]));
    assert_eq!(world.shard.conns().len(), 0);
}

#[test]
fn a_slow_connection_gets_a_state_in_place_of_what_it_missed() {
    let mut world = world();
    let (key, slow) = world.watch("slow", Presence::Member, usize::MAX);
    slow.borrow_mut().room = 10;
    world.publish(room(), "fills the socket", None);
    world.step();
    for user in ["a", "b", "c"] {
        world.watch(user, Presence::Member, usize::MAX);
        world.pass(Duration::from_secs(2));
    }
    assert_eq!((messages(&slow).len(), world.stats.presence_stale.get()), (1, 3));
    slow.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    let messages = messages(&slow);
    assert_eq!(messages.len(), 2);
    assert!(
        messages[1].contains(r#""type":"state""#) && messages[1].contains(r#""total":4"#),
        "{messages:?}"
    );
    assert_eq!(words(&slow), ["fills"]);
}

/// The states of all its rooms at once were held for a socket that took nothing.
#[test]
fn a_stream_of_many_large_rooms_gets_their_states_in_turns() {
    let mut world = world();
    let rooms: Vec<String> = (0..30).map(|n| format!("r{n}")).collect();
    world.crowd(&rooms, 100);
    let states = |socket: &Socket| text(socket).matches(r#""type":"state""#).count();
    let (key, slow) = world.watch_rooms(&rooms, "slow", Presence::Member, 10);
    let held = world.shard.conns.get(key.slot).and_then(|conn| conn.lag.as_ref()).map(|lag| lag.rest.len());
    assert!(held.is_some_and(|held| held < BATCH_BYTES_MAX + 20_000), "{held:?}");
    slow.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    assert_eq!(states(&slow), 30);
    let (_, fast) = world.watch_rooms(&rooms, "fast", Presence::Member, usize::MAX);
    assert_eq!(states(&fast), 30);
}

/// A message of any room that came meanwhile made the stream begin with its first room again. With a change a second,
/// it was sent the states of the first rooms for ever, and those of the last never.
#[test]
fn a_slow_stream_of_many_large_rooms_gets_all_their_states() {
    let mut world = world();
    let rooms: Vec<String> = (0..30).map(|n| format!("r{n}")).collect();
    world.crowd(&rooms, 100);
    let (key, slow) = world.watch_rooms(&rooms, "slow", Presence::Member, 10);
    for n in 0..6 {
        world.enter_elsewhere(&format!("new{n}"), &rooms[..1]);
        world.pass(Duration::from_secs(2));
        slow.borrow_mut().room = BATCH_BYTES_MAX;
        world.shard.on_writable(key, world.now);
    }
    slow.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    let states = |room: &str| {
        let begin = format!("event: presence\nroom: {room}\ndata: {{\"type\":\"state\"");
        text(&slow).matches(&begin).count()
    };
    let others: Vec<usize> = rooms[1..].iter().map(|room| states(room)).collect();
    assert_eq!(others, [1; 29]);
    assert!((2..=7).contains(&states("r0")), "{}", states("r0"));
    assert!(text(&slow).rfind("new5") > text(&slow).rfind("new4"));
}

#[test]
fn who_missed_a_message_of_one_room_is_sent_the_state_of_that_room() {
    let mut world = world();
    let rooms = ["q", "r", "s"].map(ToOwned::to_owned);
    let (key, slow) = world.watch_rooms(&rooms, "slow", Presence::Member, usize::MAX);
    slow.borrow_mut().room = 10;
    world.publish(room(), "fills the socket", None);
    world.step();
    world.watch("new", Presence::Member, usize::MAX);
    world.pass(Duration::from_secs(2));
    slow.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    let (all, of_r) = (text(&slow).matches("event: presence").count(), kinds(&slow));
    assert_eq!((all, of_r), (4, vec!["state".to_owned(); 2]));
}

#[test]
fn presence_moves_no_cursor_and_leaves_events_whole() {
    let mut world = world();
    let (_, me) = world.watch("me", Presence::Member, usize::MAX);
    for n in 0..20 {
        world.publish(room(), &n.to_string(), None);
        let (key, _) = world.watch(&format!("u{n}"), Presence::Member, usize::MAX);
        world.step();
        world.leave(key);
    }
    world.pass(Duration::from_secs(3));
    assert_eq!(words(&me), numbers(0..20));
    assert!(!text(&me).contains("event: presence\nid:"));
}

#[test]
fn who_may_not_see_names_sees_counts() {
    let mut world = world();
    let reads = world.watch_by(Some(session(&["sse:read"])), "a");
    let knows = world.watch_by(Some(session(&["sse:read", "sse:members"])), "b");
    world.step();
    world.watch("c", Presence::Member, usize::MAX);
    world.pass(Duration::from_secs(2));
    let (reads, knows) = (messages(&reads).concat(), messages(&knows).concat());
    assert!(!reads.contains("user") && reads.contains(r#""total":3"#), "{reads}");
    assert!(knows.contains(r#""user":"c""#), "{knows}");
}

/// A stream was sent the changes of names that it did not have, and kept those that it had for ever.
#[test]
fn a_stream_whose_right_to_names_changes_gets_a_state() {
    let mut world = world();
    let me = world.watch_by(Some(session(&["sse:read"])), "me");
    let (you, _) = world.watch("you", Presence::Member, usize::MAX);
    world.pass(Duration::from_secs(2));
    let _ = world.refresh("me", &["sse:read", "sse:members"]);
    world.watch("third", Presence::Member, usize::MAX);
    world.pass(Duration::from_secs(2));
    assert_eq!(kinds(&me), ["count", "count", "state", "diff"]);
    let _ = world.refresh("me", &["sse:read"]);
    world.leave(you);
    world.pass(Duration::from_secs(20));
    assert_eq!(kinds(&me)[4..], ["count", "count"]);
    let _ = world.refresh("me", &["sse:read", "sse:members"]);
    let last = messages(&me).pop().unwrap();
    assert!(last.contains(r#""type":"state""#) && !last.contains("you") && last.contains("third"), "{last}");
    let before = messages(&me).len();
    let _ = world.refresh("me", &["sse:read", "sse:members:r"]);
    world.pass(Duration::from_secs(2));
    assert_eq!(messages(&me).len(), before, "it sees what it saw before");
}

/// The same while its socket is full.
#[test]
fn a_slow_stream_whose_right_to_names_changes_gets_a_state() {
    let mut world = world();
    let (key, me) = world.watch_as(Some(session(&["sse:members"])), "me", Presence::Member);
    world.step();
    me.borrow_mut().room = 3;
    world.publish(room(), "fills the socket", None);
    world.step();
    let _ = world.refresh("me", &["sse:read"]);
    me.borrow_mut().room = usize::MAX;
    world.shard.on_writable(key, world.now);
    assert_eq!(kinds(&me), ["state", "count"]);
}

/// To watch without being seen takes `sse:members`, and a stream kept watching with a session that lacked it.
#[test]
fn a_silent_stream_does_not_take_a_session_that_may_not_be_silent() {
    let mut world = world();
    world.watch_as(Some(session(&["sse:members"])), "me", Presence::Silent);
    world.step();
    let refused = world.refresh("me", &["sse:read"]);
    assert_eq!(refused, Refreshed { connections: 0, refused: 1 });
    let granted = world.refresh("me", &["sse:members:r"]);
    assert_eq!(granted, Refreshed { connections: 1, refused: 0 });
}

/// Both lives of the room had come to their first message, so the shard took its streams to be up to date.
#[test]
fn streams_are_told_of_a_room_that_began_anew() {
    let mut world = world();
    let (_, old) = world.watch("old", Presence::Member, usize::MAX);
    world.step();
    assert!(messages(&old)[0].contains(r#""rev":1,"#), "{:?}", messages(&old));
    set_policy(&world, None);
    set_policy(&world, Some(PresencePolicy::default()));
    world.enter_elsewhere("new", &["r".to_owned()]);
    world.pass(Duration::from_secs(2));
    let last = messages(&old).pop().unwrap();
    assert!(last.contains(r#""type":"state""#) && last.contains(r#""rev":1,"#), "{last}");
    assert!(last.contains("new") && !last.contains("old"), "{last}");
}

#[test]
fn a_reload_turns_presence_on_and_off_under_way() {
    let mut world = world();
    set_policy(&world, None);
    let (_, me) = world.watch("me", Presence::Member, usize::MAX);
    world.step();
    assert_eq!(messages(&me).len(), 0);
    set_policy(&world, Some(PresencePolicy::default()));
    world.step();
    world.watch("you", Presence::Member, usize::MAX);
    world.pass(Duration::from_secs(2));
    let seen = messages(&me).concat();
    assert!(seen.contains(r#""user":"you""#), "{seen}");
    // It got changes to what it had never been shown.
    assert_eq!(kinds(&me), ["state", "diff"]);
    set_policy(&world, None);
    let before = messages(&me).len();
    world.watch("late", Presence::Member, usize::MAX);
    world.pass(Duration::from_secs(20));
    assert_eq!(messages(&me).len(), before);
}

/// More connections than are written to in one turn.
#[test]
fn a_large_room_is_told_in_turns_and_everybody_is() {
    let mut world = world();
    let watchers: Vec<Socket> =
        (0..500).map(|n| world.watch(&format!("w{n}"), Presence::Silent, usize::MAX).1).collect();
    world.pass(Duration::from_secs(2));
    world.watch("new", Presence::Member, usize::MAX);
    world.pass(Duration::from_secs(2));
    for (n, socket) in watchers.iter().enumerate() {
        assert!(messages(socket).concat().contains("new"), "{n}");
    }
    assert_eq!(world.stats.presence_sent.get(), 501, "the newcomer included");
}

/// Each of the room's streams took a part of the step, although one of them watched.
#[test]
fn a_room_with_one_watcher_costs_one_write() {
    let mut world = world();
    let (_, me) = world.watch("me", Presence::Silent, usize::MAX);
    for _ in 0..1000 {
        world.join(None, Start::Now, usize::MAX);
    }
    world.pass(Duration::from_secs(2));
    world.enter_elsewhere("new", &["r".to_owned()]);
    world.step();
    assert_eq!(kinds(&me), ["state", "diff"]);
}
