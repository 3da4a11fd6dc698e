//! Claims about presence, with time and policy as the tests choose them.

mod claims;
mod ends;
mod model;
mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::hub::room_policy::{PresencePolicy, RoomCallbacks, RoomPolicy};
use crate::hub::source::SourceKind;

/// The policy of all rooms here, unless a test says otherwise.
const POLICY: PresencePolicy = PresencePolicy {
    names: true,
    grace: Duration::from_secs(15),
    interval: Duration::from_secs(1),
    members_max: 10,
};

/// One room, its users, and the time.
struct World {
    presence: Presence,
    room: Arc<Source>,
    users: BTreeMap<String, Arc<Source>>,
    now: Moment,
}

fn room_policy(presence: Option<PresencePolicy>) -> Arc<RoomPolicy> {
    let callbacks = RoomCallbacks { presence: true, ..RoomCallbacks::default() };
    Arc::new(RoomPolicy { presence, callbacks, ..(*RoomPolicy::example()).clone() })
}

fn source(kind: SourceKind, name: &str, presence: Option<PresencePolicy>) -> Arc<Source> {
    Arc::new(Source::new(kind, name, 2, 0, room_policy(presence)))
}

impl World {
    fn new(policy: PresencePolicy) -> Self {
        Self::with_bounds(policy, PRESENCE_MEMBERS_MAX, PRESENCE_DATA_TOTAL_BYTES_MAX)
    }

    fn with_bounds(policy: PresencePolicy, members_max: usize, data_bytes_max: usize) -> Self {
        let mailboxes = (0..2).map(|_| Mailbox::default()).collect();
        Self {
            presence: Presence::with_bounds(mailboxes, members_max, data_bytes_max),
            room: source(SourceKind::Room, "lobby", Some(policy)),
            users: BTreeMap::new(),
            now: Moment(1_000_000_000),
        }
    }

    fn user(&mut self, name: &str) -> Arc<Source> {
        let user = self.users.entry(name.to_owned()).or_insert_with(|| source(SourceKind::Inbox, name, None));
        user.clone()
    }

    /// Returns the seat of the stream.
    fn enter(&mut self, name: &str) -> Seat {
        let user = self.user(name);
        self.presence.enter(&self.room, &user, self.now).seat.expect("the room has presence")
    }

    fn leave(&mut self, name: &str, seat: Seat, at_once: bool) {
        let user = self.user(name);
        let _ = self.presence.leave(&self.room, &user, seat, at_once, self.now);
    }

    fn withdraw(&mut self, name: &str) {
        let user = self.user(name);
        let _ = self.presence.withdraw(&self.room, &user, By::Here, self.now);
    }

    fn put(&mut self, name: &str, data: Option<&str>) -> Put {
        let user = self.user(name);
        let data = data.map(|text| PresenceData::new(text).expect("data"));
        self.presence.put(&self.room, &user, data, self.now)
    }

    /// Lets `time` pass in tenths of seconds.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(100));
            while self.presence.tick(self.now).has_more {}
        }
    }

    fn set_policy(&mut self, presence: Option<PresencePolicy>) {
        self.room.set_policy(room_policy(presence));
        let _ = self.presence.policy_changed(&self.room, self.now);
    }

    fn page(&self) -> Page {
        self.presence.page(&self.room, None, usize::MAX, usize::MAX, self.now)
    }

    fn members(&self) -> Vec<String> {
        self.page().members.iter().map(|member| member.user.name().to_owned()).collect()
    }

    /// A reader whose stream begins now, on shard 0.
    fn reader(&self, view: View) -> Reader {
        self.presence.watch(&self.room, 0);
        let (told, kinds) = Default::default();
        let mut reader = Reader { view, told, total: 0, members: None, kinds };
        reader.begin(self);
        reader
    }
}

/// What a page knows that follows the rules.
#[derive(Debug)]
struct Reader {
    view: View,
    /// Up to which message its shard has delivered.
    told: Told,
    total: u64,
    /// The members with their data; `None` after a count.
    members: Option<BTreeMap<String, Option<String>>>,
    /// The kinds of the messages it got.
    kinds: Vec<String>,
}

impl Reader {
    fn begin(&mut self, world: &World) {
        if let Some(State { told, bytes }) = world.presence.state(&world.room, self.view, world.now) {
            self.told = told;
            self.take(&bytes);
        }
    }

    /// Gets what its shard has to deliver.
    fn pull(&mut self, world: &World) {
        match world.presence.messages_after(&world.room, self.told) {
            Messages::None => {}
            Messages::Behind => self.begin(world),
            Messages::Next(messages) => {
                for message in messages {
                    assert_eq!(message.rev, self.told.rev + 1, "messages are consecutive");
                    self.told.rev = message.rev;
                    if let Some(bytes) = message.bytes(self.view) {
                        self.take(bytes);
                    }
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).expect("UTF-8");
        let json = text.strip_prefix("event: presence\nroom: lobby\ndata: ").expect("the fields");
        let json: Value = serde_json::from_str(json.strip_suffix("\n\n").expect("its end")).expect("JSON");
        let kind = json["type"].as_str().expect("a type");
        assert_eq!(json["rev"], self.told.rev);
        match kind {
            "state" => self.members = Some(named(&json["members"]).collect()),
            "count" => self.members = None,
            _ => {
                let members = self.members.as_mut().expect("a diff follows a state");
                members.extend(named(&json["join"]).chain(named(&json["update"])));
                for user in json["leave"].as_array().expect("a list") {
                    members.remove(user.as_str().expect("a name"));
                }
            }
        }
        assert!(self.view == View::Names || kind == "count", "{kind} is not for everybody");
        self.total = json["total"].as_u64().expect("a number");
        self.kinds.push(kind.to_owned());
    }

    fn names(&self) -> Vec<&str> {
        self.members.as_ref().map_or_else(Vec::new, |members| members.keys().map(String::as_str).collect())
    }
}

fn named(list: &Value) -> impl Iterator<Item = (String, Option<String>)> {
    list.as_array().expect("a list").iter().map(|member| {
        (member["user"].as_str().expect("a name").to_owned(), member.get("data").map(Value::to_string))
    })
}

const SECOND: Duration = Duration::from_secs(1);
